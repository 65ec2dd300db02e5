//! The layer that lets a language model see (Flamingo §2.2, Figure 4;
//! `GatedCrossAttentionBlock` of OpenFlamingo's `helpers.py`).

use crate::Result;
use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::flamingo::{Gate, XattnConfig};
use crate::models::gaze::Heads;
use crate::models::lm::Mlp;
use crate::nn::{Linear, Norm};
use crate::tensor::{Attend, Tensor, attend};

/// What the tokens of a pass see.
pub struct Sight<'a, B: Backend> {
    /// By pictures; see [`Mask::Media`].
    pub mask: Mask,
    /// The number of the picture that each token sees.
    pub rule: &'a B::Ids,
}

/// `x += tanh(α) · xattn(x)`, then `x += tanh(β) · mlp(x)`.
pub struct GatedXattn<B: Backend> {
    norm: Norm<B>,
    to_q: Linear<B>,
    to_kv: Linear<B>,
    to_out: Linear<B>,
    attn_gate: Option<Tensor<B>>,
    ff_norm: Norm<B>,
    mlp: Mlp<B>,
    ff_gate: Option<Tensor<B>>,
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
        let norm = |scope: &Scope<'_, B>| {
            Norm::load(&scope.child("norm"), width, config.norm, config.norm_eps)
        };
        let gate = |name: &str| match config.gate {
            Gate::None => Ok(None),
            Gate::Scalar => scope.parameter(name, &[1]).map(Some),
            Gate::Vector => scope.parameter(name, &[width]).map(Some),
        };
        let ff = scope.child("ff");
        let sizes = (width, config.mlp_width);
        Ok(Self {
            norm: norm(scope)?,
            to_q: Linear::projection(scope, "to_q.weight", width, inner)?,
            to_kv: Linear::projection(scope, "to_kv.weight", media_width, 2 * inner)?,
            to_out: Linear::projection(scope, "to_out.weight", inner, width)?,
            attn_gate: gate("attn_gate")?,
            ff_norm: norm(&ff)?,
            mlp: Mlp::load(&ff, sizes, config.activation, config.gated_mlp, false)?,
            ff_gate: gate("ff_gate")?,
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
        self.to_kv.forward(visual)
    }

    /// `[batch, rows, width]` → what the rows ask of the visual tokens, `[batch,
    /// rows, inner]`.
    pub(crate) fn queries(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.to_q.forward(&self.norm.forward(x)?)
    }

    /// How [`GatedXattn::queries`] go with [`GatedXattn::media`].
    pub(crate) fn heads(&self) -> Heads {
        Heads {
            count: self.heads,
            dim: self.inner / self.heads,
            stride: 2 * self.inner,
        }
    }

    /// How far the gates are open, `tanh α`: that of the attention and that of
    /// the MLP. Of a vector it is the mean magnitude; where there is no gate, 1.
    ///
    /// # Errors
    /// Where the device fails.
    pub async fn gates(&self) -> Result<(f32, f32)> {
        Ok((open(&self.attn_gate).await?, open(&self.ff_gate).await?))
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
        let q = self.queries(x)?;
        let how = Attend {
            rule: Some(sight.rule),
            ..Attend::new(self.heads, sight.mask, media.shape()[1])
        };
        let (keys, values) = (media.band(0, inner)?, media.band(inner, inner)?);
        let seen = attend(&q.band(0, inner)?, &keys, &values, &how)?;
        let x = match &self.attn_gate {
            Some(gate) => x.gated_add(&self.to_out.forward(&seen)?, gate)?,
            None => self.to_out.then(&seen, None, Some(x))?,
        };
        let normed = self.ff_norm.forward(&x)?;
        match &self.ff_gate {
            Some(gate) => x.gated_add(&self.mlp.forward(&normed, None)?, gate),
            None => self.mlp.forward(&normed, Some(&x)),
        }
    }
}

async fn open<B: Backend>(gate: &Option<Tensor<B>>) -> Result<f32> {
    let Some(gate) = gate else {
        return Ok(1.0);
    };
    let numbers = gate.read().await?;
    if let [number] = numbers.as_slice() {
        return Ok(number.tanh());
    }
    let sum: f32 = numbers.iter().map(|number| number.tanh().abs()).sum();
    Ok(sum / numbers.len() as f32)
}
