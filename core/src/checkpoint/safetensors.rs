//! A safetensors file behind ranged reads.

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::file::{Stored, TensorFile, cut_short, numbers_at};
use crate::backend::WeightData;
use crate::{Error, Result};

/// Longest header that is accepted; the format's own bound.
const MAX_HEADER: u64 = 100_000_000;

/// A file that can be read in ranges: on disk, in the browser's storage or in
/// memory.
pub trait Bytes {
    /// Length of the file in bytes.
    fn len(&self) -> u64;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// Where the range is not in the file or reading fails.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>>;
}

impl Bytes for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(len)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::Read(format!("no {len} bytes at {offset}")))
    }
}

/// The header of a file, and the file.
pub struct SafeTensors {
    bytes: Box<dyn Bytes>,
    metadata: Metadata,
    names: Vec<String>,
    /// Where the numbers begin.
    start: u64,
}

impl SafeTensors {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// Where the file is no safetensors file or is cut short.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        let no = |why: String| Error::Checkpoint(format!("this is no safetensors file: {why}"));
        let whole = bytes.len();
        if whole < 8 {
            return Err(no(format!("it has {whole} bytes")));
        }
        let mut length = [0u8; 8];
        length.copy_from_slice(&bytes.read(0, 8)?);
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(no("it does not begin with the length of a header".into()));
        }
        if 8 + length > whole {
            return Err(cut_short(whole, 8 + length));
        }
        let header = bytes.read(8, length as usize)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| no(error.to_string()))?;
        let start = 8 + length;
        let promised = start + metadata.data_len() as u64;
        if promised > whole {
            return Err(cut_short(whole, promised));
        }
        let mut names: Vec<_> = metadata.tensors().into_keys().collect();
        names.sort();
        Ok(Self {
            bytes,
            metadata,
            names,
            start,
        })
    }
}

impl TensorFile for SafeTensors {
    fn format(&self) -> &'static str {
        "safetensors"
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.names.iter().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.metadata.info(name).map(|info| Stored {
            shape: info.shape.clone(),
            dtype: format!("{:?}", info.dtype),
            bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
        })
    }

    fn read(&self, name: &str) -> Result<WeightData> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| Error::MissingTensor {
                name: name.to_owned(),
            })?;
        let (from, to) = info.data_offsets;
        let at = (self.start + from as u64, to - from);
        let bytes = self.bytes.as_ref();
        Ok(match info.dtype {
            Dtype::F32 => WeightData::F32(numbers_at(bytes, at, f32::from_le_bytes)?),
            Dtype::F16 => WeightData::F16(numbers_at(bytes, at, f16::from_le_bytes)?),
            Dtype::BF16 => {
                WeightData::F32(numbers_at(bytes, at, |b| bf16::from_le_bytes(b).to_f32())?)
            }
            Dtype::F64 => WeightData::F32(numbers_at(bytes, at, |b| f64::from_le_bytes(b) as f32)?),
            other => {
                return Err(Error::Checkpoint(format!(
                    "tensor `{name}` is stored as {other:?}; expected F32, F16 or BF16: \
                     convert the checkpoint first"
                )));
            }
        })
    }
}
