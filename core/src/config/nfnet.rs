//! The sizes of an NFNet (Brock et al. 2021): the vision encoder of the
//! Flamingo paper.

use serde::{Deserialize, Serialize};

use crate::backend::Activation;
use crate::{Error, Result};

/// A ResNet without norms: weights are standardised, and what goes into each
/// block is scaled to the variance that is expected there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NfnetConfig {
    /// Side of the square input in pixels, a multiple of 32.
    pub image_size: usize,
    /// Channels after the stem.
    pub stem_width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of each stage; half as many inside its blocks.
    pub widths: [usize; 4],
    /// Channels of a group of the 3 × 3 convolutions.
    pub group_width: usize,
    /// Channels that are averaged at the end.
    pub final_width: usize,
    /// Before every convolution but the first and the last.
    pub activation: Activation,
    /// What a block adds is multiplied by it.
    pub alpha: f32,
}

impl NfnetConfig {
    /// NFNet-F0 to F6, with pictures as they are measured on (Table 1).
    pub fn f(size: usize) -> Option<Self> {
        let sides = [256, 320, 352, 416, 512, 544, 576];
        Some(Self {
            image_size: *sides.get(size)?,
            stem_width: 128,
            depths: [1, 2, 6, 3].map(|depth| depth * (size + 1)),
            widths: [256, 512, 1536, 1536],
            group_width: 128,
            final_width: 3072,
            activation: Activation::Gelu,
            alpha: 0.2,
        })
    }

    /// Places on a side of the last stage.
    pub fn grid(&self) -> usize {
        self.image_size / 32
    }

    /// Channels of the last stage.
    pub fn features(&self) -> usize {
        self.widths[3]
    }

    /// What the activation is multiplied by, so that it keeps the variance of
    /// normal numbers (`nonlinearities` in DeepMind's `base.py`).
    pub fn gamma(&self) -> Option<f32> {
        match self.activation {
            Activation::Gelu => Some(1.701_504_3),
            Activation::Silu => Some(1.788_129_3),
            Activation::Relu => Some(1.713_958_9),
            Activation::GeluTanh | Activation::QuickGelu | Activation::SquaredRelu => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.image_size == 0 || !self.image_size.is_multiple_of(32) {
            return Err(Error::Config(format!(
                "an NFNet needs pictures of a multiple of 32 pixels, got {}",
                self.image_size
            )));
        }
        // Bounds far beyond any published model, so that sizes cannot overflow.
        let bounded = [
            ("stem_width", &[self.stem_width][..], 1 << 12),
            ("depths", &self.depths, 1 << 10),
            ("widths", &self.widths, 1 << 16),
            ("group_width", &[self.group_width], 1 << 16),
            ("final_width", &[self.final_width], 1 << 16),
        ];
        for (name, values, most) in bounded {
            if values.iter().any(|&value| value == 0 || value > most) {
                return Err(Error::Config(format!(
                    "the {name} of an NFNet should be 1 to {most}, got {values:?}"
                )));
            }
        }
        let whole = |width: &usize| width.is_multiple_of(2 * self.group_width);
        if !self.widths.iter().all(whole) || !self.stem_width.is_multiple_of(8) {
            return Err(Error::Config(format!(
                "the widths {:?} of an NFNet should be multiples of two groups of {}, and its \
                 stem_width {} of 8",
                self.widths, self.group_width, self.stem_width
            )));
        }
        if self.gamma().is_none() {
            return Err(Error::Config(format!(
                "an NFNet's activation should be gelu, silu or relu, got {:?}",
                self.activation
            )));
        }
        Ok(())
    }
}
