//! GGUF, version 3: typed metadata and tensors in one file
//! ([specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)).
//!
//! Reading never allocates more than a small multiple of the file's own size,
//! whatever lengths the file claims.

use std::collections::BTreeMap;
use std::io::Write;

use half::{bf16, f16};

use super::file::{Stored, TensorFile, cut_short, numbers_at};
use super::safetensors::Bytes;
use crate::backend::WeightData;
use crate::quant::{BLOCK, Quantization};
use crate::{Error, Result};

/// What a file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";
const VERSION: u32 = 3;
const DEFAULT_ALIGNMENT: u64 = 32;
/// GGML's own bound on the axes of a tensor.
const MAX_AXES: u32 = 4;
/// How far ahead of what is needed the header is read.
const AHEAD: usize = 1 << 16;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of 8 to 64 bits in a file; written with 32 where they suffice.
    Unsigned(u64),
    /// As [`Value::Unsigned`], with a sign.
    Signed(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// Yes or no.
    Bool(bool),
    /// UTF-8.
    Text(String),
    /// Values of one kind.
    Array(Array),
}

/// Values of one kind, as they are in the file: an array of a million flags
/// takes a million bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    kind: u32,
    len: usize,
    raw: Vec<u8>,
}

// The kinds of the specification, `gguf_metadata_value_type`.
const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;

/// Bytes of a value of a kind, where all have the same number.
fn width(kind: u32) -> Option<usize> {
    match kind {
        U8 | I8 | BOOL => Some(1),
        U16 | I16 => Some(2),
        U32 | I32 | F32 => Some(4),
        U64 | I64 | F64 => Some(8),
        _ => None,
    }
}

impl Value {
    fn kind(&self) -> u32 {
        match self {
            Self::Unsigned(x) if u32::try_from(*x).is_ok() => U32,
            Self::Unsigned(_) => U64,
            Self::Signed(x) if i32::try_from(*x).is_ok() => I32,
            Self::Signed(_) => I64,
            Self::F32(_) => F32,
            Self::F64(_) => F64,
            Self::Bool(_) => BOOL,
            Self::Text(_) => TEXT,
            Self::Array(_) => ARRAY,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(x) => match u32::try_from(*x) {
                Ok(x) => out.extend(x.to_le_bytes()),
                Err(_) => out.extend(x.to_le_bytes()),
            },
            Self::Signed(x) => match i32::try_from(*x) {
                Ok(x) => out.extend(x.to_le_bytes()),
                Err(_) => out.extend(x.to_le_bytes()),
            },
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::Text(text) => write_text(text, out),
            Self::Array(array) => {
                out.extend(array.kind.to_le_bytes());
                out.extend((array.len as u64).to_le_bytes());
                out.extend(&array.raw);
            }
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Array {
    /// Packs values; `None` where they are not all of one kind, or arrays.
    pub fn of(values: &[Value]) -> Option<Self> {
        let kind = values.first().map_or(U32, Value::kind);
        if kind == ARRAY || values.iter().any(|value| value.kind() != kind) {
            return None;
        }
        let mut raw = Vec::new();
        values.iter().for_each(|value| value.write(&mut raw));
        Some(Self {
            kind,
            len: values.len(),
            raw,
        })
    }

    /// Unpacks them.
    pub fn values(&self) -> Vec<Value> {
        let mut header = Header::new(&self.raw);
        (0..self.len)
            .map_while(|_| header.value(self.kind).ok())
            .collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

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

/// What a tensor will be stored as.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name; at most 63 bytes, GGML's own bound.
    pub name: String,
    /// The shape, outermost first.
    pub shape: Vec<usize>,
    /// The numbers.
    pub dtype: Dtype,
}

/// Writes a file, one tensor at a time.
pub struct Writer<W: Write> {
    out: W,
    planned: std::vec::IntoIter<Plan>,
}

fn failed(error: &std::io::Error) -> Error {
    Error::Read(format!("writing failed: {error}"))
}

impl<W: Write> Writer<W> {
    /// Writes the header. `general.alignment` is added to the metadata.
    ///
    /// # Errors
    /// Where a tensor cannot be stored as planned, or writing fails.
    pub fn new(mut out: W, metadata: &[(String, Value)], planned: Vec<Plan>) -> Result<Self> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((planned.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64 + 1).to_le_bytes());
        let alignment = (
            "general.alignment".to_owned(),
            Value::Unsigned(DEFAULT_ALIGNMENT),
        );
        for (key, value) in metadata.iter().chain([&alignment]) {
            write_text(key, &mut header);
            header.extend(value.kind().to_le_bytes());
            value.write(&mut header);
        }
        let mut offset = 0u64;
        for Plan { name, shape, dtype } in &planned {
            let bytes = dtype.bytes(shape).filter(|_| {
                name.len() < 64 && !shape.is_empty() && shape.len() <= MAX_AXES as usize
            });
            let bytes = bytes.ok_or_else(|| {
                Error::Checkpoint(format!(
                    "tensor `{name}` of shape {shape:?} cannot be stored as {dtype} in GGUF"
                ))
            })?;
            write_text(name, &mut header);
            header.extend((shape.len() as u32).to_le_bytes());
            for &axis in shape.iter().rev() {
                header.extend((axis as u64).to_le_bytes());
            }
            header.extend(dtype.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += bytes.next_multiple_of(DEFAULT_ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        out.write_all(&header).map_err(|error| failed(&error))?;
        Ok(Self {
            out,
            planned: planned.into_iter(),
        })
    }

    /// Writes the next tensor of the plan, converted to what is planned.
    ///
    /// # Errors
    /// Where the numbers do not fill the planned shape, one is not finite, or
    /// writing fails.
    pub fn write(&mut self, data: WeightData) -> Result<()> {
        let plan = self.planned.next();
        let Plan { name, shape, dtype } =
            plan.ok_or_else(|| Error::Checkpoint("more tensors than planned".into()))?;
        if data.len() != shape.iter().product::<usize>() {
            return Err(Error::TensorShape {
                name,
                expected: shape,
                found: vec![data.len()],
            });
        }
        let mut bytes = encode(data, dtype).map_err(|why| {
            Error::Checkpoint(format!(
                "tensor `{name}` cannot be stored as {dtype}: {why}"
            ))
        })?;
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        self.out.write_all(&bytes).map_err(|error| failed(&error))
    }

    /// Ends the file and gives the writer back.
    ///
    /// # Errors
    /// Where a planned tensor was not written, or writing fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some(plan) = self.planned.next() {
            return Err(Error::MissingTensor { name: plan.name });
        }
        self.out.flush().map_err(|error| failed(&error))?;
        Ok(self.out)
    }
}

/// Numbers → bytes of a type. What is of that type already stays to the bit.
fn encode(data: WeightData, dtype: Dtype) -> Result<Vec<u8>, &'static str> {
    match (data, dtype) {
        (WeightData::Quantized(kind, bytes), Dtype::Quantized(to)) if kind == to => Ok(bytes),
        (WeightData::F16(data), Dtype::F16) => {
            Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        (data, dtype) => {
            let data = data.into_f32();
            if data.iter().any(|x| !x.is_finite()) {
                return Err("it has a number that is infinite or none");
            }
            match dtype {
                Dtype::F32 => Ok(data.iter().flat_map(|x| x.to_le_bytes()).collect()),
                Dtype::F16 if data.iter().any(|x| f16::from_f32(*x).is_infinite()) => {
                    Err("it has a number beyond 65504; take f32")
                }
                Dtype::F16 => {
                    let halves = data.iter().map(|&x| f16::from_f32(x));
                    Ok(halves.flat_map(f16::to_le_bytes).collect())
                }
                Dtype::Quantized(kind) if data.len().is_multiple_of(BLOCK) => {
                    Ok(kind.quantize(&data))
                }
                _ => Err("there is no way to write it"),
            }
        }
    }
}
