//! Pictures as a Flamingo under training is given them: as features, computed
//! once, where the image tower stays as it is; else as pixels.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use indicatif::ProgressBar;
use plume_core::cpu::Candle;
use plume_core::image::Preprocess;
use plume_core::models::flamingo::Flamingo;
use plume_core::tensor::Tensor;

use super::batch::Crop;
use super::write;
use crate::pictures;
use crate::world::{Sampler, Scene, Split};

/// Pictures by their number.
pub(super) trait Album {
    fn len(&self) -> usize;

    /// `[size, size, 3]`, prepared.
    fn pixels(&self, i: usize, preprocess: &Preprocess) -> Result<Vec<f32>>;

    /// Tells this album from others.
    fn mark(&self, hasher: &mut DefaultHasher);
}

/// Pictures that are read at once.
const CHUNK: usize = 64;

/// Drawings, each as a person would photograph it.
pub(super) struct Drawings {
    scenes: Vec<Scene>,
    crops: Vec<Crop>,
    seed: u64,
}

impl Drawings {
    pub(super) fn new(scenes: Vec<Scene>, seed: u64) -> Self {
        let chunks = scenes.chunks(CHUNK).enumerate();
        let crops = chunks.flat_map(|(i, chunk)| {
            // Only the crops are drawn from it.
            let mut sampler = Sampler::new(Split::Train, seed ^ (i as u64) << 32);
            let crops = chunk.iter().map(|_| Crop::draw(&mut sampler));
            crops.collect::<Vec<_>>()
        });
        Self {
            crops: crops.collect(),
            scenes,
            seed,
        }
    }
}

impl Album for Drawings {
    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn pixels(&self, i: usize, preprocess: &Preprocess) -> Result<Vec<f32>> {
        self.crops[i].of(&self.scenes[i], preprocess)
    }

    fn mark(&self, hasher: &mut DefaultHasher) {
        (self.seed, self.scenes.len()).hash(hasher);
    }
}

/// Pictures on disk.
pub(super) struct Files(pub(super) Vec<PathBuf>);

impl Album for Files {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn pixels(&self, i: usize, preprocess: &Preprocess) -> Result<Vec<f32>> {
        Ok(preprocess.apply(&pictures::open(&self.0[i])?))
    }

    fn mark(&self, hasher: &mut DefaultHasher) {
        for path in &self.0 {
            let changed = fs::metadata(path).and_then(|file| file.modified()).ok();
            (path, changed).hash(hasher);
        }
    }
}

/// The pictures of documents, as the resampler is given them.
pub(super) enum Pictures {
    /// There are none: nothing sees.
    None,
    /// Of a frozen tower.
    Features(Features),
    /// For a tower under training.
    Pixels(Box<dyn Album>),
}

impl Pictures {
    /// Those of an album; features are kept in the folder for the next run.
    pub(super) fn of(
        album: impl Album + 'static,
        (flamingo, frozen): (&Flamingo<Candle>, bool),
        preprocess: &Preprocess,
        folder: Option<&Path>,
    ) -> Result<Self> {
        if !frozen {
            return Ok(Self::Pixels(Box::new(album)));
        }
        Ok(Self::Features(Features::of(
            &album, flamingo, preprocess, folder,
        )?))
    }
}

/// What a frozen tower makes of pictures.
pub(super) struct Features {
    numbers: Vec<f16>,
    /// Of one picture: rows and columns.
    pub(super) shape: (usize, usize),
}

/// Features of some pictures of an album.
fn features(
    album: &dyn Album,
    pictures: std::ops::Range<usize>,
    flamingo: &Flamingo<Candle>,
    preprocess: &Preprocess,
) -> Result<Vec<f16>> {
    let (n, size) = (pictures.len(), flamingo.config().vision.image_size());
    let mut pixels = Vec::with_capacity(n * size * size * 3);
    for i in pictures {
        pixels.extend(album.pixels(i, preprocess)?);
    }
    let pixels = Tensor::upload(flamingo.backend(), &pixels, &[n, size, size, 3])?;
    let features = pollster::block_on(flamingo.features(&pixels)?.read())?;
    let mut halves = vec![f16::ZERO; features.len()];
    halves.convert_from_f32_slice(&features);
    Ok(halves)
}

impl Features {
    fn of(
        album: &dyn Album,
        flamingo: &Flamingo<Candle>,
        preprocess: &Preprocess,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let config = flamingo.config();
        let shape = (config.features_per_image(), config.vision.width());
        let of = |from: usize| {
            let until = (from + CHUNK).min(album.len());
            features(album, from..until, flamingo, preprocess)
        };
        let file = folder.map(|folder| {
            let mut hasher = DefaultHasher::new();
            album.mark(&mut hasher);
            folder.join(format!("features-{:016x}.f16", hasher.finish()))
        });
        if album.len() == 0 {
            let numbers = Vec::new();
            return Ok(Self { numbers, shape });
        }
        let mut numbers = of(0)?;
        if let Some(before) = file.as_deref().map(fs::read).and_then(Result::ok)
            && before.len() == album.len() * shape.0 * shape.1 * 2
        {
            // The first of them tell whether this tower made them.
            let pairs = before.as_chunks::<2>().0.iter();
            let before: Vec<f16> = pairs.map(|&pair| f16::from_le_bytes(pair)).collect();
            let apart = |(a, b): (&f16, &f16)| (a.to_f32() - b.to_f32()).abs();
            if numbers.iter().zip(&before).map(apart).all(|d| d < 0.02) {
                return Ok(Self {
                    numbers: before,
                    shape,
                });
            }
        }
        let bar = ProgressBar::new(album.len() as u64);
        for from in (0..album.len()).step_by(CHUNK).skip(1) {
            numbers.extend(of(from)?);
            bar.set_position(from as u64);
        }
        bar.finish_and_clear();
        if let Some(file) = file {
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            write(&file, bytes)?;
        }
        Ok(Self { numbers, shape })
    }

    /// Of one picture.
    pub(super) fn picture(&self, i: usize) -> &[f16] {
        let len = self.shape.0 * self.shape.1;
        &self.numbers[i * len..(i + 1) * len]
    }
}
