//! Opening what writes: a language model, or a Flamingo.

use std::path::Path;

use anyhow::{Context, Result, bail};
use plume_core::backend::Backend;
use plume_core::checkpoint::{Checkpoint, Layout, Scope, lm_config, lm_layout};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::image::{Family, Preprocess};
use plume_core::models::flamingo::{Flamingo, Illustrated, Media};
use plume_core::models::lm::{Cache, Decoder, Lm, Pass};
use plume_core::prompts::{PromptStyle, Segment};
use plume_core::tensor::Tensor;
use plume_core::tokens::TextTokenizer;
use serde_json::Value;

use crate::model::tensor_file;
use crate::pictures;

/// What `model_type` says of a Flamingo with our own names.
const FLAMINGO: &str = "plume_flamingo";

enum Model<B: Backend> {
    Language(Box<Lm<B>>),
    Flamingo(Box<Seeing<B>>),
}

/// A Flamingo, and how it is shown pictures and asked.
struct Seeing<B: Backend> {
    flamingo: Flamingo<B>,
    preprocess: Preprocess,
    style: PromptStyle,
}

/// A model that writes, with its tokenizer.
pub struct Writer<B: Backend> {
    model: Model<B>,
    tokenizer: TextTokenizer,
    stops: Vec<u32>,
}

/// A prompt as the model is given it.
pub struct Prompt<B: Backend> {
    /// Its tokens.
    pub ids: Vec<u32>,
    media: Option<Media<B>>,
}

impl<B: Backend> Writer<B> {
    /// Opens a directory of `config.json`, weights and `tokenizer.json`.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another architecture.
    pub fn open(backend: &B, directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let json = read("config.json")?;
        let value: Value = serde_json::from_str(&json).context("config.json is not JSON")?;
        let tokenizer = TextTokenizer::from_json(read("tokenizer.json")?.as_bytes())?;
        let mut stops: Vec<u32> = match value.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        };
        let model = if value.get("model_type").and_then(Value::as_str) == Some(FLAMINGO) {
            let config: FlamingoConfig = serde_json::from_value(value.clone())?;
            let style = match value.get("prompts") {
                Some(style) => serde_json::from_value(style.clone())?,
                None => PromptStyle::open_flamingo(),
            };
            let size = config.vision.image_size();
            let preprocess = match read("preprocessor_config.json") {
                Ok(json) => Preprocess::from_json(&json, size)?,
                Err(_) => Preprocess::clip(size, Family::OpenClip),
            };
            stops.push(config.end_of_chunk);
            let source = weights(directory, Layout::Canonical)?;
            Model::Flamingo(Box::new(Seeing {
                flamingo: Flamingo::load(backend, &config, &source)?,
                preprocess,
                style,
            }))
        } else {
            let config = lm_config(&json)?;
            let source = weights(directory, lm_layout(&json, &config)?)?;
            let scope = Scope::root(backend, &source);
            Model::Language(Box::new(Lm::load(&scope.child("lm"), &config)?))
        };
        Ok(Self {
            model,
            tokenizer,
            stops,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Tokens that end a text.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Reads the pictures of a prompt, which lie in `folder`, and its words.
    ///
    /// # Errors
    /// Where a picture cannot be read, or the model does not see.
    pub fn prompt(&self, segments: &[Segment], folder: &Path) -> Result<Prompt<B>> {
        let (text, media) = match &self.model {
            Model::Language(_) => {
                let mut text = String::new();
                for segment in segments {
                    match segment {
                        Segment::Text(words) => text.push_str(words),
                        Segment::Image(_) | Segment::Video(_) => bail!(
                            "the prompt shows {}, but this is a language model that does not see: \
                             take a Flamingo",
                            segment.pictures().unwrap_or_default().join(", ")
                        ),
                    }
                }
                (text, None)
            }
            Model::Flamingo(seeing) => {
                let Seeing {
                    flamingo,
                    preprocess,
                    style,
                } = seeing.as_ref();
                let (mut pixels, mut frames) = (Vec::new(), Vec::new());
                for names in segments.iter().filter_map(Segment::pictures) {
                    for name in names {
                        pixels.extend(preprocess.apply(&pictures::open(&folder.join(name))?));
                    }
                    frames.push(names.len());
                }
                let media = if frames.is_empty() {
                    flamingo.no_media()?
                } else {
                    flamingo.media(&flamingo.see(&pixels, &frames)?, 1)?
                };
                (style.text(segments), Some(media))
            }
        };
        let ids = self.tokenizer.encode(&text, true)?;
        Ok(Prompt { ids, media })
    }

    /// The model with a prompt before it.
    ///
    /// # Errors
    /// Where marks and pictures of the prompt do not go together.
    pub fn reading<'a>(&'a self, prompt: &'a Prompt<B>) -> Result<Reading<'a, B>> {
        Ok(match (&self.model, &prompt.media) {
            (Model::Flamingo(seeing), Some(media)) => {
                Reading::Flamingo(Illustrated::new(&seeing.flamingo, media, &prompt.ids)?)
            }
            (Model::Language(lm), _) => Reading::Language(lm),
            (Model::Flamingo(seeing), None) => Reading::Language(seeing.flamingo.lm()),
        })
    }
}

/// A model that goes on with a prompt.
pub enum Reading<'a, B: Backend> {
    /// Words alone.
    Language(&'a Lm<B>),
    /// With pictures.
    Flamingo(Illustrated<'a, B>),
}

impl<B: Backend> Decoder<B> for Reading<'_, B> {
    fn lm(&self) -> &Lm<B> {
        match self {
            Self::Language(lm) => lm,
            Self::Flamingo(flamingo) => flamingo.lm(),
        }
    }

    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> plume_core::Result<Tensor<B>> {
        match self {
            Self::Language(lm) => lm.forward(ids, pass, cache),
            Self::Flamingo(flamingo) => flamingo.forward(ids, pass, cache),
        }
    }
}

fn id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The weights, under the first name that is there.
fn weights(directory: &Path, layout: Layout) -> Result<Checkpoint> {
    let names = [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ];
    let found = names
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file());
    let Some(path) = found else {
        bail!("{} holds no {}", directory.display(), names.join(" or "));
    };
    let (file, packed) = tensor_file(&path)?;
    Ok(Checkpoint::with_layout(file, packed, layout))
}
