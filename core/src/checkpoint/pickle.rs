//! PyTorch's files (`.pt`, `.bin`): a zip archive of stored entries, one of
//! them a pickle that says which tensor lies where. Both `torch.save` and
//! TorchScript (OpenAI's archives) write it so.
//!
//! A pickle is a program, which `machine.rs` runs as far as it names tensors.
//! These are read one at a time where they lie.

mod machine;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::rc::Rc;

use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

use self::machine::{Machine, Number};
use super::file::{Stored, TensorFile};
use super::safetensors::Bytes;
use crate::backend::WeightData;
use crate::{Error, Result};

/// Longest pickle that is run. That of the largest CLIP is 300 kB long; each
/// byte can cost some 64 bytes of memory.
const MAX_PICKLE: u64 = 1 << 24;

fn no(why: impl std::fmt::Display) -> Error {
    Error::Checkpoint(format!("this PyTorch file cannot be read: {why}"))
}

/// A file as the zip library reads it.
struct Cursor {
    bytes: Rc<dyn Bytes>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.len().saturating_sub(self.at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let bytes = self.bytes.read(self.at, len).map_err(io::Error::other)?;
        out[..len].copy_from_slice(&bytes);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(step) => self.bytes.len().checked_add_signed(step),
            SeekFrom::Current(step) => self.at.checked_add_signed(step),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// A tensor and where its numbers lie.
struct Info {
    number: Number,
    /// Of the whole storage, in the file.
    place: Range<u64>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// A PyTorch file behind ranged reads.
pub struct Pickle {
    bytes: Rc<dyn Bytes>,
    tensors: BTreeMap<String, Info>,
}

impl Pickle {
    /// Reads the archive's directory and the pickle.
    ///
    /// # Errors
    /// Where the file is damaged, or its pickle wants to do more than name
    /// tensors.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        let bytes: Rc<dyn Bytes> = bytes.into();
        let cursor = Cursor {
            bytes: Rc::clone(&bytes),
            at: 0,
        };
        let archive = ZipArchive::new(io::BufReader::new(cursor));
        let archive = RefCell::new(archive.map_err(no)?);
        let mut pickles = Vec::new();
        for (i, name) in archive.borrow().file_names_raw().enumerate() {
            if let Some(folder) = name.strip_suffix(b"/data.pkl") {
                pickles.push((i, String::from_utf8_lossy(folder).into_owned()));
            }
        }
        let [(index, folder)] = pickles.as_slice() else {
            return Err(no(format!(
                "expected one `data.pkl` in the archive, found {}",
                pickles.len()
            )));
        };
        let code = place(&mut archive.borrow_mut(), *index, bytes.len())?;
        let length = code.end - code.start;
        if length > MAX_PICKLE {
            return Err(no(format!(
                "its pickle is {length} bytes long; expected at most {MAX_PICKLE}: are these \
                 weights alone?"
            )));
        }
        let code = bytes.read(code.start, length as usize)?;
        let mut machine = Machine::new(&code);
        let root = machine.run()?;

        let mut places = HashMap::new();
        let mut tensors = BTreeMap::new();
        for (name, view) in machine.tensors(root)? {
            let key = machine.str(view.storage.key);
            let place = match places.get(key) {
                Some(place) => Range::clone(place),
                None => {
                    let entry = format!("{folder}/data/{key}");
                    let mut archive = archive.borrow_mut();
                    let index = archive.index_for_name(&entry);
                    let index = index.ok_or_else(|| {
                        no(format!(
                            "its archive has no `{entry}` for the tensor `{name}`"
                        ))
                    })?;
                    let place = place(&mut archive, index, bytes.len())?;
                    places.insert(key, place.clone());
                    place
                }
            };
            let info = Info {
                number: view.storage.number,
                place,
                offset: view.offset,
                shape: view.shape,
                strides: view.strides,
            };
            if info.range().is_none() {
                return Err(no(format!("the tensor `{name}` lies outside its storage")));
            }
            tensors.insert(name, info);
        }
        if tensors.is_empty() {
            return Err(no("it holds no named tensors"));
        }
        Ok(Self {
            tensors: weights_of(tensors),
            bytes,
        })
    }
}

/// Where an entry of the archive lies, if it is stored as it is.
fn place(
    archive: &mut ZipArchive<io::BufReader<Cursor>>,
    index: usize,
    whole: u64,
) -> Result<Range<u64>> {
    let entry = archive.by_index_raw(index).map_err(no)?;
    let end = entry
        .data_start()
        .and_then(|start| Some(start..start.checked_add(entry.size())?))
        .filter(|place| place.end <= whole && entry.size() == entry.compressed_size());
    match end {
        Some(place) if entry.compression() == CompressionMethod::Stored && !entry.encrypted() => {
            Ok(place)
        }
        _ => Err(no("an entry of its archive is compressed or cut short")),
    }
}

/// The weights in what a training run saved: those below `state_dict`, where
/// there is one, without the `module.` that parallel training puts before
/// every name.
fn weights_of(tensors: BTreeMap<String, Info>) -> BTreeMap<String, Info> {
    let below = |tensors: BTreeMap<String, Info>, prefix: &str| -> BTreeMap<String, Info> {
        let names = tensors
            .into_iter()
            .filter_map(|(name, info)| Some((name.strip_prefix(prefix)?.to_owned(), info)));
        names.collect()
    };
    let mut tensors = tensors;
    if tensors.keys().any(|name| name.starts_with("state_dict.")) {
        tensors = below(tensors, "state_dict.");
    }
    if tensors.keys().all(|name| name.starts_with("module.")) {
        tensors = below(tensors, "module.");
    }
    tensors
}

impl Info {
    /// Where the first element lies in the file, and how many elements there
    /// are from it to the last; `None` where the storage is shorter.
    fn range(&self) -> Option<(u64, usize)> {
        let count = self
            .shape
            .iter()
            .try_fold(1usize, |n, &axis| n.checked_mul(axis))?;
        let mut last = 0usize;
        for (&axis, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(axis.saturating_sub(1).checked_mul(stride)?)?;
        }
        // An expanded tensor shows an element many times over.
        let span = if count == 0 { 0 } else { last.checked_add(1)? };
        let width = self.number.bytes();
        let end = self.offset.checked_add(span)?.checked_mul(width)? as u64;
        let fits = end <= self.place.end - self.place.start && count <= span.max(1);
        fits.then_some((self.place.start + (self.offset * width) as u64, span))
    }

    /// Index of each element, from the first, in row-major order.
    fn order(&self) -> Vec<usize> {
        let mut order = vec![0];
        for (&axis, &stride) in self.shape.iter().zip(&self.strides) {
            let outer = order.iter();
            order = outer
                .flat_map(|&start| (0..axis).map(move |i| start + i * stride))
                .collect();
        }
        order
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        let axes = self.shape.iter().zip(&self.strides).rev();
        axes.fold(true, |so_far, (&axis, &stride)| {
            let fits = axis == 1 || stride == expected;
            expected *= axis;
            so_far && fits
        })
    }
}

impl TensorFile for Pickle {
    fn format(&self) -> &'static str {
        "PyTorch"
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
            dtype: match info.number {
                Number::Other(bytes) => format!("I{}", 8 * u32::from(bytes)),
                number => format!("{number:?}"),
            },
            bytes: (info.shape.iter().product::<usize>() * info.number.bytes()) as u64,
        })
    }

    fn read(&self, name: &str) -> Result<WeightData> {
        let missing = || Error::MissingTensor {
            name: name.to_owned(),
        };
        let info = self.tensors.get(name).ok_or_else(missing)?;
        let (start, span) = info.range().ok_or_else(missing)?;
        let bytes = self.bytes.read(start, span * info.number.bytes())?;
        let data = match info.number {
            Number::F64 => WeightData::F32(numbers(&bytes, |b| f64::from_le_bytes(b) as f32)),
            Number::F32 => WeightData::F32(numbers(&bytes, f32::from_le_bytes)),
            Number::F16 => WeightData::F16(numbers(&bytes, f16::from_le_bytes)),
            Number::BF16 => WeightData::F32(numbers(&bytes, |b| bf16::from_le_bytes(b).to_f32())),
            Number::Other(_) => {
                return Err(Error::Checkpoint(format!(
                    "tensor `{name}` holds integers; expected floats"
                )));
            }
        };
        if info.is_contiguous() {
            return Ok(data);
        }
        let order = info.order();
        Ok(match data {
            WeightData::F16(x) => WeightData::F16(order.iter().map(|&i| x[i]).collect()),
            data => {
                let x = data.into_f32();
                WeightData::F32(order.iter().map(|&i| x[i]).collect())
            }
        })
    }
}

/// Little-endian numbers.
fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}
