//! flamingo-mini: `perceiver_resampler.py`, `gated_cross_attention.py` and
//! `modeling_flamingo.py`. The vision tower and the language model, OPT, have
//! transformers' names.

use serde::Deserialize;
use serde_json::Value;

use super::language::{Family, Language};
use super::open_flamingo::feed_forward;
use super::{Recipe, activation, block, parse, transformers};
use crate::backend::Activation;
use crate::config::flamingo::{FlamingoConfig, ResamplerConfig, ResamplerKind, XattnConfig};
use crate::{Error, Result};

const OPT: Language = Language {
    family: Family::Opt,
    heads: 1,
};

pub(super) fn recipe(name: &str) -> Recipe {
    let (part, rest) = name.split_once('.').unwrap_or((name, ""));
    match part {
        "vision" => transformers::recipe(name).renamed(|source| format!("vision_encoder.{source}")),
        "resampler" => resampler(rest),
        "xattn" => {
            let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let rest = match rest {
                "attn_gate" => "alpha_attn".into(),
                "ff_gate" => "alpha_ffw".into(),
                _ => feed_forward("ffw", rest).unwrap_or_else(|| format!("attn.{rest}")),
            };
            Recipe::Take(format!(
                "flamingo.lm.decoder.layers.{layer}.xattn_block.{rest}"
            ))
        }
        _ => match block(rest) {
            Some((layer, part)) => OPT.block_recipe(
                &format!("flamingo.lm.decoder.layers.{layer}.lm_block"),
                part,
            ),
            None => OPT.recipe(name).renamed(|source| {
                let source = source.replacen("model.", "lm.", 1);
                format!("flamingo.{source}")
            }),
        },
    }
}

fn resampler(rest: &str) -> Recipe {
    let model = "flamingo.resampler";
    let layer = rest.strip_prefix("layers.").and_then(|r| r.split_once('.'));
    match layer {
        Some((layer, "to_kv.weight")) => Recipe::Concat(
            ["to_k", "to_v"]
                .map(|name| format!("{model}.layers.{layer}.0.{name}.weight"))
                .to_vec(),
        ),
        Some((layer, rest)) => {
            let rest = feed_forward("1", rest).unwrap_or_else(|| format!("0.{rest}"));
            Recipe::Take(format!("{model}.layers.{layer}.{rest}"))
        }
        None if rest == "time_embedding" => Recipe::Take(format!("{model}.time_pos_emb")),
        None => Recipe::Take(format!("{model}.{rest}")),
    }
}

/// Whether a tensor of the file is a buffer, or the second name of one: the
/// head is the token table, and the vision tower's projection is not used.
pub(super) fn ignores(source: &str) -> bool {
    let tied = source == "flamingo.lm_head.weight";
    tied || source.ends_with(".position_ids") || source == "vision_encoder.visual_projection.weight"
}

/// Whether a `config.json` is flamingo-mini's, which names its parts.
pub(super) fn is(config: &Value) -> bool {
    ["lm", "clip_model_type"]
        .iter()
        .all(|key| config[*key].is_string())
}

#[derive(Deserialize)]
#[serde(default)]
struct Mini {
    lm: String,
    clip_model_type: String,
    xattn_every: usize,
    xattn_dim_head: usize,
    xattn_heads: usize,
    xattn_ff_mult: usize,
    xattn_act: String,
    resampler_depth: usize,
    resampler_dim_head: usize,
    resampler_heads: usize,
    resampler_num_latents: usize,
    resampler_num_time_embeds: usize,
    resampler_ff_mult: usize,
    resampler_act: String,
}

/// What its processor adds to OPT's vocabulary (`flamingo_processor.py`).
pub(super) const TOKENS: [&str; 1] = ["<EOC>"];

/// Those of `configuration_flamingo.py`.
impl Default for Mini {
    fn default() -> Self {
        Self {
            lm: "gpt2".into(),
            clip_model_type: "openai/clip-vit-base-patch32".into(),
            xattn_every: 1,
            xattn_dim_head: 64,
            xattn_heads: 8,
            xattn_ff_mult: 4,
            xattn_act: "gelu".into(),
            resampler_depth: 6,
            resampler_dim_head: 64,
            resampler_heads: 8,
            resampler_num_latents: 64,
            resampler_num_time_embeds: 4,
            resampler_ff_mult: 4,
            resampler_act: "gelu".into(),
        }
    }
}

/// The sizes of a flamingo-mini from its `config.json`. `marks` are the tokens
/// of `<`, alone and after a blank, and `end_of_chunk` that of `<EOC>`: its
/// tokenizer's.
///
/// # Errors
/// Where the text is not JSON, or names a vision tower or a language model that
/// none of the published ones has.
pub fn flamingo_mini_config(
    json: &str,
    marks: [u32; 2],
    end_of_chunk: u32,
) -> Result<FlamingoConfig> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    let mini: Mini = parse(value)?;
    let known = match (mini.lm.as_str(), mini.clip_model_type.as_str()) {
        ("facebook/opt-350m", "openai/clip-vit-large-patch14") => "flamingo-mini",
        ("facebook/opt-125m", "openai/clip-vit-large-patch14") => "flamingo-tiny",
        (lm, clip) => {
            return Err(Error::Config(format!(
                "config.json names {lm} and {clip}; expected facebook/opt-350m or \
                 facebook/opt-125m and openai/clip-vit-large-patch14"
            )));
        }
    };
    let act = |name: &str| match name {
        "sqrelu" => Ok(Activation::SquaredRelu),
        other => activation(other),
    };
    let known = FlamingoConfig::flamingo_mini(known, marks, end_of_chunk);
    let known = known.ok_or_else(|| Error::Config("no such flamingo-mini".into()))?;
    let config = FlamingoConfig {
        resampler: ResamplerConfig {
            kind: ResamplerKind::Perceiver {
                latents: mini.resampler_num_latents,
            },
            depth: mini.resampler_depth,
            heads: mini.resampler_heads,
            head_dim: mini.resampler_dim_head,
            mlp_width: mini.resampler_ff_mult * known.vision.width(),
            activation: act(&mini.resampler_act)?,
            time_embeddings: mini.resampler_num_time_embeds,
            ..known.resampler
        },
        xattn: XattnConfig {
            layers: XattnConfig::every(mini.xattn_every, known.lm.layers),
            heads: mini.xattn_heads,
            head_dim: mini.xattn_dim_head,
            mlp_width: mini.xattn_ff_mult * known.lm.width,
            activation: act(&mini.xattn_act)?,
            ..known.xattn
        },
        ..known
    };
    config.check()?;
    Ok(config)
}
