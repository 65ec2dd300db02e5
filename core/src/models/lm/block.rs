//! A block: attention and MLP, in whichever order a family adds them.

use super::Mlp;
use super::attention::{Attention, Place};
use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::config::language::{LmConfig, Residual};
use crate::nn::Norm;
use crate::tensor::Tensor;

/// One block.
pub(super) struct Block<B: Backend> {
    ln_1: Norm<B>,
    attn: Attention<B>,
    ln_2: Norm<B>,
    mlp: Mlp<B>,
    residual: Residual,
}

impl<B: Backend> Block<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &LmConfig) -> Result<Self> {
        let norm = |name: &str| {
            Norm::load(
                &scope.child(name),
                config.width,
                config.norm,
                config.norm_eps,
            )
        };
        Ok(Self {
            ln_1: norm("ln_1")?,
            attn: Attention::load(&scope.child("attn"), config)?,
            ln_2: norm("ln_2")?,
            mlp: Mlp::load(
                &scope.child("mlp"),
                (config.width, config.mlp_width),
                config.activation,
                config.gated_mlp,
                config.bias,
            )?,
            residual: config.residual,
        })
    }

    /// `[batch, queries, width]` → same; `between` is done to what the attention
    /// gives.
    pub(super) fn forward(
        &self,
        x: &Tensor<B>,
        place: &Place<'_, B>,
        between: &dyn Fn(&Tensor<B>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        match self.residual {
            Residual::Sequential => {
                let x = between(&self.attn.forward(x, Some(&self.ln_1), place)?)?;
                self.mlp.forward(&x, Some(&self.ln_2), None, &x)
            }
            Residual::Parallel => {
                let attended = between(&self.attn.forward(x, Some(&self.ln_1), place)?)?;
                self.mlp.forward(x, Some(&self.ln_2), None, &attended)
            }
            Residual::PostNorm => {
                let x = self.ln_1.forward(&self.attn.forward(x, None, place)?)?;
                let x = between(&x)?;
                self.ln_2.forward(&self.mlp.forward(&x, None, None, &x)?)
            }
        }
    }
}
