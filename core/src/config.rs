//! The sizes of the models, as plain data. Every field is explicit; how a
//! publisher writes them down is the business of [`crate::checkpoint`].

use serde::{Deserialize, Serialize};

use crate::backend::Activation;
use crate::{Error, Result};

/// A CLIP model: two towers and the space they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Width of the shared space.
    pub embed_dim: usize,
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
}

/// The sizes of a transformer (CLIP §2.4; Vaswani et al. 2017, pre-norm).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; they divide `width`.
    pub heads: usize,
    /// Width of the hidden layer of the MLP.
    pub mlp_width: usize,
    /// Between the two layers of the MLP.
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f32,
}

/// How pixels become tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StemConfig {
    /// One linear map of each `size` × `size` patch (Dosovitskiy et al. 2021).
    Patch {
        /// Side of a patch in pixels.
        size: usize,
    },
    /// 3 × 3 convolutions, each with layer norm over the channels and GELU,
    /// then a linear map (Xiao et al. 2021): learns faster on few pictures.
    Conv {
        /// Each convolution in turn.
        convs: Vec<ConvConfig>,
    },
}

/// One convolution of a [`StemConfig::Conv`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvConfig {
    /// Output channels.
    pub channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

/// Where a vision transformer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VisionPool {
    /// At a class token (CLIP §2.4).
    #[default]
    Class,
    /// At the grid itself: the tokens of each of `side` × `side` cells are
    /// averaged and all cells projected together, so that the embedding can
    /// tell what is where. There is no class token.
    Cells {
        /// Cells on a side; divides the grid.
        side: usize,
    },
}

/// The image tower: a vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// From pixels to tokens.
    pub stem: StemConfig,
    /// The blocks.
    pub transformer: TransformerConfig,
    /// From tokens to one vector.
    #[serde(default)]
    pub pool: VisionPool,
}

/// The text tower: a transformer, causal in the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Longest text in tokens, start and end included.
    pub context: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The blocks.
    pub transformer: TransformerConfig,
    /// A token sees only those before it.
    #[serde(default = "yes")]
    pub causal: bool,
}

fn yes() -> bool {
    true
}

impl VisionConfig {
    /// Tokens on a side of the grid.
    pub fn grid(&self) -> usize {
        match &self.stem {
            StemConfig::Patch { size } => self.image_size / (*size).max(1),
            StemConfig::Conv { convs } => convs.iter().fold(self.image_size, |side, conv| {
                side.saturating_sub(1) / conv.stride.max(1) + 1
            }),
        }
    }

    /// Tokens of a picture, a class token included.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid() + usize::from(self.pool == VisionPool::Class)
    }
}

impl TransformerConfig {
    fn check(&self, tower: &str) -> Result<()> {
        let Self {
            width,
            layers,
            heads,
            mlp_width,
            ..
        } = *self;
        if width == 0 || layers == 0 || heads == 0 || mlp_width == 0 {
            return Err(Error::Config(format!(
                "the {tower} tower needs width, layers, heads and mlp_width above 0, got {self:?}"
            )));
        }
        if width % heads != 0 {
            return Err(Error::Config(format!(
                "the {tower} tower's width {width} is no multiple of its {heads} heads"
            )));
        }
        // A bound far beyond any published model, so that sizes cannot overflow.
        if width.max(mlp_width) > 1 << 16 || layers > 1 << 10 {
            return Err(Error::Config(format!(
                "the {tower} tower is larger than any known model: {self:?}"
            )));
        }
        Ok(())
    }
}

impl ClipConfig {
    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// Says which size cannot be.
    pub fn check(&self) -> Result<()> {
        self.vision.transformer.check("vision")?;
        self.text.transformer.check("text")?;
        let bounded = [
            ("embed_dim", self.embed_dim, 1 << 16),
            ("image_size", self.vision.image_size, 1 << 12),
            ("context", self.text.context, 1 << 16),
            ("vocab_size", self.text.vocab_size, 1 << 24),
        ];
        for (name, value, most) in bounded {
            if value == 0 || value > most {
                return Err(Error::Config(format!(
                    "{name} should be 1 to {most}, got {value}"
                )));
            }
        }
        if let VisionPool::Cells { side } = self.vision.pool
            && (side == 0 || !self.vision.grid().is_multiple_of(side))
        {
            return Err(Error::Config(format!(
                "{side} cells on a side do not divide a grid of {}",
                self.vision.grid()
            )));
        }
        match &self.vision.stem {
            StemConfig::Patch { size } if *size == 0 || *size > self.vision.image_size => {
                Err(Error::Config(format!(
                    "patches of {size} pixels do not fit pictures of {}",
                    self.vision.image_size
                )))
            }
            StemConfig::Conv { convs }
                if convs.is_empty() || convs.iter().any(|c| c.stride == 0 || c.channels == 0) =>
            {
                Err(Error::Config(
                    "a conv stem needs convolutions with channels and stride above 0".into(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The paper's ViT-B/32 (Table 20) with QuickGELU.
    pub fn vit_b_32() -> Self {
        let transformer = |width: usize, heads| TransformerConfig {
            width,
            layers: 12,
            heads,
            mlp_width: 4 * width,
            activation: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        };
        Self {
            embed_dim: 512,
            vision: VisionConfig {
                image_size: 224,
                stem: StemConfig::Patch { size: 32 },
                transformer: transformer(768, 12),
                pool: VisionPool::Class,
            },
            text: TextConfig {
                context: 77,
                vocab_size: 49408,
                transformer: transformer(512, 8),
                causal: true,
            },
        }
    }
}
