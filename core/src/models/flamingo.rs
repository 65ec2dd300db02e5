//! Flamingo (Alayrac et al. 2022, Figure 3): pictures become visual tokens,
//! which layers between those of a language model attend to.

use crate::backend::{Backend, Mask};
use crate::checkpoint::{Scope, Source};
use crate::config::flamingo::{FlamingoConfig, ResamplerKind, XattnKind};
use crate::models::gated_xattn::{GatedXattn, Sight};
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
    /// Pictures and videos of each sequence.
    pub fn images(&self) -> usize {
        self.images
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
    /// # Errors
    /// Where `pixels` are not so many frames, something has none, or pictures
    /// and videos would have different numbers of tokens (only a Perceiver
    /// gives both as many); where the device fails.
    pub fn see(&self, pixels: &[f32], frames: &[usize]) -> Result<Tensor<B>> {
        let size = self.config.vision.image_size();
        let all = frames.iter().sum::<usize>();
        let perceiver = matches!(self.config.resampler.kind, ResamplerKind::Perceiver { .. });
        let wrong = || Error::Shape {
            operation: "flamingo",
            expected: format!(
                "pictures or videos of one or more frames{}, each {size} × {size} × 3 numbers",
                if perceiver { "" } else { ", as many in each" }
            ),
            found: format!("frames {frames:?}, {} numbers", pixels.len()),
        };
        let alike = frames.windows(2).all(|pair| pair[0] == pair[1]);
        if pixels.len() != all * size * size * 3 || frames.contains(&0) || !(perceiver || alike) {
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
            tokens.reshape(&[1, tokens.len() / width, width])
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
        let mut images = 0;
        let count = |&id: &u32| {
            images += u32::from(self.config.is_image(id));
            images
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
        self.through(ids, images, pass, media, cache, &mut |_| {})
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
        let keep = &mut |x: &Tensor<B>| states.push(x.clone());
        self.through(ids, images, pass, media, None, keep)?;
        Ok(states)
    }

    /// As [`Flamingo::forward`]; `each` is given the residual stream before the
    /// first block and after each.
    fn through(
        &self,
        ids: &[u32],
        images: &[u32],
        pass: &Pass<B>,
        media: &Media<B>,
        mut cache: Option<&mut Cache<B>>,
        each: &mut dyn FnMut(&Tensor<B>),
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
        each(&x);
        for (layer, xattn) in self.xattn.iter().enumerate() {
            let see = |x: &Tensor<B>| match (xattn, &media.layers[layer]) {
                (Some(xattn), Some(media)) => xattn.forward(x, media, &sight),
                _ => Ok(x.clone()),
            };
            let cache = cache.as_deref();
            x = match self.config.xattn.kind {
                XattnKind::Gated => self.lm.block(layer, &see(&x)?, pass, cache)?,
                XattnKind::Vanilla => self.lm.block_with(layer, &x, pass, cache, &see)?,
            };
            each(&x);
        }
        if let Some(cache) = &mut cache {
            self.lm.advance(pass, cache);
        }
        Ok(x)
    }
}

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
        let marks = images.last().copied().unwrap_or(0) as usize;
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
}

impl<B: Backend> Decoder<B> for Illustrated<'_, B> {
    fn lm(&self) -> &Lm<B> {
        &self.flamingo.lm
    }

    /// What is written after the prompt sees its last picture, as in
    /// OpenFlamingo (`condition_media_locations` with a cache).
    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        let last = self.images.last().copied().unwrap_or(0);
        let number = |row: usize| self.images.get(row).copied().unwrap_or(last);
        let images: Vec<u32> = pass.keys().map(number).collect();
        self.flamingo.forward(ids, &images, pass, self.media, cache)
    }
}
