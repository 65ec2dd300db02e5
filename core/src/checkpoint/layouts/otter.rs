//! Otter, an OpenFlamingo as one model of transformers (its
//! `modeling_otter.py`, and `modeling_flamingo.py` before): the vision tower has
//! their names too, and the MLPs lie elsewhere.

use serde_json::Value;

use super::language::{Family, Language};
use super::open_flamingo::{self, Sizes};
use super::{Layout, Recipe, clip_config, lm_config, transformers};
use crate::config::flamingo::{FlamingoConfig, XattnConfig};
use crate::{Error, Result};

/// What Otter adds to the vocabulary of its language model when it is loaded,
/// in this order.
pub(super) const TOKENS: [&str; 3] = ["<|endofchunk|>", "<image>", "<answer>"];

/// What a `config.json` calls Otter, and the OpenFlamingo that it began as.
const MODEL_TYPES: [&str; 2] = ["otter", "flamingo"];

/// Whether a `config.json` is Otter's.
pub(super) fn is(config: &Value) -> bool {
    let kind = config["model_type"].as_str();
    kind.is_some_and(|kind| MODEL_TYPES.contains(&kind)) && config["text_config"].is_object()
}

pub(super) fn recipe(language: Language, name: &str) -> Recipe {
    if name.starts_with("vision.") {
        return transformers::recipe(name).renamed(|source| format!("vision_encoder.{source}"));
    }
    open_flamingo::recipe(language, name).renamed(|source| {
        let layer = source.strip_prefix("perceiver.layers.");
        let layer = layer.and_then(|rest| rest.split_once('.'));
        match layer.map(|(layer, rest)| (layer, rest.split_once('.'))) {
            Some((layer, Some(("1", rest)))) => {
                format!("perceiver.layers.{layer}.feed_forward.{rest}")
            }
            Some((layer, Some((_, rest)))) => format!("perceiver.layers.{layer}.{rest}"),
            _ => source.replace(
                ".gated_cross_attn_layer.ff.",
                ".gated_cross_attn_layer.feed_forward.",
            ),
        }
    })
}

/// The sizes of an Otter; what its `config.json` leaves out, `modeling_otter.py`
/// fixes.
///
/// # Errors
/// Where its parts are of other architectures, or its tokenizer lacks a token.
pub(super) fn config(
    value: &Value,
    token: &dyn Fn(&str) -> Option<u32>,
) -> Result<(FlamingoConfig, Layout)> {
    const LATENTS: usize = 64;
    const DEPTH: usize = 6;
    const HEAD_DIM: usize = 64;
    const MLP: usize = 4;
    const EVERY: usize = 4;
    let lm = lm_config(&value["text_config"].to_string())?;
    let kind = value["text_config"]["model_type"].as_str();
    let family = kind.and_then(Family::of).ok_or_else(|| {
        Error::Config("the text_config of config.json names no language model of Otter's".into())
    })?;
    let vision = clip_config(&value["vision_config"].to_string())?.vision;
    let vision = vision.ok_or_else(|| {
        Error::Config("the vision_config of config.json describes no image tower".into())
    })?;
    let number = |key: &str| value[key].as_u64().map(|n| n as usize);
    let every = number("cross_attn_every_n_layers").unwrap_or(EVERY);
    let id = |name: &str| {
        token(name)
            .ok_or_else(|| Error::Config(format!("the tokenizer has no token `{name}` of Otter's")))
    };
    let language = Language {
        family,
        heads: lm.heads,
    };
    let sizes = Sizes {
        latents: LATENTS,
        depth: DEPTH,
        resampler: (Sizes::HEADS * HEAD_DIM, MLP * vision.width()),
        xattn: (Sizes::HEADS * HEAD_DIM, MLP * lm.width),
        frames: number("max_num_frames").unwrap_or(0),
        gated: XattnConfig::every_last(every, lm.layers),
    };
    let tokens = [id(TOKENS[1])?, id(TOKENS[0])?];
    Ok((sizes.config(vision, lm, tokens), Layout::Otter(language)))
}
