//! Pooling by attention: one query reads every token.

use crate::Result;
use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::TransformerConfig;
use crate::nn::{LayerNorm, Linear, Mlp};
use crate::tensor::{Tensor, attention};

/// Multi-head attention whose queries and keys come from different tensors.
pub(super) struct CrossAttention<B: Backend> {
    q: Linear<B>,
    kv: Linear<B>,
    out: Linear<B>,
    heads: usize,
}

impl<B: Backend> CrossAttention<B> {
    /// Reads `q` `[width, width]`, `kv` `[2 · width, width]` and `out` `[out,
    /// width]`, each with its bias.
    pub(super) fn load(
        scope: &Scope<'_, B>,
        (width, out): (usize, usize),
        heads: usize,
    ) -> Result<Self> {
        Ok(Self {
            q: Linear::load(&scope.child("q"), width, width)?,
            kv: Linear::load(&scope.child("kv"), width, 2 * width)?,
            out: Linear::load(&scope.child("out"), width, out)?,
            heads,
        })
    }

    /// `[n, queries, width]` and `[n, tokens, width]` → `[n, queries, out]`.
    pub(super) fn forward(&self, queries: &Tensor<B>, tokens: &Tensor<B>) -> Result<Tensor<B>> {
        let (q, kv) = (self.q.forward(queries)?, self.kv.forward(tokens)?);
        let width = kv.shape().last().copied().unwrap_or(0) / 2;
        let (q, k, v) = (
            q.band(0, width)?,
            kv.band(0, width)?,
            kv.band(width, width)?,
        );
        self.out
            .forward(&attention(&q, &k, &v, self.heads, Mask::None)?)
    }
}

/// The MAP head (Zhai et al. 2022; `SiglipMultiheadAttentionPoolingHead`): a
/// learned query, then a residual MLP.
pub(super) struct MapHead<B: Backend> {
    probe: Tensor<B>,
    attn: CrossAttention<B>,
    norm: LayerNorm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> MapHead<B> {
    /// Reads the head's weights; its sizes are those of the blocks.
    pub(super) fn load(scope: &Scope<'_, B>, config: &TransformerConfig) -> Result<Self> {
        let width = config.width;
        Ok(Self {
            probe: scope.parameter("probe", &[1, width])?,
            attn: CrossAttention::load(&scope.child("attn"), (width, width), config.heads)?,
            norm: LayerNorm::load(&scope.child("norm"), width, config.layer_norm_eps)?,
            mlp: Mlp::load(&scope.child("mlp"), config)?,
        })
    }

    /// `[n, tokens, width]` → `[n, width]`.
    pub(super) fn forward(&self, tokens: &Tensor<B>) -> Result<Tensor<B>> {
        let (n, width) = (tokens.shape()[0], self.probe.len());
        let probe = self.probe.gather(&vec![0; n])?.reshape(&[n, 1, width])?;
        let x = self.attn.forward(&probe, tokens)?.reshape(&[n, width])?;
        self.mlp.forward(&self.norm.forward(&x)?, &x)
    }
}
