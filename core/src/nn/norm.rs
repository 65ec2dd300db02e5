//! The norms of the language models.

use crate::Result;
use crate::backend::{Activation, Backend};
use crate::checkpoint::Scope;
use crate::config::language::NormKind;
use crate::nn::Linear;
use crate::tensor::{NormOf, Tensor};

/// A norm of one of three kinds; see [`NormKind`].
pub struct Norm<B: Backend> {
    weight: Tensor<B>,
    /// Absent in an RMS norm, zeros in a layer norm without one.
    bias: Option<Tensor<B>>,
    eps: f32,
}

impl<B: Backend> Norm<B> {
    /// Reads `weight` `[width]` and, where there is one, `bias` `[width]`.
    ///
    /// # Errors
    /// Where the checkpoint lacks them or the device fails.
    pub fn load(scope: &Scope<'_, B>, width: usize, kind: NormKind, eps: f32) -> Result<Self> {
        let bias = match kind {
            NormKind::Layer => Some(scope.parameter("bias", &[width])?),
            NormKind::LayerWithoutBias => {
                let zeros = vec![0.0; width];
                Some(Tensor::upload(scope.backend(), &zeros, &[width])?)
            }
            NormKind::Rms => None,
        };
        Ok(Self {
            weight: scope.parameter("weight", &[width])?,
            bias,
            eps,
        })
    }

    /// `[.., width]` → same.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        x.norm(&self.of())
    }

    /// `[.., width]` → `[.., out]`: the linear map of what is normalised, then
    /// the activation.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub(crate) fn linear(
        &self,
        x: &Tensor<B>,
        linear: &Linear<B>,
        activation: Option<Activation>,
    ) -> Result<Tensor<B>> {
        x.norm_linear(&self.of(), &linear.weight, &linear.after(activation))
    }

    /// The norm as tensors take it.
    pub(crate) fn of(&self) -> NormOf<'_, B> {
        NormOf {
            weight: &self.weight,
            bias: self.bias.as_ref(),
            eps: self.eps,
        }
    }
}
