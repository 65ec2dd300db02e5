//! A weight on the CPU. Quantised weights stay so: candle multiplies blocks
//! with blocks and quantises the activations to 8 bits on the way, as GGML
//! does.
//!
//! Rows whose lengths are large powers of two fall on the same few lines of a
//! processor's cache: 16 numbers between them made products of 50 rows twice as
//! fast with AVX-512 and hardly slower without (`gemm`, one core, AMD EPYC).

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::product;
use crate::quant::Quantization;
use crate::{Error, Result};

/// A `[rows, cols]` weight.
#[derive(Clone)]
pub enum Matrix {
    /// In f32, whatever the file holds; this and [`Matrix::Times`] can be trained.
    Dense(Tensor),
    /// As [`Matrix::Dense`], of which every number counts `factor` times.
    Times {
        /// The numbers before that.
        w: Tensor,
        /// What they are multiplied by.
        factor: f32,
    },
    /// As [`Matrix::Dense`], `[rows, cols + SPACE]`.
    Spaced {
        /// All numbers, those between the rows included.
        whole: Tensor,
        /// Columns of the matrix.
        cols: usize,
    },
    /// In GGML's blocks.
    Quantized(QMatMul),
}

/// Numbers between the rows of a matrix.
const SPACE: usize = 16;
/// Shorter rows lie beside each other: there are few of them to a page.
const SHORT: usize = 128;

/// From so many rows on a matrix of `q4_0` is multiplied as `q8_0`, of which
/// candle has by far the faster product with AVX-512; the numbers are the same.
/// Widening and rearranging cost the same however many rows there are. Over the
/// matrices of a block of ViT-B/32 that is as long as 12 rows take by themselves
/// (11 ms; two cores, Intel Xeon): matrices of long rows gain from 6 rows on,
/// those of short ones from 16.
const MANY: Option<usize> = if cfg!(target_arch = "x86_64") {
    Some(12)
} else {
    None
};

fn is_widened(w: &QTensor, x: &Tensor) -> bool {
    let rows = x.dims()[0];
    w.dtype() == GgmlDType::Q4_0 && MANY.is_some_and(|many| rows >= many)
}

/// The same matrix in `q8_0`.
fn wide(halves: &QTensor) -> Result<QMatMul> {
    let blocks = Quantization::widened(&halves.data()?);
    let storage = QStorage::from_data(Cow::Owned(blocks), &Device::Cpu, GgmlDType::Q8_0)?;
    let tensor = QTensor::new(storage, halves.shape().clone())?;
    Ok(QMatMul::from_qtensor(tensor)?)
}

impl Matrix {
    /// Keeps `[rows, cols]` numbers, for products alone.
    ///
    /// # Errors
    /// Where there are more or fewer.
    pub fn dense(data: Vec<f32>, rows: usize, cols: usize) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") || cols < SHORT || data.len() != rows * cols {
            return Ok(Self::Dense(Tensor::from_vec(
                data,
                (rows, cols),
                &Device::Cpu,
            )?));
        }
        let mut spaced = Vec::with_capacity(rows * (cols + SPACE));
        for row in data.chunks_exact(cols) {
            spaced.extend_from_slice(row);
            spaced.extend([0.0; SPACE]);
        }
        let whole = Tensor::from_vec(spaced, (rows, cols + SPACE), &Device::Cpu)?;
        Ok(Self::Spaced { whole, cols })
    }

    /// Keeps whole blocks, row after row.
    ///
    /// # Errors
    /// Where `bytes` are not the blocks of a `[rows, cols]` matrix.
    pub fn quantized(kind: Quantization, bytes: Vec<u8>, rows: usize, cols: usize) -> Result<Self> {
        let expected = kind.bytes_of(rows, cols);
        if expected != Some(bytes.len()) || bytes.is_empty() {
            return Err(Error::Shape {
                operation: "weight",
                expected: format!("the {kind:?} blocks of [{rows}, {cols}]"),
                found: format!("{} bytes", bytes.len()),
            });
        }
        let dtype = match kind {
            Quantization::Q8_0 => GgmlDType::Q8_0,
            Quantization::Q4_0 => GgmlDType::Q4_0,
        };
        let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype)?;
        let tensor = QTensor::new(storage, (rows, cols))?;
        Ok(Self::Quantized(QMatMul::from_qtensor(tensor)?))
    }

    /// `[n, cols]` → `[n, rows]`: `x · wᵀ`.
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(w) => Ok(product::by_rows(x, w)?),
            Self::Times { w, factor } => Ok((product::by_rows(x, w)? * f64::from(*factor))?),
            Self::Spaced { whole, cols } => Ok(product::by_rows(x, &whole.narrow(1, 0, *cols)?)?),
            Self::Quantized(QMatMul::QTensor(halves)) if is_widened(halves, x) => {
                Ok(wide(halves)?.forward(&x.contiguous()?)?)
            }
            Self::Quantized(w) => Ok(w.forward(&x.contiguous()?)?),
        }
    }

    /// Rows `start .. start + count`, in f32.
    pub(super) fn part(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self::Dense(match self {
            Self::Dense(w) => w.narrow(0, start, count)?,
            Self::Times { w, factor } => (w.narrow(0, start, count)? * f64::from(*factor))?,
            Self::Spaced { whole, cols } => whole.narrow(0, start, count)?.narrow(1, 0, *cols)?,
            Self::Quantized(w) => {
                let ids = Tensor::arange(start as u32, (start + count) as u32, &Device::Cpu)?;
                w.embedding(&ids)?
            }
        }))
    }

    /// Rows `ids` `[n]` → `[n, cols]`.
    pub(super) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(w) => Ok(w.index_select(ids, 0)?),
            Self::Times { w, factor } => Ok((w.index_select(ids, 0)? * f64::from(*factor))?),
            Self::Spaced { whole, cols } => {
                let rows = whole.index_select(ids, 0)?;
                Ok(rows.narrow(1, 0, *cols)?.contiguous()?)
            }
            Self::Quantized(w) => Ok(w.embedding(ids)?),
        }
    }
}
