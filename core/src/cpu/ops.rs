//! Fused operations that candle lacks or lacks a backward pass for. Each has
//! both directions here, so that training and inference run the same code.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::math;
use crate::backend::{Activation, PoolDims, WindowDims};

/// The numbers behind a contiguous layout.
pub(super) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("expected a contiguous tensor, got {layout:?}");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `f` on the numbers of a tensor, made contiguous where it is not.
pub(super) fn with_numbers<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(f(numbers(storage, layout)?)),
        _ => candle_core::bail!("expected a tensor on the CPU"),
    }
}

pub(super) fn made(numbers: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (CpuStorage::F32(numbers), shape.clone())
}

pub(super) fn tensor(numbers: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(numbers, like.shape(), like.device())
}

/// Sums of the columns of `[rows, cols]`.
pub(super) fn column_sums(x: &[f32], cols: usize) -> Vec<f32> {
    let mut sums = vec![0f32; cols];
    for row in x.chunks_exact(cols) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sums
}

/// `act(x + bias)`: x `[rows, cols]`, bias `[cols]`.
pub(super) struct BiasActivation(pub(super) Option<Activation>);

impl CustomOp2 for BiasActivation {
    fn name(&self) -> &'static str {
        "bias_activation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (numbers(x, x_layout)?, numbers(bias, bias_layout)?);
        Ok(made(math::value(self.0, x, Some(bias)), x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let cols = bias.elem_count();
        let dx = match self.0 {
            None => grad.clone(),
            Some(activation) => {
                let dx = with_numbers(x, |x| {
                    with_numbers(bias, |bias| {
                        with_numbers(grad, |grad| math::slope(activation, x, Some(bias), grad))
                    })
                })???;
                tensor(dx, x)?
            }
        };
        let dbias = with_numbers(&dx, |dx| column_sums(dx, cols))?;
        Ok((Some(dx), Some(tensor(dbias, bias)?)))
    }
}

/// `act(x)`.
pub(super) struct Activate(pub(super) Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = math::value(Some(self.0), numbers(x, layout)?, None);
        Ok(made(out, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_numbers(x, |x| {
            with_numbers(grad, |grad| math::slope(self.0, x, None, grad))
        })??;
        tensor(dx, x).map(Some)
    }
}

/// Layer normalisation over the rows of `[rows, cols]`; weight and bias `[cols]`.
pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl LayerNorm {
    /// Mean and reciprocal standard deviation of a row, in two passes.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = sum(row.iter().copied()) / n;
        let variance = sum(row.iter().map(|x| (x - mean) * (x - mean))) / n;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

/// A sum in eight lanes, which vectorises and rounds less than one lane.
pub(super) fn sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 8];
    for (i, value) in values.enumerate() {
        lanes[i & 7] += value;
    }
    lanes.iter().sum()
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = numbers(x, x_layout)?;
        let (weight, bias) = (numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let (mean, scale) = self.moments(row);
            let scaled = row.iter().zip(weight).zip(bias);
            out.extend(scaled.map(|((x, w), b)| (x - mean) * scale * w + b));
        }
        Ok(made(out, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let cols = weight.elem_count();
        let (dx, dw, db) = with_numbers(x, |x| {
            with_numbers(weight, |weight| {
                with_numbers(grad, |grad| {
                    let mut dx = Vec::with_capacity(x.len());
                    let (mut dw, mut unit, mut g) =
                        (vec![0f32; cols], vec![0f32; cols], vec![0f32; cols]);
                    for (row, grad) in x.chunks_exact(cols).zip(grad.chunks_exact(cols)) {
                        let (mean, scale) = self.moments(row);
                        for i in 0..cols {
                            unit[i] = (row[i] - mean) * scale;
                            g[i] = grad[i] * weight[i];
                            dw[i] += grad[i] * unit[i];
                        }
                        let n = cols as f32;
                        let mean_g = sum(g.iter().copied()) / n;
                        let mean_gu = sum(g.iter().zip(&unit).map(|(g, u)| g * u)) / n;
                        let both = g.iter().zip(&unit);
                        dx.extend(both.map(|(g, u)| (g - mean_g - u * mean_gu) * scale));
                    }
                    (dx, dw, column_sums(grad, cols))
                })
            })
        })???;
        Ok((
            Some(tensor(dx, x)?),
            Some(tensor(dw, weight)?),
            Some(tensor(db, bias)?),
        ))
    }
}

/// The windows of a convolution as rows (window row, window column, channel),
/// `im2col`.
pub(super) struct Unfold(pub(super) WindowDims);

impl Unfold {
    /// Calls `f(window_offset, picture_offset, len)` for each run of elements
    /// that a window row and a picture row share.
    fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let d = &self.0;
        let (out_height, out_width) = d.out();
        let window = d.kernel * d.kernel * d.channels;
        let (above, before) = d.before();
        for n in 0..d.n {
            for (oy, ox) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                let target = ((n * out_height + oy) * out_width + ox) * window;
                let left = (ox * d.stride) as isize - before as isize;
                let first = (-left).max(0) as usize;
                let last = (d.width as isize - left).clamp(0, d.kernel as isize) as usize;
                if first >= last {
                    continue;
                }
                for ky in 0..d.kernel {
                    let y = (oy * d.stride + ky) as isize - above as isize;
                    if y < 0 || y >= d.height as isize {
                        continue;
                    }
                    let x = (left + first as isize) as usize;
                    let source = ((n * d.height + y as usize) * d.width + x) * d.channels;
                    let target = target + (ky * d.kernel + first) * d.channels;
                    f(target, source, (last - first) * d.channels);
                }
            }
        }
    }
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = numbers(x, layout)?;
        let d = &self.0;
        let (out_height, out_width) = d.out();
        let shape = (
            d.n * out_height * out_width,
            d.kernel * d.kernel * d.channels,
        );
        let mut out = vec![0f32; shape.0 * shape.1];
        self.runs(|to, from, len| out[to..to + len].copy_from_slice(&x[from..from + len]));
        Ok((CpuStorage::F32(out), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_numbers(grad, |grad| {
            let mut dx = vec![0f32; x.elem_count()];
            self.runs(|from, to, len| {
                for (sum, g) in dx[to..to + len].iter_mut().zip(&grad[from..from + len]) {
                    *sum += g;
                }
            });
            dx
        })?;
        tensor(dx, x).map(Some)
    }
}

/// The means of windows; see [`crate::backend::Backend::avg_pool`].
pub(super) struct AvgPool(pub(super) PoolDims);

impl AvgPool {
    /// Calls `f(window_offset, picture_offset)` for each pixel of each window;
    /// both are the first of its channels.
    fn pairs(&self, mut f: impl FnMut(usize, usize)) {
        let d = &self.0;
        let (out_height, out_width) = (d.height / d.kernel, d.width / d.kernel);
        for n in 0..d.n {
            for y in 0..out_height * d.kernel {
                for x in 0..out_width * d.kernel {
                    let window = (n * out_height + y / d.kernel) * out_width + x / d.kernel;
                    let pixel = (n * d.height + y) * d.width + x;
                    f(window * d.channels, pixel * d.channels);
                }
            }
        }
    }

    fn share(&self) -> f32 {
        1.0 / (self.0.kernel * self.0.kernel) as f32
    }
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = numbers(x, layout)?;
        let d = &self.0;
        let len = d.n * (d.height / d.kernel) * (d.width / d.kernel) * d.channels;
        let mut out = vec![0f32; len];
        let share = self.share();
        self.pairs(|to, from| {
            let pixel = &x[from..from + d.channels];
            let mean = out[to..to + d.channels].iter_mut();
            mean.zip(pixel).for_each(|(mean, x)| *mean += x * share);
        });
        Ok((CpuStorage::F32(out), len.into()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (channels, share) = (self.0.channels, self.share());
        let dx = with_numbers(grad, |grad| {
            let mut dx = vec![0f32; x.elem_count()];
            self.pairs(|from, to| {
                let grad = &grad[from..from + channels];
                let pixel = dx[to..to + channels].iter_mut();
                pixel.zip(grad).for_each(|(dx, g)| *dx = g * share);
            });
            dx
        })?;
        tensor(dx, x).map(Some)
    }
}
