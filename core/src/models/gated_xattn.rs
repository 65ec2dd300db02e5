//! The layer that lets a language model see (Flamingo §2.2, Figure 4;
//! `GatedCrossAttentionBlock` of OpenFlamingo's `helpers.py`).

use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::flamingo::{Gate, XattnConfig, XattnKind};
use crate::models::lm::Mlp;
use crate::nn::{Linear, Norm};
use crate::tensor::{Attend, Tensor, attend};
use crate::{Error, Result};

/// What the tokens of a pass see.
pub struct Sight<'a, B: Backend> {
    /// By pictures; see [`Mask::Media`].
    pub mask: Mask,
    /// The number of the picture that each token sees.
    pub rule: &'a B::Ids,
}

/// What follows the attention of a gated layer.
struct FeedForward<B: Backend> {
    norm: Norm<B>,
    mlp: Mlp<B>,
    gate: Option<Tensor<B>>,
}

/// `x += tanh(α) · xattn(x)`, then `x += tanh(β) · mlp(x)`; or the first alone,
/// without its gate: see [`XattnKind`].
pub struct GatedXattn<B: Backend> {
    norm: Norm<B>,
    to_q: Linear<B>,
    to_kv: Linear<B>,
    /// Of the queries and of the keys of a head.
    qk_norm: Option<(Norm<B>, Norm<B>)>,
    to_out: Linear<B>,
    attn_gate: Option<Tensor<B>>,
    ff: Option<FeedForward<B>>,
    heads: usize,
    inner: usize,
}

impl<B: Backend> GatedXattn<B> {
    /// Reads the weights, for a language model of `width` and visual tokens of
    /// `media_width`.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(
        scope: &Scope<'_, B>,
        config: &XattnConfig,
        width: usize,
        media_width: usize,
    ) -> Result<Self> {
        let inner = config.heads * config.head_dim;
        let norm =
            |scope: &Scope<'_, B>, cols| Norm::load(scope, cols, config.norm, config.norm_eps);
        let head_norm = |name: &str| norm(&scope.child(name), config.head_dim);
        let gate = |name: &str| match (config.kind, config.gate) {
            (XattnKind::Vanilla, _) | (_, Gate::None) => Ok(None),
            (_, Gate::Scalar) => scope.parameter(name, &[1]).map(Some),
            (_, Gate::Vector) => scope.parameter(name, &[width]).map(Some),
        };
        let feed_forward = || {
            let ff = scope.child("ff");
            let sizes = (width, config.mlp_width);
            Ok::<_, Error>(FeedForward {
                norm: norm(&ff.child("norm"), width)?,
                mlp: Mlp::load(&ff, sizes, config.activation, config.gated_mlp, false)?,
                gate: gate("ff_gate")?,
            })
        };
        Ok(Self {
            norm: norm(&scope.child("norm"), width)?,
            to_q: Linear::projection(scope, "to_q.weight", width, inner)?,
            to_kv: Linear::projection(scope, "to_kv.weight", media_width, 2 * inner)?,
            qk_norm: match config.qk_norm {
                true => Some((head_norm("q_norm")?, head_norm("k_norm")?)),
                false => None,
            },
            to_out: Linear::projection(scope, "to_out.weight", inner, width)?,
            attn_gate: gate("attn_gate")?,
            ff: match config.kind {
                XattnKind::Gated => Some(feed_forward()?),
                XattnKind::Vanilla => None,
            },
            heads: config.heads,
            inner,
        })
    }

    /// The keys and values of visual tokens, `[batch, tokens, media_width]` →
    /// `[batch, tokens, 2 · inner]`: once for each picture.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn media(&self, visual: &Tensor<B>) -> Result<Tensor<B>> {
        let kv = self.to_kv.forward(visual)?;
        let Some((_, norm)) = &self.qk_norm else {
            return Ok(kv);
        };
        let (inner, rows) = (self.inner, kv.len() / (2 * self.inner));
        let keys = kv.band(0, inner)?.norm(&norm.of(), self.heads)?;
        let values = kv.reshape(&[rows, 2, inner])?.narrow(1, 1)?;
        Tensor::concat(&keys.reshape(&[rows, 1, inner])?, &values)?.reshape(kv.shape())
    }

    /// `[batch, rows, width]` → same. `media` is what [`GatedXattn::media`]
    /// gave; a token that sees no picture goes through the MLP alone.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn forward(
        &self,
        x: &Tensor<B>,
        media: &Tensor<B>,
        sight: &Sight<'_, B>,
    ) -> Result<Tensor<B>> {
        let inner = self.inner;
        let mut q = self.norm.linear(x, &self.to_q, None)?;
        if let Some((norm, _)) = &self.qk_norm {
            q = q.band(0, inner)?.norm(&norm.of(), self.heads)?;
        }
        let how = Attend {
            rule: Some(sight.rule),
            ..Attend::new(self.heads, sight.mask, media.shape()[1])
        };
        let (keys, values) = (media.band(0, inner)?, media.band(inner, inner)?);
        let seen = attend(&q.band(0, inner)?, &keys, &values, &how)?;
        let x = self.to_out.gated(&seen, self.attn_gate.as_ref(), Some(x))?;
        match &self.ff {
            Some(ff) => ff.mlp.forward(&x, Some(&ff.norm), ff.gate.as_ref(), &x),
            None => Ok(x),
        }
    }
}
