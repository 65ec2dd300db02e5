//! The sizes of a Flamingo (Alayrac et al. 2022): a vision encoder, a
//! resampler, a language model, and the layers that join them.

use serde::{Deserialize, Serialize};

use super::VisionConfig;
use super::language::{LmConfig, NormKind};
use crate::backend::Activation;
use crate::{Error, Result};

/// Which tokens of a vision transformer are the features of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisionFeatures {
    /// The class token, before those of the patches.
    pub class_token: bool,
    /// After the tower's last norm, rather than before it.
    pub ln_post: bool,
}

/// What makes visual tokens of features (§2.1; Table 3, vi).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResamplerKind {
    /// Learned latents attend to the features and to themselves.
    Perceiver {
        /// Visual tokens of a picture.
        latents: usize,
    },
    /// The features attend to one another; there are as many visual tokens.
    Transformer,
    /// Each feature on its own; there are as many visual tokens.
    Mlp,
}

/// The resampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResamplerConfig {
    /// What it is.
    pub kind: ResamplerKind,
    /// Layers.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Width of the hidden layer of the MLPs.
    pub mlp_width: usize,
    /// Between the two layers of the MLPs.
    pub activation: Activation,
    /// Learned vectors that tell frames apart; 0 where a picture is one frame
    /// and nothing is added to it.
    pub time_embeddings: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// The queries and keys of each head are normalised, as in IDEFICS.
    #[serde(default)]
    pub qk_norm: bool,
}

/// Where cross-attention stands (Table 3, iv).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XattnKind {
    /// Before a block, with an MLP of its own, both gated (§2.2).
    #[default]
    Gated,
    /// Within a block, between its attention and its MLP, as in the decoder of
    /// Vaswani et al. 2017; neither gated nor followed by an MLP of its own.
    Vanilla,
}

/// What opens a gated layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nothing: it is always open (Table 3, iii).
    None,
    /// One number.
    Scalar,
    /// A number for each column.
    Vector,
}

/// The gated cross-attention layers (§2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XattnConfig {
    /// What the layers are.
    #[serde(default)]
    pub kind: XattnKind,
    /// The blocks of the language model that have one before them. Grafting
    /// (Table 3, iv) is a language model with new blocks at its end, and layers
    /// before those alone.
    pub layers: Vec<usize>,
    /// Attention heads.
    pub heads: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Width of the hidden layer of the MLP.
    pub mlp_width: usize,
    /// Between the two layers of the MLP.
    pub activation: Activation,
    /// The MLP has a second hidden layer that is multiplied with the first.
    pub gated_mlp: bool,
    /// Both norms.
    pub norm: NormKind,
    /// Added to the variance or mean square in every norm.
    pub norm_eps: f32,
    /// What is added passes `tanh` of it.
    pub gate: Gate,
    /// A token sees every picture before it, rather than the last one (§2.3;
    /// Table 10, ii).
    pub all_previous: bool,
    /// The queries and keys of each head are normalised, as in IDEFICS.
    #[serde(default)]
    pub qk_norm: bool,
}

/// A Flamingo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlamingoConfig {
    /// The vision encoder.
    pub vision: VisionConfig,
    /// What is taken of it.
    pub features: VisionFeatures,
    /// From features to visual tokens.
    pub resampler: ResamplerConfig,
    /// The layers between.
    pub xattn: XattnConfig,
    /// The language model.
    pub lm: LmConfig,
    /// The token that stands for a picture.
    pub image_token: u32,
    /// Others that do, as in flamingo-mini, where a picture's mark begins with
    /// `<`, alone or after a blank.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_image_tokens: Vec<u32>,
    /// The token that ends what belongs to a picture.
    pub end_of_chunk: u32,
    /// A token after which no picture is seen until the next one, as in IDEFICS
    /// the end of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_sight: Option<u32>,
}

impl XattnConfig {
    /// Before the first block and every `n`-th after it, as in the paper
    /// (App. B.1.1).
    pub fn every(n: usize, layers: usize) -> Vec<usize> {
        (0..layers).step_by(n.max(1)).collect()
    }

    /// Before the last block of every `n`, as OpenFlamingo has them
    /// (`flamingo_lm.py`).
    pub fn every_last(n: usize, layers: usize) -> Vec<usize> {
        (0..layers)
            .filter(|layer| (layer + 1) % n.max(1) == 0)
            .collect()
    }
}

impl FlamingoConfig {
    /// Whether a token stands for a picture.
    pub fn is_image(&self, id: u32) -> bool {
        id == self.image_token || self.more_image_tokens.contains(&id)
    }

    /// Features of a picture.
    pub fn features_per_image(&self) -> usize {
        let dropped = self.vision.class_token() && !self.features.class_token;
        self.vision.tokens() - usize::from(dropped)
    }

    /// Visual tokens of a picture.
    pub fn tokens_per_image(&self) -> usize {
        match self.resampler.kind {
            ResamplerKind::Perceiver { latents } => latents,
            ResamplerKind::Transformer | ResamplerKind::Mlp => self.features_per_image(),
        }
    }

    /// Bytes that a picture of a prompt keeps, in f32: keys and values of each layer
    /// between, by itself and among those of the last prompt.
    pub fn bytes_per_image(&self) -> usize {
        let xattn = &self.xattn;
        let row = 2 * xattn.heads * xattn.head_dim * size_of::<f32>();
        2 * xattn.layers.len() * self.tokens_per_image() * row
    }

    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// Says which size cannot be.
    pub fn check(&self) -> Result<()> {
        self.vision.check()?;
        self.lm.check()?;
        let (resampler, xattn) = (&self.resampler, &self.xattn);
        let bounded = [
            ("resampler's depth", resampler.depth, 1 << 8),
            ("resampler's heads", resampler.heads, 1 << 12),
            ("resampler's head_dim", resampler.head_dim, 1 << 12),
            ("resampler's mlp_width", resampler.mlp_width, 1 << 20),
            ("visual tokens", self.tokens_per_image(), 1 << 16),
            ("cross-attention's heads", xattn.heads, 1 << 12),
            ("cross-attention's head_dim", xattn.head_dim, 1 << 12),
            ("cross-attention's mlp_width", xattn.mlp_width, 1 << 20),
        ];
        for (name, value, most) in bounded {
            if value == 0 || value > most {
                return Err(Error::Config(format!(
                    "the {name} should be 1 to {most}, got {value}"
                )));
            }
        }
        if let Some(layer) = xattn.layers.iter().find(|&&layer| layer >= self.lm.layers) {
            return Err(Error::Config(format!(
                "cross-attention before block {layer}, but the language model has {}",
                self.lm.layers
            )));
        }
        let tokens = [self.image_token, self.end_of_chunk];
        if let Some(token) = tokens.iter().find(|&&id| id as usize >= self.lm.vocab_size) {
            return Err(Error::Config(format!(
                "token {token} is none of the {} that the language model has",
                self.lm.vocab_size
            )));
        }
        Ok(())
    }
}
