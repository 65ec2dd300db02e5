//! Hugging Face transformers: `modeling_clip.py`, `configuration_clip.py`.

use serde::Deserialize;
use serde_json::Value;

use super::{Recipe, activation, block, parse};
use crate::Result;
use crate::config::{
    ClipConfig, StemConfig, TextConfig, TransformerConfig, VisionConfig, VisionPool,
};

pub(super) const MARK: &str = "vision_model.embeddings.class_embedding";

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
        "vision.class_embedding" => MARK,
        "vision.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        "vision.proj" => "visual_projection.weight",
        "text.token_embedding" => "text_model.embeddings.token_embedding.weight",
        "text.positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "text.projection" => "text_projection.weight",
        other => other,
    };
    Recipe::Take(source.into())
}

/// `CLIPConfig` with its defaults (ViT-B/32).
#[derive(Deserialize)]
#[serde(default)]
struct Clip {
    projection_dim: usize,
    vision_config: Tower,
    text_config: Tower,
}

impl Default for Clip {
    fn default() -> Self {
        Self {
            projection_dim: 512,
            vision_config: Tower::default(),
            text_config: Tower::default(),
        }
    }
}

/// Both towers' keys; what is absent has a default that differs by tower.
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
}

impl Tower {
    fn transformer(&self, width: usize, heads: usize) -> Result<TransformerConfig> {
        Ok(TransformerConfig {
            width: self.hidden_size.unwrap_or(width),
            layers: self.num_hidden_layers.unwrap_or(12),
            heads: self.num_attention_heads.unwrap_or(heads),
            mlp_width: self.intermediate_size.unwrap_or(4 * width),
            activation: activation(self.hidden_act.as_deref().unwrap_or("quick_gelu"))?,
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-5),
        })
    }
}

pub(super) fn config(value: Value) -> Result<ClipConfig> {
    let clip: Clip = parse(value)?;
    let (vision, text) = (clip.vision_config, clip.text_config);
    Ok(ClipConfig {
        embed_dim: clip.projection_dim,
        vision: VisionConfig {
            image_size: vision.image_size.unwrap_or(224),
            stem: StemConfig::Patch {
                size: vision.patch_size.unwrap_or(32),
            },
            transformer: vision.transformer(768, 12)?,
            pool: VisionPool::Class,
        },
        text: TextConfig {
            context: text.max_position_embeddings.unwrap_or(77),
            vocab_size: text.vocab_size.unwrap_or(49408),
            transformer: text.transformer(512, 8)?,
            causal: true,
        },
    })
}
