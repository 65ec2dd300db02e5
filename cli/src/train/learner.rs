//! A language model or a Flamingo as training and measuring go about it: in
//! batches, with the features of pictures computed once.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor as Array};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use indicatif::ProgressBar;
use plume_core::backend::WeightData;
use plume_core::checkpoint::{Checkpoint, Layout, LmInit, Scope, Source};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::cpu::{Candle, Parameters};
use plume_core::image::Preprocess;
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::{Lm, Pass};
use plume_core::tensor::Tensor;

use super::batch::photograph;
use super::documents::Document;
use super::recipe::What;
use super::words::Words;
use super::{PREPROCESSOR, read, write};
use crate::world::{Pool, Sampler, Scene, Sizes, Split};

/// Weights from where they are: of this run, of the parts it builds on, or
/// drawn.
pub(super) struct Parts {
    pub(super) trained: Option<Checkpoint>,
    pub(super) vision: Option<Checkpoint>,
    pub(super) lm: Option<Checkpoint>,
    pub(super) init: LmInit,
}

impl Source for Parts {
    fn read(&self, name: &str, shape: &[usize]) -> plume_core::Result<WeightData> {
        for part in [&self.trained, &self.vision, &self.lm]
            .into_iter()
            .flatten()
        {
            if part.file().shape(name).is_some() {
                return part.read(name, shape);
            }
        }
        self.init.read(name, shape)
    }
}

/// Weights with our own names.
///
/// # Errors
/// Where the file is missing or damaged.
pub(super) fn weights(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let context = || path.display().to_string();
    Checkpoint::open_as(Box::new(bytes), Layout::Canonical).with_context(context)
}

/// What is trained or measured.
pub struct Learner {
    /// The tokenizer.
    pub words: Words,
    model: Model,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
enum Model {
    Lm {
        lm: Lm<Candle>,
        /// The token table, whose rows may be laid over one another.
        table: Array,
    },
    Flamingo(Flamingo<Candle>),
}

/// Pictures as the resampler is given them.
pub(super) struct Features {
    numbers: Vec<f16>,
    /// Of one picture: rows and columns.
    shape: (usize, usize),
}

impl Features {
    /// Those of a pool, from the file if they were computed before.
    fn of(
        pool: &Pool,
        seed: u64,
        flamingo: &Flamingo<Candle>,
        file: Option<&Path>,
    ) -> Result<Self> {
        let config = flamingo.config();
        let shape = (config.features_per_image(), config.vision.width());
        let len = pool.scenes().len() * shape.0 * shape.1;
        if let Some(file) = file
            && let Ok(bytes) = fs::read(file)
            && bytes.len() == len * 2
        {
            let pairs = bytes.as_chunks::<2>().0.iter();
            let numbers = pairs.map(|&pair| f16::from_le_bytes(pair)).collect();
            return Ok(Self { numbers, shape });
        }
        let preprocess = Preprocess::from_json(PREPROCESSOR, config.vision.image_size())?;
        let bar = ProgressBar::new(pool.scenes().len() as u64);
        let part = |(i, scenes): (usize, &[Scene])| -> Result<Vec<f16>> {
            // Only the crops are drawn from it.
            let mut sampler = Sampler::new(Split::Train, seed ^ (i as u64) << 32);
            let mut pixels = Vec::new();
            for scene in scenes {
                pixels.extend(photograph(scene, &preprocess, &mut sampler)?);
            }
            let size = config.vision.image_size();
            let pixels =
                Tensor::upload(flamingo.backend(), &pixels, &[scenes.len(), size, size, 3])?;
            let features = pollster::block_on(flamingo.features(&pixels)?.read())?;
            bar.inc(scenes.len() as u64);
            let mut halves = vec![f16::ZERO; features.len()];
            halves.convert_from_f32_slice(&features);
            Ok(halves)
        };
        let mut numbers = Vec::with_capacity(len);
        for chunk in pool.scenes().chunks(64).enumerate() {
            numbers.extend(part(chunk)?);
        }
        bar.finish_and_clear();
        if let Some(file) = file {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            write(file, bytes)?;
        }
        Ok(Self { numbers, shape })
    }

    /// Of one picture.
    fn picture(&self, i: usize) -> &[f16] {
        let len = self.shape.0 * self.shape.1;
        &self.numbers[i * len..(i + 1) * len]
    }
}

/// Which weights are trained.
fn sees(name: &str) -> bool {
    name.starts_with("resampler.") || name.starts_with("xattn.")
}

/// Pictures of a split, and their features if there are eyes.
pub struct Gallery {
    /// What they show.
    pub pool: Pool,
    features: Option<Features>,
}

impl Learner {
    /// What a recipe trains, and what of it is trained.
    pub(super) fn new(words: Words, what: &What, source: &Parts) -> Result<(Self, Parameters)> {
        let (model, parameters) = match what {
            What::Lm(config) => {
                let (device, parameters) = Candle::training();
                let scope = Scope::root(&device, source);
                let lm = Lm::load(&scope.child("lm"), config)?;
                let all = parameters.all().into_iter();
                let table = all
                    .filter(|(name, _)| name == "lm.token_embedding")
                    .map(|(_, table)| table.as_tensor().clone())
                    .next();
                let table = table.context("the language model has no token table")?;
                (Model::Lm { lm, table }, parameters)
            }
            What::Flamingo(config) => {
                let (device, parameters) = Candle::training_some(sees);
                let flamingo = Flamingo::load(&device, config, source)?;
                (Model::Flamingo(flamingo), parameters)
            }
        };
        Ok((Self { words, model }, parameters))
    }

    /// A finished Flamingo in a folder.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another architecture.
    pub fn open(folder: &Path) -> Result<Self> {
        let config: FlamingoConfig = serde_json::from_str(&read(&folder.join("config.json"))?)
            .context("config.json should be that of a plume_flamingo")?;
        let source = weights(&folder.join("model.safetensors"))?;
        Ok(Self {
            words: Words::new(&read(&folder.join("tokenizer.json"))?)?,
            model: Model::Flamingo(Flamingo::load(&Candle::new(), &config, &source)?),
        })
    }

    /// The language model.
    pub fn lm(&self) -> &Lm<Candle> {
        match &self.model {
            Model::Lm { lm, .. } => lm,
            Model::Flamingo(flamingo) => flamingo.lm(),
        }
    }

    /// Whether it is shown pictures.
    pub fn sees(&self) -> bool {
        matches!(self.model, Model::Flamingo(_))
    }

    /// So many pictures of a split; their features are kept in the file.
    ///
    /// # Errors
    /// Where the computation or the disk fails.
    pub fn gallery(
        &self,
        split: Split,
        seed: u64,
        pictures: Sizes,
        file: Option<&Path>,
    ) -> Result<Gallery> {
        let pool = Pool::new(split, seed, pictures);
        let features = match &self.model {
            Model::Lm { .. } => None,
            Model::Flamingo(flamingo) => Some(Features::of(&pool, seed, flamingo, file)?),
        };
        Ok(Gallery { pool, features })
    }

    /// The residual stream after the last block: `[documents, tokens, width]`.
    ///
    /// # Errors
    /// Where a document is too long or the computation fails.
    pub fn forward(&self, documents: &[Document], gallery: &Gallery) -> Result<Tensor<Candle>> {
        let longest = documents.iter().map(|d| d.ids.len()).max().unwrap_or(0);
        let filled = |document: &Document| {
            let mut ids = document.ids.clone();
            ids.resize(longest, 0);
            ids
        };
        let ids: Vec<u32> = documents.iter().flat_map(filled).collect();
        let lm = self.lm();
        let pass = Pass::whole(lm.backend(), longest, &vec![0; documents.len()])?;
        let (flamingo, features) = match (&self.model, &gallery.features) {
            (Model::Flamingo(flamingo), Some(features)) => (flamingo, features),
            (Model::Lm { table, .. }, _) => {
                return self.laid(documents, table, lm.embed(&ids, &pass)?, &pass);
            }
            (Model::Flamingo(_), None) => bail!("pictures have no features"),
        };
        let most = documents
            .iter()
            .map(|d| d.pictures.len())
            .max()
            .unwrap_or(0);
        let (rows, width) = features.shape;
        let mut numbers = vec![0.0; documents.len() * most * rows * width];
        for (i, document) in documents.iter().enumerate() {
            for (j, &picture) in document.pictures.iter().enumerate() {
                let at = (i * most + j) * rows * width;
                features
                    .picture(picture)
                    .convert_to_f32_slice(&mut numbers[at..at + rows * width]);
            }
        }
        let shape = [documents.len() * most, rows, width];
        let numbers = Tensor::upload(lm.backend(), &numbers, &shape)?;
        let visual = flamingo.resample(&numbers, 1)?;
        let media = flamingo.media(&visual, documents.len())?;
        let seen = ids.chunks_exact(longest);
        let seen: Vec<u32> = seen.flat_map(|ids| flamingo.image_numbers(ids)).collect();
        Ok(flamingo.forward(&ids, &seen, &pass, &media, None)?)
    }

    /// The language model by itself, with words laid over what it is given.
    fn laid(
        &self,
        documents: &[Document],
        table: &Array,
        mut x: Tensor<Candle>,
        pass: &Pass<Candle>,
    ) -> Result<Tensor<Candle>> {
        let (lm, longest) = (self.lm(), x.shape()[1]);
        let laid = documents.iter().enumerate().flat_map(|(i, document)| {
            let laid = document.laid.iter();
            laid.map(move |&(at, word)| ((i * longest + at) as u32, word))
        });
        let (rows, words): (Vec<u32>, Vec<u32>) = laid.unzip();
        if !rows.is_empty() {
            let n = rows.len();
            let words = Array::from_vec(words, n, &Device::Cpu)?;
            let rows = Array::from_vec(rows, n, &Device::Cpu)?;
            let shape = x.shape().to_vec();
            let flat = x.buffer().reshape((documents.len() * longest, ()))?;
            let over = flat.index_add(&rows, &table.index_select(&words, 0)?, 0)?;
            x = Tensor::new(lm.backend(), over, &shape);
        }
        for layer in 0..lm.layers() {
            x = lm.block(layer, &x, pass, None)?;
        }
        Ok(x)
    }

    /// For each document the logits of what follows it.
    ///
    /// # Errors
    /// As [`Learner::forward`].
    pub fn next(&self, documents: &[Document], gallery: &Gallery) -> Result<Vec<Vec<f32>>> {
        let x = self.forward(documents, gallery)?;
        let longest = x.shape()[1];
        let last = documents.iter().enumerate();
        let rows: Vec<u32> = last
            .map(|(i, document)| (i * longest + document.ids.len() - 1) as u32)
            .collect();
        let logits = self.lm().logits(&x.gather(&rows)?)?;
        Ok(logits.buffer().detach().to_vec2()?)
    }

    /// What is written after each document, up to the end of the chunk.
    ///
    /// # Errors
    /// As [`Learner::forward`].
    pub fn write(&self, documents: &[Document], gallery: &Gallery) -> Result<Vec<String>> {
        const MOST: usize = 14;
        let mut documents = documents.to_vec();
        let mut written = vec![Vec::new(); documents.len()];
        let mut going: Vec<usize> = (0..documents.len()).collect();
        for _ in 0..MOST {
            if going.is_empty() {
                break;
            }
            let texts: Vec<Document> = going.iter().map(|&i| documents[i].clone()).collect();
            let logits = self.next(&texts, gallery)?;
            let mut still = Vec::new();
            for (i, logits) in going.into_iter().zip(logits) {
                let token = best(&logits, 0..logits.len()) as u32;
                if token != self.words.end_of_chunk {
                    written[i].push(token);
                    documents[i].ids.push(token);
                    still.push(i);
                }
            }
            going = still;
        }
        let decode = |ids: Vec<u32>| Ok(self.words.tokenizer().decode(&ids)?);
        written.into_iter().map(decode).collect()
    }
}

/// The likeliest of some tokens.
pub(super) fn best(logits: &[f32], of: impl IntoIterator<Item = usize>) -> usize {
    let candidates = of.into_iter();
    candidates
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap_or(0)
}
