//! Weights, read one tensor at a time.
//!
//! A model asks a [`Scope`] for its *canonical* names: the path through our
//! structs. A [`Source`] answers: a [`Checkpoint`] (a file and the layout its
//! publisher chose) or [`Init`] (random numbers to start training from).

mod assembly;
mod companions;
mod file;
mod fold;
pub mod gguf;
mod init;
mod inventory;
pub mod layouts;
mod pack;
mod packed;
#[cfg(not(target_arch = "wasm32"))]
mod pickle;
mod safetensors;
mod shards;
mod weights;

use std::cell::RefCell;
use std::collections::BTreeSet;

use fold::BatchNorm;
use half::f16;

pub use assembly::Assembly;
pub use companions::Companions;
pub use file::{Stored, TensorFile};
pub use gguf::Gguf;
pub use init::{Init, LmInit};
pub use inventory::{Asked, Role, asked, inventory};
pub use layouts::{
    Layout, Recipe, added_tokens, clip_config, flamingo_config, flamingo_mini_config,
    idefics_config, lm_config, lm_layout, openai_config, writes,
};
pub use pack::{Precision, pack, packed_bytes};
pub use packed::Packed;
#[cfg(not(target_arch = "wasm32"))]
pub use pickle::Pickle;
pub use safetensors::{Bytes, SafeTensors};
pub use shards::{Shards, shard_names};
pub use weights::Weights;

use crate::backend::{Backend, WeightData};
use crate::config::ClipConfig;
use crate::tensor::{Tensor, Weight};
use crate::{Error, Result};

/// Where weights come from, by canonical name.
pub trait Source {
    /// The numbers of one tensor, which has this shape.
    ///
    /// # Errors
    /// Where it is missing, of another shape or unreadable.
    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData>;

    /// The same for a table of tokens, whose last rows may be stored by
    /// themselves: one part, or two.
    ///
    /// # Errors
    /// As [`Source::read`].
    fn parts(&self, name: &str, shape: &[usize]) -> Result<Vec<WeightData>> {
        Ok(vec![self.read(name, shape)?])
    }
}

/// What ends the name of the last rows of a table.
const ADDED: &str = ".added";

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

    /// As [`Scope::weight`], with every number multiplied.
    ///
    /// # Errors
    /// As [`Scope::weight`].
    pub fn weight_times(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        factor: f32,
    ) -> Result<Weight<B>> {
        let name = self.join(name);
        let data = self.source.read(&name, &[rows, cols])?;
        let inner = self
            .backend
            .weight_times(&name, data, (rows, cols), factor)?;
        Ok(Weight::new(inner, rows, cols))
    }

    /// As [`Scope::weight`], for a table of tokens; see [`Source::parts`].
    ///
    /// # Errors
    /// As [`Scope::weight`].
    pub(crate) fn parted(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<(Weight<B>, Option<Weight<B>>)> {
        let name = self.join(name);
        let mut parts = self.source.parts(&name, &[rows, cols])?.into_iter();
        let (first, added) = (parts.next(), parts.next());
        let put = |name: &str, data: WeightData, rows: usize| {
            let inner = self.backend.weight(name, data, rows, cols)?;
            Ok::<_, Error>(Weight::new(inner, rows, cols))
        };
        let first = first.ok_or_else(|| Error::MissingTensor { name: name.clone() })?;
        let tail = added.as_ref().map_or(0, |added| added.len() / cols.max(1));
        let first = put(&name, first, rows - tail)?;
        let added = added.map(|added| put(&format!("{name}{ADDED}"), added, tail));
        Ok((first, added.transpose()?))
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

    /// Numbers, on the host.
    ///
    /// # Errors
    /// Where the source lacks them.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(self.source.read(&self.join(name), shape)?.into_f32())
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
    file: Box<dyn TensorFile>,
    layout: Layout,
    packed: Option<Packed>,
    used: RefCell<BTreeSet<String>>,
}

impl Checkpoint {
    /// Reads the header and recognises the layout by its keys.
    ///
    /// # Errors
    /// Where the file is damaged or of another architecture.
    pub fn open(bytes: Box<dyn Bytes>) -> Result<Self> {
        Self::of(Weights::open(bytes)?)
    }

    /// As [`Checkpoint::open`], for weights in several files beside an index.
    ///
    /// # Errors
    /// As [`Shards::open`], and where the model is of another architecture.
    pub fn open_shards(index: &str, files: Vec<(String, Box<dyn Bytes>)>) -> Result<Self> {
        Self::of(Weights::open_shards(index, files)?)
    }

    /// As [`Checkpoint::open`], of what is open already.
    ///
    /// # Errors
    /// Where the model is of another architecture.
    pub fn of(weights: Weights) -> Result<Self> {
        let file = weights.file();
        let layout = Layout::detect(&|name| file.shape(name).is_some()).ok_or_else(|| {
            let some: Vec<_> = file.names().take(3).collect();
            Error::Checkpoint(format!(
                "the weights are of another architecture: expected a CLIP or SigLIP under the names \
                 of transformers, open_clip or timm, found tensors such as {}",
                some.join(", ")
            ))
        })?;
        let checkpoint = weights.under(layout);
        checkpoint.check_zeros()?;
        Ok(checkpoint)
    }

    /// See [`Layout::zeros`].
    fn check_zeros(&self) -> Result<()> {
        let Some(name) = self.layout.zeros() else {
            return Ok(());
        };
        if self.file.shape(name).is_none()
            || self.file.read(name)?.into_f32().iter().all(|&x| x == 0.0)
        {
            return Ok(());
        }
        Err(Error::Checkpoint(format!(
            "`{name}` is not 0: this image tower was trained on after CLIP, for other classes; \
             expected the tower of a CLIP"
        )))
    }

    /// The configuration without the tower that the file does not hold: files
    /// of one tower are published beside the configuration of both.
    pub fn present(&self, config: &ClipConfig) -> ClipConfig {
        let has = |names: &[&str]| names.iter().any(|name| self.has(name));
        let mut config = config.clone();
        if !has(&[
            "vision.stem.conv1.weight",
            "vision.conv1.weight",
            "vision.stem.out.weight",
            "vision.stem.0.weight",
        ]) {
            config.vision = None;
        }
        if !has(&["text.token_embedding"]) {
            config.text = None;
        }
        config
    }

    /// As [`Checkpoint::open`], for a file whose layout is known: that of a
    /// language model depends on its configuration.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn open_as(bytes: Box<dyn Bytes>, layout: Layout) -> Result<Self> {
        Ok(Weights::open(bytes)?.under(layout))
    }

    /// The layout of the file.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What a packed file says beside its weights.
    pub fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// The file itself, by its own names.
    pub fn file(&self) -> &dyn TensorFile {
        self.file.as_ref()
    }

    /// Holds the file against the tensors that a model asks for, without
    /// reading weights: names of the file that are missing, and those that
    /// nothing asks for.
    pub fn compare<'a>(&self, asked: impl Iterator<Item = &'a str>) -> (Vec<String>, Vec<String>) {
        let mut sources = BTreeSet::new();
        for name in asked {
            sources.extend(self.layout.recipe(name).sources());
            sources.extend(self.added(name));
        }
        let missing = sources
            .iter()
            .filter(|name| self.file.shape(name).is_none());
        let missing = missing.cloned().collect();
        let names = self.file.names();
        let left_over = names.filter(|name| !sources.contains(*name) && !self.layout.ignores(name));
        (missing, left_over.map(str::to_owned).collect())
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

    /// Whether the file has what this canonical tensor is made of.
    pub fn has(&self, name: &str) -> bool {
        let sources = self.layout.recipe(name).sources();
        sources.iter().all(|name| self.file.shape(name).is_some())
    }

    /// The name of the last rows of a table, where a packed file has them by
    /// themselves.
    fn added(&self, name: &str) -> Option<String> {
        let added = format!("{name}{ADDED}");
        let there = self.layout == Layout::Canonical && self.file.shape(&added).is_some();
        there.then_some(added)
    }

    /// See [`Recipe::PatchRows`].
    fn patch_rows(&self, source: &str, shape: &[usize]) -> Result<WeightData> {
        let missing = || Error::MissingTensor {
            name: source.to_owned(),
        };
        let found = self.file.shape(source).ok_or_else(missing)?.to_vec();
        let (rows, cols, [channels, pixels]) = match (shape, found.as_slice()) {
            (&[rows, cols], &[_, channels, height, width]) if channels * height * width == cols => {
                (rows, cols, [channels, height * width])
            }
            _ => {
                return Err(Error::TensorShape {
                    name: source.to_owned(),
                    expected: shape.to_vec(),
                    found,
                });
            }
        };
        let mut expected = found;
        expected[0] = rows;
        let data = self.take(source, &expected)?;
        if pixels == 1 {
            return Ok(data);
        }
        Ok(permute(&data, |i| {
            let (row, place) = (i / cols, i % cols);
            let (pixel, channel) = (place / channels, place % channels);
            row * cols + channel * pixels + pixel
        }))
    }

    fn batch_norm(&self, norm: &str, channels: usize) -> Result<BatchNorm> {
        let read = |leaf: &str| {
            let data = self.take(&format!("{norm}.{leaf}"), &[channels])?;
            Ok::<_, Error>(data.into_f32())
        };
        Ok(BatchNorm {
            gain: read("weight")?,
            bias: read("bias")?,
            mean: read("running_mean")?,
            variance: read("running_var")?,
        })
    }
}

impl Source for Checkpoint {
    fn parts(&self, name: &str, shape: &[usize]) -> Result<Vec<WeightData>> {
        let (&[rows, cols], Some(added)) = (shape, self.added(name)) else {
            return Ok(vec![self.read(name, shape)?]);
        };
        let tail = self
            .file
            .shape(&added)
            .and_then(|shape| shape.first().copied());
        let tail = tail.unwrap_or(0).min(rows);
        Ok(vec![
            self.take(name, &[rows - tail, cols])?,
            self.take(&added, &[tail, cols])?,
        ])
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<WeightData> {
        if self.added(name).is_some() {
            return Ok(concat(self.parts(name, shape)?));
        }
        match self.layout.recipe(name) {
            Recipe::Take(source) => self.take(&source, shape),
            Recipe::Concat(sources) => {
                let mut found = vec![0];
                let parts = sources.iter().map(|source| {
                    let mut part = shape.to_vec();
                    let there = self.file.shape(source).and_then(<[_]>::first);
                    if let (Some(rows), Some(there)) = (part.first_mut(), there) {
                        *rows = *there;
                        found[0] += there;
                    }
                    self.take(source, &part)
                });
                let parts = parts.collect::<Result<_>>()?;
                if found.first() != shape.first() {
                    return Err(Error::TensorShape {
                        name: sources.join("` and `"),
                        expected: shape.to_vec(),
                        found,
                    });
                }
                Ok(concat(parts))
            }
            Recipe::Transpose(source) => {
                let &[rows, cols] = shape else {
                    return Err(Error::Checkpoint(format!("{name} is no matrix")));
                };
                let data = self.take(&source, &[cols, rows])?;
                Ok(permute(&data, |i| (i % cols) * rows + i / cols))
            }
            Recipe::Interleaved { source, heads } => {
                let rows = shape.first().copied().unwrap_or(0);
                let data = self.take(&source, shape)?;
                let (cols, head) = (data.len() / rows.max(1), rows / 3 / heads.max(1));
                Ok(permute(&data, |i| {
                    let (row, col) = (i / cols, i % cols);
                    let (part, row) = (row / (heads * head), row % (heads * head));
                    ((row / head * 3 + part) * head + row % head) * cols + col
                }))
            }
            Recipe::PatchRows(source) => self.patch_rows(&source, shape),
            Recipe::Parts { source, parts, of } => {
                let (count, mut whole) = (parts.1 - parts.0, shape.to_vec());
                if let Some(rows) = whole.first_mut() {
                    *rows = *rows / count * of;
                }
                let data = self.take(&source, &whole)?;
                let part = data.len() / of;
                Ok(slice(data, parts.0 * part, parts.1 * part))
            }
            Recipe::FoldedWeight { conv, norm } => {
                let rows = shape.first().copied().unwrap_or(1);
                let mut weight = self.patch_rows(&conv, shape)?.into_f32();
                self.batch_norm(&norm, rows)?.fold(&mut weight);
                Ok(WeightData::F32(weight))
            }
            Recipe::Standardized { conv } => {
                let rows = shape.first().copied().unwrap_or(1);
                let mut weight = self
                    .patch_rows(&format!("{conv}.weight"), shape)?
                    .into_f32();
                let gains = self.take(&format!("{conv}.gain"), &[rows])?.into_f32();
                fold::standardize(&mut weight, &gains);
                Ok(WeightData::F32(weight))
            }
            Recipe::FoldedBias { norm } => {
                let rows = shape.first().copied().unwrap_or(1);
                Ok(WeightData::F32(self.batch_norm(&norm, rows)?.bias()))
            }
        }
    }
}

/// Elements `from .. to`.
fn slice(data: WeightData, from: usize, to: usize) -> WeightData {
    match data {
        WeightData::F32(x) => WeightData::F32(x[from..to].to_vec()),
        WeightData::F16(x) => WeightData::F16(x[from..to].to_vec()),
        quantized @ WeightData::Quantized(..) => {
            slice(WeightData::F32(quantized.into_f32()), from, to)
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
