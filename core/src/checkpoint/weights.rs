//! A file of weights, or several with an index, before it is known whose names
//! they have.

use std::collections::BTreeMap;

use super::file::{Stored, TensorFile};
use super::safetensors::{Bytes, SafeTensors};
use super::shards::Shards;
use super::{Checkpoint, Gguf, Layout, Packed, gguf};
use crate::backend::WeightData;
use crate::{Error, Result};

/// What the zip archives of PyTorch begin with.
const PICKLE: [u8; 4] = *b"PK\x03\x04";
/// What PyTorch wrote before: a pickle of a magic number.
const OLD_PICKLE: [u8; 4] = [0x80, 2, 0x8a, 10];

/// Opened weights of any format.
pub struct Weights {
    file: Box<dyn TensorFile>,
    packed: Option<Packed>,
}

impl Weights {
    /// Reads the header of a safetensors file, a GGUF file or, natively, an
    /// archive of PyTorch's; what it begins with says which it is.
    ///
    /// # Errors
    /// Where the file is damaged or of no such format.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        let mut mark = [0; 4];
        if bytes.len() >= 4 {
            mark.copy_from_slice(&bytes.read(0, 4)?);
        }
        if mark == gguf::MAGIC {
            let file = Gguf::open(bytes)?;
            let packed = Some(Packed::read(&file)?);
            return Ok(Self {
                file: Box::new(file),
                packed,
            });
        }
        let file = match mark {
            PICKLE => open_pickle(bytes)?,
            OLD_PICKLE => {
                return Err(Error::Checkpoint(
                    "this file was saved by PyTorch before version 1.6 (or in its old format): \
                     expected a zip archive; load it with torch and save it again with torch.save"
                        .into(),
                ));
            }
            _ => Box::new(SafeTensors::open(bytes)?),
        };
        Ok(Self { file, packed: None })
    }

    /// As [`Weights::open`], for several files beside an index.
    ///
    /// # Errors
    /// As [`Shards::open`].
    pub fn open_shards(index: &str, files: Vec<(String, Box<dyn Bytes>)>) -> Result<Self> {
        Ok(Self {
            file: Box::new(Shards::open(index, files)?),
            packed: None,
        })
    }

    /// What a packed file says beside its weights.
    pub fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// The file itself, by its own names.
    pub fn file(&self) -> &dyn TensorFile {
        self.file.as_ref()
    }

    /// The same with other names; tensors that are given none are left out.
    pub fn renamed(self, name: impl Fn(&str) -> Option<String>) -> Self {
        let names = self.file.names();
        let names = names.filter_map(|old| Some((name(old)?, old.to_owned())));
        Self {
            file: Box::new(Renamed {
                names: names.collect(),
                file: self.file,
            }),
            packed: self.packed,
        }
    }

    /// The weights, by the names of a layout.
    pub fn under(self, layout: Layout) -> Checkpoint {
        Checkpoint {
            file: self.file,
            layout,
            packed: self.packed,
            used: std::cell::RefCell::default(),
        }
    }
}

/// A file whose tensors have other names.
struct Renamed {
    file: Box<dyn TensorFile>,
    /// New name → that in the file.
    names: BTreeMap<String, String>,
}

impl TensorFile for Renamed {
    fn format(&self) -> &'static str {
        self.file.format()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.names.keys().map(String::as_str))
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.file.shape(self.names.get(name)?)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.file.stored(self.names.get(name)?)
    }

    fn read(&self, name: &str) -> Result<WeightData> {
        let old = self.names.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_owned(),
        })?;
        self.file.read(old)
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn open_pickle(bytes: Box<dyn Bytes>) -> Result<Box<dyn TensorFile>> {
    Ok(Box::new(super::Pickle::open(bytes)?))
}

#[cfg(target_arch = "wasm32")]
fn open_pickle(_: Box<dyn Bytes>) -> Result<Box<dyn TensorFile>> {
    Err(Error::Checkpoint(
        "this is a file of PyTorch's, which the page does not read: make a GGUF file of it with \
         `plume pack` and drop that"
            .into(),
    ))
}
