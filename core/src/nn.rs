//! The blocks that the towers are made of.

mod norm;

pub use norm::Norm;

use crate::Result;
use crate::backend::{Activation, Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::TransformerConfig;
use crate::tensor::{After, Tensor, Weight, Window, attention};

/// `x · wᵀ + bias`.
pub struct Linear<B: Backend> {
    weight: Weight<B>,
    bias: Option<Tensor<B>>,
}

impl<B: Backend> Linear<B> {
    /// Reads `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// Where the checkpoint lacks them or the device fails.
    pub fn load(scope: &Scope<'_, B>, inner: usize, out: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.weight("weight", out, inner)?,
            bias: Some(scope.parameter("bias", &[out])?),
        })
    }

    /// A map without bias, whose weight `[out, in]` is called `name`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn projection(scope: &Scope<'_, B>, name: &str, inner: usize, out: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.weight(name, out, inner)?,
            bias: None,
        })
    }

    /// Reads `weight` `[out, in]` and, where there is one, `bias` `[out]`.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn with_bias(scope: &Scope<'_, B>, inner: usize, out: usize, bias: bool) -> Result<Self> {
        if bias {
            return Self::load(scope, inner, out);
        }
        Self::projection(scope, "weight", inner, out)
    }

    /// `[.., in]` → `[.., out]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails; so for every
    /// `forward` here.
    pub fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.then(x, None, None)
    }

    /// As [`Linear::forward`], then the activation, then `+ residual`.
    pub(crate) fn then(
        &self,
        x: &Tensor<B>,
        activation: Option<Activation>,
        residual: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let after = After {
            residual,
            ..self.after(activation)
        };
        x.linear(&self.weight, &after)
    }

    /// `residual + tanh(gate) · (x · wᵀ + bias)`; without a gate it is open.
    pub(crate) fn gated(
        &self,
        x: &Tensor<B>,
        gate: Option<&Tensor<B>>,
        residual: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let after = After {
            gate,
            residual,
            ..self.after(None)
        };
        x.linear(&self.weight, &after)
    }

    /// As [`Linear::gated`], of the activation of the first half of each row
    /// times the second.
    pub(crate) fn glu_gated(
        &self,
        x: &Tensor<B>,
        activation: Activation,
        gate: Option<&Tensor<B>>,
        residual: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let after = After {
            gate,
            residual,
            ..self.after(None)
        };
        x.glu_linear(activation, &self.weight, &after)
    }

    /// The map over every window of pictures `[n, h, w, c]`.
    pub(crate) fn windows(&self, x: &Tensor<B>, window: Window) -> Result<Tensor<B>> {
        x.conv2d(&self.weight, window, &self.after(None))
    }

    fn after(&self, activation: Option<Activation>) -> After<'_, B> {
        After {
            bias: self.bias.as_ref(),
            activation,
            ..After::default()
        }
    }
}

/// Layer normalisation with gain and bias.
pub struct LayerNorm<B: Backend> {
    weight: Tensor<B>,
    bias: Tensor<B>,
    eps: f32,
}

impl<B: Backend> LayerNorm<B> {
    /// Reads `weight` and `bias`, both `[width]`.
    ///
    /// # Errors
    /// Where the checkpoint lacks them or the device fails.
    pub fn load(scope: &Scope<'_, B>, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: scope.parameter("weight", &[width])?,
            bias: scope.parameter("bias", &[width])?,
            eps,
        })
    }

    /// `[.., width]` → same.
    ///
    /// # Errors
    /// See [`Linear::forward`].
    pub fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        x.layer_norm(&self.weight, &self.bias, self.eps)
    }
}

/// A 3 × 3 convolution with padding 1 over `[n, h, w, c]`, layer norm over the
/// channels, GELU.
pub struct Conv<B: Backend> {
    linear: Linear<B>,
    norm: LayerNorm<B>,
    stride: usize,
}

impl<B: Backend> Conv<B> {
    /// Reads `weight` `[out, 9 · in]`, `bias` and `norm`.
    ///
    /// # Errors
    /// Where the checkpoint lacks them or the device fails.
    pub fn load(scope: &Scope<'_, B>, inner: usize, out: usize, stride: usize) -> Result<Self> {
        Ok(Self {
            linear: Linear::load(scope, 9 * inner, out)?,
            norm: LayerNorm::load(&scope.child("norm"), out, 1e-5)?,
            stride,
        })
    }

    /// `[n, h, w, in]` → `[n, h / stride, w / stride, out]`, rounded up.
    ///
    /// # Errors
    /// See [`Linear::forward`].
    pub fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let x = self.linear.windows(x, Window::new(3, self.stride, 1))?;
        self.norm.forward(&x)?.activate(Activation::Gelu)
    }
}

/// Multi-head self-attention; q, k and v come from one product.
struct Attention<B: Backend> {
    qkv: Linear<B>,
    out: Linear<B>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    fn load(scope: &Scope<'_, B>, config: &TransformerConfig) -> Result<Self> {
        let width = config.width;
        Ok(Self {
            qkv: Linear::load(&scope.child("qkv"), width, 3 * width)?,
            out: Linear::load(&scope.child("out"), width, width)?,
            heads: config.heads,
        })
    }

    /// `residual + attention(x)`, all `[n, rows, width]`.
    fn forward(&self, x: &Tensor<B>, residual: &Tensor<B>, mask: Mask) -> Result<Tensor<B>> {
        let qkv = self.qkv.forward(x)?;
        let width = x.shape().last().copied().unwrap_or(0);
        let band = |i: usize| qkv.band(i * width, width);
        let mixed = attention(&band(0)?, &band(1)?, &band(2)?, self.heads, mask)?;
        self.out.then(&mixed, None, Some(residual))
    }
}

/// Two linear maps with an activation between them.
pub(crate) struct Mlp<B: Backend> {
    c_fc: Linear<B>,
    c_proj: Linear<B>,
    activation: Activation,
}

impl<B: Backend> Mlp<B> {
    /// Reads `c_fc` and `c_proj`.
    pub(crate) fn load(scope: &Scope<'_, B>, config: &TransformerConfig) -> Result<Self> {
        let (width, hidden) = (config.width, config.mlp_width);
        Ok(Self {
            c_fc: Linear::load(&scope.child("c_fc"), width, hidden)?,
            c_proj: Linear::load(&scope.child("c_proj"), hidden, width)?,
            activation: config.activation,
        })
    }

    /// `residual + mlp(x)`, all `[.., width]`.
    pub(crate) fn forward(&self, x: &Tensor<B>, residual: &Tensor<B>) -> Result<Tensor<B>> {
        let hidden = self.c_fc.then(x, Some(self.activation), None)?;
        self.c_proj.then(&hidden, None, Some(residual))
    }
}

/// A pre-norm residual attention block.
struct Block<B: Backend> {
    ln_1: LayerNorm<B>,
    attn: Attention<B>,
    ln_2: LayerNorm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Block<B> {
    fn load(scope: &Scope<'_, B>, config: &TransformerConfig) -> Result<Self> {
        let norm =
            |name: &str| LayerNorm::load(&scope.child(name), config.width, config.layer_norm_eps);
        Ok(Self {
            ln_1: norm("ln_1")?,
            attn: Attention::load(&scope.child("attn"), config)?,
            ln_2: norm("ln_2")?,
            mlp: Mlp::load(&scope.child("mlp"), config)?,
        })
    }

    fn forward(&self, x: &Tensor<B>, mask: Mask) -> Result<Tensor<B>> {
        let x = self.attn.forward(&self.ln_1.forward(x)?, x, mask)?;
        self.mlp.forward(&self.ln_2.forward(&x)?, &x)
    }
}

/// A stack of blocks.
pub struct Transformer<B: Backend> {
    blocks: Vec<Block<B>>,
    mask: Mask,
}

impl<B: Backend> Transformer<B> {
    /// Reads `blocks.0`, `blocks.1`, ….
    ///
    /// # Errors
    /// Where the checkpoint lacks them or the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &TransformerConfig, mask: Mask) -> Result<Self> {
        let blocks = (0..config.layers)
            .map(|i| Block::load(&scope.child(&format!("blocks.{i}")), config))
            .collect::<Result<_>>()?;
        Ok(Self { blocks, mask })
    }

    /// `[n, rows, width]` → same, through every block.
    ///
    /// # Errors
    /// See [`Linear::forward`].
    pub fn forward(&self, x: Tensor<B>) -> Result<Tensor<B>> {
        self.blocks
            .iter()
            .try_fold(x, |x, block| block.forward(&x, self.mask))
    }

    /// What goes into the first block and comes out of each: `layers + 1`
    /// tensors `[n, rows, width]`.
    ///
    /// # Errors
    /// See [`Linear::forward`].
    pub fn states(&self, x: Tensor<B>) -> Result<Vec<Tensor<B>>> {
        let mut states = vec![x];
        for block in &self.blocks {
            let next = block.forward(&states[states.len() - 1], self.mask)?;
            states.push(next);
        }
        Ok(states)
    }
}
