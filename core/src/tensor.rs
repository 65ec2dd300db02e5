//! The checked front door to a [`Backend`]: shape errors are made here, once.

use crate::backend::{Activation, Backend, Epilogue, Mask, RowNorm, Span};
use crate::{Error, Result};

mod language;
mod pictures;

pub use language::{Attend, Turn, attend};
pub use pictures::Window;

/// f32 numbers on a device, contiguous and row-major. Cloning shares them.
#[derive(Clone)]
pub struct Tensor<B: Backend> {
    backend: B,
    buffer: B::Buffer,
    shape: Vec<usize>,
}

/// A weight matrix `[rows, cols]` on a device, in its stored precision.
#[derive(Clone)]
pub struct Weight<B: Backend> {
    inner: B::Weight,
    rows: usize,
    cols: usize,
}

impl<B: Backend> Weight<B> {
    /// Wraps a matrix that the backend has made.
    pub fn new(inner: B::Weight, rows: usize, cols: usize) -> Self {
        Self { inner, rows, cols }
    }

    /// `(rows, cols)`.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

/// A band of columns of a `[rows, stride]` tensor.
pub struct Band<'a, B: Backend> {
    tensor: &'a Tensor<B>,
    start: usize,
    width: usize,
}

/// A norm of rows: see [`RowNorm`].
pub struct NormOf<'a, B: Backend> {
    /// `[cols]`.
    pub weight: &'a Tensor<B>,
    /// `[cols]`; without it the norm is that of root mean squares.
    pub bias: Option<&'a Tensor<B>>,
    /// Added to the variance or the mean square.
    pub eps: f32,
}

impl<'a, B: Backend> NormOf<'a, B> {
    /// The norm of rows of `cols`.
    fn checked(&self, cols: usize) -> Result<RowNorm<'a, B::Buffer>> {
        for parameter in [Some(self.weight), self.bias].into_iter().flatten() {
            if parameter.len() != cols {
                return Err(shape_error("norm", format!("[{cols}]"), &parameter.shape));
            }
        }
        Ok(RowNorm {
            weight: &self.weight.buffer,
            bias: self.bias.map(|bias| &bias.buffer),
            eps: self.eps,
        })
    }
}

/// What follows a linear map: see [`Epilogue`].
pub struct After<'a, B: Backend> {
    /// `[out]`.
    pub bias: Option<&'a Tensor<B>>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// `[1]` or `[out]`: multiplied by `tanh` of it after the activation.
    pub gate: Option<&'a Tensor<B>>,
    /// `[rows, out]`.
    pub residual: Option<&'a Tensor<B>>,
    /// The residual is added before the activation.
    pub residual_first: bool,
}

impl<B: Backend> Default for After<'_, B> {
    fn default() -> Self {
        Self {
            bias: None,
            activation: None,
            gate: None,
            residual: None,
            residual_first: false,
        }
    }
}

impl<'a, B: Backend> After<'a, B> {
    /// The epilogue of an operation that gives `[rows, out]`.
    fn checked(
        &self,
        operation: &'static str,
        rows: usize,
        out: usize,
    ) -> Result<Epilogue<'a, B::Buffer>> {
        let fits = |tensor: Option<&Tensor<B>>, shape: &[usize]| match tensor {
            Some(t) if t.len() != shape.iter().product::<usize>() => Err(shape_error(
                operation,
                format!("{shape:?} after it"),
                &t.shape,
            )),
            _ => Ok(()),
        };
        fits(self.bias, &[out])?;
        fits(self.residual, &[rows, out])?;
        if let Some(gate) = self.gate
            && (self.residual_first || (gate.len() != 1 && gate.len() != out))
        {
            return Err(shape_error(
                operation,
                format!("a gate [1] or [{out}] before the residual"),
                &gate.shape,
            ));
        }
        Ok(Epilogue {
            bias: self.bias.map(|t| &t.buffer),
            activation: self.activation,
            gate: self.gate.map(|t| (&t.buffer, t.len())),
            residual: self.residual.map(|t| &t.buffer),
            residual_first: self.residual_first,
        })
    }
}

fn shape_error(operation: &'static str, expected: impl Into<String>, found: &[usize]) -> Error {
    Error::Shape {
        operation,
        expected: expected.into(),
        found: format!("{found:?}"),
    }
}

impl<B: Backend> Tensor<B> {
    /// Copies `data` to the device.
    ///
    /// # Errors
    /// Where `data` does not fill `shape`, or the device fails.
    pub fn upload(backend: &B, data: &[f32], shape: &[usize]) -> Result<Self> {
        if data.len() != shape.iter().product::<usize>() {
            return Err(shape_error("upload", format!("{shape:?}"), &[data.len()]));
        }
        Ok(Self::new(backend, backend.upload(data)?, shape))
    }

    /// Wraps a buffer that the backend has made.
    pub fn new(backend: &B, buffer: B::Buffer, shape: &[usize]) -> Self {
        Self {
            backend: backend.clone(),
            buffer,
            shape: shape.to_vec(),
        }
    }

    /// The shape, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device's buffer.
    pub fn buffer(&self) -> &B::Buffer {
        &self.buffer
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Length of the innermost axis, and the number of rows of that length.
    fn rows(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.len() / cols.max(1), cols)
    }

    fn with(&self, buffer: B::Buffer, shape: Vec<usize>) -> Self {
        Self {
            backend: self.backend.clone(),
            buffer,
            shape,
        }
    }

    /// The same numbers under another shape.
    ///
    /// # Errors
    /// Where the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(shape_error("reshape", format!("{shape:?}"), &self.shape));
        }
        Ok(self.with(self.buffer.clone(), shape.to_vec()))
    }

    /// Waits for the device and copies the numbers back.
    ///
    /// # Errors
    /// Where the device failed, now or in work recorded earlier.
    pub async fn read(&self) -> Result<Vec<f32>> {
        self.backend.read(&self.buffer, self.len()).await
    }

    /// `[.., in]` → `[.., out]`: `residual + act(x · wᵀ + bias)`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn linear(&self, w: &Weight<B>, after: &After<'_, B>) -> Result<Self> {
        let (rows, cols) = self.rows();
        if cols != w.cols {
            return Err(shape_error(
                "linear",
                format!("[.., {}]", w.cols),
                &self.shape,
            ));
        }
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = w.rows;
        }
        let epilogue = after.checked("linear", rows, w.rows)?;
        let buffer =
            self.backend
                .linear(&self.buffer, rows, &w.inner, (w.rows, w.cols), epilogue)?;
        Ok(self.with(buffer, shape))
    }

    /// `[.., in]` → `[.., out]`: as [`Tensor::linear`] of each row normalised.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn norm_linear(
        &self,
        norm: &NormOf<'_, B>,
        w: &Weight<B>,
        after: &After<'_, B>,
    ) -> Result<Self> {
        let (rows, cols) = self.rows();
        if cols != w.cols {
            return Err(shape_error(
                "linear",
                format!("[.., {}]", w.cols),
                &self.shape,
            ));
        }
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = w.rows;
        }
        let norm = norm.checked(cols)?;
        let epilogue = after.checked("linear", rows, w.rows)?;
        let sizes = (w.rows, w.cols);
        let buffer =
            self.backend
                .norm_linear(&self.buffer, rows, &norm, &w.inner, sizes, epilogue)?;
        Ok(self.with(buffer, shape))
    }

    /// `[.., 2 · in]` → `[.., out]`: as [`Tensor::linear`] of the activation of
    /// the first half of each row times the second.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn glu_linear(
        &self,
        activation: Activation,
        w: &Weight<B>,
        after: &After<'_, B>,
    ) -> Result<Self> {
        let (rows, cols) = self.rows();
        if cols != 2 * w.cols {
            return Err(shape_error(
                "glu_linear",
                format!("[.., {}]", 2 * w.cols),
                &self.shape,
            ));
        }
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = w.rows;
        }
        let epilogue = after.checked("glu_linear", rows, w.rows)?;
        let sizes = (w.rows, w.cols);
        let buffer =
            self.backend
                .glu_linear(&self.buffer, rows, activation, &w.inner, sizes, epilogue)?;
        Ok(self.with(buffer, shape))
    }

    /// `[.., cols]` → same: each row normalised.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn norm(&self, norm: &NormOf<'_, B>) -> Result<Self> {
        let normed = self.band(0, self.rows().1)?.norm(norm, 1)?;
        normed.reshape(&self.shape)
    }

    /// `[.., cols]` → same: each row normalised, then `· weight + bias`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn layer_norm(&self, weight: &Self, bias: &Self, eps: f32) -> Result<Self> {
        let bias = Some(bias);
        self.norm(&NormOf { weight, bias, eps })
    }

    /// `[.., cols]` → same: each row of length one.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn l2_normalize(&self) -> Result<Self> {
        let buffer = self.backend.l2_normalize(&self.buffer, self.rows())?;
        Ok(self.with(buffer, self.shape.clone()))
    }

    /// `self + other`, where `other` repeats along the outer axes.
    ///
    /// # Errors
    /// Where the shape of `other` is not the end of this one's.
    pub fn add(&self, other: &Self) -> Result<Self> {
        if !self.shape.ends_with(&other.shape) {
            return Err(shape_error(
                "add",
                format!("the end of {:?}", self.shape),
                &other.shape,
            ));
        }
        let buffer = self
            .backend
            .add(&self.buffer, self.len(), &other.buffer, other.len())?;
        Ok(self.with(buffer, self.shape.clone()))
    }

    /// The activation of each element.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn activate(&self, activation: Activation) -> Result<Self> {
        let buffer = self
            .backend
            .activate(&self.buffer, self.len(), activation)?;
        Ok(self.with(buffer, self.shape.clone()))
    }

    /// Columns `start .. start + width` of `[.., cols]`, for [`attention`].
    ///
    /// # Errors
    /// Where the band leaves the matrix.
    pub fn band(&self, start: usize, width: usize) -> Result<Band<'_, B>> {
        let (_, cols) = self.rows();
        if start + width > cols {
            return Err(shape_error(
                "band",
                format!("[.., {} or more]", start + width),
                &self.shape,
            ));
        }
        Ok(Band {
            tensor: self,
            start,
            width,
        })
    }

    /// `[n, a, d]` and `[n, b, d]` → `[n, a + b, d]`; a tensor `[a, d]` serves
    /// every `n`.
    ///
    /// # Errors
    /// Where shapes do not go together.
    pub fn concat(a: &Self, b: &Self) -> Result<Self> {
        let sides = [a, b].map(|t| match *t.shape.as_slice() {
            [n, rows, d] => Some((Some(n), rows, d)),
            [rows, d] => Some((None, rows, d)),
            _ => None,
        });
        let (outer, d, rows_a, rows_b) = match sides {
            [Some((na, ra, da)), Some((nb, rb, db))]
                if da == db && (na.is_none() || nb.is_none() || na == nb) =>
            {
                (na.or(nb).unwrap_or(1), da, ra, rb)
            }
            _ => {
                return Err(shape_error(
                    "concat",
                    format!("[n, rows, d] beside {:?}", a.shape),
                    &b.shape,
                ));
            }
        };
        let span = |t: &Self, rows: usize| (t.shape.len() == 2, rows * d);
        let ((shared_a, len_a), (shared_b, len_b)) = (span(a, rows_a), span(b, rows_b));
        let buffer = a.backend.concat(
            outer,
            Span {
                buffer: &a.buffer,
                len: len_a,
                shared: shared_a,
            },
            Span {
                buffer: &b.buffer,
                len: len_b,
                shared: shared_b,
            },
        )?;
        Ok(a.with(buffer, vec![outer, rows_a + rows_b, d]))
    }

    /// `[n, rows, d]` → `[n, count, d]`: rows `start .. start + count` of each.
    ///
    /// # Errors
    /// Where there are not that many rows.
    pub fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        let &[n, rows, d] = self.shape.as_slice() else {
            return Err(shape_error("narrow", "[n, rows, d]", &self.shape));
        };
        if start + count > rows {
            return Err(shape_error(
                "narrow",
                format!("[n, {} or more, d]", start + count),
                &self.shape,
            ));
        }
        let buffer = self
            .backend
            .narrow(&self.buffer, (n, rows * d), start * d, count * d)?;
        Ok(self.with(buffer, vec![n, count, d]))
    }

    /// Rows `ids` of `[.., cols]` → `[ids.len(), cols]`.
    ///
    /// # Errors
    /// Where an id is no row.
    pub fn gather(&self, ids: &[u32]) -> Result<Self> {
        let (rows, cols) = self.rows();
        check_ids("gather", ids, rows)?;
        let device_ids = self.backend.upload_ids(ids)?;
        let buffer = self
            .backend
            .gather(&self.buffer, (rows, cols), &device_ids, ids.len())?;
        Ok(self.with(buffer, vec![ids.len(), cols]))
    }
}

impl<B: Backend> Weight<B> {
    /// Rows `ids` of the matrix → `[ids.len(), cols]`.
    ///
    /// # Errors
    /// Where an id is no row.
    pub fn embed(&self, backend: &B, ids: &[u32]) -> Result<Tensor<B>> {
        check_ids("embed", ids, self.rows)?;
        let device_ids = backend.upload_ids(ids)?;
        let buffer = backend.embed(&self.inner, self.dims(), &device_ids, ids.len())?;
        Ok(Tensor::new(backend, buffer, &[ids.len(), self.cols]))
    }
}

fn check_ids(operation: &'static str, ids: &[u32], rows: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= rows) {
        None => Ok(()),
        Some(id) => Err(Error::Shape {
            operation,
            expected: format!("ids below {rows}"),
            found: id.to_string(),
        }),
    }
}

/// Scaled dot-product attention over `heads` heads.
///
/// q `[batch, queries, width]`, k and v `[batch, keys, width]` → as q.
///
/// # Errors
/// Where shapes do not go together or the device fails.
pub fn attention<B: Backend>(
    q: &Band<'_, B>,
    k: &Band<'_, B>,
    v: &Band<'_, B>,
    heads: usize,
    mask: Mask,
) -> Result<Tensor<B>> {
    let keys = k.tensor.shape.get(1).copied().unwrap_or(0);
    attend(q, k, v, &Attend::new(heads, mask, keys))
}
