//! Hugging Face transformers: `modeling_clip.py`, `modeling_siglip.py` and
//! their configurations.

use serde::Deserialize;
use serde_json::Value;

use super::{Recipe, activation, block, parse};
use crate::Result;
use crate::config::{
    ClipConfig, Scoring, StemConfig, TextConfig, TextPool, TransformerConfig, VisionConfig,
    VisionPool, VitConfig,
};

pub(super) const MARKS: &[&str] = &[
    "vision_model.embeddings.patch_embedding.weight",
    "text_model.embeddings.token_embedding.weight",
];

pub(super) fn recipe(name: &str) -> Recipe {
    let (tower, rest) = name.split_once('.').unwrap_or((name, ""));
    if let Some((index, part)) = block(rest) {
        let layer = format!("{tower}_model.encoder.layers.{index}");
        if let Some(leaf) = part.strip_prefix("attn.qkv.") {
            let parts = ["q", "k", "v"];
            return Recipe::Concat(
                parts
                    .map(|p| format!("{layer}.self_attn.{p}_proj.{leaf}"))
                    .to_vec(),
            );
        }
        let part = part
            .replace("attn.out", "self_attn.out_proj")
            .replace("ln_", "layer_norm")
            .replace("c_fc", "fc1")
            .replace("c_proj", "fc2");
        return Recipe::Take(format!("{layer}.{part}"));
    }
    if let Some(part) = name.strip_prefix("vision.map.") {
        return map_head(part);
    }
    let norms = [
        ("vision.ln_pre.", "vision_model.pre_layrnorm."),
        ("vision.ln_post.", "vision_model.post_layernorm."),
        ("text.ln_final.", "text_model.final_layer_norm."),
    ];
    for (ours, theirs) in norms {
        if let Some(leaf) = name.strip_prefix(ours) {
            return Recipe::Take(format!("{theirs}{leaf}"));
        }
    }
    let source = match name {
        "vision.stem.conv1.weight" => {
            return Recipe::PatchRows("vision_model.embeddings.patch_embedding.weight".into());
        }
        "vision.stem.conv1.bias" => "vision_model.embeddings.patch_embedding.bias",
        "vision.class_embedding" => "vision_model.embeddings.class_embedding",
        "vision.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        "vision.proj" => "visual_projection.weight",
        "text.token_embedding" => "text_model.embeddings.token_embedding.weight",
        "text.positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "text.projection" => "text_projection.weight",
        "text.projection.weight" => "text_model.head.weight",
        "text.projection.bias" => "text_model.head.bias",
        other => other,
    };
    Recipe::Take(source.into())
}

/// A tensor of SigLIP's pooling head, whose attention is PyTorch's own.
fn map_head(part: &str) -> Recipe {
    let head = "vision_model.head";
    for (ours, parts) in [("attn.q.", (0, 1)), ("attn.kv.", (1, 3))] {
        if let Some(leaf) = part.strip_prefix(ours) {
            return Recipe::Parts {
                source: format!("{head}.attention.in_proj_{leaf}"),
                parts,
                of: 3,
            };
        }
    }
    let part = part
        .replace("attn.out", "attention.out_proj")
        .replace("norm.", "layernorm.")
        .replace("c_fc", "fc1")
        .replace("c_proj", "fc2");
    Recipe::Take(format!("{head}.{part}"))
}

/// The models that are read: both towers, or one.
pub(super) const MODEL_TYPES: &[&str] = &[
    "clip",
    "clip_vision_model",
    "clip_text_model",
    "siglip",
    "siglip_vision_model",
    "siglip_text_model",
];

/// The keys of a tower; what is absent has a default that differs by tower.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Tower {
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    vocab_size: Option<usize>,
    projection_size: Option<usize>,
}

/// What the two families leave unsaid: the defaults of `configuration_clip.py`
/// (ViT-B/32) and `configuration_siglip.py` (ViT-B/16).
struct Family {
    siglip: bool,
    activation: &'static str,
    eps: f32,
    patch: usize,
    /// Width and heads of the text tower.
    text: (usize, usize),
    context: usize,
    vocab_size: usize,
}

const CLIP: Family = Family {
    siglip: false,
    activation: "quick_gelu",
    eps: 1e-5,
    patch: 32,
    text: (512, 8),
    context: 77,
    vocab_size: 49408,
};

const SIGLIP: Family = Family {
    siglip: true,
    activation: "gelu_pytorch_tanh",
    eps: 1e-6,
    patch: 16,
    text: (768, 12),
    context: 64,
    vocab_size: 32000,
};

impl Family {
    fn transformer(&self, tower: &Tower, width: usize, heads: usize) -> Result<TransformerConfig> {
        Ok(TransformerConfig {
            width: tower.hidden_size.unwrap_or(width),
            layers: tower.num_hidden_layers.unwrap_or(12),
            heads: tower.num_attention_heads.unwrap_or(heads),
            mlp_width: tower.intermediate_size.unwrap_or(4 * width),
            activation: activation(tower.hidden_act.as_deref().unwrap_or(self.activation))?,
            layer_norm_eps: tower.layer_norm_eps.unwrap_or(self.eps),
        })
    }

    fn vision(&self, tower: &Tower) -> Result<VisionConfig> {
        Ok(VisionConfig::Vit(VitConfig {
            image_size: tower.image_size.unwrap_or(224),
            stem: StemConfig::Patch {
                size: tower.patch_size.unwrap_or(self.patch),
                bias: self.siglip,
            },
            transformer: self.transformer(tower, 768, 12)?,
            pool: if self.siglip {
                VisionPool::Map
            } else {
                VisionPool::Class
            },
            ln_pre: !self.siglip,
        }))
    }

    fn text(&self, tower: &Tower) -> Result<TextConfig> {
        let (width, heads) = self.text;
        Ok(TextConfig {
            context: tower.max_position_embeddings.unwrap_or(self.context),
            vocab_size: tower.vocab_size.unwrap_or(self.vocab_size),
            transformer: self.transformer(tower, width, heads)?,
            causal: !self.siglip,
            pool: if self.siglip {
                TextPool::Last
            } else {
                TextPool::Eot
            },
            proj_bias: self.siglip,
        })
    }
}

/// The part of a configuration that is a tower's: `NAME_config`, overridden by
/// `NAME_config_dict` where an old file has it.
fn tower(value: &Value, name: &str) -> Result<Tower> {
    let mut merged = serde_json::Map::new();
    for key in [format!("{name}_config"), format!("{name}_config_dict")] {
        if let Some(Value::Object(map)) = value.get(&key) {
            merged.extend(map.clone());
        }
    }
    parse(Value::Object(merged))
}

pub(super) fn config(value: &Value, model_type: &str) -> Result<ClipConfig> {
    let family = if model_type.starts_with("siglip") {
        &SIGLIP
    } else {
        &CLIP
    };
    let (vision, text) = match model_type.split_once('_') {
        None => (Some(tower(value, "vision")?), Some(tower(value, "text")?)),
        Some((_, "vision_model")) => (Some(parse(value.clone())?), None),
        Some(_) => (None, Some(parse(value.clone())?)),
    };
    let vision_config = vision.as_ref().map(|tower| family.vision(tower));
    let text_config = text.as_ref().map(|tower| family.text(tower));
    let stated = value.get("projection_dim").and_then(Value::as_u64);
    let embed_dim = match (family.siglip, &vision, &text) {
        (false, ..) => stated.map_or(512, |n| n as usize),
        (true, Some(vision), _) => vision.hidden_size.unwrap_or(768),
        (true, None, text) => text
            .as_ref()
            .and_then(|text| text.projection_size.or(text.hidden_size))
            .unwrap_or(768),
    };
    Ok(ClipConfig {
        embed_dim,
        vision: vision_config.transpose()?,
        text: text_config.transpose()?,
        scoring: if family.siglip {
            Scoring::Sigmoid
        } else {
            Scoring::Softmax
        },
    })
}
