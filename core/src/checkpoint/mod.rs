//! Weights, read one tensor at a time.
//!
//! A model asks a [`Scope`] for its *canonical* names: the path through our
//! structs. A [`Source`] answers: a [`Checkpoint`] (a file and the layout its
//! publisher chose) or [`Init`] (random numbers to start training from).

mod init;
pub mod layouts;
mod safetensors;

use std::cell::RefCell;
use std::collections::BTreeSet;

use half::f16;

pub use init::Init;
pub use layouts::{Layout, Recipe, clip_config};
pub use safetensors::{Bytes, SafeTensors};

use crate::backend::{Backend, WeightData};
use crate::tensor::{Tensor, Weight};
use crate::{Error, Result};

/// Where weights come from, by canonical name.
pub trait Source {
    /// The numbers of one tensor, which has this shape.
    ///
    /// # Errors
    /// Where it is missing, of another shape or unreadable.
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData>;
}

/// A cursor in the tree of canonical names.
pub struct Scope<'a, B: Backend> {
    backend: &'a B,
    source: &'a dyn Source,
    path: String,
}

impl<'a, B: Backend> Scope<'a, B> {
    /// The root.
    pub fn root(backend: &'a B, source: &'a dyn Source) -> Self {
        Self {
            backend,
            source,
            path: String::new(),
        }
    }

    /// The device weights go to.
    pub fn backend(&self) -> &B {
        self.backend
    }

    /// The cursor one step further down.
    pub fn child(&self, name: &str) -> Self {
        Self {
            backend: self.backend,
            source: self.source,
            path: self.join(name),
        }
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// A matrix, on the device in its stored precision.
    ///
    /// # Errors
    /// Where the source lacks it or the device fails.
    pub fn weight(&self, name: &str, rows: usize, cols: usize) -> Result<Weight<B>> {
        let name = self.join(name);
        let data = self.source.read(&name, &[rows, cols])?;
        let inner = self.backend.weight(&name, data, rows, cols)?;
        Ok(Weight::new(inner, rows, cols))
    }

    /// A parameter, on the device in f32.
    ///
    /// # Errors
    /// As [`Scope::weight`].
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Result<Tensor<B>> {
        let name = self.join(name);
        let data = self.source.read(&name, shape)?.into_f32();
        let buffer = self.backend.parameter(&name, data, shape)?;
        Ok(Tensor::new(self.backend, buffer, shape))
    }

    /// A single number, on the host.
    ///
    /// # Errors
    /// Where the source lacks it.
    pub fn scalar(&self, name: &str) -> Result<f32> {
        let name = self.join(name);
        let data = self.source.read(&name, &[1])?.into_f32();
        data.first().copied().ok_or(Error::MissingTensor { name })
    }
}

/// A published file, seen through its layout.
pub struct Checkpoint {
    file: SafeTensors,
    layout: Layout,
    used: RefCell<BTreeSet<String>>,
}

impl Checkpoint {
    /// Reads the header and recognises the layout by its keys.
    ///
    /// # Errors
    /// Where the file is damaged or of another architecture.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        let file = SafeTensors::open(bytes)?;
        let layout = Layout::detect(&|name| file.shape(name).is_some()).ok_or_else(|| {
            let some: Vec<_> = file.names().take(3).collect();
            Error::Checkpoint(format!(
                "the weights are of another architecture: expected a CLIP with a vision \
                 transformer (transformers or open_clip names), found tensors such as {}",
                some.join(", ")
            ))
        })?;
        Ok(Self {
            file,
            layout,
            used: RefCell::default(),
        })
    }

    /// The layout of the file.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Tensors of the file that nothing has read: none after a whole load,
    /// apart from the buffers that publishers leave in.
    pub fn left_over(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.file
            .names()
            .filter(|name| !used.contains(*name) && !self.layout.ignores(name))
            .map(str::to_owned)
            .collect()
    }

    /// One tensor of the file, which should have `shape` (axes of length one
    /// do not count).
    fn take(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        let found = self.file.shape(name).ok_or_else(|| Error::MissingTensor {
            name: name.to_owned(),
        })?;
        let squeeze =
            |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&n| n != 1).collect() };
        if squeeze(found) != squeeze(shape) {
            return Err(Error::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: found.to_vec(),
            });
        }
        self.used.borrow_mut().insert(name.to_owned());
        self.file.read(name)
    }
}

impl Source for Checkpoint {
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        match self.layout.recipe(name) {
            Recipe::Take(source) => self.take(&source, shape),
            Recipe::Concat(sources) => {
                let mut part = shape.to_vec();
                if let Some(rows) = part.first_mut() {
                    *rows /= sources.len();
                }
                let parts = sources.iter().map(|source| self.take(source, &part));
                Ok(concat(parts.collect::<Result<_>>()?))
            }
            Recipe::Transpose(source) => {
                let &[rows, cols] = shape else {
                    return Err(Error::Checkpoint(format!("{name} is no matrix")));
                };
                let data = self.take(&source, &[cols, rows])?;
                Ok(permute(&data, |i| (i % cols) * rows + i / cols))
            }
            Recipe::PatchRows(source) => {
                let found = self.file.shape(&source).unwrap_or_default().to_vec();
                let (&[rows, cols], &[_, channels, height, width]) = (shape, found.as_slice())
                else {
                    return Err(Error::TensorShape {
                        name: source,
                        expected: shape.to_vec(),
                        found,
                    });
                };
                if channels * height * width != cols {
                    return Err(Error::TensorShape {
                        name: source,
                        expected: shape.to_vec(),
                        found,
                    });
                }
                let data = self.take(&source, &[rows, channels, height, width])?;
                Ok(permute(&data, |i| {
                    let (row, place) = (i / cols, i % cols);
                    let (pixel, channel) = (place / channels, place % channels);
                    row * cols + channel * height * width + pixel
                }))
            }
        }
    }
}

/// `out[i] = data[from(i)]`.
fn permute(data: &WeightData, from: impl Fn(usize) -> usize) -> WeightData {
    match data {
        WeightData::F32(x) => WeightData::F32((0..x.len()).map(|i| x[from(i)]).collect()),
        WeightData::F16(x) => WeightData::F16((0..x.len()).map(|i| x[from(i)]).collect()),
        WeightData::Quantized(kind, bytes) => {
            permute(&WeightData::F32(kind.dequantize(bytes)), from)
        }
    }
}

/// One after the other; in f16 where all are.
fn concat(parts: Vec<WeightData>) -> WeightData {
    let halves: Option<Vec<&[f16]>> = parts
        .iter()
        .map(|part| match part {
            WeightData::F16(x) => Some(x.as_slice()),
            WeightData::F32(_) | WeightData::Quantized(..) => None,
        })
        .collect();
    match halves {
        Some(halves) => WeightData::F16(halves.concat()),
        None => WeightData::F32(parts.into_iter().flat_map(WeightData::into_f32).collect()),
    }
}
