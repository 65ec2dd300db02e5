//! open_clip: `model.py`, `factory.py` and `open_clip_config.json`; and
//! OpenAI's `model.py`, whose names it keeps.

use serde::Deserialize;
use serde_json::Value;

use super::{Recipe, block, parse, timm};
use crate::backend::Activation;
use crate::config::{
    ClipConfig, ResNetConfig, Scoring, StemConfig, TextConfig, TextPool, TransformerConfig,
    VisionConfig, VisionPool, VitConfig,
};
use crate::{Error, Result};

pub(super) const MARKS: &[&str] = &[
    "visual.class_embedding",
    "visual.attnpool.positional_embedding",
    "token_embedding.weight",
];
pub(super) const TIMM_MARKS: &[&str] = &["visual.trunk.patch_embed.proj.weight"];

pub(super) fn recipe(name: &str) -> Recipe {
    let (tower, rest) = name.split_once('.').unwrap_or((name, ""));
    match tower {
        "vision" => vision(rest),
        "text" => text("", rest),
        _ => Recipe::Take(name.into()),
    }
}

/// As [`recipe`], where the image tower is timm's and the text tower has a
/// name of its own (`CustomTextCLIP`).
pub(super) fn timm_recipe(name: &str) -> Recipe {
    let (tower, rest) = name.split_once('.').unwrap_or((name, ""));
    match tower {
        "vision" => timm::recipe("visual.trunk.", name),
        "text" => text("text.", rest),
        _ => Recipe::Take(name.into()),
    }
}

/// A tensor of a block, if it is one.
fn resblock(prefix: &str, rest: &str) -> Option<Recipe> {
    let (index, part) = block(rest)?;
    let part = part
        .replace("attn.qkv.", "attn.in_proj_")
        .replace("attn.out.", "attn.out_proj.");
    Some(Recipe::Take(format!(
        "{prefix}transformer.resblocks.{index}.{part}"
    )))
}

fn text(prefix: &str, rest: &str) -> Recipe {
    if let Some(recipe) = resblock(prefix, rest) {
        return recipe;
    }
    let source = match rest {
        "projection" => return Recipe::Transpose(format!("{prefix}text_projection")),
        "projection.weight" => "text_projection.weight",
        "projection.bias" => "text_projection.bias",
        "token_embedding" => "token_embedding.weight",
        other => other,
    };
    Recipe::Take(format!("{prefix}{source}"))
}

fn vision(rest: &str) -> Recipe {
    if let Some(recipe) = resblock("visual.", rest) {
        return recipe;
    }
    match rest {
        "stem.conv1.weight" => return Recipe::PatchRows("visual.conv1.weight".into()),
        "proj" => return Recipe::Transpose("visual.proj".into()),
        _ => {}
    }
    if let Some(part) = rest.strip_prefix("attnpool.") {
        let name = |part: &str| format!("visual.attnpool.{part}");
        return match part.split_once('.') {
            Some(("kv", leaf)) => Recipe::Concat(
                ["k", "v"]
                    .map(|p| name(&format!("{p}_proj.{leaf}")))
                    .to_vec(),
            ),
            Some(("q", leaf)) => Recipe::Take(name(&format!("q_proj.{leaf}"))),
            Some((_, leaf)) => Recipe::Take(name(&format!("c_proj.{leaf}"))),
            None => Recipe::Take(name(part)),
        };
    }
    // conv1, layer2.0.conv3, layer2.0.downsample: each with the norm after it.
    let (path, leaf) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let last = path.rsplit('.').next().unwrap_or(path);
    let (conv, norm) = if last == "downsample" {
        (format!("visual.{path}.0"), format!("visual.{path}.1"))
    } else if last.starts_with("conv") {
        let norm = path.replace("conv", "bn");
        (format!("visual.{path}"), format!("visual.{norm}"))
    } else {
        return Recipe::Take(format!("visual.{rest}"));
    };
    if leaf == "bias" {
        return Recipe::FoldedBias { norm };
    }
    Recipe::FoldedWeight {
        conv: format!("{conv}.weight"),
        norm,
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
    init_logit_bias: Option<f32>,
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
    timm_model_name: Option<String>,
    timm_pool: Option<String>,
    timm_proj: Option<String>,
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
    #[serde(default)]
    no_causal_mask: bool,
    #[serde(default)]
    proj_bias: bool,
    pool_type: Option<String>,
    #[serde(default)]
    norm_kwargs: Norm,
    #[serde(default)]
    act_kwargs: Act,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize, Default)]
struct Norm {
    eps: Option<f32>,
}

#[derive(Deserialize, Default)]
struct Act {
    approximate: Option<String>,
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
    "hf_model_name",
    "attentional_pool",
    "no_ln_pre",
    "embed_cls",
    "final_ln_after_pool",
    "ls_init_value",
    "norm_kwargs",
    "act_kwargs",
    "block_type",
    "qk_norm",
    "timm_proj_bias",
];

fn refuse(tower: &str, key: &str, value: &Value) -> Error {
    Error::Config(format!(
        "open_clip_config.json asks for `{key}` ({value}) in the {tower} tower, which Plume does \
         not compute; expected the plain towers of CLIP or SigLIP"
    ))
}

/// # Errors
/// Where one of [`UNSUPPORTED`] is asked for, or a pooling that is none of
/// `pools`.
fn plain(tower: &str, rest: &serde_json::Map<String, Value>, pools: &[&str]) -> Result<()> {
    let asked = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let option = UNSUPPORTED
        .iter()
        .find_map(|key| rest.get_key_value(*key).filter(|(_, value)| asked(value)));
    if let Some((key, value)) = option {
        return Err(refuse(tower, key, value));
    }
    match rest.get("pool_type") {
        Some(Value::String(pool)) if !pools.contains(&pool.as_str()) => {
            Err(refuse(tower, "pool_type", &pool.as_str().into()))
        }
        _ => Ok(()),
    }
}

impl Vision {
    fn config(&self, activation: Activation) -> Result<VisionConfig> {
        plain("vision", &self.rest, &["tok"])?;
        let side = self.image_size.get(0).unwrap_or(&self.image_size);
        let image_size = side.as_u64().unwrap_or(0) as usize;
        if let Some(name) = &self.timm_model_name {
            return self.timm(name, image_size);
        }
        if self.layers.is_array() {
            return Ok(VisionConfig::ResNet(ResNetConfig {
                image_size,
                width: self.width,
                layers: parse(self.layers.clone())?,
                heads: self.width * 32 / self.head_width.max(1),
            }));
        }
        let (Some(layers), Some(patch)) = (self.layers.as_u64(), self.patch_size) else {
            return Err(Error::Config(format!(
                "the vision tower is neither transformer nor ResNet: expected a number of `layers` \
                 and a `patch_size`, or four numbers of layers; got layers {} and patch_size {:?}",
                self.layers, self.patch_size
            )));
        };
        Ok(VisionConfig::Vit(VitConfig {
            image_size,
            stem: StemConfig::Patch {
                size: patch,
                bias: false,
            },
            transformer: TransformerConfig {
                width: self.width,
                layers: layers as usize,
                heads: self.width / self.head_width.max(1),
                mlp_width: (self.width as f64 * self.mlp_ratio) as usize,
                activation,
                layer_norm_eps: 1e-5,
            },
            pool: VisionPool::Class,
            ln_pre: true,
        }))
    }

    /// An image tower of timm's, by its name.
    fn timm(&self, name: &str, image_size: usize) -> Result<VisionConfig> {
        let mut tower = timm::tower(name)?;
        let VisionConfig::Vit(vit) = &mut tower else {
            return Err(refuse("vision", "timm_model_name", &name.into()));
        };
        let pool = self.timm_pool.as_deref().unwrap_or("avg");
        let proj = self.timm_proj.as_deref().unwrap_or("linear");
        if vit.pool != VisionPool::Map || pool != "map" || !matches!(proj, "none" | "") {
            return Err(refuse("vision", "timm_pool", &pool.into()));
        }
        vit.image_size = image_size;
        Ok(tower)
    }
}

impl Text {
    fn config(&self, quick_gelu: bool) -> Result<TextConfig> {
        plain("text", &self.rest, &[])?;
        let pool = match self.pool_type.as_deref() {
            None | Some("argmax") => TextPool::Eot,
            Some("last") => TextPool::Last,
            Some(other) => return Err(refuse("text", "pool_type", &other.into())),
        };
        let activation = match (self.act_kwargs.approximate.as_deref(), quick_gelu) {
            (Some("tanh"), false) => Activation::GeluTanh,
            (None | Some("none"), false) => Activation::Gelu,
            (None, true) => Activation::QuickGelu,
            (Some(other), _) => return Err(refuse("text", "act_kwargs", &other.into())),
        };
        Ok(TextConfig {
            context: self.context_length,
            vocab_size: self.vocab_size,
            transformer: TransformerConfig {
                width: self.width,
                layers: self.layers,
                heads: self.heads,
                mlp_width: (self.width as f64 * self.mlp_ratio) as usize,
                activation,
                layer_norm_eps: self.norm_kwargs.eps.unwrap_or(1e-5),
            },
            causal: !self.no_causal_mask,
            pool,
            proj_bias: self.proj_bias,
        })
    }
}

pub(super) fn config(value: Value) -> Result<ClipConfig> {
    let File { model_cfg: model } = parse(value)?;
    let activation = if model.quick_gelu {
        Activation::QuickGelu
    } else {
        Activation::Gelu
    };
    Ok(ClipConfig {
        embed_dim: model.embed_dim,
        vision: Some(model.vision_cfg.config(activation)?),
        text: Some(model.text_cfg.config(model.quick_gelu)?),
        scoring: if model.init_logit_bias.is_some() {
            Scoring::Sigmoid
        } else {
            Scoring::Softmax
        },
    })
}

/// The sizes of a model of OpenAI's by the shapes of its tensors, as
/// `build_model` of OpenAI's `model.py` works them out: their archives hold no
/// configuration. Always with QuickGELU, which all of theirs were trained with.
///
/// # Errors
/// Where a tensor that tells a size is missing.
pub fn openai_config(shape: &dyn Fn(&str) -> Option<Vec<usize>>) -> Result<ClipConfig> {
    let axis = |name: &str, axis: usize| -> Result<usize> {
        shape(name)
            .and_then(|shape| shape.get(axis).copied())
            .ok_or_else(|| Error::MissingTensor {
                name: name.to_owned(),
            })
    };
    let blocks = |name: &dyn Fn(usize) -> String| -> usize {
        (0..).take_while(|&i| shape(&name(i)).is_some()).count()
    };
    let layers = |prefix: &str| {
        blocks(&|i| format!("{prefix}transformer.resblocks.{i}.attn.in_proj_weight"))
    };
    let transformer = |width: usize, layers: usize| TransformerConfig {
        width,
        layers,
        heads: width / 64,
        mlp_width: 4 * width,
        activation: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    };
    // The position table is a square grid and one more.
    let grid = |name: &str| Ok::<_, Error>((axis(name, 0)?.saturating_sub(1)).isqrt());
    let vision = if shape("visual.proj").is_some() {
        let (width, size) = (
            axis("visual.conv1.weight", 0)?,
            axis("visual.conv1.weight", 3)?,
        );
        VisionConfig::Vit(VitConfig {
            image_size: size * grid("visual.positional_embedding")?,
            stem: StemConfig::Patch { size, bias: false },
            transformer: transformer(width, layers("visual.")),
            pool: VisionPool::Class,
            ln_pre: true,
        })
    } else {
        let width = axis("visual.layer1.0.conv1.weight", 0)?;
        VisionConfig::ResNet(ResNetConfig {
            image_size: 32 * grid("visual.attnpool.positional_embedding")?,
            width,
            layers: [1, 2, 3, 4]
                .map(|layer| blocks(&|i| format!("visual.layer{layer}.{i}.conv1.weight"))),
            heads: width * 32 / 64,
        })
    };
    let config = ClipConfig {
        embed_dim: axis("text_projection", 1)?,
        vision: Some(vision),
        text: Some(TextConfig {
            context: axis("positional_embedding", 0)?,
            vocab_size: axis("token_embedding.weight", 0)?,
            transformer: transformer(axis("ln_final.weight", 0)?, layers("")),
            causal: true,
            pool: TextPool::Eot,
            proj_bias: false,
        }),
        scoring: Scoring::Softmax,
    };
    config.check()?;
    Ok(config)
}
