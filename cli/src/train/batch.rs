//! Batches of pictures and captions of the world.

use plume_core::image::{Preprocess, Rgb8};
use plume_core::tokens::{Tokenizer, Tokens};
use rand::Rng as _;
use rand::seq::IndexedRandom;

use crate::world::{
    Colour, Sampler, Scene, Split, Telling, attributes_swapped, caption, render, swapped_caption,
};

/// What one step learns from.
pub struct Batch {
    /// `[n, size, size, 3]`, prepared.
    pub pixels: Vec<f32>,
    /// `n` true captions, then the false ones.
    pub texts: Vec<Tokens>,
    /// For each false caption the picture that it is true of after all, if it
    /// is in the batch.
    pub excused: Vec<Option<usize>>,
    /// Number of pictures.
    pub n: usize,
}

/// How a batch is made up.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mix {
    /// Groups of single things that share one colour: told apart by shape
    /// alone.
    pub groups: usize,
    /// Things in such a group.
    pub one_colour: usize,
    /// Single things of any colour.
    pub any_colour: usize,
    /// Single things to one side, each beside the same on the other side.
    pub placed: usize,
    /// Two things, each scene beside the one with the places exchanged.
    pub pairs: usize,
    /// Two to four of one kind.
    pub several: usize,
}

impl Mix {
    /// Single things that are not placed.
    fn singles(&self) -> usize {
        self.groups * self.one_colour + self.any_colour
    }

    /// Pictures in a batch.
    pub fn total(&self) -> usize {
        self.singles() + 2 * (self.placed + self.pairs) + self.several
    }
}

/// A part of the curriculum.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Phase {
    /// Share of all steps after which it ends.
    pub until: f64,
    /// The make-up of its batches.
    pub mix: Mix,
    /// How its captions tell of two things.
    pub telling: Telling,
}

/// Draws batches.
pub struct Batches<'a> {
    sampler: Sampler,
    phase: Phase,
    tokenizer: &'a Tokenizer,
    preprocess: &'a Preprocess,
}

impl<'a> Batches<'a> {
    /// The batch of this step: the seed and the step decide everything, so
    /// that a resumed run sees what an unbroken one would have.
    pub fn at(
        seed: u64,
        step: usize,
        phase: Phase,
        tokenizer: &'a Tokenizer,
        preprocess: &'a Preprocess,
    ) -> Self {
        let sampler = Sampler::new(
            Split::Train,
            seed.wrapping_mul(0x9e37_79b9) ^ (step as u64) << 20,
        );
        Self {
            sampler,
            phase,
            tokenizer,
            preprocess,
        }
    }

    fn scenes(&mut self) -> Vec<Scene> {
        let mix = self.phase.mix;
        let mut scenes: Vec<Scene> = Vec::with_capacity(mix.total());
        let mut colour = None;
        for i in 0..mix.singles() {
            if i >= mix.groups * mix.one_colour {
                colour = None;
            } else if i % mix.one_colour == 0 {
                colour = Colour::ALL.choose(self.sampler.rng()).copied();
            }
            // The same thing in the same colour twice would make a true
            // caption count as false; after some tries it may.
            let mut scene = self.sampler.one(colour);
            for _ in 0..30 {
                let same = |other: &Scene| {
                    let (a, b) = (&other.items[0], &scene.items[0]);
                    (a.thing, a.colour) == (b.thing, b.colour)
                };
                if !scenes.iter().any(same) {
                    break;
                }
                scene = self.sampler.one(colour);
            }
            scenes.push(scene);
        }
        for i in 0..mix.placed + mix.pairs {
            let scene = if i < mix.placed {
                self.sampler.placed()
            } else {
                self.sampler.pair()
            };
            let exchanged = self.sampler.exchanged(&scene);
            scenes.extend([scene, exchanged]);
        }
        scenes.extend((0..mix.several).map(|_| self.sampler.several()));
        scenes
    }

    /// Draws it.
    ///
    /// # Errors
    /// Where a caption cannot be encoded.
    pub fn draw(mut self) -> anyhow::Result<Batch> {
        let scenes = self.scenes();
        let Phase { mix, telling, .. } = self.phase;
        let singles = mix.singles();
        let mut pixels = Vec::new();
        let mut captions = Vec::with_capacity(scenes.len() * 2);
        for (i, scene) in scenes.iter().enumerate() {
            pixels.extend(photograph(scene, self.preprocess, &mut self.sampler)?);
            // A thing that is in the batch in several colours must be told by colour.
            let thing = scene.items[0].thing;
            let twice = scenes[..singles]
                .iter()
                .filter(|s| s.items[0].thing == thing)
                .count()
                > 1;
            let colour = i < singles && twice;
            captions.push(caption(scene, colour, telling, self.sampler.rng()));
        }
        let n = scenes.len();
        let mut excused = Vec::new();
        let placed = scenes.iter().enumerate().take(n - mix.several);
        for (i, scene) in placed.skip(singles) {
            let partner = singles + ((i - singles) ^ 1);
            captions.push(swapped_caption(scene, false, telling, self.sampler.rng()));
            excused.push(Some(partner));
            let [a, b] = scene.items.as_slice() else {
                continue;
            };
            if a.colour != b.colour && i % 2 == 0 {
                captions.push(attributes_swapped(scene, telling, self.sampler.rng()));
                excused.push(None);
            }
        }
        let texts = captions.iter().map(|text| self.tokenizer.encode(text));
        Ok(Batch {
            pixels,
            texts: texts.collect::<Result<_, _>>()?,
            excused,
            n,
        })
    }
}

/// A random square crop of a drawing of random size, prepared as a person's
/// picture would be: CLIP's only augmentation (§2.5).
pub(super) fn photograph(
    scene: &Scene,
    preprocess: &Preprocess,
    sampler: &mut Sampler,
) -> anyhow::Result<Vec<f32>> {
    Crop::draw(sampler).of(scene, preprocess)
}

/// What of a drawing is seen, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Crop {
    /// Side of the whole drawing.
    size: u32,
    side: usize,
    corner: (usize, usize),
}

impl Crop {
    /// Any.
    pub(super) fn draw(sampler: &mut Sampler) -> Self {
        let rng = sampler.rng();
        let size: u32 = rng.random_range(72..=136);
        let side = (size as f32 * rng.random_range(0.9..=1.0)) as usize;
        let corner = (
            rng.random_range(0..=size as usize - side),
            rng.random_range(0..=size as usize - side),
        );
        Self { size, side, corner }
    }

    /// `[size, size, 3]`, prepared.
    ///
    /// # Errors
    /// Where the drawing is no picture.
    pub(super) fn of(self, scene: &Scene, preprocess: &Preprocess) -> anyhow::Result<Vec<f32>> {
        let Self { size, side, corner } = self;
        let whole = render(scene, size);
        let rows = whole.chunks_exact(size as usize * 3).skip(corner.1);
        let crop: Vec<u8> = rows
            .take(side)
            .flat_map(|row| &row[corner.0 * 3..(corner.0 + side) * 3])
            .copied()
            .collect();
        Ok(preprocess.apply(&Rgb8::new(side as u32, side as u32, crop)?))
    }
}
