//! The language models of Hugging Face transformers: `modeling_mpt.py`,
//! `modeling_gpt_neox.py`, `modeling_opt.py`, `modeling_llama.py`; and
//! MosaicML's own names of MPT-1B (`mosaic_gpt`).

use serde::Deserialize;
use serde_json::Value;

use super::{Layout, Recipe, activation, block, canonical, parse};
use crate::backend::Activation;
use crate::config::language::{LmConfig, NormKind, Positions, Residual};
use crate::{Error, Result};

/// Whose names the tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MPT, of transformers' names.
    Mpt,
    /// MPT-1B, of MosaicML's names.
    MosaicGpt,
    /// GPT-NeoX, RedPajama-INCITE and Pythia.
    GptNeox,
    /// OPT.
    Opt,
    /// LLaMA.
    Llama,
}

/// The layout of a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Language {
    /// Whose names the tensors have.
    pub family: Family,
    /// Attention heads, by which GPT-NeoX lays out its fused projection.
    pub heads: usize,
}

impl Family {
    /// By the `model_type` of a `config.json`.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "mpt" => Self::Mpt,
            "mosaic_gpt" => Self::MosaicGpt,
            "gpt_neox" => Self::GptNeox,
            "opt" => Self::Opt,
            "llama" => Self::Llama,
            _ => return None,
        })
    }

    /// What the names of the blocks begin with.
    pub(in crate::checkpoint) fn blocks(self) -> &'static str {
        match self {
            Self::Mpt | Self::MosaicGpt => "transformer.blocks",
            Self::GptNeox => "gpt_neox.layers",
            Self::Opt => "model.decoder.layers",
            Self::Llama => "model.layers",
        }
    }

    /// The parts of a block: ours, theirs.
    fn parts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Mpt => &[
                ("ln_1", "norm_1"),
                ("ln_2", "norm_2"),
                ("attn.qkv", "attn.Wqkv"),
                ("attn.out", "attn.out_proj"),
                ("mlp.c_fc", "ffn.up_proj"),
                ("mlp.c_proj", "ffn.down_proj"),
            ],
            Self::MosaicGpt => &[
                ("ln_1", "ln_1"),
                ("ln_2", "ln_2"),
                ("attn.qkv", "attn.Wqkv"),
                ("attn.out", "attn.out_proj"),
                ("mlp.c_fc", "mlp.mlp_up"),
                ("mlp.c_proj", "mlp.mlp_down"),
            ],
            Self::GptNeox => &[
                ("ln_1", "input_layernorm"),
                ("ln_2", "post_attention_layernorm"),
                ("attn.qkv", "attention.query_key_value"),
                ("attn.out", "attention.dense"),
                ("mlp.c_fc", "mlp.dense_h_to_4h"),
                ("mlp.c_proj", "mlp.dense_4h_to_h"),
            ],
            Self::Opt => &[
                ("ln_1", "self_attn_layer_norm"),
                ("ln_2", "final_layer_norm"),
                ("attn.out", "self_attn.out_proj"),
                ("mlp.c_fc", "fc1"),
                ("mlp.c_proj", "fc2"),
            ],
            Self::Llama => &[
                ("ln_1", "input_layernorm"),
                ("ln_2", "post_attention_layernorm"),
                ("attn.out", "self_attn.o_proj"),
                ("mlp.c_proj", "mlp.down_proj"),
            ],
        }
    }

    /// What is outside the blocks: ours, theirs.
    fn rest(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Mpt => &[
                ("token_embedding", "transformer.wte.weight"),
                ("ln_final.weight", "transformer.norm_f.weight"),
            ],
            Self::MosaicGpt => &[
                ("token_embedding", "transformer.wte.weight"),
                ("ln_final.weight", "transformer.ln_f.weight"),
            ],
            Self::GptNeox => &[
                ("token_embedding", "gpt_neox.embed_in.weight"),
                ("ln_final.weight", "gpt_neox.final_layer_norm.weight"),
                ("ln_final.bias", "gpt_neox.final_layer_norm.bias"),
                ("head", "embed_out.weight"),
            ],
            Self::Opt => &[
                ("token_embedding", "model.decoder.embed_tokens.weight"),
                (
                    "positional_embedding",
                    "model.decoder.embed_positions.weight",
                ),
                ("embed_in", "model.decoder.project_in.weight"),
                ("embed_out", "model.decoder.project_out.weight"),
                ("ln_final.weight", "model.decoder.final_layer_norm.weight"),
                ("ln_final.bias", "model.decoder.final_layer_norm.bias"),
                ("head", "lm_head.weight"),
            ],
            Self::Llama => &[
                ("token_embedding", "model.embed_tokens.weight"),
                ("ln_final.weight", "model.norm.weight"),
                ("head", "lm_head.weight"),
            ],
        }
    }
}

impl Language {
    /// How to make a tensor of `lm.`.
    pub(super) fn recipe(self, name: &str) -> Recipe {
        let name = name.strip_prefix("lm.").unwrap_or(name);
        if let Some((layer, part)) = block(name) {
            return self.block_recipe(&format!("{}.{layer}", self.family.blocks()), part);
        }
        let rest = self.family.rest().iter();
        let found = rest.clone().find(|(ours, _)| *ours == name);
        Recipe::Take(found.map_or(name, |(_, theirs)| theirs).to_owned())
    }

    /// How to make a part of a block whose names begin with `layer`.
    pub(super) fn block_recipe(self, layer: &str, part: &str) -> Recipe {
        let (module, leaf) = part.rsplit_once('.').unwrap_or((part, ""));
        let several = |names: &[&str]| {
            let sources = names.iter().map(|name| format!("{layer}.{name}.{leaf}"));
            Recipe::Concat(sources.collect())
        };
        match (self.family, module) {
            (Family::Opt | Family::Llama, "attn.qkv") => {
                return several(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]);
            }
            (Family::Mpt | Family::MosaicGpt, "attn.qk_norm") => {
                return several(&["attn.q_ln", "attn.k_ln"]);
            }
            (Family::Llama, "mlp.c_fc") => return several(&["mlp.gate_proj", "mlp.up_proj"]),
            _ => {}
        }
        let parts = self.family.parts().iter();
        let theirs = parts.clone().find(|(ours, _)| *ours == module);
        let theirs = theirs.map_or(module, |(_, theirs)| theirs);
        let source = format!("{layer}.{theirs}.{leaf}");
        if self.family == Family::GptNeox && module == "attn.qkv" {
            return Recipe::Interleaved {
                source,
                heads: self.heads,
            };
        }
        Recipe::Take(source)
    }

    /// Whether a tensor of the file is a buffer that holds no weight, or a
    /// second name of one.
    pub(super) fn ignores(source: &str) -> bool {
        const BUFFERS: [&str; 3] = [".attention.bias", ".masked_bias", ".rotary_emb.inv_freq"];
        BUFFERS.iter().any(|buffer| source.ends_with(buffer)) || source == "lm_head.weight"
    }
}

/// The sizes of a language model from its `config.json`.
///
/// # Errors
/// Where the text is not JSON, describes another architecture, or asks for
/// something that Plume does not compute.
pub fn lm_config(json: &str) -> Result<LmConfig> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    let config = match value.get("model_type").and_then(Value::as_str) {
        Some("mpt" | "mosaic_gpt") => mpt(value)?,
        Some("gpt_neox") => gpt_neox(value)?,
        Some("opt") => opt(value)?,
        Some("llama") => llama(value)?,
        Some(canonical::LM_TYPE) => parse(value)?,
        other => return Err(unknown(other)),
    };
    config.check()?;
    Ok(config)
}

/// How the weights of a language model are laid out, by its `config.json`.
///
/// # Errors
/// As [`lm_config`].
pub fn lm_layout(json: &str, config: &LmConfig) -> Result<Layout> {
    let value: Value = serde_json::from_str(json)
        .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
    let kind = value.get("model_type").and_then(Value::as_str);
    if kind == Some(canonical::LM_TYPE) {
        return Ok(Layout::Canonical);
    }
    let family = kind.and_then(Family::of).ok_or_else(|| unknown(kind))?;
    Ok(Layout::Language(Language {
        family,
        heads: config.heads,
    }))
}

fn unknown(kind: Option<&str>) -> Error {
    Error::Config(format!(
        "config.json describes {}; expected a language model: mpt, gpt_neox, opt or llama",
        kind.map_or("no known model".into(), |name| format!("a `{name}` model"))
    ))
}

/// Says what the configuration asks for and we do not compute.
fn refuse(asked: bool, what: &str, expected: &str) -> Result<()> {
    if asked {
        return Err(Error::Config(format!(
            "config.json asks for {what}, which Plume does not compute; expected {expected}"
        )));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Mpt {
    d_model: usize,
    n_heads: usize,
    n_layers: usize,
    #[serde(default = "four")]
    expansion_ratio: usize,
    #[serde(default)]
    mlp_ratio: Option<usize>,
    max_seq_len: usize,
    vocab_size: usize,
    #[serde(default = "small")]
    layer_norm_epsilon: f32,
    #[serde(default = "yes")]
    no_bias: bool,
    #[serde(default)]
    attn_config: MptAttention,
    // MPT-1B has these beside the sizes.
    #[serde(default)]
    alibi: Option<bool>,
    #[serde(default)]
    attn_qk_ln: bool,
}

#[derive(Deserialize)]
#[serde(default)]
struct MptAttention {
    alibi: bool,
    alibi_bias_max: u32,
    clip_qkv: Option<f32>,
    qk_ln: bool,
    softmax_scale: Option<f32>,
    attn_type: String,
}

impl Default for MptAttention {
    fn default() -> Self {
        Self {
            alibi: true,
            alibi_bias_max: 8,
            clip_qkv: None,
            qk_ln: false,
            softmax_scale: None,
            attn_type: "multihead_attention".into(),
        }
    }
}

fn yes() -> bool {
    true
}
fn four() -> usize {
    4
}
fn small() -> f32 {
    1e-5
}

fn mpt(value: Value) -> Result<LmConfig> {
    let mpt: Mpt = parse(value)?;
    let attention = mpt.attn_config;
    refuse(attention.clip_qkv.is_some(), "clip_qkv", "null")?;
    refuse(attention.softmax_scale.is_some(), "softmax_scale", "null")?;
    let kind = attention.attn_type != "multihead_attention";
    refuse(kind, "another attn_type", "multihead_attention")?;
    let alibi = mpt.alibi.unwrap_or(attention.alibi);
    refuse(!alibi, "learned positions", "alibi")?;
    refuse(!mpt.no_bias, "biases", "no_bias")?;
    Ok(LmConfig {
        vocab_size: mpt.vocab_size,
        context: mpt.max_seq_len,
        width: mpt.d_model,
        embed_width: mpt.d_model,
        layers: mpt.n_layers,
        heads: mpt.n_heads,
        mlp_width: mpt.mlp_ratio.unwrap_or(mpt.expansion_ratio) * mpt.d_model,
        activation: Activation::Gelu,
        gated_mlp: false,
        norm: NormKind::LayerWithoutBias,
        norm_eps: mpt.layer_norm_epsilon,
        residual: Residual::Sequential,
        final_norm: true,
        qk_norm: attention.qk_ln || mpt.attn_qk_ln,
        positions: Positions::Alibi {
            max_bias: attention.alibi_bias_max,
        },
        bias: false,
        tied: true,
    })
}

#[derive(Deserialize)]
struct GptNeox {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "quarter")]
    rotary_pct: f32,
    #[serde(default = "wavelength")]
    rotary_emb_base: f32,
    max_position_embeddings: usize,
    #[serde(default = "small")]
    layer_norm_eps: f32,
    #[serde(default = "yes")]
    use_parallel_residual: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    attention_bias: bool,
    #[serde(default)]
    rope_scaling: Value,
}

fn gelu() -> String {
    "gelu".into()
}
fn quarter() -> f32 {
    0.25
}
fn wavelength() -> f32 {
    10_000.0
}

fn gpt_neox(value: Value) -> Result<LmConfig> {
    let neox: GptNeox = parse(value)?;
    refuse(!neox.rope_scaling.is_null(), "rope_scaling", "null")?;
    refuse(!neox.attention_bias, "maps without bias", "attention_bias")?;
    let head_dim = neox.hidden_size / neox.num_attention_heads.max(1);
    Ok(LmConfig {
        vocab_size: neox.vocab_size,
        context: neox.max_position_embeddings,
        width: neox.hidden_size,
        embed_width: neox.hidden_size,
        layers: neox.num_hidden_layers,
        heads: neox.num_attention_heads,
        mlp_width: neox.intermediate_size,
        activation: activation(&neox.hidden_act)?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: neox.layer_norm_eps,
        residual: if neox.use_parallel_residual {
            Residual::Parallel
        } else {
            Residual::Sequential
        },
        final_norm: true,
        qk_norm: false,
        positions: Positions::Rotary {
            dims: (head_dim as f32 * neox.rotary_pct) as usize,
            base: neox.rotary_emb_base,
            interleaved: false,
        },
        bias: true,
        tied: neox.tie_word_embeddings,
    })
}

#[derive(Deserialize)]
struct Opt {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    ffn_dim: usize,
    #[serde(default)]
    word_embed_proj_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "relu")]
    activation_function: String,
    #[serde(default = "yes")]
    do_layer_norm_before: bool,
    #[serde(default, rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: bool,
    #[serde(default = "yes")]
    enable_bias: bool,
    #[serde(default = "yes")]
    layer_norm_elementwise_affine: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn relu() -> String {
    "relu".into()
}

fn opt(value: Value) -> Result<LmConfig> {
    let opt: Opt = parse(value)?;
    refuse(!opt.enable_bias, "maps without bias", "enable_bias")?;
    let plain = !opt.layer_norm_elementwise_affine;
    refuse(plain, "norms without gain", "layer_norm_elementwise_affine")?;
    Ok(LmConfig {
        vocab_size: opt.vocab_size,
        context: opt.max_position_embeddings,
        width: opt.hidden_size,
        embed_width: opt.word_embed_proj_dim.unwrap_or(opt.hidden_size),
        layers: opt.num_hidden_layers,
        heads: opt.num_attention_heads,
        mlp_width: opt.ffn_dim,
        activation: activation(&opt.activation_function)?,
        gated_mlp: false,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        residual: if opt.do_layer_norm_before {
            Residual::Sequential
        } else {
            Residual::PostNorm
        },
        final_norm: opt.do_layer_norm_before && !opt.remove_final_layer_norm,
        qk_norm: false,
        positions: Positions::Learned { offset: 2 },
        bias: true,
        tied: opt.tie_word_embeddings,
    })
}

#[derive(Deserialize)]
struct Llama {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "llama_context")]
    max_position_embeddings: usize,
    #[serde(default = "llama_eps")]
    rms_norm_eps: f32,
    #[serde(default = "wavelength")]
    rope_theta: f32,
    #[serde(default)]
    rope_scaling: Value,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

fn silu() -> String {
    "silu".into()
}
fn llama_context() -> usize {
    2048
}
fn llama_eps() -> f32 {
    1e-6
}

pub(super) fn llama(value: Value) -> Result<LmConfig> {
    let llama: Llama = parse(value)?;
    let heads = llama.num_attention_heads;
    let shared = llama.num_key_value_heads.is_some_and(|kv| kv != heads);
    refuse(
        shared,
        "keys shared by heads",
        "as many key-value heads as heads",
    )?;
    refuse(!llama.rope_scaling.is_null(), "rope_scaling", "null")?;
    let bias = llama.attention_bias || llama.mlp_bias;
    refuse(bias, "biases", "none")?;
    Ok(LmConfig {
        vocab_size: llama.vocab_size,
        context: llama.max_position_embeddings,
        width: llama.hidden_size,
        embed_width: llama.hidden_size,
        layers: llama.num_hidden_layers,
        heads,
        mlp_width: llama.intermediate_size,
        activation: activation(&llama.hidden_act)?,
        gated_mlp: true,
        norm: NormKind::Rms,
        norm_eps: llama.rms_norm_eps,
        residual: Residual::Sequential,
        final_norm: true,
        qk_norm: false,
        positions: Positions::Rotary {
            dims: llama.hidden_size / heads.max(1),
            base: llama.rope_theta,
            interleaved: false,
        },
        bias: false,
        tied: llama.tie_word_embeddings,
    })
}
