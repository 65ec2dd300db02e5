//! How publishers name and lay out the weights of CLIP, as tables from
//! canonical name to [`Recipe`]; and how they write down the sizes.

mod canonical;
mod open_clip;
mod transformers;

use serde_json::Value;

use crate::config::ClipConfig;
use crate::{Error, Result};

/// How a canonical tensor is made from those of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// As it is.
    Take(String),
    /// Several, one after the other along the first axis.
    Concat(Vec<String>),
    /// A matrix stored the other way round.
    Transpose(String),
    /// A patch convolution `[out, channels, height, width]`, as rows of
    /// `(height, width, channels)`.
    PatchRows(String),
}

/// A publisher's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Our own names: what `plume train` writes.
    Canonical,
    /// Hugging Face transformers' `CLIPModel`.
    Transformers,
    /// open_clip, which keeps OpenAI's names.
    OpenClip,
}

impl Layout {
    /// Recognises a layout by the tensors that a file has.
    pub fn detect(has: &dyn Fn(&str) -> bool) -> Option<Self> {
        [
            (Self::Canonical, canonical::MARK),
            (Self::Transformers, transformers::MARK),
            (Self::OpenClip, open_clip::MARK),
        ]
        .into_iter()
        .find_map(|(layout, mark)| has(mark).then_some(layout))
    }

    /// How to make the tensor of this canonical name.
    pub fn recipe(self, name: &str) -> Recipe {
        match self {
            Self::Canonical => Recipe::Take(name.to_owned()),
            Self::Transformers => transformers::recipe(name),
            Self::OpenClip => open_clip::recipe(name),
        }
    }

    /// Whether a tensor of the file is a buffer that holds no weight.
    pub fn ignores(self, source: &str) -> bool {
        match self {
            Self::Canonical => false,
            Self::Transformers => source.ends_with(".position_ids"),
            Self::OpenClip => matches!(
                source,
                "input_resolution" | "context_length" | "vocab_size" | "attn_mask"
            ),
        }
    }
}

/// Splits `….blocks.3.attn.qkv.weight` into `(3, "attn.qkv.weight")`.
fn block(rest: &str) -> Option<(&str, &str)> {
    rest.strip_prefix("blocks.")?.split_once('.')
}

/// The sizes of a CLIP model from its `config.json` or
/// `open_clip_config.json`.
///
/// # Errors
/// Where the text is not JSON, describes another architecture, or asks for
/// something that Plume does not compute.
pub fn clip_config(json: &str) -> Result<ClipConfig> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    let model_type = value.get("model_type").and_then(Value::as_str);
    let config = match model_type {
        Some(canonical::MODEL_TYPE) => canonical::config(value)?,
        Some("clip") => transformers::config(value)?,
        _ if value.get("model_cfg").is_some() => open_clip::config(value)?,
        other => {
            return Err(Error::Config(format!(
                "config.json describes {}; expected a CLIP (`\"model_type\": \"clip\"`) or \
                 open_clip's `model_cfg`",
                other.map_or("no known model".into(), |name| format!("a `{name}` model"))
            )));
        }
    };
    config.check()?;
    Ok(config)
}

/// Fills a struct from a JSON value.
fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Config(format!("config.json: {error}")))
}

/// The activation by the name transformers gives it.
fn activation(name: &str) -> Result<crate::backend::Activation> {
    use crate::backend::Activation;
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        "relu" => Ok(Activation::Relu),
        other => Err(Error::Config(format!(
            "activation `{other}` is unknown; expected quick_gelu, gelu or relu"
        ))),
    }
}
