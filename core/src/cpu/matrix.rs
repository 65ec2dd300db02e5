//! A weight on the CPU. Quantised weights stay so: candle multiplies blocks
//! with blocks and quantises the activations to 8 bits on the way, as GGML
//! does.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use crate::quant::Quantization;
use crate::{Error, Result};

/// A `[rows, cols]` weight.
#[derive(Clone)]
pub enum Matrix {
    /// In f32, whatever the file holds; the only kind that can be trained.
    Dense(Tensor),
    /// In GGML's blocks.
    Quantized(QMatMul),
}

impl Matrix {
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
            Self::Dense(w) => Ok(x.matmul(&w.t()?)?),
            Self::Quantized(w) => Ok(w.forward(&x.contiguous()?)?),
        }
    }

    /// Rows `start .. start + count`, in f32.
    pub(super) fn part(&self, start: usize, count: usize) -> Result<Self> {
        Ok(Self::Dense(match self {
            Self::Dense(w) => w.narrow(0, start, count)?,
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
            Self::Quantized(w) => Ok(w.embedding(ids)?),
        }
    }
}
