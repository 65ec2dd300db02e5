//! The MLP of a block, and of a gated layer.

use crate::Result;
use crate::backend::{Activation, Backend};
use crate::checkpoint::Scope;
use crate::nn::{Linear, Norm};
use crate::tensor::Tensor;

/// The hidden layer of an MLP and the way back.
pub(crate) struct Mlp<B: Backend> {
    c_fc: Linear<B>,
    c_proj: Linear<B>,
    activation: Activation,
    gated: bool,
}

impl<B: Backend> Mlp<B> {
    /// Reads `c_fc` `[hidden, width]`, or `[2 · hidden, width]` (the gate, then
    /// what is gated), and `c_proj`.
    pub(crate) fn load(
        scope: &Scope<'_, B>,
        (width, hidden): (usize, usize),
        activation: Activation,
        gated: bool,
        bias: bool,
    ) -> Result<Self> {
        let both = if gated { 2 * hidden } else { hidden };
        Ok(Self {
            c_fc: Linear::with_bias(&scope.child("c_fc"), width, both, bias)?,
            c_proj: Linear::with_bias(&scope.child("c_proj"), hidden, width, bias)?,
            activation,
            gated,
        })
    }

    /// `[.., width]` → same: `residual + tanh(gate) · mlp(norm(x))`, as far as
    /// there are a gate and a norm.
    pub(crate) fn forward(
        &self,
        x: &Tensor<B>,
        norm: Option<&Norm<B>>,
        gate: Option<&Tensor<B>>,
        residual: &Tensor<B>,
    ) -> Result<Tensor<B>> {
        let activation = (!self.gated).then_some(self.activation);
        let hidden = match norm {
            Some(norm) => norm.linear(x, &self.c_fc, activation)?,
            None => self.c_fc.then(x, activation, None)?,
        };
        if self.gated {
            let activation = self.activation;
            return self
                .c_proj
                .glu_gated(&hidden, activation, gate, Some(residual));
        }
        self.c_proj.gated(&hidden, gate, Some(residual))
    }
}
