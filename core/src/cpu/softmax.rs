//! The softmax of attention, with the rules of who sees whom.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math;
use super::ops::{made, numbers, sum, tensor, with_numbers};
use crate::backend::{AttentionDims, Mask, alibi_slope};

/// `softmax(scale · x + bias)` over the keys each query may see, zero
/// elsewhere: x `[batch, heads, queries, keys]`.
pub(super) struct MaskedSoftmax {
    dims: AttentionDims,
    rule: Option<Vec<u32>>,
    scale: f32,
}

impl MaskedSoftmax {
    pub(super) fn new(dims: AttentionDims, rule: Option<Vec<u32>>) -> Self {
        Self {
            dims,
            rule,
            scale: (dims.head_dim as f32).sqrt().recip(),
        }
    }

    fn rule(&self, at: usize) -> Option<usize> {
        let rule = self.rule.as_ref()?;
        rule.get(at).map(|&number| number as usize)
    }

    /// The keys among which are those that query `i` of a sequence sees.
    fn reach(&self, sequence: usize, i: usize) -> Range<usize> {
        let keys = self.dims.keys;
        let (from, to) = match self.dims.mask {
            Mask::None | Mask::Beams { .. } => (0, keys),
            Mask::Causal { offset } => (self.rule(sequence).unwrap_or(0), i + offset + 1),
            Mask::Media {
                per_image,
                all_previous,
            } => {
                let image = self.rule(sequence * self.dims.queries + i).unwrap_or(0);
                let first = if all_previous { 0 } else { image.max(1) - 1 };
                (first * per_image, image * per_image)
            }
        };
        from.min(keys)..to.clamp(from.min(keys), keys)
    }

    /// Whether query `i` sees a key that is within its reach.
    fn sees(&self, i: usize, key: usize) -> bool {
        match self.dims.mask {
            Mask::Beams { prompt, width } if key >= prompt => {
                let steps = (self.dims.keys - prompt).div_ceil(width);
                let (step, beam) = ((key - prompt) / width, (key - prompt) % width);
                self.rule(i * steps + step) == Some(beam)
            }
            _ => true,
        }
    }

    /// Where a key stands in its text.
    fn position(&self, key: usize) -> usize {
        match self.dims.mask {
            Mask::Beams { prompt, width } if key >= prompt => prompt + (key - prompt) / width,
            _ => key,
        }
    }

    /// Adds ALiBi to scores that have been scaled; `seen` begins at key `from`.
    fn add_alibi(&self, seen: &mut [f32], from: usize, head: usize, i: usize) {
        let Some(max_bias) = self.dims.alibi else {
            return;
        };
        let slope = alibi_slope(head, self.dims.heads, max_bias);
        let own = match self.dims.mask {
            Mask::Causal { offset } => i + offset,
            _ => self.position(self.dims.keys - 1),
        };
        for (j, x) in seen.iter_mut().enumerate() {
            *x += slope * (self.position(from + j) as f32 - own as f32);
        }
    }
}

impl CustomOp1 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked_softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let AttentionDims {
            heads,
            queries,
            keys,
            ..
        } = self.dims;
        let mut out = numbers(x, layout)?.to_vec();
        for (row, place) in out.chunks_exact_mut(keys).zip(0..) {
            let (i, head, sequence) = (
                place % queries,
                place / queries % heads,
                place / (queries * heads),
            );
            let reach = self.reach(sequence, i);
            let from = reach.start;
            row[..from].fill(0.0);
            row[reach.end..].fill(0.0);
            let seen = &mut row[reach];
            for x in seen.iter_mut() {
                *x *= self.scale;
            }
            self.add_alibi(seen, from, head, i);
            if matches!(self.dims.mask, Mask::Beams { .. }) {
                for (j, x) in seen.iter_mut().enumerate() {
                    if !self.sees(i, from + j) {
                        *x = f32::NEG_INFINITY;
                    }
                }
            }
            let top = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for x in seen.iter_mut() {
                *x = if *x == f32::NEG_INFINITY {
                    0.0
                } else {
                    math::exp(*x - top)
                };
            }
            let share = 1.0 / sum(seen.iter().copied());
            for x in seen {
                *x *= share;
            }
        }
        Ok(made(out, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let keys = self.dims.keys;
        let dx = with_numbers(res, |y| {
            with_numbers(grad, |grad| {
                let mut dx = Vec::with_capacity(y.len());
                for (y, g) in y.chunks_exact(keys).zip(grad.chunks_exact(keys)) {
                    let dot = sum(y.iter().zip(g).map(|(y, g)| y * g));
                    dx.extend(y.iter().zip(g).map(|(y, g)| self.scale * y * (g - dot)));
                }
                dx
            })
        })??;
        tensor(dx, x).map(Some)
    }
}
