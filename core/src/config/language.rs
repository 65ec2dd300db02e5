//! The sizes of a language model, and everything in which the families
//! differ: MPT, GPT-NeoX, OPT, LLaMA and the paper's are one decoder.

use serde::{Deserialize, Serialize};

use crate::backend::Activation;
use crate::{Error, Result};

/// How a row is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer norm with gain and bias.
    Layer,
    /// Layer norm with a gain alone, as MPT's.
    LayerWithoutBias,
    /// By the root mean square, with a gain, as LLaMA's.
    Rms,
}

/// How a block is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// `x += attn(ln_1(x))`, then `x += mlp(ln_2(x))`.
    Sequential,
    /// `x += attn(ln_1(x)) + mlp(ln_2(x))`, as GPT-NeoX may.
    Parallel,
    /// `x = ln_1(x + attn(x))`, then `x = ln_2(x + mlp(x))`, as OPT-350m.
    PostNorm,
}

/// How a token knows where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Positions {
    /// By the distance of two tokens, subtracted from their score (Press et al.
    /// 2022).
    Alibi {
        /// The slope of the last head is `2^−max_bias`.
        max_bias: u32,
    },
    /// By turning queries and keys (Su et al. 2021).
    Rotary {
        /// Columns of each head that are turned, from its first on.
        dims: usize,
        /// Wavelengths are powers of it.
        base: f32,
        /// Pairs are neighbours, rather than half of `dims` apart.
        interleaved: bool,
    },
    /// By a learned vector.
    Learned {
        /// Rows of the table before that of the first position; OPT has 2.
        offset: usize,
    },
}

/// A decoder-only language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LmConfig {
    /// Number of tokens, added ones included.
    pub vocab_size: usize,
    /// Longest text in tokens.
    pub context: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the token table; where it is not `width`, two maps lead from
    /// one to the other and back.
    pub embed_width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Width of the hidden layer of the MLP.
    pub mlp_width: usize,
    /// Between the two layers of the MLP.
    pub activation: Activation,
    /// The MLP has a second hidden layer that is multiplied with the first
    /// (Shazeer 2020); with [`Activation::Silu`] it is SwiGLU.
    pub gated_mlp: bool,
    /// Every norm.
    pub norm: NormKind,
    /// Added to the variance or mean square in every norm.
    pub norm_eps: f32,
    /// How a block is put together.
    pub residual: Residual,
    /// A norm after the last block.
    pub final_norm: bool,
    /// Queries and keys are normalised over the whole width, as MPT-1B's.
    pub qk_norm: bool,
    /// How a token knows where it stands.
    pub positions: Positions,
    /// The linear maps have biases.
    pub bias: bool,
    /// The head is the token table.
    pub tied: bool,
    /// The key of a token has that of the one before added to it, as far as a
    /// gate of each column is open (`k + tanh(g) · k₋₁`): one layer then finds
    /// what followed a token, for which two are needed otherwise (Elhage et al.
    /// 2021; "smeared key" there).
    #[serde(default)]
    pub smeared_keys: bool,
}

impl LmConfig {
    /// A model like the paper's (Flamingo, Table 4: Chinchilla), with RMS norms
    /// and GELU. Chinchilla's relative positions (Transformer-XL) have no
    /// public implementation to be held against; they are rotary here.
    pub fn chinchilla(width: usize, layers: usize, heads: usize, vocab_size: usize) -> Self {
        Self {
            vocab_size,
            context: 2048,
            width,
            embed_width: width,
            layers,
            heads,
            mlp_width: 4 * width,
            activation: Activation::Gelu,
            gated_mlp: false,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            residual: Residual::Sequential,
            final_norm: true,
            qk_norm: false,
            positions: Positions::Rotary {
                dims: width / heads.max(1),
                base: 10_000.0,
                interleaved: false,
            },
            bias: false,
            tied: true,
            smeared_keys: false,
        }
    }

    /// Columns of one head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads.max(1)
    }

    /// Bytes that a token of a prompt keeps, in f32: keys and values of each block,
    /// and the keys once more where they are smeared.
    pub fn bytes_per_token(&self) -> usize {
        let rows = if self.smeared_keys { 3 } else { 2 };
        rows * self.layers * self.width * size_of::<f32>()
    }

    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// Says which size cannot be.
    pub fn check(&self) -> Result<()> {
        // Bounds far beyond any published model, so that sizes cannot overflow.
        let bounded = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("context", self.context, 1 << 20),
            ("width", self.width, 1 << 16),
            ("embed_width", self.embed_width, 1 << 16),
            ("layers", self.layers, 1 << 10),
            ("heads", self.heads, 1 << 16),
            ("mlp_width", self.mlp_width, 1 << 20),
        ];
        for (name, value, most) in bounded {
            if value == 0 || value > most {
                return Err(Error::Config(format!(
                    "the language model's {name} should be 1 to {most}, got {value}"
                )));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::Config(format!(
                "the language model's width {} is no multiple of its {} heads",
                self.width, self.heads
            )));
        }
        match self.positions {
            Positions::Rotary { .. } if self.qk_norm => Err(Error::Config(
                "rotary positions and normalised queries and keys go together in no known model"
                    .into(),
            )),
            Positions::Rotary { dims, .. } if dims % 2 != 0 || dims > self.head_dim() => {
                Err(Error::Config(format!(
                    "rotary positions turn an even number of up to {} columns, got {dims}",
                    self.head_dim()
                )))
            }
            Positions::Learned { offset } if offset > 1 << 10 => Err(Error::Config(format!(
                "an offset of {offset} positions is more than any known model has"
            ))),
            _ => Ok(()),
        }
    }
}
