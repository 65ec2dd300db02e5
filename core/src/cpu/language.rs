//! The operations of the language models, with both directions each.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::math;
use super::ops::{made, numbers, sum, tensor, with_numbers};
use crate::backend::{Activation, RotaryDims, Smear, WriteDims};

/// See [`crate::backend::Backend::top_k`]; nothing is learned through it.
pub(super) fn top_k(x: &Tensor, k: usize) -> crate::Result<Tensor> {
    let rows = x.to_vec2::<f32>()?;
    let mut out = Vec::with_capacity(rows.len() * (2 * k + 1));
    for row in &rows {
        let by_rank = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
        let mut places: Vec<usize> = (0..row.len()).collect();
        if k < places.len() {
            places.select_nth_unstable_by(k, by_rank);
            places.truncate(k);
        }
        places.sort_unstable_by(by_rank);
        let first = places.first().map_or(0.0, |&first| row[first]);
        let sum: f64 = row.iter().map(|x| f64::from(x - first).exp()).sum();
        out.extend(places.iter().map(|&place| row[place]));
        out.extend(places.iter().map(|&place| place as f32));
        out.push((f64::from(first) + sum.ln()) as f32);
    }
    Ok(Tensor::from_vec(out, (rows.len(), 2 * k + 1), x.device())?)
}

/// Root-mean-square normalisation over the rows of `[rows, cols]`.
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        let mean = sum(row.iter().map(|x| x * x)) / row.len() as f32;
        1.0 / (mean + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let scale = self.scale(row);
            out.extend(row.iter().zip(weight).map(|(x, w)| x * scale * w));
        }
        Ok(made(out, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let cols = weight.elem_count();
        let (dx, dw) = with_numbers(x, |x| {
            with_numbers(weight, |weight| {
                with_numbers(grad, |grad| {
                    let mut dx = Vec::with_capacity(x.len());
                    let mut dw = vec![0f32; cols];
                    for (row, grad) in x.chunks_exact(cols).zip(grad.chunks_exact(cols)) {
                        let scale = self.scale(row);
                        let along = row.iter().zip(grad).zip(weight);
                        let dot = sum(along.map(|((x, g), w)| x * g * w));
                        let pull = dot * scale * scale / cols as f32;
                        for i in 0..cols {
                            dw[i] += grad[i] * row[i] * scale;
                            dx.push(scale * (grad[i] * weight[i] - row[i] * pull));
                        }
                    }
                    (dx, dw)
                })
            })
        })???;
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, weight)?)))
    }
}

/// Rotary positions; see [`crate::backend::Backend::rotary`].
pub(super) struct Rotary(pub(super) RotaryDims);

impl Rotary {
    /// Turns every pair; `back` turns the other way, as gradients are.
    fn turn(&self, x: &[f32], table: &[f32], back: bool) -> Vec<f32> {
        let d = &self.0;
        let half = d.rotary_dims / 2;
        let mut out = x.to_vec();
        for (row, place) in out.chunks_exact_mut(d.heads * d.head_dim).zip(0..) {
            let position = d.start + place % d.queries * d.step;
            let angles = &table[position * d.rotary_dims..(position + 1) * d.rotary_dims];
            let (cos, sin) = angles.split_at(half);
            for head in row.chunks_exact_mut(d.head_dim) {
                for i in 0..half {
                    let (a, b) = if d.interleaved {
                        (2 * i, 2 * i + 1)
                    } else {
                        (i, i + half)
                    };
                    let sin = if back { -sin[i] } else { sin[i] };
                    let (x, y) = (head[a], head[b]);
                    head[a] = x * cos[i] - y * sin;
                    head[b] = y * cos[i] + x * sin;
                }
            }
        }
        out
    }
}

impl CustomOp2 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        table: &CpuStorage,
        table_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, table) = (numbers(x, x_layout)?, numbers(table, table_layout)?);
        Ok(made(self.turn(x, table, false), x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        table: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = with_numbers(grad, |grad| {
            with_numbers(table, |table| self.turn(grad, table, true))
        })??;
        Ok((Some(tensor(dx, x)?), None))
    }
}

/// `x + tanh(gate) · y`: x and y `[rows, cols]`, gate `[cols]`.
pub(super) struct GatedAdd;

impl CustomOp3 for GatedAdd {
    fn name(&self) -> &'static str {
        "gated_add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (numbers(x, x_layout)?, numbers(y, y_layout)?);
        let open: Vec<f32> = opened(numbers(gate, gate_layout)?);
        let pairs = x.iter().zip(y).zip(open.iter().cycle());
        let out = pairs.map(|((x, y), open)| x + open * y).collect();
        Ok(made(out, x_layout.shape()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        y: &Tensor,
        gate: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let open = with_numbers(gate, opened)?;
        let (dy, dgate) = with_numbers(y, |y| {
            with_numbers(grad, |grad| {
                let mut dy = Vec::with_capacity(y.len());
                let mut dgate = vec![0f32; open.len()];
                for (y, g) in y
                    .chunks_exact(open.len())
                    .zip(grad.chunks_exact(open.len()))
                {
                    for i in 0..open.len() {
                        dy.push(open[i] * g[i]);
                        dgate[i] += y[i] * g[i] * (1.0 - open[i] * open[i]);
                    }
                }
                (dy, dgate)
            })
        })??;
        Ok((
            Some(grad.clone()),
            Some(tensor(dy, y)?),
            Some(tensor(dgate, gate)?),
        ))
    }
}

fn opened(gate: &[f32]) -> Vec<f32> {
    gate.iter().map(|gate| gate.tanh()).collect()
}

/// Keys `[batch · rows, width]` with a part of those before them, which are
/// among them or stand behind the values of a cache; see
/// [`crate::backend::Backend::write_kv`].
pub(super) fn smeared(
    keys: &Tensor,
    cache: &Tensor,
    d: WriteDims,
    smear: &Smear<'_, Tensor, Tensor>,
) -> Result<Tensor> {
    let open = with_numbers(smear.gate, opened)?;
    let previous = smear.previous.to_vec1::<u32>()?;
    let smeared = with_numbers(keys, |keys| {
        with_numbers(cache, |cache| {
            let mut out = keys.to_vec();
            let rows = out.chunks_exact_mut(d.width).zip(&previous).enumerate();
            for (row, (out, &before)) in rows {
                let Some(place) = (before as usize).checked_sub(1) else {
                    continue;
                };
                let sequence = row / d.rows;
                let before = match place.checked_sub(d.start) {
                    Some(row) => &keys[(sequence * d.rows + row) * d.width..],
                    None => &cache[((sequence * d.capacity + place) * 3 + 2) * d.width..],
                };
                for (out, (before, open)) in out.iter_mut().zip(before.iter().zip(&open)) {
                    *out += open * before;
                }
            }
            out
        })
    })??;
    tensor(smeared, keys)
}

/// The activation of the first half of each row times the second.
pub(super) struct Glu(pub(super) Activation);

/// The halves of the rows of `[rows, 2 · width]`, each `[rows, width]`.
fn halves(x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let rows = x.chunks_exact(2 * width);
    let (mut gate, mut up) = (Vec::new(), Vec::new());
    for row in rows {
        gate.extend_from_slice(&row[..width]);
        up.extend_from_slice(&row[width..]);
    }
    (gate, up)
}

impl CustomOp1 for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let &[rows, both] = layout.dims() else {
            candle_core::bail!("expected [rows, 2 · width], got {layout:?}");
        };
        let (gate, up) = halves(numbers(x, layout)?, both / 2);
        let mut out = math::value(Some(self.0), &gate, None);
        out.iter_mut().zip(&up).for_each(|(out, up)| *out *= up);
        Ok((CpuStorage::F32(out), (rows, both / 2).into()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = grad.dim(1)?;
        let dx = with_numbers(x, |x| {
            with_numbers(grad, |grad| {
                let (gate, up) = halves(x, width);
                let scaled: Vec<f32> = up.iter().zip(grad).map(|(up, g)| up * g).collect();
                let dgate = math::slope(self.0, &gate, None, &scaled);
                let mut dup = math::value(Some(self.0), &gate, None);
                dup.iter_mut().zip(grad).for_each(|(dup, g)| *dup *= g);
                let rows = dgate.chunks_exact(width).zip(dup.chunks_exact(width));
                rows.flat_map(|(gate, up)| [gate, up].concat()).collect()
            })
        })??;
        tensor(dx, x).map(Some)
    }
}
