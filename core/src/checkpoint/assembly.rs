//! A Flamingo from what several publishers have: an image tower and a
//! checkpoint that joins it to a language model, which may be a third's.

use super::layouts::{Language, open_flamingo_config};
use super::{Checkpoint, Layout, Source, Weights};
use crate::backend::WeightData;
use crate::config::VisionConfig;
use crate::config::flamingo::FlamingoConfig;
use crate::config::language::LmConfig;
use crate::{Error, Result};

const HEAD: &str = "lm.head";

/// Most tokens that are added to a language model's.
const MOST_ADDED: usize = 64;

/// Several checkpoints that are one model.
pub struct Assembly {
    vision: Checkpoint,
    /// Absent where the joining checkpoint holds it.
    lm: Option<Checkpoint>,
    /// Resampler, layers between, and the tables of tokens if it has them.
    joint: Checkpoint,
}

impl Assembly {
    /// Puts an OpenFlamingo together and reads its sizes off the checkpoint,
    /// `image_token` and `end_of_chunk` apart: those are the tokenizer's.
    ///
    /// # Errors
    /// Where the checkpoint is no OpenFlamingo, or not of this language model.
    pub fn open_flamingo(
        (vision, tower): (Checkpoint, VisionConfig),
        (lm, sizes): (Checkpoint, LmConfig),
        joint: Weights,
        tokens: [u32; 2],
    ) -> Result<(Self, FlamingoConfig)> {
        let Layout::Language(language) = lm.layout() else {
            return Err(Error::Checkpoint(
                "the language model has names of its own: expected it as it was published".into(),
            ));
        };
        let joint = plain(joint, language)?;
        let shape = |name: &str| joint.file().shape(name).map(<[usize]>::to_vec);
        let config = open_flamingo_config(language, &shape, tower, sizes, tokens)?;
        let joint = joint.under(Layout::OpenFlamingo(language));
        let lm = Some(lm);
        Ok((Self { vision, lm, joint }, config))
    }

    /// A Flamingo that was published without its image tower, as flamingo-mini
    /// is, and that tower.
    ///
    /// # Errors
    /// Where the tower is not of the sizes that the Flamingo sees with.
    pub fn with_tower(
        (vision, tower): (Checkpoint, VisionConfig),
        joint: Checkpoint,
        config: &FlamingoConfig,
    ) -> Result<Self> {
        if tower != config.vision {
            let told = |tower: &VisionConfig| {
                let (side, width) = (tower.image_size(), tower.width());
                format!("{side} pixels a side, {width} wide")
            };
            return Err(Error::Checkpoint(format!(
                "this is not the image tower that the model was trained with: expected {}, found \
                 {}",
                told(&config.vision),
                told(&tower)
            )));
        }
        let lm = None;
        Ok(Self { vision, lm, joint })
    }

    /// Where a canonical tensor comes from.
    fn of(&self, name: &str) -> &Checkpoint {
        match (name.split_once('.'), &self.lm) {
            (Some(("vision", _)), _) => &self.vision,
            // The tables grew by the tokens that were added.
            (Some(("lm", "token_embedding" | "head")), _) if self.joint.has(name) => &self.joint,
            (Some(("lm", _)), Some(lm)) => lm,
            _ => &self.joint,
        }
    }

    /// A head of `rows` rows, of which the language model's file has fewer. A head
    /// that was frozen is not in the joining checkpoint, and its rows of added
    /// tokens were drawn at random whenever the model was put together: here they
    /// are 0, the mean of what was drawn.
    fn grown_head(&self, [rows, cols]: [usize; 2]) -> Option<Result<WeightData>> {
        let lm = self.lm.as_ref().filter(|_| !self.joint.has(HEAD))?;
        let [source] = <[String; 1]>::try_from(lm.layout().recipe(HEAD).sources()).ok()?;
        let known = lm.file().shape(&source)?.first().copied()?;
        let new = rows
            .checked_sub(known)
            .filter(|new| (1..=MOST_ADDED).contains(new))?;
        Some(lm.read(HEAD, &[known, cols]).map(|mut head| {
            head.extend_zeros(new * cols);
            head
        }))
    }

    /// Which of the tensors that a model asks for are nowhere.
    pub fn missing<'a>(&self, asked: impl Iterator<Item = &'a str>) -> Vec<String> {
        let missing = asked.flat_map(|name| self.of(name).compare([name].into_iter()).0);
        missing.collect()
    }

    /// Tensors of the joining checkpoint that nothing has read.
    pub fn left_over(&self) -> Vec<String> {
        self.joint.left_over()
    }
}

impl Source for Assembly {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        if let (HEAD, &[rows, cols]) = (name, shape)
            && let Some(head) = self.grown_head([rows, cols])
        {
            return head;
        }
        self.of(name).read(name, shape)
    }
}

/// Names as OpenFlamingo's second version has them: without what training in
/// parallel or a training state puts before them, and each gated layer under
/// its block rather than in a list of their own, as the first version kept them.
fn plain(weights: Weights, language: Language) -> Result<Weights> {
    const MARK: &str = "perceiver.latents";
    const LIST: &str = "lang_encoder.gated_cross_attn_layers.";
    let mut names = weights.file().names();
    let marked = names.find(|name| *name == MARK || name.ends_with(&format!(".{MARK}")));
    let Some(prefix) = marked.map(|name| name[..name.len() - MARK.len()].to_owned()) else {
        return Err(Error::Checkpoint(format!(
            "this is no checkpoint of an OpenFlamingo: expected a tensor `{MARK}`"
        )));
    };
    drop(names);
    let blocks = format!("lang_encoder.{}", language.family.blocks());
    let names = weights.file().names();
    let listed = !names
        .filter_map(|name| name.strip_prefix(&prefix))
        .any(|name| name.starts_with(&blocks) && name.contains(".gated_cross_attn_layer."));
    Ok(weights.renamed(|name| {
        let name = name.strip_prefix(&prefix)?;
        Some(
            match name
                .strip_prefix(LIST)
                .and_then(|rest| rest.split_once('.'))
            {
                Some((layer, rest)) if listed => {
                    format!("{blocks}.{layer}.gated_cross_attn_layer.{rest}")
                }
                _ => name.to_owned(),
            },
        )
    }))
}
