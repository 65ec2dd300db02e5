//! Opening a model directory or file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plume_core::backend::Backend;
use plume_core::checkpoint::{Bytes, Checkpoint, clip_config};
use plume_core::config::ClipConfig;
use plume_core::image::Preprocess;
use plume_core::models::clip::Clip;
use plume_core::tasks::classify::Classifier;
use plume_core::tokens::Tokenizer;

/// A file on disk, read in ranges.
struct OnDisk {
    file: File,
    len: u64,
    path: PathBuf,
}

impl OnDisk {
    fn open(path: &Path) -> Result<Self> {
        let context = || format!("cannot open {}", path.display());
        let file = File::open(path).with_context(context)?;
        let len = file.metadata().with_context(context)?.len();
        Ok(Self {
            file,
            len,
            path: path.to_owned(),
        })
    }
}

impl Bytes for OnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> plume_core::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(plume_core::Error::Read(format!(
                "reading {}: {error}",
                self.path.display()
            ))),
        }
    }
}

/// The files of a model.
pub struct ModelFiles {
    directory: PathBuf,
    weights: PathBuf,
}

/// Names that weights are published under, the first found is taken.
const WEIGHTS: &[&str] = &["model.safetensors", "open_clip_model.safetensors"];
/// Names that configurations are published under.
const CONFIGS: &[&str] = &["config.json", "open_clip_config.json"];

impl ModelFiles {
    /// A directory, or a weights file whose directory holds the rest.
    ///
    /// # Errors
    /// Where there are no weights.
    pub fn find(model: &Path) -> Result<Self> {
        if model.is_file() {
            let directory = model.parent().unwrap_or(Path::new("")).to_owned();
            let weights = model.to_owned();
            return Ok(Self { directory, weights });
        }
        if !model.is_dir() {
            bail!("no model at {}", model.display());
        }
        let found = WEIGHTS
            .iter()
            .map(|name| model.join(name))
            .find(|p| p.is_file());
        let Some(weights) = found else {
            bail!("{} holds no {}", model.display(), WEIGHTS.join(" or "));
        };
        let directory = model.to_owned();
        Ok(Self { directory, weights })
    }

    fn read(&self, names: &[&str]) -> Result<String> {
        for name in names {
            let path = self.directory.join(name);
            if path.is_file() {
                return std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()));
            }
        }
        bail!(
            "{} holds no {}",
            self.directory.display(),
            names.join(" or ")
        )
    }

    /// The tokenizer, for texts of up to `context` tokens.
    ///
    /// # Errors
    /// Where the file is missing or no tokenizer of CLIP or SigLIP.
    pub fn tokenizer(&self, context: usize) -> Result<Tokenizer> {
        Ok(Tokenizer::from_json(
            self.read(&["tokenizer.json"])?.as_bytes(),
            context,
        )?)
    }

    /// The sizes.
    ///
    /// # Errors
    /// Where the file is missing or of another architecture.
    pub fn config(&self) -> Result<ClipConfig> {
        Ok(clip_config(&self.read(CONFIGS)?)?)
    }

    /// The preparation of pictures.
    ///
    /// # Errors
    /// Where the configuration cannot be followed.
    pub fn preprocess(&self) -> Result<Preprocess> {
        let json = self
            .read(&["preprocessor_config.json", "open_clip_config.json"])
            .ok();
        let json = json.or_else(|| {
            // timm writes it into the one file that it has.
            let json = self.read(&["config.json"]).ok();
            json.filter(|json| json.contains("\"pretrained_cfg\""))
        });
        let family = self.checkpoint()?.layout().family();
        Ok(Preprocess::of_model(
            json.as_deref(),
            &self.config()?,
            family,
        )?)
    }

    /// The weights.
    ///
    /// # Errors
    /// Where the file is damaged or of another architecture.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let bytes = OnDisk::open(&self.weights)?;
        Checkpoint::open(Box::new(bytes)).with_context(|| format!("{}", self.weights.display()))
    }

    /// Everything, on a device.
    ///
    /// # Errors
    /// Where a file is missing, damaged or does not belong to the others.
    pub fn classifier<B: Backend>(&self, backend: &B) -> Result<Classifier<B>> {
        let checkpoint = self.checkpoint()?;
        let config = checkpoint.present(&self.config()?);
        let clip = Clip::load(backend, &config, &checkpoint)?;
        let text = config.text.as_ref();
        let tokenizer = text.map(|text| self.tokenizer(text.context)).transpose()?;
        let vision = config.vision.as_ref();
        let preprocess = vision.map(|_| self.preprocess()).transpose()?;
        Ok(Classifier::new(clip, tokenizer, preprocess)?)
    }
}
