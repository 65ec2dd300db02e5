//! The published Flamingos' sizes by name, and those of the paper.

use super::flamingo::{
    FlamingoConfig, Gate, ResamplerConfig, ResamplerKind, VisionFeatures, XattnConfig, XattnKind,
};
use super::language::{LmConfig, NormKind, Positions, Residual};
use super::{ClipConfig, NfnetConfig, VisionConfig};
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

    /// OPT (`modeling_opt.py`), with one token more than it has by itself.
    fn opt(width: usize, layers: usize, heads: usize) -> Self {
        Self {
            vocab_size: 50_273,
            norm: NormKind::Layer,
            positions: Positions::Learned { offset: 2 },
            activation: Activation::Relu,
            bias: true,
            ..Self::mpt(width, layers, heads, false)
        }
    }

    /// OPT-350m is the only one whose norms come after what they belong to, and
    /// whose token table is narrower than it.
    fn opt_350m() -> Self {
        Self {
            embed_width: 512,
            residual: Residual::PostNorm,
            final_norm: false,
            ..Self::opt(1024, 24, 16)
        }
    }
}

/// The names of [`FlamingoConfig::paper`].
const PAPER: [(&str, [usize; 3], usize); 3] = [
    ("Flamingo-3B", [2048, 24, 16], 1),
    ("Flamingo-9B", [4096, 40, 32], 4),
    ("Flamingo-80B", [8192, 80, 64], 7),
];

impl FlamingoConfig {
    /// The sizes of the paper (Table 4; App. B.1): NFNet-F6 on pictures of 320
    /// pixels, and a language model like Chinchilla. No weights were published,
    /// nor the tokenizer; the last two of 32,000 tokens stand for its own.
    pub fn paper(name: &str) -> Option<Self> {
        let &(_, [width, layers, heads], every) = PAPER.iter().find(|row| row.0 == name)?;
        let lm = LmConfig::chinchilla(width, layers, heads, 32_000);
        Some(Self {
            vision: VisionConfig::Nfnet(NfnetConfig {
                image_size: 320,
                ..NfnetConfig::f(6)?
            }),
            features: VisionFeatures {
                class_token: false,
                ln_post: false,
            },
            resampler: ResamplerConfig {
                kind: ResamplerKind::Perceiver { latents: 64 },
                depth: 6,
                heads: 16,
                head_dim: 96,
                mlp_width: 6144,
                activation: Activation::SquaredRelu,
                time_embeddings: 8,
                norm_eps: 1e-5,
                qk_norm: false,
            },
            xattn: XattnConfig {
                kind: XattnKind::Gated,
                layers: XattnConfig::every(every, layers),
                heads,
                head_dim: 128,
                mlp_width: 4 * width,
                activation: Activation::SquaredRelu,
                gated_mlp: false,
                norm: NormKind::Layer,
                norm_eps: 1e-5,
                gate: Gate::Scalar,
                all_previous: false,
                qk_norm: false,
            },
            lm,
            image_token: 31_999,
            more_image_tokens: Vec::new(),
            end_of_chunk: 31_998,
            end_of_sight: None,
        })
    }

    /// The sizes of `flamingo-mini` or `flamingo-tiny` (its wiki, *Model
    /// Configurations*). Which tokens begin a picture's mark (`<`, alone and
    /// after a blank) and end what belongs to it is for its tokenizer to say.
    pub fn flamingo_mini(name: &str, marks: [u32; 2], end_of_chunk: u32) -> Option<Self> {
        let (lm, heads, head_dim) = match name {
            "flamingo-mini" => (LmConfig::opt_350m(), 16, 128),
            "flamingo-tiny" => (LmConfig::opt(768, 12, 12), 8, 64),
            _ => return None,
        };
        let open = Self::open_flamingo("OpenFlamingo-9B")?;
        Some(Self {
            features: VisionFeatures {
                class_token: true,
                ln_post: false,
            },
            resampler: ResamplerConfig {
                heads,
                head_dim,
                activation: Activation::SquaredRelu,
                time_embeddings: 4,
                ..open.resampler
            },
            xattn: XattnConfig {
                layers: XattnConfig::every(1, lm.layers),
                heads,
                head_dim,
                mlp_width: 4 * lm.width,
                activation: Activation::SquaredRelu,
                ..open.xattn
            },
            lm,
            image_token: marks[0],
            more_image_tokens: marks[1..].to_vec(),
            end_of_chunk,
            end_of_sight: None,
            ..open
        })
    }

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
                qk_norm: false,
            },
            xattn: XattnConfig {
                kind: XattnKind::Gated,
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
                qk_norm: false,
            },
            lm,
            image_token: IMAGE,
            more_image_tokens: Vec::new(),
            end_of_chunk: END_OF_CHUNK,
            end_of_sight: None,
        })
    }
}
