//! CLIP (Radford et al. 2021, Figure 3): two towers that meet in one space,
//! and a learned temperature. SigLIP (Zhai et al. 2023) learns a bias as well.

use crate::backend::Backend;
use crate::checkpoint::{Scope, Source};
use crate::config::{ClipConfig, Scoring};
use crate::models::text::TextTower;
use crate::models::vision::VisionTower;
use crate::tensor::Tensor;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// A CLIP model on a device.
pub struct Clip<B: Backend> {
    /// The image tower, where the checkpoint has one.
    pub vision: Option<VisionTower<B>>,
    /// The text tower, where the checkpoint has one.
    pub text: Option<TextTower<B>>,
    /// `[1]`, the logarithm of the inverse temperature, where both towers are
    /// there.
    pub logit_scale: Option<Tensor<B>>,
    scale: f32,
    bias: f32,
    config: ClipConfig,
    backend: B,
}

impl<B: Backend> Clip<B> {
    /// Reads every weight and copies it to the device, one at a time.
    ///
    /// # Errors
    /// Where the configuration makes no model, the source lacks a weight or
    /// the device fails.
    pub fn load(backend: &B, config: &ClipConfig, source: &dyn Source) -> Result<Self> {
        config.check()?;
        let scope = Scope::root(backend, source);
        let embed_dim = config.embed_dim;
        let vision = config.vision.as_ref();
        let vision = vision.map(|c| VisionTower::load(&scope.child("vision"), c, Some(embed_dim)));
        let text = config.text.as_ref();
        let text = text.map(|c| TextTower::load(&scope.child("text"), c, embed_dim));
        let both = vision.is_some() && text.is_some();
        let logit_scale = both.then(|| scope.parameter("logit_scale", &[1]));
        Ok(Self {
            vision: vision.transpose()?,
            text: text.transpose()?,
            logit_scale: logit_scale.transpose()?,
            scale: if both {
                scope.scalar("logit_scale")?.exp()
            } else {
                1.0
            },
            bias: if both && config.scoring == Scoring::Sigmoid {
                scope.scalar("logit_bias")?
            } else {
                0.0
            },
            config: config.clone(),
            backend: backend.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// `exp(logit_scale)`: what cosines are multiplied by before they become
    /// probabilities. 1 where a tower is missing.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// `logit_bias`: what is added to scaled cosines. 0 in all but SigLIP.
    pub fn bias(&self) -> f32 {
        self.bias
    }

    /// Pictures, `n · size · size · 3` prepared numbers → `[n, embed_dim]` of
    /// length one.
    ///
    /// # Errors
    /// Where there is no image tower, `pixels` are not whole pictures or the
    /// device fails.
    pub fn embed_images(&self, pixels: &[f32]) -> Result<Tensor<B>> {
        let vision = self.vision.as_ref().ok_or(Error::NoTower("image"))?;
        let size = self.config.vision()?.image_size();
        let n = pixels.len() / (size * size * 3);
        let pixels = Tensor::upload(&self.backend, pixels, &[n, size, size, 3])?;
        vision.forward(&pixels)?.l2_normalize()
    }

    /// Texts → `[n, embed_dim]` of length one.
    ///
    /// # Errors
    /// Where there is no text tower, a text is longer than the context or the
    /// device fails.
    pub fn embed_texts(&self, texts: &[Tokens]) -> Result<Tensor<B>> {
        let text = self.text.as_ref().ok_or(Error::NoTower("text"))?;
        text.forward(texts)?.l2_normalize()
    }
}
