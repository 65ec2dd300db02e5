//! timm: `vision_transformer.py` and `byobnet.py`, whose CLIP image towers are
//! those of OpenAI under other names (`_convert_openai_clip`); `nfnet.py`, whose
//! `dm_nfnet_*` are DeepMind's.

use serde::Deserialize;
use serde_json::Value;

use super::{Recipe, block, parse};
use crate::backend::Activation;
use crate::config::{
    ClipConfig, NfnetConfig, ResNetConfig, Scoring, StemConfig, TransformerConfig, VisionConfig,
    VisionPool, VitConfig,
};
use crate::{Error, Result};

pub(super) const MARKS: &[&str] = &[
    "patch_embed.proj.weight",
    "stem.conv1.conv.weight",
    "stem.conv1.gain",
];

/// The bias of timm's classifier.
pub(super) const ZEROS: &str = "head.bias";

/// The tensor of an image tower, whose names begin with `prefix`.
pub(super) fn recipe(prefix: &str, name: &str) -> Recipe {
    let rest = name.strip_prefix("vision.").unwrap_or(name);
    if let Some((index, part)) = block(rest) {
        let part = part
            .replace("ln_", "norm")
            .replace("attn.out", "attn.proj")
            .replace("c_fc", "fc1")
            .replace("c_proj", "fc2");
        return Recipe::Take(format!("{prefix}blocks.{index}.{part}"));
    }
    if let Some(part) = rest.strip_prefix("map.") {
        let part = part
            .replace("probe", "latent")
            .replace("attn.out", "proj")
            .replace("attn.", "")
            .replace("c_fc", "fc1")
            .replace("c_proj", "fc2");
        return Recipe::Take(format!("{prefix}attn_pool.{part}"));
    }
    if let Some(recipe) = nfnet(prefix, rest) {
        return recipe;
    }
    let source = match rest {
        "stem.conv1.weight" => {
            return Recipe::PatchRows(format!("{prefix}patch_embed.proj.weight"));
        }
        "stem.conv1.bias" => "patch_embed.proj.bias",
        "class_embedding" => "cls_token",
        "positional_embedding" => "pos_embed",
        "proj" => "head.weight",
        _ => return resnet(prefix, rest),
    };
    Recipe::Take(format!("{prefix}{source}"))
}

/// A tensor of an NFNet.
fn nfnet(prefix: &str, rest: &str) -> Option<Recipe> {
    let (module, leaf) = rest.rsplit_once('.')?;
    let module = match module.split_once('.') {
        Some(("stages", _)) => module.replace("se.", "attn_last."),
        // Theirs count from 1.
        Some(("stem", i)) => format!("stem.conv{}", i.parse::<usize>().ok()? + 1),
        _ if module == "final_conv" => module.to_owned(),
        _ if module == "fc" => "head.fc".into(),
        _ => return None,
    };
    let module = format!(
        "{prefix}{}",
        module.replace("downsample", "downsample.conv")
    );
    let plain = module.contains("fc") || leaf != "weight";
    Some(if plain {
        Recipe::Take(format!(
            "{module}.{}",
            leaf.replace("skip_gain", "skipinit_gain")
        ))
    } else {
        Recipe::Standardized { conv: module }
    })
}

fn resnet(prefix: &str, rest: &str) -> Recipe {
    if let Some(part) = rest.strip_prefix("attnpool.") {
        let part = part
            .replace("positional_embedding", "pos_embed")
            .replace("out.", "proj.");
        return match part.strip_prefix("kv.") {
            Some(leaf) => Recipe::Concat(
                ["k", "v"]
                    .map(|p| format!("{prefix}head.{p}.{leaf}"))
                    .to_vec(),
            ),
            None => Recipe::Take(format!("{prefix}head.{part}")),
        };
    }
    let norms = [("ln_pre.", "norm_pre."), ("ln_post.", "norm.")];
    for (ours, theirs) in norms {
        if let Some(leaf) = rest.strip_prefix(ours) {
            return Recipe::Take(format!("{prefix}{theirs}{leaf}"));
        }
    }
    let (conv, leaf) = rest.rsplit_once('.').unwrap_or((rest, ""));
    folded(&format!("{prefix}{}", conv_name(conv)), leaf)
}

/// A convolution by the name of the pair that it makes with its norm.
fn conv_name(conv: &str) -> String {
    let Some((stage, rest)) = conv.strip_prefix("layer").and_then(|c| c.split_once('.')) else {
        return format!("stem.{conv}");
    };
    let (index, part) = rest.split_once('.').unwrap_or((rest, ""));
    let part = match part {
        "conv1" => "conv1_1x1",
        "conv2" => "conv2_kxk",
        "conv3" => "conv3_1x1",
        _ => "shortcut.conv",
    };
    // Ours count from 1, as OpenAI's do.
    let stage = stage.parse::<usize>().unwrap_or(1).saturating_sub(1);
    format!("stages.{stage}.{index}.{part}")
}

fn folded(pair: &str, leaf: &str) -> Recipe {
    let norm = format!("{pair}.bn");
    if leaf == "bias" {
        return Recipe::FoldedBias { norm };
    }
    Recipe::FoldedWeight {
        conv: format!("{pair}.conv.weight"),
        norm,
    }
}

#[derive(Deserialize)]
struct File {
    architecture: String,
    num_classes: usize,
    #[serde(default)]
    pretrained_cfg: Pretrained,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pretrained {
    tag: Option<String>,
    input_size: Option<[usize; 3]>,
}

/// A `config.json` of timm's. It says little more than a name, from which the
/// sizes follow.
pub(super) fn config(value: Value) -> Result<ClipConfig> {
    let file: File = parse(value)?;
    let side = file.pretrained_cfg.input_size.map(|[_, side, _]| side);
    let name = &file.architecture;
    let mut vision = tower(name)?;
    match &mut vision {
        VisionConfig::ResNet(resnet) => resnet.image_size = side.unwrap_or(resnet.image_size),
        VisionConfig::Nfnet(nfnet) => nfnet.image_size = side.unwrap_or(nfnet.image_size),
        VisionConfig::Vit(vit) => {
            vit.image_size = side.unwrap_or(vit.image_size);
            // timm computes OpenAI's weights with GELU under the plain name;
            // they were trained with QuickGELU.
            if file.pretrained_cfg.tag.as_deref() == Some("openai") {
                vit.transformer.activation = Activation::QuickGelu;
            }
        }
    }
    let embed_dim = match &vision {
        VisionConfig::Vit(vit) if vit.pool == VisionPool::Map => vit.transformer.width,
        _ => file.num_classes,
    };
    Ok(ClipConfig {
        embed_dim,
        vision: Some(vision),
        text: None,
        scoring: Scoring::Softmax,
    })
}

/// The image tower by the name of its function in timm.
///
/// # Errors
/// Where it is none of CLIP's or SigLIP's.
pub(super) fn tower(name: &str) -> Result<VisionConfig> {
    let unknown = || {
        Error::Config(format!(
            "`{name}` is no image tower that is known; expected timm's CLIP (such as \
             vit_base_patch32_clip_224 or resnet50_clip), SigLIP (vit_base_patch16_siglip_224) or \
             NFNet (dm_nfnet_f0)"
        ))
    };
    if let Some(resnet) = resnet_tower(name) {
        return Ok(VisionConfig::ResNet(resnet));
    }
    let nfnet = name.strip_prefix("dm_nfnet_f").and_then(|f| f.parse().ok());
    if let Some(nfnet) = nfnet.and_then(NfnetConfig::f) {
        return Ok(VisionConfig::Nfnet(nfnet));
    }
    let parts: Vec<&str> = name.split('_').collect();
    let (size, patch, family, side, quick) = match parts.as_slice() {
        ["vit", size, patch, family, side] => (*size, *patch, *family, *side, false),
        ["vit", size, patch, family, "quickgelu", side] => (*size, *patch, *family, *side, true),
        _ => return Err(unknown()),
    };
    let (width, layers, heads, mlp_width) = match size {
        "base" => (768, 12, 12, 3072),
        "large" => (1024, 24, 16, 4096),
        "so400m" => (1152, 27, 16, 4304),
        "huge" => (1280, 32, 16, 5120),
        _ => return Err(unknown()),
    };
    let siglip = match family {
        "clip" => false,
        "siglip" => true,
        _ => return Err(unknown()),
    };
    let patch = patch.strip_prefix("patch").and_then(|p| p.parse().ok());
    let (Some(patch), Ok(side)) = (patch, side.parse()) else {
        return Err(unknown());
    };
    Ok(VisionConfig::Vit(VitConfig {
        image_size: side,
        stem: StemConfig::Patch {
            size: patch,
            bias: siglip,
        },
        transformer: TransformerConfig {
            width,
            layers,
            heads,
            mlp_width,
            activation: if quick {
                Activation::QuickGelu
            } else {
                Activation::Gelu
            },
            layer_norm_eps: if siglip { 1e-6 } else { 1e-5 },
        },
        pool: if siglip {
            VisionPool::Map
        } else {
            VisionPool::Class
        },
        ln_pre: !siglip,
    }))
}

fn resnet_tower(name: &str) -> Option<ResNetConfig> {
    let (image_size, width, layers) = match name {
        "resnet50_clip" => (224, 64, [3, 4, 6, 3]),
        "resnet101_clip" => (224, 64, [3, 4, 23, 3]),
        "resnet50x4_clip" => (288, 80, [4, 6, 10, 6]),
        "resnet50x16_clip" => (384, 96, [6, 8, 18, 8]),
        "resnet50x64_clip" => (448, 128, [3, 15, 36, 10]),
        _ => return None,
    };
    Some(ResNetConfig {
        image_size,
        width,
        layers,
        heads: width / 2,
    })
}
