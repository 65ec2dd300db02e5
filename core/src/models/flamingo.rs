//! Flamingo (Alayrac et al. 2022, Figure 3): pictures become visual tokens,
//! which layers between those of a language model attend to.

use std::cell::RefCell;

use crate::backend::{Backend, Mask};
use crate::checkpoint::{Scope, Source};
use crate::config::flamingo::{FlamingoConfig, XattnKind};
use crate::models::gated_xattn::{GatedXattn, Sight};
use crate::models::gaze;
use crate::models::lm::{Cache, Decoder, Lm, Pass};
use crate::models::resampler::Resampler;
use crate::models::vision::VisionTower;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The keys and values of pictures and videos, for each layer that sees them.
pub struct Media<B: Backend> {
    layers: Vec<Option<Tensor<B>>>,
    images: usize,
    /// Visual tokens of each.
    tokens: usize,
    batch: usize,
}

impl<B: Backend> Media<B> {
    /// Pictures as `batch` sequences see them: for each place, sequence after
    /// sequence, the number of the picture among all of these.
    ///
    /// # Errors
    /// Where there is no such picture or the device fails.
    pub fn placed(&self, pictures: &[u32], batch: usize) -> Result<Self> {
        let (all, images) = (self.batch * self.images, pictures.len() / batch.max(1));
        let layers = self.layers.iter().map(|layer| {
            let place = |kv: &Tensor<B>| {
                let one = kv.len() / all.max(1);
                let kv = kv.reshape(&[all, one])?.gather(pictures)?;
                let width = one / self.tokens.max(1);
                kv.reshape(&[batch, images * self.tokens, width])
            };
            layer.as_ref().map(place).transpose()
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            images,
            tokens: self.tokens,
            batch,
        })
    }

    /// Pictures and videos of each sequence.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Waits until the device has worked them out.
    ///
    /// # Errors
    /// Where the device failed.
    pub async fn wait(&self) -> Result<()> {
        if let Some(last) = self.layers.iter().flatten().next_back() {
            last.narrow(0, 1)?.read().await?;
        }
        Ok(())
    }
}

/// A Flamingo on a device.
pub struct Flamingo<B: Backend> {
    vision: VisionTower<B>,
    resampler: Resampler<B>,
    /// For each block of the language model, the layer before it.
    xattn: Vec<Option<GatedXattn<B>>>,
    lm: Lm<B>,
    config: FlamingoConfig,
    backend: B,
}

impl<B: Backend> Flamingo<B> {
    /// Reads every weight and copies it to the device, one at a time.
    ///
    /// # Errors
    /// Where the configuration makes no model, the source lacks a weight or
    /// the device fails.
    pub fn load(backend: &B, config: &FlamingoConfig, source: &dyn Source) -> Result<Self> {
        config.check()?;
        let scope = Scope::root(backend, source);
        let media_width = config.vision.width();
        let xattn = (0..config.lm.layers).map(|layer| {
            let scope = scope.child(&format!("xattn.{layer}"));
            let there = config.xattn.layers.contains(&layer);
            there
                .then(|| GatedXattn::load(&scope, &config.xattn, config.lm.width, media_width))
                .transpose()
        });
        Ok(Self {
            vision: VisionTower::load(&scope.child("vision"), &config.vision, None)?,
            resampler: Resampler::load(&scope.child("resampler"), &config.resampler, media_width)?,
            xattn: xattn.collect::<Result<_>>()?,
            lm: Lm::load(&scope.child("lm"), &config.lm)?,
            config: config.clone(),
            backend: backend.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &FlamingoConfig {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The language model.
    pub fn lm(&self) -> &Lm<B> {
        &self.lm
    }

    /// Pictures `[n, size, size, 3]` → features `[n, features, width]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn features(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        self.vision.features(pixels, self.config.features)
    }

    /// Features `[n · frames, features, width]` → visual tokens `[n, tokens,
    /// width]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn resample(&self, features: &Tensor<B>, frames: usize) -> Result<Tensor<B>> {
        self.resampler.forward(features, frames)
    }

    /// Pictures and videos, as prepared numbers `size · size · 3` of each frame
    /// → visual tokens `[frames.len(), tokens, width]`. A picture has one frame;
    /// `frames` says how many each has.
    ///
    /// A Perceiver makes as many tokens of a video as of a picture. The others
    /// (Table 3, vi) make them of each frame, having seen all: of these it is
    /// the mean over the frames, so that pictures and videos may stand together.
    ///
    /// # Errors
    /// Where `pixels` are not so many frames or something has none; where the
    /// device fails.
    pub fn see(&self, pixels: &[f32], frames: &[usize]) -> Result<Tensor<B>> {
        let size = self.config.vision.image_size();
        let all = frames.iter().sum::<usize>();
        let wrong = || Error::Shape {
            operation: "flamingo",
            expected: format!(
                "pictures or videos of one or more frames, each {size} × {size} × 3 numbers"
            ),
            found: format!("frames {frames:?}, {} numbers", pixels.len()),
        };
        if pixels.len() != all * size * size * 3 || frames.contains(&0) {
            return Err(wrong());
        }
        let (places, width) = (self.config.features_per_image(), self.config.vision.width());
        let pixels = Tensor::upload(&self.backend, pixels, &[all, size, size, 3])?;
        let features = self.features(&pixels)?;
        let features = features.reshape(&[1, all * places, width])?;
        // Those with as many frames go through the resampler together.
        let mut start = 0;
        let runs = frames.chunk_by(|a, b| a == b).map(|run| {
            let rows = run.len() * run[0];
            let part = features.narrow(start * places, rows * places)?;
            start += rows;
            let tokens = self.resample(&part.reshape(&[rows, places, width])?, run[0])?;
            let each = self.config.tokens_per_image();
            let times = tokens.len() / (run.len() * each * width);
            let tokens = mean(&tokens.reshape(&[run.len(), times, each * width])?)?;
            tokens.reshape(&[1, run.len() * each, width])
        });
        let seen = runs.reduce(|a, b| Tensor::concat(&a?, &b?));
        let seen = seen.ok_or_else(wrong)??;
        seen.reshape(&[frames.len(), seen.len() / (frames.len() * width), width])
    }

    /// Visual tokens `[batch · images, tokens, width]` → what the layers between
    /// need of them, once for all the text that follows.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn media(&self, visual: &Tensor<B>, batch: usize) -> Result<Media<B>> {
        let &[all, tokens, width] = visual.shape() else {
            return Err(Error::Shape {
                operation: "flamingo",
                expected: "[pictures, tokens, width]".into(),
                found: format!("{:?}", visual.shape()),
            });
        };
        let images = all / batch.max(1);
        let visual = visual.reshape(&[batch, images * tokens, width])?;
        let layers = self.xattn.iter().map(|layer| {
            let layer = layer.as_ref();
            layer.map(|layer| layer.media(&visual)).transpose()
        });
        Ok(Media {
            layers: layers.collect::<Result<_>>()?,
            images,
            tokens,
            batch,
        })
    }

    /// The pictures of several, of one sequence each, one after the other.
    ///
    /// # Errors
    /// Where they have different numbers of tokens or the device fails.
    pub fn join(&self, all: &[&Media<B>]) -> Result<Media<B>> {
        let Some(first) = all.first() else {
            return self.no_media();
        };
        let layers = (0..first.layers.len()).map(|layer| {
            let parts: Vec<_> = all
                .iter()
                .filter_map(|m| m.layers[layer].as_ref())
                .collect();
            (!parts.is_empty()).then(|| joined(&parts)).transpose()
        });
        if let Some(other) = all.iter().find(|media| media.tokens != first.tokens) {
            return Err(Error::Shape {
                operation: "flamingo",
                expected: format!("{} visual tokens of each picture", first.tokens),
                found: other.tokens.to_string(),
            });
        }
        Ok(Media {
            layers: layers.collect::<Result<_>>()?,
            images: all.iter().map(|media| media.images).sum(),
            tokens: first.tokens,
            batch: 1,
        })
    }

    /// What each visual token of a picture, or of the frames of a video, was
    /// made of: `[tokens, frames · features]`; see [`Resampler::origins`].
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub async fn origins(&self, pixels: &[f32], frames: usize) -> Result<Vec<f32>> {
        let size = self.config.vision.image_size();
        let pixels = Tensor::upload(&self.backend, pixels, &[frames, size, size, 3])?;
        let features = self.features(&pixels)?;
        let origins = self.resampler.origins(&features, frames).await?;
        // Of frames that each have tokens the mean, as in [`Flamingo::see`].
        let row = frames * self.config.features_per_image();
        let each = self.config.tokens_per_image() * row;
        let times = (origins.len() / each.max(1)).max(1);
        let mut all = vec![0.0; each];
        for part in origins.chunks_exact(each.max(1)) {
            for (sum, share) in all.iter_mut().zip(part) {
                *sum += share / times as f32;
            }
        }
        Ok(all)
    }

    /// How far the gates of each layer between are open: its place in the
    /// language model, and [`GatedXattn::gates`].
    ///
    /// # Errors
    /// Where the device fails.
    pub async fn gates(&self) -> Result<Vec<(usize, f32, f32)>> {
        let mut all = Vec::new();
        for (layer, xattn) in self.xattn.iter().enumerate() {
            if let Some(xattn) = xattn {
                let (attention, mlp) = xattn.gates().await?;
                all.push((layer, attention, mlp));
            }
        }
        Ok(all)
    }

    /// What the layers between need where there is no picture.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn no_media(&self) -> Result<Media<B>> {
        let inner = 2 * self.config.xattn.heads * self.config.xattn.head_dim;
        // One row that no token sees: devices have no empty buffers.
        let nothing = Tensor::upload(&self.backend, &vec![0.0; inner], &[1, 1, inner])?;
        let layers = self.xattn.iter();
        Ok(Media {
            layers: layers
                .map(|layer| layer.as_ref().map(|_| nothing.clone()))
                .collect(),
            images: 0,
            tokens: 1,
            batch: 1,
        })
    }

    /// For each token the number of the picture that it sees: that of the last
    /// mark up to and with itself, 0 before the first.
    pub fn image_numbers(&self, ids: &[u32]) -> Vec<u32> {
        let (mut images, mut sees) = (0, false);
        let count = |&id: &u32| {
            if self.config.is_image(id) {
                (images, sees) = (images + 1, true);
            }
            let number = if sees { images } else { 0 };
            sees &= self.config.end_of_sight != Some(id);
            number
        };
        ids.iter().map(count).collect()
    }

    /// Token ids, `batch · queries` of them → `[batch, queries, width]` after
    /// the last block. `images` has, for each token, the number of the picture
    /// that it sees.
    ///
    /// # Errors
    /// As [`Lm::embed`] and [`Lm::block`].
    pub fn forward(
        &self,
        ids: &[u32],
        images: &[u32],
        pass: &Pass<B>,
        media: &Media<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        self.through(ids, images, pass, media, cache, &mut Watch::default())
    }

    /// The residual stream before the first block and after each: `layers + 1`
    /// tensors `[batch, queries, width]`.
    ///
    /// # Errors
    /// As [`Flamingo::forward`].
    pub fn states(
        &self,
        ids: &[u32],
        images: &[u32],
        pass: &Pass<B>,
        media: &Media<B>,
    ) -> Result<Vec<Tensor<B>>> {
        let mut states = Vec::with_capacity(self.xattn.len() + 1);
        let mut watch = Watch {
            block: Some(&mut |x| states.push(x.clone())),
            ..Watch::default()
        };
        self.through(ids, images, pass, media, None, &mut watch)?;
        Ok(states)
    }

    /// As [`Flamingo::forward`], watched.
    fn through(
        &self,
        ids: &[u32],
        images: &[u32],
        pass: &Pass<B>,
        media: &Media<B>,
        mut cache: Option<&mut Cache<B>>,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B>> {
        if images.len() != ids.len() || media.batch != pass.batch() {
            return Err(Error::Shape {
                operation: "flamingo",
                expected: format!("{} pictures seen, {} texts", ids.len(), media.batch),
                found: format!("{}, {}", images.len(), pass.batch()),
            });
        }
        let rule = self.backend.upload_ids(images)?;
        let sight = Sight {
            mask: Mask::Media {
                per_image: media.tokens,
                all_previous: self.config.xattn.all_previous,
            },
            rule: &rule,
        };
        let mut x = self.lm.embed(ids, pass)?;
        watch.block(&x);
        for (layer, xattn) in self.xattn.iter().enumerate() {
            let seen = RefCell::new(&mut watch.seen);
            let see = |x: &Tensor<B>| match (xattn, &media.layers[layer]) {
                (Some(xattn), Some(media)) => {
                    if let Some(seen) = seen.borrow_mut().as_mut() {
                        seen(layer, xattn, x)?;
                    }
                    xattn.forward(x, media, &sight)
                }
                _ => Ok(x.clone()),
            };
            let cache = cache.as_deref();
            x = match self.config.xattn.kind {
                XattnKind::Gated => self.lm.block(layer, &see(&x)?, pass, cache)?,
                XattnKind::Vanilla => self.lm.block_with(layer, &x, pass, cache, &see)?,
            };
            watch.block(&x);
        }
        if let Some(cache) = &mut cache {
            self.lm.advance(pass, cache);
        }
        Ok(x)
    }
}

/// Is given each layer between, its place and what comes into it.
type Seen<'a, B> = &'a mut dyn FnMut(usize, &GatedXattn<B>, &Tensor<B>) -> Result<()>;

/// Is given the residual stream.
type Passed<'a, B> = &'a mut dyn FnMut(&Tensor<B>);

/// Looks on during a pass.
struct Watch<'a, B: Backend> {
    /// Is given the residual stream before the first block and after each.
    block: Option<Passed<'a, B>>,
    seen: Option<Seen<'a, B>>,
}

impl<B: Backend> Default for Watch<'_, B> {
    fn default() -> Self {
        Self {
            block: None,
            seen: None,
        }
    }
}

impl<B: Backend> Watch<'_, B> {
    fn block(&mut self, x: &Tensor<B>) {
        if let Some(block) = &mut self.block {
            block(x);
        }
    }
}

/// `[n, frames, cols]` → `[n, 1, cols]`: the mean of the frames.
fn mean<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    let &[n, frames, cols] = x.shape() else {
        return Ok(x.clone());
    };
    if frames < 2 {
        return Ok(x.clone());
    }
    // A gate adds `tanh` of it.
    let share = (1.0 / frames as f32).atanh();
    let share = Tensor::upload(x.backend(), &[share], &[1])?;
    let nothing = Tensor::upload(x.backend(), &vec![0.0; n * cols], &[n, 1, cols])?;
    (0..frames).try_fold(nothing, |sum, frame| {
        sum.gated_add(&x.narrow(frame, 1)?, &share)
    })
}

/// `[1, rows, d]` of each, one after the other: by halves, so that a row is
/// copied few times.
fn joined<B: Backend>(parts: &[&Tensor<B>]) -> Result<Tensor<B>> {
    if let [one] = parts {
        return Ok((*one).clone());
    }
    let (left, right) = parts.split_at(parts.len() / 2);
    Tensor::concat(&joined(left)?, &joined(right)?)
}

/// A layer, and how much each of some rows attended there to each visual token:
/// `[rows, images · tokens]`.
pub type Gaze = (usize, Vec<f32>);

/// A Flamingo that reads one text, with the pictures of it.
pub struct Illustrated<'a, B: Backend> {
    flamingo: &'a Flamingo<B>,
    media: &'a Media<B>,
    /// For each token of the prompt the number of the picture that it sees.
    images: Vec<u32>,
}

impl<'a, B: Backend> Illustrated<'a, B> {
    /// Holds a prompt against the pictures that belong to it.
    ///
    /// # Errors
    /// Where there are more marks than pictures, or fewer.
    pub fn new(flamingo: &'a Flamingo<B>, media: &'a Media<B>, prompt: &[u32]) -> Result<Self> {
        let images = flamingo.image_numbers(prompt);
        let marks = images.iter().max().copied().unwrap_or(0) as usize;
        if marks != media.images {
            return Err(Error::Pictures {
                marks,
                pictures: media.images,
            });
        }
        Ok(Self {
            flamingo,
            media,
            images,
        })
    }

    /// For each row of a pass the number of the picture that it sees. What is
    /// written after the prompt sees its last picture, as in OpenFlamingo
    /// (`condition_media_locations` with a cache).
    fn numbers(&self, pass: &Pass<B>) -> Vec<u32> {
        let last = self.images.last().copied().unwrap_or(0);
        let number = |row: usize| self.images.get(row).copied().unwrap_or(last);
        pass.keys().map(number).collect()
    }

    /// Reads tokens into a cache and says where the last `rows` of them looked,
    /// the mean over the heads of each layer between.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub async fn gaze(&self, ids: &[u32], rows: usize, cache: &mut Cache<B>) -> Result<Vec<Gaze>> {
        let (flamingo, media) = (self.flamingo, self.media);
        let pass = Pass::next(&flamingo.backend, cache, ids.len())?;
        let numbers = self.numbers(&pass);
        let first = ids.len().saturating_sub(rows);
        let mut asked = Vec::new();
        let mut watch = Watch {
            seen: Some(&mut |layer, xattn: &GatedXattn<B>, x: &Tensor<B>| {
                let rows = x.narrow(first, ids.len() - first)?;
                asked.push((layer, xattn.heads(), xattn.queries(&rows)?));
                Ok(())
            }),
            ..Watch::default()
        };
        flamingo.through(ids, &numbers, &pass, media, Some(cache), &mut watch)?;
        let all_previous = flamingo.config.xattn.all_previous;
        let sees = |row: usize| {
            let number = numbers[first + row] as usize;
            let before = if all_previous {
                0
            } else {
                number.saturating_sub(1)
            };
            before * media.tokens..number * media.tokens
        };
        let mut gazes = Vec::with_capacity(asked.len());
        for (layer, heads, q) in asked {
            let Some(keys) = &media.layers[layer] else {
                continue;
            };
            let (q, keys) = (q.read().await?, keys.read().await?);
            let keys = &keys[..media.images * media.tokens * heads.stride];
            gazes.push((layer, gaze::weights(&q, keys, heads, sees)));
        }
        Ok(gazes)
    }
}

impl<B: Backend> Decoder<B> for Illustrated<'_, B> {
    fn lm(&self) -> &Lm<B> {
        &self.flamingo.lm
    }

    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        let images = self.numbers(pass);
        self.flamingo.forward(ids, &images, pass, self.media, cache)
    }
}
