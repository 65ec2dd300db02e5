//! IDEFICS: `modeling_idefics.py`, `vision.py` and `perceiver.py` of
//! transformers.

use serde::Deserialize;
use serde_json::Value;

use super::language::{Family, Language, llama};
use super::{Recipe, activation, parse, transformers};
use crate::backend::Activation;
use crate::config::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use crate::config::language::{LmConfig, NormKind};
use crate::config::{StemConfig, TransformerConfig, VisionConfig, VisionPool, VitConfig};
use crate::{Error, Result};

pub(super) const MODEL_TYPE: &str = "idefics";

/// `every` is the distance from one block with a gated layer to the next.
pub(super) fn recipe(every: usize, name: &str) -> Recipe {
    let (part, rest) = name.split_once('.').unwrap_or((name, ""));
    match part {
        "vision" => transformers::recipe(name).renamed(|source| format!("model.{source}")),
        "resampler" => resampler(rest),
        "xattn" => {
            let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let index = layer.parse::<usize>().unwrap_or(0) / every.max(1);
            xattn(&format!("model.gated_cross_attn_layers.{index}"), rest)
        }
        _ => match rest {
            // The rows of the tokens that were added lie apart.
            "token_embedding" => both("model.embed_tokens", "additional_embedding"),
            "head" => both("lm_head", "additional_fc"),
            _ => {
                let (family, heads) = (Family::Llama, 1);
                Language { family, heads }.recipe(name)
            }
        },
    }
}

fn both(module: &str, added: &str) -> Recipe {
    Recipe::Concat(vec![
        format!("{module}.weight"),
        format!("{module}.{added}.weight"),
    ])
}

fn beside(module: &str, names: [&str; 2], leaf: &str) -> Recipe {
    Recipe::Concat(names.map(|name| format!("{module}.{name}.{leaf}")).to_vec())
}

fn xattn(layer: &str, rest: &str) -> Recipe {
    let attention = format!("{layer}.cross_attn");
    let (module, leaf) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let theirs = match module {
        "attn_gate" => return Recipe::Take(format!("{layer}.alpha_cross_attn")),
        "ff_gate" => return Recipe::Take(format!("{layer}.alpha_dense")),
        "to_kv" => return beside(&attention, ["k_proj", "v_proj"], leaf),
        "ff.c_fc" => return beside(&format!("{layer}.mlp"), ["gate_proj", "up_proj"], leaf),
        "norm" => "input_layernorm",
        "ff.norm" => "post_attention_layernorm",
        "ff.c_proj" => "mlp.down_proj",
        "to_q" => "cross_attn.q_proj",
        "to_out" => "cross_attn.o_proj",
        "q_norm" => "cross_attn.q_layer_norm",
        "k_norm" => "cross_attn.k_layer_norm",
        other => other,
    };
    Recipe::Take(format!("{layer}.{theirs}.{leaf}"))
}

fn resampler(rest: &str) -> Recipe {
    let model = "model.perceiver_resampler";
    let layer = rest.strip_prefix("layers.").and_then(|r| r.split_once('.'));
    let Some((layer, rest)) = layer else {
        return Recipe::Take(format!("{model}.{}", rest.replace("norm.", "layer_norm.")));
    };
    let block = format!("{model}.blocks.{layer}");
    let (module, leaf) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let theirs = match module {
        "to_kv" => return beside(&format!("{block}.0"), ["k_proj", "v_proj"], leaf),
        "norm_media" => "0.context_layer_norm",
        "norm_latents" => "0.latents_layer_norm",
        "q_norm" => "0.q_layer_norm",
        "k_norm" => "0.k_layer_norm",
        "to_q" => "0.q_proj",
        "to_out" => "0.output_proj",
        "ff.norm" => "1.ln",
        "ff.c_fc" => "1.fc",
        "ff.c_proj" => "1.c_proj",
        other => other,
    };
    Recipe::Take(format!("{block}.{theirs}.{leaf}"))
}

#[derive(Deserialize)]
struct Idefics {
    additional_vocab_size: usize,
    #[serde(default = "float")]
    alpha_type: String,
    #[serde(default = "one")]
    cross_layer_interval: usize,
    #[serde(default)]
    qk_layer_norms: bool,
    #[serde(default = "end")]
    eos_token_id: u32,
    #[serde(default)]
    use_resampler: bool,
    vision_config: Vision,
    #[serde(default)]
    perceiver_config: Perceiver,
}

fn float() -> String {
    "float".into()
}
fn one() -> usize {
    1
}
fn end() -> u32 {
    2
}

#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    embed_dim: usize,
    image_size: usize,
    intermediate_size: usize,
    patch_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for Vision {
    fn default() -> Self {
        Self {
            embed_dim: 768,
            image_size: 224,
            intermediate_size: 5120,
            patch_size: 14,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Perceiver {
    use_resampler: bool,
    resampler_n_latents: usize,
    resampler_depth: usize,
    resampler_n_heads: usize,
    resampler_head_dim: usize,
    qk_layer_norms_perceiver: bool,
}

impl Default for Perceiver {
    fn default() -> Self {
        Self {
            use_resampler: false,
            resampler_n_latents: 64,
            resampler_depth: 6,
            resampler_n_heads: 16,
            resampler_head_dim: 96,
            qk_layer_norms_perceiver: false,
        }
    }
}

/// The sizes of an IDEFICS from its `config.json`. Its added tokens are
/// `<fake_token_around_image>`, `<image>` and, where there is a third,
/// `<end_of_utterance>`, in this order after those of LLaMA.
///
/// # Errors
/// Where the text is not JSON, describes another architecture, or asks for
/// something that Plume does not compute.
pub fn idefics_config(json: &str) -> Result<FlamingoConfig> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    if value.get("model_type").and_then(Value::as_str) != Some(MODEL_TYPE) {
        return Err(Error::Config(
            "config.json describes another model; expected `\"model_type\": \"idefics\"`".into(),
        ));
    }
    let idefics: Idefics = parse(value.clone())?;
    let (vision, perceiver) = (&idefics.vision_config, &idefics.perceiver_config);
    if !idefics.use_resampler && !perceiver.use_resampler {
        return Err(Error::Config(
            "config.json asks for an IDEFICS without a resampler, which none that was published \
             is; expected `\"use_resampler\": true`"
                .into(),
        ));
    }
    let lm = llama(value)?;
    let image_token = lm.vocab_size as u32 + 1;
    let config = FlamingoConfig {
        vision: VisionConfig::Vit(VitConfig {
            image_size: vision.image_size,
            stem: StemConfig::Patch {
                size: vision.patch_size,
                bias: false,
            },
            transformer: TransformerConfig {
                width: vision.embed_dim,
                layers: vision.num_hidden_layers,
                heads: vision.num_attention_heads,
                mlp_width: vision.intermediate_size,
                activation: activation(&vision.hidden_act)?,
                layer_norm_eps: vision.layer_norm_eps,
            },
            pool: VisionPool::Class,
            ln_pre: true,
        }),
        features: VisionFeatures {
            class_token: true,
            ln_post: false,
        },
        resampler: ResamplerConfig {
            kind: ResamplerKind::Perceiver {
                latents: perceiver.resampler_n_latents,
            },
            depth: perceiver.resampler_depth,
            heads: perceiver.resampler_n_heads,
            head_dim: perceiver.resampler_head_dim,
            mlp_width: 4 * vision.embed_dim,
            activation: Activation::Relu,
            time_embeddings: 0,
            norm_eps: 1e-5,
            qk_norm: perceiver.qk_layer_norms_perceiver,
        },
        xattn: XattnConfig {
            kind: XattnKind::Gated,
            layers: XattnConfig::every(idefics.cross_layer_interval, lm.layers),
            heads: lm.heads,
            head_dim: lm.head_dim(),
            mlp_width: lm.mlp_width,
            activation: lm.activation,
            gated_mlp: true,
            norm: NormKind::Rms,
            norm_eps: lm.norm_eps,
            gate: match idefics.alpha_type.as_str() {
                "float" => Gate::Scalar,
                "vector" => Gate::Vector,
                other => {
                    return Err(Error::Config(format!(
                        "alpha_type `{other}` is unknown; expected float or vector"
                    )));
                }
            },
            all_previous: false,
            qk_norm: idefics.qk_layer_norms,
        },
        image_token,
        more_image_tokens: Vec::new(),
        end_of_chunk: if idefics.additional_vocab_size > 2 {
            image_token + 1
        } else {
            idefics.eos_token_id
        },
        end_of_sight: Some(idefics.eos_token_id),
        lm: LmConfig {
            vocab_size: lm.vocab_size + idefics.additional_vocab_size,
            ..lm
        },
    };
    config.check()?;
    Ok(config)
}
