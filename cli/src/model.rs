//! Opening a model directory or file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plume_core::backend::Backend;
use plume_core::checkpoint::{
    Bytes, Checkpoint, Companions, Layout, Packed, Weights, clip_config, gguf, openai_config,
    shard_names, writes,
};
use plume_core::config::ClipConfig;
use plume_core::image::Preprocess;
use plume_core::models::clip::Clip;
use plume_core::tasks::classify::Classifier;
use plume_core::tasks::verify::Published;
use plume_core::tokens::{TextTokenizer, Tokenizer};

use crate::hub;

/// A file on disk, read in ranges.
pub(crate) struct OnDisk {
    file: File,
    len: u64,
    path: PathBuf,
}

impl OnDisk {
    pub(crate) fn open(path: &Path) -> Result<Self> {
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

/// Opens a file of weights, or all the files of an index.
///
/// # Errors
/// Where one is missing or damaged.
pub fn open_weights(path: &Path) -> Result<Weights> {
    let context = || path.display().to_string();
    if !context().ends_with(INDEX) {
        return Weights::open(Box::new(OnDisk::open(path)?)).with_context(context);
    }
    let index = std::fs::read_to_string(path).with_context(context)?;
    let mut files = Vec::<(String, Box<dyn Bytes>)>::new();
    for name in shard_names(&index).with_context(context)? {
        // One that is missing is told by what holds them against the index.
        let shard = path.with_file_name(&name);
        if shard.is_file() {
            files.push((name, Box::new(OnDisk::open(&shard)?)));
        }
    }
    Weights::open_shards(&index, files).with_context(context)
}

/// The files of a model.
pub struct ModelFiles {
    directory: PathBuf,
    weights: PathBuf,
    /// Instead of the one beside the weights.
    tokenizer: Option<PathBuf>,
    /// What a packed file says of itself; it needs no other.
    packed: Option<Packed>,
}

/// Names that weights are published under; the first found is taken, those of
/// whole models before a tower alone.
const WEIGHTS: &[&str] = &[
    "open_clip_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model.gguf",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];
/// The end of the name of an index of several files.
const INDEX: &str = ".index.json";

impl ModelFiles {
    /// A directory, or a weights file whose directory holds the rest.
    ///
    /// # Errors
    /// Where there are no weights, or a packed file is damaged.
    pub fn find(model: &Path) -> Result<Self> {
        let downloaded = model.to_str().and_then(hub::whole);
        let model = match &downloaded {
            Some(downloaded) if !model.exists() => downloaded,
            _ => model,
        };
        let (directory, weights) = if model.is_file() {
            let directory = model.parent().unwrap_or(Path::new(""));
            (directory.to_owned(), model.to_owned())
        } else if model.is_dir() {
            let found = WEIGHTS
                .iter()
                .map(|name| model.join(name))
                .find(|p| p.is_file());
            let Some(weights) = found else {
                bail!("{} holds no {}", model.display(), WEIGHTS.join(" or "));
            };
            (model.to_owned(), weights)
        } else {
            bail!(
                "no model at {}, and none of that name is downloaded (plume models list)",
                model.display()
            );
        };
        let mut files = Self {
            directory,
            weights,
            tokenizer: None,
            packed: None,
        };
        let file = OnDisk::open(&files.weights)?;
        if file.len >= 4 && file.read(0, 4)? == gguf::MAGIC {
            files.packed = files.weights()?.packed().cloned();
        }
        Ok(files)
    }

    /// Whether this is a model that writes, rather than a CLIP.
    ///
    /// # Errors
    /// Where config.json is there and cannot be read.
    pub fn writes(&self) -> Result<bool> {
        if let Some(packed) = &self.packed {
            return Ok(writes(&packed.config));
        }
        let json = self.companions()?.config.unwrap_or_default();
        Ok(serde_json::from_str(&json).is_ok_and(|config| writes(&config)))
    }

    /// The same with another tokenizer.
    pub fn with_tokenizer(self, path: PathBuf) -> Self {
        Self {
            tokenizer: Some(path),
            ..self
        }
    }

    /// A name for the model: its directory's.
    pub fn name(&self) -> Option<String> {
        let directory = std::path::absolute(&self.directory).ok()?;
        Some(directory.file_name()?.to_string_lossy().into_owned())
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
            self.tokenizer_json()?.as_bytes(),
            context,
        )?)
    }

    /// The text of the tokenizer's file.
    ///
    /// # Errors
    /// Where there is none.
    pub fn tokenizer_json(&self) -> Result<String> {
        if let Some(path) = &self.tokenizer {
            return std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        match &self.packed {
            None => {
                let parts = ["vocab.json", "merges.txt"];
                let there = |name: &&str| self.directory.join(name).is_file();
                // OPT's is published in two files, and so flamingo-mini's.
                if !there(&"tokenizer.json") && parts.iter().all(there) {
                    let [vocab, merges] = parts.map(|part| self.read(&[part]));
                    return Ok(TextTokenizer::json_of_bpe(&vocab?, &merges?)?);
                }
                self.read(&["tokenizer.json"])
            }
            Some(packed) => packed.tokenizer.clone().with_context(|| {
                format!("{} was packed without a tokenizer", self.weights.display())
            }),
        }
    }

    /// What is published about the model.
    ///
    /// # Errors
    /// Where a `published.json` beside the weights cannot be read.
    pub fn published(&self) -> Result<Option<Published>> {
        let path = self.directory.join("published.json");
        let json = path.is_file().then(|| std::fs::read_to_string(&path));
        let json = json.transpose();
        let json = json.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Published::about(json.as_deref(), &self.config()?)?)
    }

    /// The sizes.
    ///
    /// # Errors
    /// Where the file is missing or of another architecture.
    pub fn config(&self) -> Result<ClipConfig> {
        if let Some(packed) = &self.packed {
            return Ok(clip_config(&packed.config.to_string())?);
        }
        let checkpoint = self.checkpoint()?;
        let (file, layout) = (checkpoint.file(), checkpoint.layout());
        let companions = self.companions()?;
        match (companions.config_json(layout), file.format()) {
            (None, "PyTorch") if layout == Layout::OpenClip => {
                // OpenAI's archives come alone, and their shapes say it all.
                let shape = |name: &str| file.shape(name).map(<[usize]>::to_vec);
                Ok(openai_config(&shape)?)
            }
            _ => {
                let config = companions.config(layout);
                config.with_context(|| format!("{}", self.directory.display()))
            }
        }
    }

    /// What was published beside the weights.
    ///
    /// # Errors
    /// Where a file is there and cannot be read.
    pub fn companions(&self) -> Result<Companions> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            let text = path.is_file().then(|| std::fs::read_to_string(&path));
            let text = text.transpose();
            text.with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Companions {
            config: read("config.json")?,
            open_clip_config: read("open_clip_config.json")?,
            preprocessor_config: read("preprocessor_config.json")?,
        })
    }

    /// The preparation of pictures.
    ///
    /// # Errors
    /// Where the configuration cannot be followed.
    pub fn preprocess(&self) -> Result<Preprocess> {
        let json = match &self.packed {
            Some(packed) => packed.preprocess.as_ref().map(ToString::to_string),
            None => self.preprocess_json()?,
        };
        let family = self.checkpoint()?.layout().family();
        Ok(Preprocess::of_model(
            json.as_deref(),
            &self.config()?,
            family,
        )?)
    }

    fn preprocess_json(&self) -> Result<Option<String>> {
        let layout = self.checkpoint()?.layout();
        Ok(self
            .companions()?
            .preprocess_json(layout)
            .map(str::to_owned))
    }

    /// The weights of a CLIP.
    ///
    /// # Errors
    /// Where the file is damaged or of another architecture.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let context = || self.weights.display().to_string();
        Checkpoint::of(self.weights()?).with_context(context)
    }

    /// The weights of whatever model.
    ///
    /// # Errors
    /// Where a file is missing or damaged.
    pub fn weights(&self) -> Result<Weights> {
        open_weights(&self.weights)
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
