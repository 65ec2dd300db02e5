//! OpenFlamingo: `flamingo.py`, `flamingo_lm.py` and `helpers.py`. The vision
//! tower has open_clip's names, the language model transformers'.

use super::language::Language;
use super::{Recipe, block, open_clip};
use crate::backend::Activation;
use crate::config::VisionConfig;
use crate::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use crate::config::language::{LmConfig, NormKind};
use crate::{Error, Result};

pub(super) fn recipe(language: Language, name: &str) -> Recipe {
    let (part, rest) = name.split_once('.').unwrap_or((name, ""));
    let layers = format!("lang_encoder.{}", language.family.blocks());
    match part {
        "vision" => open_clip::recipe(name).renamed(|source| {
            let source = source.strip_prefix("visual.").unwrap_or(source);
            format!("vision_encoder.{source}")
        }),
        "resampler" => Recipe::Take(resampler(rest)),
        "xattn" => {
            let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let rest = match rest {
                "attn_gate" | "ff_gate" => rest.to_owned(),
                _ => feed_forward("ff", rest).unwrap_or_else(|| format!("attn.{rest}")),
            };
            Recipe::Take(format!("{layers}.{layer}.gated_cross_attn_layer.{rest}"))
        }
        _ => match block(rest) {
            Some((layer, part)) => {
                language.block_recipe(&format!("{layers}.{layer}.decoder_layer"), part)
            }
            None => language
                .recipe(name)
                .renamed(|source| format!("lang_encoder.{source}")),
        },
    }
}

/// The norm and the two maps of a `nn.Sequential`.
pub(super) fn feed_forward(module: &str, rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("ff.")?;
    let (part, leaf) = rest.split_once('.')?;
    let index = match part {
        "norm" => 0,
        "c_fc" => 1,
        _ => 3,
    };
    Some(format!("{module}.{index}.{leaf}"))
}

fn resampler(rest: &str) -> String {
    let layer = rest.strip_prefix("layers.").and_then(|r| r.split_once('.'));
    match layer {
        Some((layer, rest)) => {
            let rest = feed_forward("1", rest).unwrap_or_else(|| format!("0.{rest}"));
            format!("perceiver.layers.{layer}.{rest}")
        }
        None if rest == "time_embedding" => "perceiver.frame_embs".into(),
        None => format!("perceiver.{rest}"),
    }
}

/// What one OpenFlamingo has otherwise than another.
pub(super) struct Sizes {
    /// Latents of the resampler, and its layers.
    pub(super) latents: usize,
    pub(super) depth: usize,
    /// Width of all heads together, and of the MLP.
    pub(super) resampler: (usize, usize),
    pub(super) xattn: (usize, usize),
    /// Frames of a video that have an embedding.
    pub(super) frames: usize,
    /// Blocks with a gated layer before them.
    pub(super) gated: Vec<usize>,
}

impl Sizes {
    /// Of attention (`PerceiverAttention`, `MaskedCrossAttention`).
    pub(super) const HEADS: usize = 8;

    pub(super) fn config(
        self,
        vision: VisionConfig,
        lm: LmConfig,
        [image_token, end_of_chunk]: [u32; 2],
    ) -> FlamingoConfig {
        FlamingoConfig {
            vision,
            // The tokens of the patches before the last norm: the towers that
            // OpenFlamingo was trained with (open_clip up to 2.22) normalised
            // only what they pooled.
            features: VisionFeatures {
                class_token: false,
                ln_post: false,
            },
            resampler: ResamplerConfig {
                kind: ResamplerKind::Perceiver {
                    latents: self.latents,
                },
                depth: self.depth,
                heads: Self::HEADS,
                head_dim: self.resampler.0 / Self::HEADS,
                mlp_width: self.resampler.1,
                activation: Activation::Gelu,
                time_embeddings: self.frames,
                qk_norm: false,
                norm_eps: 1e-5,
            },
            xattn: XattnConfig {
                kind: XattnKind::Gated,
                heads: Self::HEADS,
                head_dim: self.xattn.0 / Self::HEADS,
                mlp_width: self.xattn.1,
                layers: self.gated,
                activation: Activation::Gelu,
                gated_mlp: false,
                norm: NormKind::Layer,
                norm_eps: 1e-5,
                gate: Gate::Scalar,
                qk_norm: false,
                all_previous: false,
            },
            lm,
            image_token,
            more_image_tokens: Vec::new(),
            end_of_chunk,
            end_of_sight: None,
        }
    }
}

/// The sizes of an OpenFlamingo, by the shapes of its checkpoint: `helpers.py`
/// and `flamingo.py` fix the others. `tokens` are those for a picture and for
/// the end of what belongs to it.
///
/// # Errors
/// Where the checkpoint is not whole, or of another language model.
pub fn config(
    language: Language,
    shape: &dyn Fn(&str) -> Option<Vec<usize>>,
    vision: VisionConfig,
    mut lm: LmConfig,
    tokens: [u32; 2],
) -> Result<FlamingoConfig> {
    let axis = |name: &str, axis: usize| -> Result<usize> {
        let missing = || Error::MissingTensor { name: name.into() };
        shape(name)
            .and_then(|shape| shape.get(axis).copied())
            .ok_or_else(missing)
    };
    let layers = |name: &dyn Fn(usize) -> String, of: usize| -> Vec<usize> {
        (0..of)
            .filter(|&layer| shape(&name(layer)).is_some())
            .collect()
    };
    let source = |name: &str| match recipe(language, name) {
        Recipe::Take(source) => source,
        _ => name.to_owned(),
    };
    let gated = layers(
        &|layer| source(&format!("xattn.{layer}.attn_gate")),
        lm.layers,
    );
    let Some(first) = gated.first() else {
        return Err(Error::Checkpoint(
            "the checkpoint has no gated layer for this language model: do they belong together?"
                .into(),
        ));
    };
    let xattn = |name: &str| source(&format!("xattn.{first}.{name}"));
    let resampler = |name: &str| source(&format!("resampler.{name}"));
    let depth = layers(
        &|layer| resampler(&format!("layers.{layer}.to_q.weight")),
        1 << 8,
    )
    .len();
    lm.vocab_size = axis(&source("lm.token_embedding"), 0).unwrap_or(lm.vocab_size);
    let config = Sizes {
        latents: axis(&resampler("latents"), 0)?,
        depth,
        resampler: (
            axis(&resampler("layers.0.to_q.weight"), 0)?,
            axis(&resampler("layers.0.ff.c_fc.weight"), 0)?,
        ),
        frames: axis(&resampler("time_embedding"), 0).unwrap_or(0),
        xattn: (
            axis(&xattn("to_q.weight"), 0)?,
            axis(&xattn("ff.c_fc.weight"), 0)?,
        ),
        gated,
    }
    .config(vision, lm, tokens);
    config.check()?;
    Ok(config)
}

/// Whether a tensor of the file is a buffer, a second name of one, or the
/// projection of the image tower, whose features Flamingo takes before it.
pub(super) fn ignores(source: &str) -> bool {
    let aliases = ["old_decoder_blocks.", "gated_cross_attn_layers."];
    let source = source.strip_prefix("lang_encoder.").unwrap_or(source);
    aliases.iter().any(|alias| source.starts_with(alias))
        || matches!(
            source,
            "vision_encoder.proj" | "vision_encoder.visual_projection.weight"
        )
        || source.ends_with(".position_ids")
        || Language::ignores(source)
}
