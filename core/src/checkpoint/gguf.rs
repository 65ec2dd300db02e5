//! GGUF, version 3: typed metadata and tensors in one file
//! ([specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)).
//!
//! Reading never allocates more than a small multiple of the file's own size,
//! whatever lengths the file claims.

mod value;
mod writer;

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::file::{Stored, TensorFile, cut_short, numbers_at};
use super::safetensors::Bytes;
use crate::backend::WeightData;
use crate::quant::Quantization;
use crate::{Error, Result};

use value::{ARRAY, BOOL, F32, F64, I8, I16, I32, I64, TEXT, U8, U16, U32, U64, width};
pub use value::{Array, Value};
pub use writer::{Plan, Writer};

/// What a file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";
const VERSION: u32 = 3;
const DEFAULT_ALIGNMENT: u64 = 32;
/// GGML's own bound on the axes of a tensor.
const MAX_AXES: u32 = 4;
/// How far ahead of what is needed the header is read.
const AHEAD: usize = 1 << 16;

/// How the numbers of a tensor are stored, of those that Plume reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats; read only.
    BF16,
    /// Blocks of 32 weights.
    Quantized(Quantization),
    /// A type of GGML's that Plume does not compute with, by its number.
    Other(u32),
}

impl Dtype {
    fn from_id(id: u32) -> Self {
        match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Quantized(Quantization::Q4_0),
            8 => Self::Quantized(Quantization::Q8_0),
            30 => Self::BF16,
            other => Self::Other(other),
        }
    }

    fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Quantized(Quantization::Q4_0) => 2,
            Self::Quantized(Quantization::Q8_0) => 8,
            Self::BF16 => 30,
            Self::Other(id) => id,
        }
    }

    /// Bytes of a tensor of this shape, if it can be stored so.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let cols = shape.last().copied().unwrap_or(1);
        let len = |axes: &[usize]| axes.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        let bytes = match self {
            Self::F32 => len(shape)?.checked_mul(4)?,
            Self::F16 | Self::BF16 => len(shape)?.checked_mul(2)?,
            Self::Quantized(kind) => {
                kind.bytes_of(len(&shape[..shape.len().saturating_sub(1)])?, cols)?
            }
            Self::Other(_) => return None,
        };
        Some(bytes as u64)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quantized(kind) => write!(f, "{kind:?}"),
            Self::Other(id) => write!(f, "GGML type {id}"),
            other => write!(f, "{other:?}"),
        }
    }
}

struct Info {
    shape: Vec<usize>,
    dtype: Dtype,
    /// From the beginning of the file.
    offset: u64,
    bytes: u64,
}

/// A GGUF file behind ranged reads.
pub struct Gguf {
    bytes: Box<dyn Bytes>,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Info>,
}

fn no(why: impl std::fmt::Display) -> Error {
    Error::Checkpoint(format!("this is no GGUF file that Plume reads: {why}"))
}

/// The header, read as far as it has been looked at.
struct Header<'a> {
    bytes: &'a dyn Bytes,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> Header<'a> {
    fn new(bytes: &'a dyn Bytes) -> Self {
        Self {
            bytes,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// The next `n` bytes.
    fn take(&mut self, n: u64) -> Result<&[u8]> {
        let (whole, at) = (self.bytes.len(), self.at as u64);
        let end = at.checked_add(n).filter(|&end| end <= whole);
        let Some(end) = end.and_then(|end| usize::try_from(end).ok()) else {
            return Err(cut_short(whole, at.saturating_add(n)));
        };
        if end > self.buffer.len() {
            let have = self.buffer.len();
            let rest = usize::try_from(whole).unwrap_or(usize::MAX) - have;
            let more = (end - have).max(AHEAD).min(rest);
            self.buffer.extend(self.bytes.read(have as u64, more)?);
        }
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.buffer[start..end])
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N as u64)?);
        Ok(word)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.word()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.word()?))
    }

    fn text(&mut self) -> Result<String> {
        let len = self.u64()?;
        let text = std::str::from_utf8(self.take(len)?);
        Ok(text.map_err(|_| no("a text is not UTF-8"))?.to_owned())
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            U8 => Value::Unsigned(u64::from(u8::from_le_bytes(self.word()?))),
            U16 => Value::Unsigned(u64::from(u16::from_le_bytes(self.word()?))),
            U32 => Value::Unsigned(u64::from(self.u32()?)),
            U64 => Value::Unsigned(self.u64()?),
            I8 => Value::Signed(i64::from(i8::from_le_bytes(self.word()?))),
            I16 => Value::Signed(i64::from(i16::from_le_bytes(self.word()?))),
            I32 => Value::Signed(i64::from(i32::from_le_bytes(self.word()?))),
            I64 => Value::Signed(i64::from_le_bytes(self.word()?)),
            F32 => Value::F32(f32::from_le_bytes(self.word()?)),
            F64 => Value::F64(f64::from_le_bytes(self.word()?)),
            BOOL => match self.word()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(no(format!("a flag is {other}, neither 0 nor 1"))),
            },
            TEXT => Value::Text(self.text()?),
            ARRAY => Value::Array(self.array()?),
            other => return Err(no(format!("its metadata has a value of kind {other}"))),
        })
    }

    fn array(&mut self) -> Result<Array> {
        let kind = self.u32()?;
        let count = self.u64()?;
        let raw = match (width(kind), kind) {
            (Some(width), _) => {
                let bytes = count.checked_mul(width as u64);
                let bytes = bytes.ok_or_else(|| cut_short(self.bytes.len(), u64::MAX))?;
                self.take(bytes)?.to_vec()
            }
            (None, TEXT) => {
                let start = self.at;
                for _ in 0..count {
                    let len = self.u64()?;
                    self.take(len)?;
                }
                self.buffer[start..self.at].to_vec()
            }
            (None, other) => {
                return Err(no(format!("its metadata has an array of kind {other}")));
            }
        };
        Ok(Array {
            kind,
            // As many fit into the file, so they fit into memory.
            len: count as usize,
            raw,
        })
    }

    fn tensor(&mut self) -> Result<(String, Info)> {
        let name = self.text()?;
        let axes = self.u32()?;
        if axes > MAX_AXES {
            return Err(no(format!("tensor `{name}` has {axes} axes")));
        }
        let mut shape = Vec::with_capacity(axes as usize);
        for _ in 0..axes {
            let axis = usize::try_from(self.u64()?);
            shape.push(axis.map_err(|_| no(format!("tensor `{name}` is too large")))?);
        }
        // The innermost axis comes first in a file.
        shape.reverse();
        let dtype = Dtype::from_id(self.u32()?);
        let offset = self.u64()?;
        let bytes = match (dtype.bytes(&shape), dtype) {
            (Some(bytes), _) => bytes,
            (None, Dtype::Other(_)) => 0,
            (None, _) => {
                return Err(no(format!(
                    "tensor `{name}` of shape {shape:?} cannot be stored as {dtype}"
                )));
            }
        };
        let info = Info {
            shape,
            dtype,
            offset,
            bytes,
        };
        Ok((name, info))
    }
}

impl Gguf {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// Where the file is no GGUF file, of another version or cut short.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        let whole = bytes.len();
        let mut header = Header::new(bytes.as_ref());
        if header.word()? != MAGIC {
            return Err(no("it does not begin with `GGUF`"));
        }
        let version = header.u32()?;
        if version != VERSION {
            return Err(no(format!(
                "it is of version {version}; expected {VERSION}, little-endian"
            )));
        }
        let (tensor_count, value_count) = (header.u64()?, header.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let key = header.text()?;
            let kind = header.u32()?;
            let value = header.value(kind)?;
            if let Some(_twice) = metadata.insert(key.clone(), value) {
                return Err(no(format!("its metadata has `{key}` twice")));
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, info) = header.tensor()?;
            if let Some(_twice) = tensors.insert(name.clone(), info) {
                return Err(no(format!("it has the tensor `{name}` twice")));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => *n,
            Some(other) => return Err(no(format!("its alignment is {other:?}"))),
        };
        let start = (header.at as u64).next_multiple_of(alignment);
        for info in tensors.values_mut() {
            let end = start
                .checked_add(info.offset)
                .and_then(|offset| offset.checked_add(info.bytes));
            match end {
                Some(end) if end <= whole => info.offset += start,
                end => return Err(cut_short(whole, end.unwrap_or(u64::MAX))),
            }
        }
        Ok(Self {
            bytes,
            metadata,
            tensors,
        })
    }

    /// The metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }
}

impl TensorFile for Gguf {
    fn format(&self) -> &'static str {
        "GGUF"
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| info.shape.as_slice())
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.tensors.get(name).map(|info| Stored {
            shape: info.shape.clone(),
            dtype: info.dtype.to_string(),
            bytes: info.bytes,
        })
    }

    fn read(&self, name: &str) -> Result<WeightData> {
        let info = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_owned(),
        })?;
        // Checked against the file's length, which memory may still not hold.
        let at = (info.offset, info.bytes as usize);
        let bytes = self.bytes.as_ref();
        Ok(match info.dtype {
            Dtype::F32 => WeightData::F32(numbers_at(bytes, at, f32::from_le_bytes)?),
            Dtype::F16 => WeightData::F16(numbers_at(bytes, at, f16::from_le_bytes)?),
            Dtype::BF16 => {
                WeightData::F32(numbers_at(bytes, at, |b| bf16::from_le_bytes(b).to_f32())?)
            }
            Dtype::Quantized(kind) => WeightData::Quantized(kind, bytes.read(at.0, at.1)?),
            other => {
                return Err(Error::Checkpoint(format!(
                    "tensor `{name}` is stored as {other}; expected F32, F16, BF16, Q8_0 or Q4_0: \
                     pack the model again"
                )));
            }
        })
    }
}
