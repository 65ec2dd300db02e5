//! The image tower, of either family.

use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::config::VisionConfig;
use crate::models::resnet::ModifiedResNet;
use crate::models::vit::Vit;
use crate::tensor::Tensor;

/// An image tower.
pub enum VisionTower<B: Backend> {
    /// A vision transformer.
    Vit(Vit<B>),
    /// A ModifiedResNet.
    ResNet(ModifiedResNet<B>),
}

impl<B: Backend> VisionTower<B> {
    /// Reads the tower's weights.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &VisionConfig, embed_dim: usize) -> Result<Self> {
        Ok(match config {
            VisionConfig::Vit(config) => Self::Vit(Vit::load(scope, config, embed_dim)?),
            VisionConfig::ResNet(config) => {
                Self::ResNet(ModifiedResNet::load(scope, config, embed_dim)?)
            }
        })
    }

    /// Pictures `[n, size, size, 3]` → embeddings `[n, embed_dim]`, not
    /// normalised.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        match self {
            Self::Vit(vit) => vit.forward(pixels),
            Self::ResNet(resnet) => resnet.forward(pixels),
        }
    }

    /// What lies between, to be compared with a reference: see [`Vit::states`]
    /// and [`ModifiedResNet::states`].
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        match self {
            Self::Vit(vit) => vit.states(pixels),
            Self::ResNet(resnet) => resnet.states(pixels),
        }
    }
}
