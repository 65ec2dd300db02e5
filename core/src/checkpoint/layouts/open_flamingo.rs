//! OpenFlamingo: `flamingo.py`, `flamingo_lm.py` and `helpers.py`. The vision
//! tower has open_clip's names, the language model transformers'. Otter is the
//! same as a model of transformers (its `modeling_flamingo.py`): the vision
//! tower has their names too, and the MLPs lie elsewhere.

use super::language::Language;
use super::{Recipe, block, open_clip, transformers};

/// Otter's names.
pub(super) fn otter_recipe(language: Language, name: &str) -> Recipe {
    if name.starts_with("vision.") {
        return transformers::recipe(name).renamed(|source| format!("vision_encoder.{source}"));
    }
    recipe(language, name).renamed(|source| {
        let apart = source
            .replace(
                ".gated_cross_attn_layer.ff.",
                ".gated_cross_attn_layer.feed_forward.",
            )
            .to_owned();
        match apart.strip_prefix("perceiver.layers.") {
            Some(rest) => format!(
                "perceiver.layers.{}",
                rest.replacen(".0.", ".", 1)
                    .replacen(".1.", ".feed_forward.", 1)
            ),
            None => apart,
        }
    })
}

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
