//! What a Flamingo is built on: the tower of a CLIP, a language model, or
//! another Flamingo; and what of it stays as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plume_core::backend::WeightData;
use plume_core::checkpoint::{Checkpoint, Init, Layout, LmInit, Source, clip_config};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::config::language::LmConfig;
use plume_core::config::{ClipConfig, Scoring, VisionConfig};
use serde::{Deserialize, Serialize};

use super::recipe::{What, demo_flamingo};
use super::words::{Words, tokenizer_json};
use super::{PREPROCESSOR, read};

/// A part of a Flamingo that comes finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The language model.
    Lm,
    /// The image tower.
    Vision,
}

impl Part {
    fn prefix(self) -> &'static str {
        match self {
            Self::Lm => "lm.",
            Self::Vision => "vision.",
        }
    }
}

/// What a run is built on; nothing, where a language model is trained.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Base {
    /// The folder of a CLIP.
    pub clip: Option<PathBuf>,
    /// The folder of a language model, or of a Flamingo that has one.
    pub lm: Option<PathBuf>,
    /// Instead of both, the folder of a Flamingo that is trained on.
    pub from: Option<PathBuf>,
    /// What is trained too.
    pub unfrozen: Vec<Part>,
    /// What is trained too, from nothing.
    pub random: Vec<Part>,
}

/// Weights with our own names.
///
/// # Errors
/// Where the file is missing or damaged.
pub(super) fn weights(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let context = || path.display().to_string();
    Checkpoint::open_as(Box::new(bytes), Layout::Canonical).with_context(context)
}

/// That of a folder.
pub(super) fn flamingo_config(folder: &Path) -> Result<FlamingoConfig> {
    let path = folder.join("config.json");
    serde_json::from_str(&read(&path)?).with_context(|| {
        let path = path.display();
        format!("{path} should be that of a plume_flamingo")
    })
}

/// The language model of a folder of one, or of a Flamingo.
fn lm_config(folder: &Path) -> Result<LmConfig> {
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&read(&path)?)?;
    if config["model_type"] == "plume_flamingo" {
        config = config["lm"].take();
    }
    serde_json::from_value(config).with_context(|| {
        let path = path.display();
        format!("{path} should be that of a language model of `plume train lm`, or of a Flamingo")
    })
}

impl Base {
    /// The Flamingo that is trained on, or the demo's on these parts.
    ///
    /// # Errors
    /// Where a folder lacks a file.
    pub fn flamingo(&self) -> Result<FlamingoConfig> {
        if let Some(from) = &self.from {
            return flamingo_config(from);
        }
        let (Some(clip), Some(lm)) = (&self.clip, &self.lm) else {
            bail!("a Flamingo is trained on a CLIP and a language model, or on a Flamingo");
        };
        let clip = clip_config(&read(&clip.join("config.json"))?)?;
        let vision = clip.vision.context("the CLIP has no image tower")?;
        let words = Words::new(&self.tokenizer()?)?;
        let tokens = (words.image, words.end_of_chunk);
        Ok(demo_flamingo((lm_config(lm)?, vision), tokens))
    }

    pub(super) fn tokenizer(&self) -> Result<String> {
        match self.from.as_ref().or(self.lm.as_ref()) {
            Some(folder) => read(&folder.join("tokenizer.json")),
            None => tokenizer_json(),
        }
    }

    /// How pictures are prepared, as a preprocessor_config.json says it.
    pub(super) fn preprocessor(&self) -> Result<String> {
        match self.from.as_ref().or(self.clip.as_ref()) {
            Some(folder) => read(&folder.join("preprocessor_config.json")),
            None => Ok(PREPROCESSOR.to_owned()),
        }
    }

    /// The files, and what the names of the weights that are taken of them
    /// begin with.
    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<&'static str>)> {
        let part = |folder: &Option<PathBuf>, part: Part| {
            let known = !self.random.contains(&part);
            let folder = folder.as_ref().filter(|_| known);
            folder.map(|folder| (folder.clone(), vec![part.prefix()]))
        };
        let all = match &self.from {
            Some(from) => {
                let parts = [Part::Lm, Part::Vision].into_iter();
                let known = parts.filter(|part| !self.random.contains(part));
                let prefixes = known.map(Part::prefix).chain(["resampler.", "xattn."]);
                vec![(from.clone(), prefixes.collect())]
            }
            None => [part(&self.clip, Part::Vision), part(&self.lm, Part::Lm)]
                .into_iter()
                .flatten()
                .collect(),
        };
        all.into_iter()
            .map(|(folder, prefixes)| (folder.join("model.safetensors"), prefixes))
            .collect()
    }

    /// Where the weights of a model on this base are: `trained` are those of the
    /// run itself; what is nowhere is drawn by the seed.
    ///
    /// # Errors
    /// Where a file is missing or damaged, or a part cannot be trained.
    pub(super) fn sources(
        &self,
        what: &What,
        seed: u64,
        trained: Option<Checkpoint>,
    ) -> Result<Sources> {
        let (lm, vision) = match what {
            What::Lm(lm) => (lm, None),
            What::Flamingo(flamingo) => (&flamingo.lm, Some(flamingo.vision.clone())),
        };
        let new: Vec<Part> = self.unfrozen.iter().chain(&self.random).copied().collect();
        if let Some(vision) = &vision
            && !matches!(vision, VisionConfig::Vit(_))
            && self.random.contains(&Part::Vision)
        {
            bail!(
                "of image towers only a vision transformer can be trained from nothing here: the \
                 weights of an NFNet are standardised, and the norms of a ResNet folded, when \
                 they are read. Leave out --random vision, or --unfreeze a finished one"
            );
        }
        let mut files = Vec::new();
        let mut known = BTreeSet::new();
        for (path, prefixes) in self.files() {
            let file = weights(&path)?;
            let taken = |name: &&str| prefixes.iter().any(|prefix| name.starts_with(prefix));
            known.extend(file.file().names().filter(taken).map(str::to_owned));
            files.push((file, prefixes));
        }
        let tower = ClipConfig {
            embed_dim: 1,
            vision,
            text: None,
            scoring: Scoring::Softmax,
        };
        Ok(Sources {
            trained,
            files,
            init: LmInit::new(lm.layers, lm.heads, seed),
            tower: Init::new(tower, seed),
            learned: Learned { known, parts: new },
        })
    }
}

/// Which weights are trained: what lets a language model see, the parts that are
/// not frozen, and everything that is in no file, like blocks that are grafted
/// on.
#[derive(Clone)]
pub(super) struct Learned {
    /// Names that are in a file.
    known: BTreeSet<String>,
    parts: Vec<Part>,
}

impl Learned {
    pub(super) fn is(&self, name: &str) -> bool {
        let sees = name.starts_with("resampler.") || name.starts_with("xattn.");
        let part = |part: &Part| name.starts_with(part.prefix());
        sees || self.parts.iter().any(part) || !self.known.contains(name)
    }
}

/// Weights from where they are: of this run, of the parts it builds on, or
/// drawn.
pub(super) struct Sources {
    trained: Option<Checkpoint>,
    files: Vec<(Checkpoint, Vec<&'static str>)>,
    init: LmInit,
    /// Draws an image tower.
    tower: Init,
    pub(super) learned: Learned,
}

impl Source for Sources {
    fn read(&self, name: &str, shape: &[usize]) -> plume_core::Result<WeightData> {
        if let Some(trained) = &self.trained
            && trained.file().shape(name).is_some()
        {
            return trained.read(name, shape);
        }
        for (file, prefixes) in &self.files {
            let taken = prefixes.iter().any(|prefix| name.starts_with(prefix));
            if taken && file.file().shape(name).is_some() {
                return file.read(name, shape);
            }
        }
        if name.starts_with(Part::Vision.prefix()) {
            return self.tower.read(name, shape);
        }
        self.init.read(name, shape)
    }
}
