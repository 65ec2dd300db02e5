//! open_clip: `model.py`, `factory.py` and `open_clip_config.json`.

use serde::Deserialize;
use serde_json::Value;

use super::{Recipe, block, parse};
use crate::backend::Activation;
use crate::config::{
    ClipConfig, StemConfig, TextConfig, TransformerConfig, VisionConfig, VisionPool,
};
use crate::{Error, Result};

pub(super) const MARK: &str = "visual.class_embedding";

pub(super) fn recipe(name: &str) -> Recipe {
    let (tower, rest) = name.split_once('.').unwrap_or((name, ""));
    let prefix = if tower == "vision" { "visual." } else { "" };
    if let Some((index, part)) = block(rest) {
        let part = part
            .replace("attn.qkv.", "attn.in_proj_")
            .replace("attn.out.", "attn.out_proj.");
        return Recipe::Take(format!("{prefix}transformer.resblocks.{index}.{part}"));
    }
    match name {
        "vision.stem.conv1.weight" => Recipe::PatchRows("visual.conv1.weight".into()),
        "vision.proj" => Recipe::Transpose("visual.proj".into()),
        "text.projection" => Recipe::Transpose("text_projection".into()),
        "text.token_embedding" => Recipe::Take("token_embedding.weight".into()),
        "logit_scale" => Recipe::Take(name.into()),
        _ => Recipe::Take(format!("{prefix}{rest}")),
    }
}

#[derive(Deserialize)]
struct File {
    model_cfg: Model,
}

#[derive(Deserialize)]
struct Model {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: Vision,
    text_cfg: Text,
}

#[derive(Deserialize)]
struct Vision {
    image_size: Value,
    #[serde(default)]
    layers: Value,
    #[serde(default)]
    width: usize,
    patch_size: Option<usize>,
    #[serde(default = "head_width")]
    head_width: usize,
    #[serde(default = "mlp_ratio")]
    mlp_ratio: f64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(default = "context_length")]
    context_length: usize,
    #[serde(default = "vocab_size")]
    vocab_size: usize,
    #[serde(default = "text_width")]
    width: usize,
    #[serde(default = "text_heads")]
    heads: usize,
    #[serde(default = "text_layers")]
    layers: usize,
    #[serde(default = "mlp_ratio")]
    mlp_ratio: f64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

// The defaults of `CLIPVisionCfg` and `CLIPTextCfg`.
fn head_width() -> usize {
    64
}
fn mlp_ratio() -> f64 {
    4.0
}
fn context_length() -> usize {
    77
}
fn vocab_size() -> usize {
    49408
}
fn text_width() -> usize {
    512
}
fn text_heads() -> usize {
    8
}
fn text_layers() -> usize {
    12
}

/// Options that change the arithmetic and are not computed.
const UNSUPPORTED: &[&str] = &[
    "timm_model_name",
    "hf_model_name",
    "attentional_pool",
    "no_ln_pre",
    "no_causal_mask",
    "embed_cls",
    "final_ln_after_pool",
    "ls_init_value",
    "norm_kwargs",
    "act_kwargs",
    "proj_bias",
];

fn refuse(tower: &str, rest: &serde_json::Map<String, Value>) -> Result<()> {
    let asked = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    match UNSUPPORTED
        .iter()
        .find(|key| rest.get(**key).is_some_and(asked))
    {
        None => Ok(()),
        Some(key) => Err(Error::Config(format!(
            "open_clip_config.json asks for `{key}` in the {tower} tower, which Plume does not \
             compute; expected CLIP's plain towers"
        ))),
    }
}

pub(super) fn config(value: Value) -> Result<ClipConfig> {
    let File { model_cfg: model } = parse(value)?;
    let (vision, text) = (model.vision_cfg, model.text_cfg);
    refuse("vision", &vision.rest)?;
    refuse("text", &text.rest)?;
    let (Some(layers), Some(patch)) = (vision.layers.as_u64(), vision.patch_size) else {
        return Err(Error::Config(format!(
            "the vision tower is no vision transformer: expected a number of `layers` and a \
             `patch_size`, got layers {} and patch_size {:?}",
            vision.layers, vision.patch_size
        )));
    };
    let side = vision.image_size.get(0).unwrap_or(&vision.image_size);
    let side = side.as_u64().unwrap_or(0) as usize;
    let transformer = |width: usize, layers: usize, heads: usize, ratio: f64| TransformerConfig {
        width,
        layers,
        heads,
        mlp_width: (width as f64 * ratio) as usize,
        activation: if model.quick_gelu {
            Activation::QuickGelu
        } else {
            Activation::Gelu
        },
        layer_norm_eps: 1e-5,
    };
    let heads = vision.width / vision.head_width.max(1);
    Ok(ClipConfig {
        embed_dim: model.embed_dim,
        vision: VisionConfig {
            image_size: side,
            stem: StemConfig::Patch { size: patch },
            transformer: transformer(vision.width, layers as usize, heads, vision.mlp_ratio),
            pool: VisionPool::Class,
        },
        text: TextConfig {
            context: text.context_length,
            vocab_size: text.vocab_size,
            transformer: transformer(text.width, text.layers, text.heads, text.mlp_ratio),
            causal: true,
        },
    })
}
