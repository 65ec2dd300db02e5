//! A language model or a Flamingo as training and measuring go about it: in
//! batches.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor as Array};
use half::slice::HalfFloatSliceExt as _;
use plume_core::checkpoint::Scope;
use plume_core::cpu::{Candle, Parameters};
use plume_core::image::Preprocess;
use plume_core::models::flamingo::Flamingo;
use plume_core::models::lm::{Lm, Pass};
use plume_core::tensor::Tensor;

use super::base::{Sources, flamingo_config, weights};
use super::documents::Document;
use super::pictures::{Album, Drawings, Features, Pictures};
use super::read;
use super::recipe::What;
use super::words::Words;
use crate::world::{Pool, Sizes, Split};

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
    Flamingo {
        flamingo: Flamingo<Candle>,
        preprocess: Preprocess,
        /// The image tower stays as it is.
        frozen: bool,
    },
}

/// Pictures of a split, as a model is given them.
pub struct Gallery {
    /// What they show.
    pub pool: Pool,
    pictures: Pictures,
}

impl Gallery {
    pub(super) fn pictures(&self) -> &Pictures {
        &self.pictures
    }
}

impl Learner {
    /// What a recipe trains, and what of it is trained.
    pub(super) fn new(
        words: Words,
        what: &What,
        sources: &Sources,
        preprocessor: &str,
    ) -> Result<(Self, Parameters)> {
        let (model, parameters) = match what {
            What::Lm(config) => {
                let (device, parameters) = Candle::training();
                let scope = Scope::root(&device, sources);
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
                let learned = sources.learned.clone();
                let (device, parameters) = Candle::training_some(move |name| learned.is(name));
                let flamingo = Flamingo::load(&device, config, sources)?;
                let tower = |(name, _): &(String, _)| name.starts_with("vision.");
                let model = Model::Flamingo {
                    preprocess: Preprocess::from_json(preprocessor, config.vision.image_size())?,
                    frozen: !parameters.all().iter().any(tower),
                    flamingo,
                };
                (model, parameters)
            }
        };
        Ok((Self { words, model }, parameters))
    }

    /// A finished Flamingo in a folder.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another architecture.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = flamingo_config(folder)?;
        let source = weights(&folder.join("model.safetensors"))?;
        let preprocessor = read(&folder.join("preprocessor_config.json"))?;
        Ok(Self {
            words: Words::new(&read(&folder.join("tokenizer.json"))?)?,
            model: Model::Flamingo {
                flamingo: Flamingo::load(&Candle::new(), &config, &source)?,
                preprocess: Preprocess::from_json(&preprocessor, config.vision.image_size())?,
                frozen: true,
            },
        })
    }

    /// The language model.
    pub fn lm(&self) -> &Lm<Candle> {
        match &self.model {
            Model::Lm { lm, .. } => lm,
            Model::Flamingo { flamingo, .. } => flamingo.lm(),
        }
    }

    /// Whether it is shown pictures.
    pub fn sees(&self) -> bool {
        matches!(self.model, Model::Flamingo { .. })
    }

    /// So many pictures of a split; features are kept in the folder.
    ///
    /// # Errors
    /// Where the computation or the disk fails.
    pub fn gallery(
        &self,
        split: Split,
        seed: u64,
        pictures: Sizes,
        folder: Option<&Path>,
    ) -> Result<Gallery> {
        let pool = Pool::new(split, seed, pictures);
        let drawings = Drawings::new(pool.scenes().to_vec(), seed);
        Ok(Gallery {
            pictures: self.pictures(drawings, folder)?,
            pool,
        })
    }

    /// An album as this model is given it; features are kept in the folder.
    pub(super) fn pictures(
        &self,
        album: impl Album + 'static,
        folder: Option<&Path>,
    ) -> Result<Pictures> {
        match &self.model {
            Model::Lm { .. } => Ok(Pictures::None),
            Model::Flamingo {
                flamingo,
                preprocess,
                frozen,
            } => Pictures::of(album, (flamingo, *frozen), preprocess, folder),
        }
    }

    /// The residual stream after the last block: `[documents, tokens, width]`.
    ///
    /// # Errors
    /// Where a document is too long or the computation fails.
    pub(super) fn forward(
        &self,
        documents: &[Document],
        pictures: &Pictures,
    ) -> Result<Tensor<Candle>> {
        let longest = documents.iter().map(|d| d.ids.len()).max().unwrap_or(0);
        let filled = |document: &Document| {
            let mut ids = document.ids.clone();
            ids.resize(longest, 0);
            ids
        };
        let ids: Vec<u32> = documents.iter().flat_map(filled).collect();
        let lm = self.lm();
        let pass = Pass::whole(lm.backend(), longest, &vec![0; documents.len()])?;
        let (flamingo, preprocess) = match &self.model {
            Model::Lm { table, .. } => {
                return self.laid(documents, table, lm.embed(&ids, &pass)?, &pass);
            }
            Model::Flamingo {
                flamingo,
                preprocess,
                ..
            } => (flamingo, preprocess),
        };
        let places = Places::of(documents);
        let features = match pictures {
            Pictures::None => bail!("the documents have no pictures"),
            Pictures::Features(features) => looked_up(&places, features, lm.backend())?,
            Pictures::Pixels(album) => computed(&places, album.as_ref(), (flamingo, preprocess))?,
        };
        let media = flamingo.media(&flamingo.resample(&features, 1)?, 1)?;
        let media = media.placed(&places.numbers, documents.len())?;
        let seen = documents.iter();
        let seen: Vec<u32> = seen
            .flat_map(|document| document.seen(self.words.image, longest))
            .collect();
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
    /// Where a document is too long or the computation fails.
    pub fn next(&self, documents: &[Document], gallery: &Gallery) -> Result<Vec<Vec<f32>>> {
        let x = self.forward(documents, &gallery.pictures)?;
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
    /// As [`Learner::next`].
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

/// The pictures of a batch, each once, and where they are seen: documents have
/// as many places as the one with the most pictures.
struct Places {
    pictures: Vec<usize>,
    /// For each place the number of its picture in the list: of the first where
    /// a document has no more, for no token sees that place.
    numbers: Vec<u32>,
}

impl Places {
    fn of(documents: &[Document]) -> Self {
        let most = documents.iter().map(|d| d.pictures.len()).max();
        let most = most.unwrap_or(0);
        let (mut pictures, mut known) = (Vec::new(), BTreeMap::new());
        let mut numbers = vec![0; documents.len() * most];
        for (i, document) in documents.iter().enumerate() {
            for (j, &picture) in document.pictures.iter().enumerate() {
                numbers[i * most + j] = *known.entry(picture).or_insert_with(|| {
                    pictures.push(picture);
                    pictures.len() as u32 - 1
                });
            }
        }
        Self { pictures, numbers }
    }
}

/// The features of a batch's pictures, `[pictures, rows, width]`.
fn looked_up(places: &Places, features: &Features, device: &Candle) -> Result<Tensor<Candle>> {
    let (rows, width) = features.shape;
    let mut numbers = vec![0.0; places.pictures.len() * rows * width];
    for (&picture, out) in places
        .pictures
        .iter()
        .zip(numbers.chunks_exact_mut(rows * width))
    {
        features.picture(picture).convert_to_f32_slice(out);
    }
    Ok(Tensor::upload(
        device,
        &numbers,
        &[places.pictures.len(), rows, width],
    )?)
}

/// The same by an image tower under training.
fn computed(
    places: &Places,
    album: &dyn Album,
    (flamingo, preprocess): (&Flamingo<Candle>, &Preprocess),
) -> Result<Tensor<Candle>> {
    let size = flamingo.config().vision.image_size();
    let mut pixels = Vec::new();
    for &picture in &places.pictures {
        pixels.extend(album.pixels(picture, preprocess)?);
    }
    let shape = [places.pictures.len(), size, size, 3];
    let pixels = Tensor::upload(flamingo.backend(), &pixels, &shape)?;
    Ok(flamingo.features(&pixels)?)
}

/// The likeliest of some tokens.
pub(super) fn best(logits: &[f32], of: impl IntoIterator<Item = usize>) -> usize {
    let candidates = of.into_iter();
    candidates
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_comes_twice_is_made_once() {
        let document = |pictures: &[usize]| Document {
            pictures: pictures.to_vec(),
            ..Document::default()
        };
        let places = Places::of(&[document(&[3, 5]), document(&[5]), document(&[8, 3])]);
        assert_eq!(places.pictures, [3, 5, 8]);
        assert_eq!(places.numbers, [0, 1, 1, 0, 2, 0]);
    }
}
