//! The image tower, of each family.

use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::config::VisionConfig;
use crate::config::flamingo::VisionFeatures;
use crate::models::nfnet::Nfnet;
use crate::models::resnet::ModifiedResNet;
use crate::models::vit::Vit;
use crate::tensor::Tensor;

/// An image tower.
pub enum VisionTower<B: Backend> {
    /// A vision transformer.
    Vit(Vit<B>),
    /// A ModifiedResNet.
    ResNet(ModifiedResNet<B>),
    /// An NFNet.
    Nfnet(Nfnet<B>),
}

impl<B: Backend> VisionTower<B> {
    /// Reads the tower's weights; without `embed_dim` there is no way from its
    /// features to one vector.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(
        scope: &Scope<'_, B>,
        config: &VisionConfig,
        embed_dim: Option<usize>,
    ) -> Result<Self> {
        Ok(match config {
            VisionConfig::Vit(config) => Self::Vit(Vit::load(scope, config, embed_dim)?),
            VisionConfig::ResNet(config) => {
                Self::ResNet(ModifiedResNet::load(scope, config, embed_dim)?)
            }
            VisionConfig::Nfnet(config) => Self::Nfnet(Nfnet::load(scope, config, embed_dim)?),
        })
    }

    /// Pictures `[n, size, size, 3]` → embeddings `[n, embed_dim]`, not
    /// normalised.
    ///
    /// # Errors
    /// Where shapes do not go together, the tower was read for its features
    /// alone or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        match self {
            Self::Vit(vit) => vit.forward(pixels),
            Self::ResNet(resnet) => resnet.forward(pixels),
            Self::Nfnet(nfnet) => nfnet.forward(pixels),
        }
    }

    /// Pictures `[n, size, size, 3]` → features `[n, places, width]`: the tokens
    /// of a transformer, the places of the last layer of the others row by
    /// row. `wanted` is about tokens; the others have neither a class token nor a
    /// last norm.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn features(&self, pixels: &Tensor<B>, wanted: VisionFeatures) -> Result<Tensor<B>> {
        match self {
            Self::Vit(vit) => vit.features(pixels, wanted),
            Self::ResNet(resnet) => flat(&resnet.features(pixels)?),
            Self::Nfnet(nfnet) => flat(&nfnet.features(pixels)?),
        }
    }

    /// What lies between, to be compared with a reference: see [`Vit::states`],
    /// [`ModifiedResNet::states`] and [`Nfnet::states`].
    ///
    /// # Errors
    /// As [`VisionTower::features`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        match self {
            Self::Vit(vit) => vit.states(pixels),
            Self::ResNet(resnet) => resnet.states(pixels),
            Self::Nfnet(nfnet) => nfnet.states(pixels),
        }
    }
}

/// `[n, h, w, c]` → `[n, h · w, c]`.
fn flat<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    let n = x.shape().first().copied().unwrap_or(0);
    let channels = x.shape().last().copied().unwrap_or(0);
    x.reshape(&[n, x.len() / (n * channels).max(1), channels])
}
