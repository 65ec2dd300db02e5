//! The attention of a block.

use super::Pass;
use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::config::language::{LmConfig, Positions};
use crate::nn::{Linear, Norm};
use crate::tensor::{Attend, Tensor, Turn, attend};

/// What the blocks share in a pass.
pub(super) struct Place<'a, B: Backend> {
    pub(super) pass: &'a Pass<B>,
    /// `[context, dims]`: cosines, then sines.
    pub(super) rotary: Option<&'a Tensor<B>>,
    pub(super) cached: Option<&'a Tensor<B>>,
}

/// Keys to which those of the tokens before are added.
struct Smear<B: Backend> {
    /// `[width]`.
    gate: Tensor<B>,
    /// `[1, width]`: the key of no token.
    nothing: Tensor<B>,
}

impl<B: Backend> Smear<B> {
    fn load(scope: &Scope<'_, B>, width: usize) -> Result<Self> {
        Ok(Self {
            gate: scope.parameter("k_smear", &[width])?,
            nothing: Tensor::upload(scope.backend(), &vec![0.0; width], &[1, width])?,
        })
    }

    /// `[batch, queries, width]`, all keys that there are → same. A cache does
    /// this on the way; see [`Tensor::write_kv`].
    fn forward(&self, keys: &Tensor<B>, pass: &Pass<B>) -> Result<Tensor<B>> {
        let table = Tensor::concat(&self.nothing, keys)?;
        let stride = 1 + pass.queries;
        let rows = pass.previous().zip(0..);
        let rows: Vec<u32> = rows
            .map(|(row, i)| (i / pass.queries * stride) as u32 + row)
            .collect();
        let before = table.gather(&rows)?;
        keys.gated_add(&before.reshape(keys.shape())?, &self.gate)
    }
}

/// Causal self-attention; q, k and v come from one product.
pub(super) struct Attention<B: Backend> {
    qkv: Linear<B>,
    /// Of queries and keys, side by side.
    qk_norm: Option<Norm<B>>,
    smear: Option<Smear<B>>,
    out: Linear<B>,
    heads: usize,
    width: usize,
    positions: Positions,
}

impl<B: Backend> Attention<B> {
    pub(super) fn load(scope: &Scope<'_, B>, config: &LmConfig) -> Result<Self> {
        let width = config.width;
        let norm = || {
            let scope = scope.child("qk_norm");
            Norm::load(&scope, 2 * width, config.norm, config.norm_eps)
        };
        let qk_norm = config.qk_norm.then(norm).transpose()?;
        Ok(Self {
            qkv: Linear::with_bias(&scope.child("qkv"), width, 3 * width, config.bias)?,
            qk_norm,
            smear: config
                .smeared_keys
                .then(|| Smear::load(scope, width))
                .transpose()?,
            out: Linear::with_bias(&scope.child("out"), width, width, config.bias)?,
            heads: config.heads,
            width,
            positions: config.positions,
        })
    }

    /// `x + attention(norm(x))`, all `[batch, queries, width]`.
    pub(super) fn forward(
        &self,
        x: &Tensor<B>,
        norm: Option<&Norm<B>>,
        place: &Place<'_, B>,
    ) -> Result<Tensor<B>> {
        let (pass, width) = (place.pass, self.width);
        let qkv = match norm {
            Some(norm) => norm.linear(x, &self.qkv, None)?,
            None => self.qkv.forward(x)?,
        };
        // q and k: a tensor, and the column of it at which they start.
        let (mut q, mut k) = ((qkv.clone(), 0), (qkv.clone(), width));
        if let Some(norm) = &self.qk_norm {
            let normed = qkv.band(0, 2 * width)?.norm(&norm.of(), 2)?;
            (q, k) = ((normed.clone(), 0), (normed, width));
        }
        let turn = match (place.rotary, self.positions) {
            (Some(table), Positions::Rotary { interleaved, .. }) => {
                let turn = Turn {
                    start: pass.start,
                    step: pass.step,
                    interleaved,
                };
                Some((table, turn))
            }
            _ => None,
        };
        if place.cached.is_none() {
            // A cache does this to keys on their way into it.
            if let Some(smear) = &self.smear {
                let rows = pass.batch * pass.queries;
                let parts = k.0.reshape(&[rows, k.0.len() / (rows * width), width])?;
                let keys = parts.narrow(1, 1)?;
                let keys = keys.reshape(&[pass.batch, pass.queries, width])?;
                k = (smear.forward(&keys, pass)?, 0);
            }
            if let Some((table, turn)) = turn {
                k = (k.0.band(k.1, width)?.rotary(table, self.heads, turn)?, 0);
            }
        }
        let alibi = match self.positions {
            Positions::Alibi { max_bias } => Some(max_bias),
            _ => None,
        };
        let how = Attend {
            heads: self.heads,
            mask: pass.mask,
            rule: pass.rule.as_ref(),
            keys: pass.before + pass.queries,
            alibi,
            turn,
        };
        let (q, k, v) = (
            q.0.band(q.1, width)?,
            k.0.band(k.1, width)?,
            qkv.band(2 * width, width)?,
        );
        let mixed = match place.cached {
            None => attend(&q, &k, &v, &how)?,
            Some(kv) => {
                let smear = match &self.smear {
                    Some(smear) => Some((&smear.gate, pass.previous_on(kv.backend())?)),
                    None => None,
                };
                let turn = turn.map(|(table, turn)| (table, self.heads, turn));
                kv.write_kv(&k, &v, pass.before, smear, turn)?;
                attend(&q, &kv.band(0, width)?, &kv.band(width, width)?, &how)?
            }
        };
        self.out.then(&mixed, None, Some(x))
    }
}
