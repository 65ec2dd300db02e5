//! The published Flamingos' sizes by name, and those of the paper.

use super::ClipConfig;
use super::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig,
};
use super::language::{LmConfig, NormKind, Positions, Residual};
use crate::backend::Activation;

/// Rows of the token table after OpenFlamingo's factory has added its tokens to
/// those of GPT-NeoX's tokenizer: `<|endofchunk|>`, `<image>` and `<PAD>`.
const ROWS: usize = 50_280;
const END_OF_CHUNK: u32 = 50_277;
const IMAGE: u32 = 50_278;

impl LmConfig {
    /// MPT (`modeling_mpt.py`) with 128 columns a head.
    fn mpt(width: usize, layers: usize, heads: usize, qk_norm: bool) -> Self {
        Self {
            vocab_size: ROWS,
            context: 2048,
            width,
            embed_width: width,
            layers,
            heads,
            mlp_width: 4 * width,
            activation: Activation::Gelu,
            gated_mlp: false,
            norm: NormKind::LayerWithoutBias,
            norm_eps: 1e-5,
            residual: Residual::Sequential,
            final_norm: true,
            qk_norm,
            positions: Positions::Alibi { max_bias: 8 },
            bias: false,
            tied: true,
            smeared_keys: false,
        }
    }

    /// RedPajama-INCITE-3B: a GPT-NeoX with a sequential residual.
    fn redpajama_3b() -> Self {
        Self {
            norm: NormKind::Layer,
            positions: Positions::Rotary {
                dims: 80,
                base: 10_000.0,
                interleaved: false,
            },
            bias: true,
            tied: false,
            smeared_keys: false,
            ..Self::mpt(2560, 32, 32, false)
        }
    }
}

impl FlamingoConfig {
    /// The sizes of a published OpenFlamingo (v2): `OpenFlamingo-3B`, `-4B` or
    /// `-9B`; those tuned to instructions have the same.
    pub fn open_flamingo(name: &str) -> Option<Self> {
        let (lm, every) = match name {
            "OpenFlamingo-3B" => (LmConfig::mpt(2048, 24, 16, true), 1),
            "OpenFlamingo-4B" => (LmConfig::redpajama_3b(), 2),
            "OpenFlamingo-9B" => (LmConfig::mpt(4096, 32, 32, false), 4),
            _ => return None,
        };
        Some(Self {
            vision: ClipConfig::preset("ViT-L/14")?.vision?,
            features: VisionFeatures {
                class_token: false,
                ln_post: false,
            },
            resampler: ResamplerConfig {
                kind: ResamplerKind::Perceiver { latents: 64 },
                depth: 6,
                heads: 8,
                head_dim: 64,
                mlp_width: 4096,
                activation: Activation::Gelu,
                time_embeddings: 0,
                norm_eps: 1e-5,
            },
            xattn: XattnConfig {
                layers: XattnConfig::every_last(every, lm.layers),
                heads: 8,
                head_dim: 64,
                mlp_width: 4 * lm.width,
                activation: Activation::Gelu,
                gated_mlp: false,
                norm: NormKind::Layer,
                norm_eps: 1e-5,
                gate: Gate::Scalar,
                all_previous: false,
            },
            lm,
            image_token: IMAGE,
            end_of_chunk: END_OF_CHUNK,
        })
    }
}
