//! CLIP (Radford et al. 2021, Figure 3): two towers that meet in one space,
//! and a learned temperature.

use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::{Scope, Source};
use crate::config::ClipConfig;
use crate::models::text::TextTower;
use crate::models::vit::VisionTower;
use crate::tensor::Tensor;
use crate::tokens::Tokens;

/// A CLIP model on a device.
pub struct Clip<B: Backend> {
    /// The image tower.
    pub vision: VisionTower<B>,
    /// The text tower.
    pub text: TextTower<B>,
    /// `[1]`, the logarithm of the inverse temperature.
    pub logit_scale: Tensor<B>,
    scale: f32,
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
        Ok(Self {
            vision: VisionTower::load(&scope.child("vision"), &config.vision, config.embed_dim)?,
            text: TextTower::load(&scope.child("text"), &config.text, config.embed_dim)?,
            logit_scale: scope.parameter("logit_scale", &[1])?,
            scale: scope.scalar("logit_scale")?.exp(),
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

    /// `exp(logit_scale)`: what cosines are multiplied by before the softmax.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Pictures, `n · size · size · 3` prepared numbers → `[n, embed_dim]` of
    /// length one.
    ///
    /// # Errors
    /// Where `pixels` are not whole pictures or the device fails.
    pub fn embed_images(&self, pixels: &[f32]) -> Result<Tensor<B>> {
        let size = self.config.vision.image_size;
        let n = pixels.len() / (size * size * 3);
        let pixels = Tensor::upload(&self.backend, pixels, &[n, size, size, 3])?;
        self.vision.forward(&pixels)?.l2_normalize()
    }

    /// Texts → `[n, embed_dim]` of length one.
    ///
    /// # Errors
    /// Where a text is longer than the context or the device fails.
    pub fn embed_texts(&self, texts: &[Tokens]) -> Result<Tensor<B>> {
        self.text.forward(texts)?.l2_normalize()
    }
}
