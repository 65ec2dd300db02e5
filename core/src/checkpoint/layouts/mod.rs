//! How publishers name and lay out the weights of CLIP, as tables from
//! canonical name to [`Recipe`]; and how they write down the sizes.

mod canonical;
mod flamingo_mini;
mod idefics;
mod language;
mod open_clip;
mod open_flamingo;
mod otter;
mod timm;
mod transformers;

use serde_json::Value;

use crate::config::ClipConfig;
use crate::config::flamingo::FlamingoConfig;
use crate::{Error, Result};

pub use flamingo_mini::flamingo_mini_config;
pub use idefics::idefics_config;
pub use language::{Family, Language, lm_config, lm_layout};
pub use open_clip::openai_config;
pub use open_flamingo::config as open_flamingo_config;

/// How a canonical tensor is made from those of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// As it is.
    Take(String),
    /// Several, one after the other along the first axis, as many rows of each
    /// as it has.
    Concat(Vec<String>),
    /// A matrix stored the other way round.
    Transpose(String),
    /// A convolution `[out, channels, height, width]`, as rows of
    /// `(height, width, channels)`.
    PatchRows(String),
    /// A projection whose rows are the query, key and value of one head after
    /// the other, as the queries, keys and values of all heads.
    Interleaved {
        /// The projection, or its bias.
        source: String,
        /// Heads.
        heads: usize,
    },
    /// Some of the equal parts that a tensor has along its first axis.
    Parts {
        /// The whole.
        source: String,
        /// The first part, and the one after the last.
        parts: (usize, usize),
        /// Parts of the whole.
        of: usize,
    },
    /// The weight of a convolution (see [`Recipe::PatchRows`]) with the batch
    /// norm after it folded in: `w · gain / √(variance + ε)`.
    FoldedWeight {
        /// The convolution's weight.
        conv: String,
        /// The norm, whose tensors are `weight`, `bias`, `running_mean` and
        /// `running_var`.
        norm: String,
    },
    /// The weight of a convolution (see [`Recipe::PatchRows`]), whose rows are
    /// given mean 0 and variance `gain² / inner`.
    Standardized {
        /// The convolution, whose tensors are `weight` and `gain`.
        conv: String,
    },
    /// The bias that folding leaves: `bias − mean · gain / √(variance + ε)`.
    FoldedBias {
        /// The norm.
        norm: String,
    },
}

impl Recipe {
    /// The same of tensors with other names.
    fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Take(source) => Self::Take(name(&source)),
            Self::Concat(sources) => Self::Concat(sources.iter().map(|s| name(s)).collect()),
            Self::Transpose(source) => Self::Transpose(name(&source)),
            Self::PatchRows(source) => Self::PatchRows(name(&source)),
            Self::Interleaved { source, heads } => Self::Interleaved {
                source: name(&source),
                heads,
            },
            Self::Parts { source, parts, of } => Self::Parts {
                source: name(&source),
                parts,
                of,
            },
            Self::FoldedWeight { conv, norm } => Self::FoldedWeight {
                conv: name(&conv),
                norm: name(&norm),
            },
            Self::Standardized { conv } => Self::Standardized { conv: name(&conv) },
            Self::FoldedBias { norm } => Self::FoldedBias { norm: name(&norm) },
        }
    }

    /// The tensors of the file that are read.
    pub fn sources(&self) -> Vec<String> {
        let of_norm = |norm: &str, leaves: &[&str]| -> Vec<String> {
            leaves.iter().map(|leaf| format!("{norm}.{leaf}")).collect()
        };
        match self {
            Self::Take(source)
            | Self::Transpose(source)
            | Self::PatchRows(source)
            | Self::Interleaved { source, .. }
            | Self::Parts { source, .. } => vec![source.clone()],
            Self::Concat(sources) => sources.clone(),
            Self::FoldedWeight { conv, norm } => {
                let mut sources = of_norm(norm, &["weight", "running_var"]);
                sources.insert(0, conv.clone());
                sources
            }
            Self::Standardized { conv } => of_norm(conv, &["weight", "gain"]),
            Self::FoldedBias { norm } => {
                of_norm(norm, &["weight", "bias", "running_mean", "running_var"])
            }
        }
    }
}

/// A publisher's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Our own names: what `plume train` writes.
    Canonical,
    /// Hugging Face transformers' `CLIPModel` and `SiglipModel`, and either
    /// tower alone.
    Transformers,
    /// open_clip, which keeps OpenAI's names.
    OpenClip,
    /// open_clip with timm's vision transformer for an image tower: SigLIP.
    OpenClipTimm,
    /// timm's names: an image tower alone.
    Timm,
    /// A language model's, of which there are several.
    Language(Language),
    /// OpenFlamingo, with the names of its language model.
    OpenFlamingo(Language),
    /// Otter, which is an OpenFlamingo under other names.
    Otter(Language),
    /// flamingo-mini and flamingo-tiny.
    FlamingoMini,
    /// IDEFICS.
    Idefics {
        /// From one block with a gated layer to the next.
        every: usize,
    },
}

impl Layout {
    /// Recognises a layout by the tensors that a file has.
    pub fn detect(has: &dyn Fn(&str) -> bool) -> Option<Self> {
        [
            (Self::Canonical, canonical::MARKS),
            (Self::Transformers, transformers::MARKS),
            (Self::OpenClipTimm, open_clip::TIMM_MARKS),
            (Self::OpenClip, open_clip::MARKS),
            (Self::Timm, timm::MARKS),
        ]
        .into_iter()
        .find_map(|(layout, marks)| marks.iter().any(|mark| has(mark)).then_some(layout))
    }

    /// How to make the tensor of this canonical name.
    pub fn recipe(self, name: &str) -> Recipe {
        match self {
            Self::Canonical => Recipe::Take(name.to_owned()),
            Self::Transformers => transformers::recipe(name),
            Self::OpenClip => open_clip::recipe(name),
            Self::OpenClipTimm => open_clip::timm_recipe(name),
            Self::Timm => timm::recipe("", name),
            Self::Language(language) => language.recipe(name),
            Self::OpenFlamingo(language) => open_flamingo::recipe(language, name),
            Self::Otter(language) => otter::recipe(language, name),
            Self::FlamingoMini => flamingo_mini::recipe(name),
            Self::Idefics { every } => idefics::recipe(every, name),
        }
    }

    /// Whether a tensor of the file is a buffer that holds no weight.
    pub fn ignores(self, source: &str) -> bool {
        match self {
            Self::Canonical => false,
            Self::Transformers => source.ends_with(".position_ids"),
            Self::Language(_) => Language::ignores(source),
            Self::OpenFlamingo(_) | Self::Otter(_) => open_flamingo::ignores(source),
            Self::FlamingoMini => flamingo_mini::ignores(source),
            Self::Idefics { .. } => {
                source.ends_with(".position_ids") || source.ends_with(".rotary_emb.inv_freq")
            }
            Self::OpenClip | Self::OpenClipTimm => {
                source.ends_with(".num_batches_tracked")
                    || matches!(
                        source,
                        "input_resolution" | "context_length" | "vocab_size" | "attn_mask"
                    )
            }
            // The bias is 0: timm's classifier has one, CLIP's projection none.
            Self::Timm => source.ends_with(".num_batches_tracked") || source == timm::ZEROS,
        }
    }

    /// A tensor that the publisher adds and that CLIP does without: where the
    /// file has it, it holds zeros, or the model is another one.
    pub(super) fn zeros(self) -> Option<&'static str> {
        (self == Self::Timm).then_some(timm::ZEROS)
    }

    /// Whose preparation of pictures goes with the weights.
    pub fn family(self) -> crate::image::Family {
        use crate::image::Family;
        match self {
            Self::Canonical
            | Self::Transformers
            | Self::Language(_)
            | Self::Otter(_)
            | Self::FlamingoMini
            | Self::Idefics { .. } => Family::Transformers,
            Self::OpenFlamingo(_) => Family::OpenClip,
            Self::OpenClip | Self::OpenClipTimm | Self::Timm => Family::OpenClip,
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
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let config = match (text("model_type"), text("architecture")) {
        (Some(canonical::MODEL_TYPE), _) => canonical::config(value)?,
        (Some(kind), _) if transformers::MODEL_TYPES.contains(&kind) => {
            transformers::config(&value, kind)?
        }
        _ if value.get("model_cfg").is_some() => open_clip::config(value)?,
        (None, Some(_)) => timm::config(value)?,
        (other, _) => {
            return Err(Error::Config(format!(
                "config.json describes {}; expected a CLIP or SigLIP of transformers \
                 (`\"model_type\": \"clip\"`), open_clip's `model_cfg` or timm's `architecture`",
                other.map_or("no known model".into(), |name| format!("a `{name}` model"))
            )));
        }
    };
    config.check()?;
    Ok(config)
}

/// Whether a `config.json` is that of a model that writes, rather than of a
/// CLIP.
pub fn writes(config: &Value) -> bool {
    let kind = config["model_type"].as_str().unwrap_or_default();
    [
        canonical::LM_TYPE,
        canonical::FLAMINGO_TYPE,
        idefics::MODEL_TYPE,
    ]
    .contains(&kind)
        || Family::of(kind).is_some()
        || flamingo_mini::is(config)
        || otter::is(config)
}

/// The tokens that a publisher's own code adds to the vocabulary of the language
/// model when it loads one, by its `config.json`.
pub fn added_tokens(config: &Value) -> &'static [&'static str] {
    if otter::is(config) {
        &otter::TOKENS
    } else if flamingo_mini::is(config) {
        &flamingo_mini::TOKENS
    } else {
        &[]
    }
}

/// The sizes of a Flamingo and how its weights are laid out, by its
/// `config.json`; `None` where that is of another architecture. `token` gives
/// the ids of its tokenizer.
///
/// # Errors
/// Where the sizes make no model, or its tokenizer lacks a token.
pub fn flamingo_config(
    json: &str,
    token: &dyn Fn(&str) -> Option<u32>,
) -> Result<Option<(FlamingoConfig, Layout)>> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    let (config, layout): (FlamingoConfig, _) = match value["model_type"].as_str() {
        Some(canonical::FLAMINGO_TYPE) => (parse(value)?, Layout::Canonical),
        Some(idefics::MODEL_TYPE) => {
            let config = idefics_config(json)?;
            // From the first block on: two of them tell the step.
            let every = config.xattn.layers.get(1).copied();
            let every = every.unwrap_or(config.lm.layers);
            (config, Layout::Idefics { every })
        }
        _ if flamingo_mini::is(&value) => {
            let id = |name: &str| {
                token(name).ok_or_else(|| {
                    Error::Config(format!(
                        "the tokenizer has no token `{name}` of flamingo-mini's"
                    ))
                })
            };
            let marks = [id("<")?, id("Ġ<")?];
            let [end_of_chunk] = flamingo_mini::TOKENS;
            let config = flamingo_mini_config(json, marks, id(end_of_chunk)?)?;
            (config, Layout::FlamingoMini)
        }
        _ if otter::is(&value) => otter::config(&value, token)?,
        _ => return Ok(None),
    };
    config.check()?;
    Ok(Some((config, layout)))
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
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" => Ok(Activation::Silu),
        other => Err(Error::Config(format!(
            "activation `{other}` is unknown; expected quick_gelu, gelu, gelu_pytorch_tanh, relu \
             or silu"
        ))),
    }
}
