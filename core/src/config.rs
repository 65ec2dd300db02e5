//! The sizes of the models, as plain data. Every field is explicit; how a
//! publisher writes them down is the business of [`crate::checkpoint`].

pub mod flamingo;
pub mod language;
mod nfnet;
mod published;

use serde::{Deserialize, Serialize};

pub use nfnet::NfnetConfig;

use crate::backend::Activation;
use crate::{Error, Result};

/// A CLIP model: two towers, or one of them, and the space they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Width of the shared space.
    pub embed_dim: usize,
    /// The image tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionConfig>,
    /// The text tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// From cosines to probabilities.
    #[serde(default)]
    pub scoring: Scoring,
}

/// How cosines become probabilities: as the loss of training had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// `softmax(exp(logit_scale) · cosine)` over the labels (CLIP §2.3): which
    /// of them; sums to 1.
    #[default]
    Softmax,
    /// `sigmoid(exp(logit_scale) · cosine + logit_bias)` of each label alone
    /// (SigLIP, Zhai et al. 2023): whether it fits; does not sum to 1.
    Sigmoid,
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
        /// The map has a bias, as in SigLIP.
        #[serde(default)]
        bias: bool,
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
    /// By a learned query that attends to every token, then an MLP (the MAP
    /// head of Zhai et al. 2022, as in SigLIP). There is no class token and no
    /// projection: the tower is as wide as the shared space.
    Map,
}

/// The image tower: in either of the families of CLIP's paper (§2.4), or that
/// of Flamingo's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a vision transformer (image_size, stem, transformer, pool), a ResNet \
                 (image_size, width, layers, heads) or an NFNet (image_size, stem_width, depths, \
                 widths, …)"
)]
pub enum VisionConfig {
    /// A vision transformer.
    Vit(VitConfig),
    /// A ModifiedResNet.
    ResNet(ResNetConfig),
    /// An NFNet.
    Nfnet(NfnetConfig),
}

/// A ModifiedResNet: three convolutions, four layers of bottleneck blocks,
/// attention pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Channels of the stem; the last layer has 32 times as many.
    pub width: usize,
    /// Blocks of each layer.
    pub layers: [usize; 4],
    /// Heads of the attention pooling; they divide 32 times the width.
    pub heads: usize,
}

impl ResNetConfig {
    /// Channels of the last layer.
    pub fn features(&self) -> usize {
        32 * self.width
    }

    /// Pixels on a side of the last layer: each stage before it halves them,
    /// rounded down, and the first convolution rounded up.
    pub fn grid(&self) -> usize {
        self.image_size.div_ceil(2) / 16
    }
}

/// A vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// From pixels to tokens.
    pub stem: StemConfig,
    /// The blocks.
    pub transformer: TransformerConfig,
    /// From tokens to one vector.
    #[serde(default)]
    pub pool: VisionPool,
    /// A layer norm before the first block, as CLIP has.
    #[serde(default = "yes")]
    pub ln_pre: bool,
}

/// Where a text tower is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPool {
    /// At the first end-of-text token (CLIP §2.4).
    #[default]
    Eot,
    /// At the last position of the context: every text is filled up with its
    /// end token (SigLIP).
    Last,
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
    /// From tokens to one vector.
    #[serde(default)]
    pub pool: TextPool,
    /// The projection into the shared space has a bias, as in SigLIP.
    #[serde(default)]
    pub proj_bias: bool,
}

fn yes() -> bool {
    true
}

impl VisionConfig {
    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
            Self::Nfnet(nfnet) => nfnet.image_size,
        }
    }

    /// Width of the features: of a transformer's tokens, of the last layer of
    /// the others.
    pub fn width(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.transformer.width,
            Self::ResNet(resnet) => resnet.features(),
            Self::Nfnet(nfnet) => nfnet.features(),
        }
    }

    /// Features of a picture, a class token included.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.tokens(),
            Self::ResNet(resnet) => resnet.grid() * resnet.grid(),
            Self::Nfnet(nfnet) => nfnet.grid() * nfnet.grid(),
        }
    }

    /// Bytes, in f32, of the largest tensor between two layers for one picture:
    /// what a device has to take at once. Weights do not count, which are laid
    /// out over several buffers.
    pub fn picture_bytes(&self) -> u64 {
        let square = |side: usize, channels: usize| side * side * channels;
        let side = self.image_size();
        let numbers = match self {
            Self::Vit(vit) => {
                let transformer = &vit.transformer;
                let rows = vit.tokens() * transformer.mlp_width.max(3 * transformer.width);
                let stem = match &vit.stem {
                    StemConfig::Patch { .. } => square(side, 3),
                    StemConfig::Conv { convs } => {
                        let sides = convs.iter().scan(side, |side, conv| {
                            *side = side.div_ceil(conv.stride.max(1));
                            Some(square(*side, conv.channels))
                        });
                        sides.max().unwrap_or(0)
                    }
                };
                rows.max(stem)
            }
            // Behind the stem, and in the first layer once pooled.
            Self::ResNet(resnet) => square(side.div_ceil(2), resnet.width),
            Self::Nfnet(nfnet) => {
                let stem = square(side.div_ceil(2), nfnet.stem_width / 2);
                let first = square(side.div_ceil(4), nfnet.widths[0]);
                stem.max(first)
            }
        };
        4 * numbers as u64
    }

    /// Whether the first of the features is that of a class token.
    pub fn class_token(&self) -> bool {
        matches!(self, Self::Vit(vit) if vit.pool == VisionPool::Class)
    }

    fn check(&self) -> Result<()> {
        let (side, most) = (self.image_size(), 1 << 12);
        if side == 0 || side > most {
            return Err(Error::Config(format!(
                "image_size should be 1 to {most}, got {side}"
            )));
        }
        match self {
            Self::Vit(vit) => vit.check(),
            Self::ResNet(resnet) => resnet.check(),
            Self::Nfnet(nfnet) => nfnet.check(),
        }
    }
}

impl ResNetConfig {
    fn check(&self) -> Result<()> {
        let Self {
            width,
            layers,
            heads,
            ..
        } = *self;
        // Bounds far beyond any published model, so that sizes cannot overflow.
        if width == 0 || width > 1 << 10 || width % 2 != 0 {
            return Err(Error::Config(format!(
                "a ResNet needs an even width of 2 to 1024, got {width}"
            )));
        }
        if layers.iter().any(|&blocks| blocks == 0 || blocks > 1 << 10) {
            return Err(Error::Config(format!(
                "a ResNet needs 1 to 1024 blocks in each of its four layers, got {layers:?}"
            )));
        }
        if heads == 0 || !self.features().is_multiple_of(heads) {
            return Err(Error::Config(format!(
                "{heads} heads of the attention pooling do not divide {} features",
                self.features()
            )));
        }
        if self.grid() == 0 {
            return Err(Error::Config(format!(
                "pictures of {} pixels are too small for a ResNet, which needs 32 or more",
                self.image_size
            )));
        }
        Ok(())
    }
}

impl VitConfig {
    /// Tokens on a side of the grid.
    pub fn grid(&self) -> usize {
        match &self.stem {
            StemConfig::Patch { size, .. } => self.image_size / (*size).max(1),
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

impl VitConfig {
    fn check(&self) -> Result<()> {
        self.transformer.check("vision")?;
        if let VisionPool::Cells { side } = self.pool
            && (side == 0 || !self.grid().is_multiple_of(side))
        {
            return Err(Error::Config(format!(
                "{side} cells on a side do not divide a grid of {}",
                self.grid()
            )));
        }
        match &self.stem {
            StemConfig::Patch { size, .. } if *size == 0 || *size > self.image_size => {
                Err(Error::Config(format!(
                    "patches of {size} pixels do not fit pictures of {}",
                    self.image_size
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
}

impl ClipConfig {
    /// The image tower.
    ///
    /// # Errors
    /// Where the model is a text tower alone.
    pub fn vision(&self) -> Result<&VisionConfig> {
        self.vision.as_ref().ok_or(Error::NoTower("image"))
    }

    /// The text tower.
    ///
    /// # Errors
    /// Where the model is an image tower alone.
    pub fn text(&self) -> Result<&TextConfig> {
        self.text.as_ref().ok_or(Error::NoTower("text"))
    }

    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// Says which size cannot be.
    pub fn check(&self) -> Result<()> {
        if self.vision.is_none() && self.text.is_none() {
            return Err(Error::Config(
                "expected an image tower, a text tower or both, got neither".into(),
            ));
        }
        let text = self.text.as_ref();
        let bounded = [
            ("embed_dim", Some(self.embed_dim), 1 << 16),
            ("context", text.map(|text| text.context), 1 << 16),
            ("vocab_size", text.map(|text| text.vocab_size), 1 << 24),
        ];
        for (name, value, most) in bounded {
            if let Some(value) = value
                && (value == 0 || value > most)
            {
                return Err(Error::Config(format!(
                    "{name} should be 1 to {most}, got {value}"
                )));
            }
        }
        if let Some(vision) = &self.vision {
            vision.check()?;
            if let VisionConfig::Vit(vit) = vision
                && vit.pool == VisionPool::Map
                && vit.transformer.width != self.embed_dim
            {
                return Err(Error::Config(format!(
                    "a vision tower that is pooled by attention should be as wide as embed_dim {}, \
                     got {}",
                    self.embed_dim, vit.transformer.width
                )));
            }
        }
        text.map_or(Ok(()), |text| text.transformer.check("text"))
    }
}
