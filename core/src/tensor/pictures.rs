//! The operations over pictures `[n, h, w, c]`.

use super::{After, Tensor, Weight, shape_error};
use crate::Result;
use crate::backend::{Backend, ExciteDims, Padding, PoolDims, WindowDims};

/// The windows of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of the square.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: Padding,
    /// Equal parts of the channels, each of which makes one of the outputs.
    pub groups: usize,
}

impl Window {
    /// Windows over all channels, with `zeros` on every side of a picture.
    pub fn new(kernel: usize, stride: usize, zeros: usize) -> Self {
        Self {
            kernel,
            stride,
            padding: Padding::Every(zeros),
            groups: 1,
        }
    }

    /// Windows whose zeros make `⌈length / stride⌉` of them on a side.
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self {
            padding: Padding::Same,
            ..Self::new(kernel, stride, 0)
        }
    }
}

impl<B: Backend> Tensor<B> {
    /// `[n, h, w, c]` → `[n, out_h, out_w, out]`: a convolution whose weight is
    /// `[out, kernel · kernel · c / groups]` (window row, window column,
    /// channel).
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn conv2d(&self, w: &Weight<B>, window: Window, after: &After<'_, B>) -> Result<Self> {
        let Window { kernel, groups, .. } = window;
        let dims = self.windows("conv2d", window)?;
        let whole =
            groups > 0 && dims.channels.is_multiple_of(groups) && w.rows.is_multiple_of(groups);
        if !whole || kernel * kernel * (dims.channels / groups) != w.cols {
            return Err(shape_error(
                "conv2d",
                format!(
                    "[n, h, w, {}], channels and outputs in {groups} groups",
                    w.cols / (kernel * kernel) * groups
                ),
                &self.shape,
            ));
        }
        let (oh, ow) = dims.out();
        let epilogue = after.checked("conv2d", dims.n * oh * ow, w.rows)?;
        let out = (w.rows, groups);
        let buffer = self
            .backend
            .conv2d(&self.buffer, dims, &w.inner, out, epilogue)?;
        Ok(self.with(buffer, vec![dims.n, oh, ow, w.rows]))
    }

    /// The windows of a convolution over `[n, h, w, c]`.
    fn windows(&self, operation: &'static str, window: Window) -> Result<WindowDims> {
        let Window {
            kernel,
            stride,
            padding,
            ..
        } = window;
        let &[n, height, width, channels] = self.shape.as_slice() else {
            return Err(shape_error(operation, "[n, h, w, c]", &self.shape));
        };
        let shortest = match padding {
            Padding::Every(zeros) => kernel.saturating_sub(2 * zeros),
            Padding::Same => 1,
        };
        if height.min(width) < shortest || stride == 0 || kernel == 0 {
            return Err(shape_error(
                operation,
                format!("pictures of {shortest} × {shortest} or more"),
                &self.shape,
            ));
        }
        Ok(WindowDims {
            n,
            height,
            width,
            channels,
            kernel,
            stride,
            padding,
        })
    }

    /// `[n, h, w, c]` → `[n, h / kernel, w / kernel, c]`: the mean of each
    /// window of `kernel` × `kernel`.
    ///
    /// # Errors
    /// Where the tensor is no batch of pictures or smaller than the window.
    pub fn avg_pool(&self, kernel: usize) -> Result<Self> {
        let &[n, height, width, channels] = self.shape.as_slice() else {
            return Err(shape_error("avg_pool", "[n, h, w, c]", &self.shape));
        };
        if kernel == 0 || height.min(width) < kernel {
            return Err(shape_error(
                "avg_pool",
                format!("pictures of {kernel} × {kernel} or more"),
                &self.shape,
            ));
        }
        let dims = PoolDims {
            n,
            height,
            width,
            channels,
            kernel,
        };
        let buffer = self.backend.avg_pool(&self.buffer, dims)?;
        let shape = vec![n, height / kernel, width / kernel, channels];
        Ok(self.with(buffer, shape))
    }

    /// `[n, h, w, c]`, gate `[n, c]` → as `self`: `residual + scale ·
    /// sigmoid(gate) · self`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn excite(&self, gate: &Self, residual: &Self, scale: f32) -> Result<Self> {
        let n = self.shape.first().copied().unwrap_or(0);
        let (rows, cols) = self.rows();
        if gate.len() != n * cols || residual.shape != self.shape || n == 0 {
            return Err(shape_error(
                "excite",
                format!("a gate [{n}, {cols}] and a residual {:?}", self.shape),
                &gate.shape,
            ));
        }
        let dims = ExciteDims {
            n,
            rows: rows / n,
            cols,
            scale,
        };
        let buffer = self
            .backend
            .excite(&self.buffer, &gate.buffer, &residual.buffer, dims)?;
        Ok(self.with(buffer, self.shape.clone()))
    }
}
