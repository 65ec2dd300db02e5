use std::path::PathBuf;

use anyhow::Result;
use plume_core::cpu::Candle;
use plume_core::image::Rgb8;

use super::super::print;
use crate::model::ModelFiles;
use crate::train::learner::Learner;
use crate::train::trials::{Plan, curve};
use crate::world::{Sizes, Split, render};

/// Measure a Flamingo on the world of drawings: naming made-up kinds by
/// examples, captions, questions; on combinations and names that training never
/// shows. Each figure has the interval that holds the true one with 95 %.
#[derive(clap::Args)]
pub(super) struct World {
    /// Folder of the Flamingo.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of a CLIP by which similar examples are found (RICES).
    #[arg(long, value_name = "DIR")]
    clip: Option<PathBuf>,
    /// Trials of each kind.
    #[arg(long, default_value_t = 300)]
    trials: usize,
    /// What decides pictures and trials.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// On combinations that training shows.
    #[arg(long)]
    seen: bool,
    /// Write a plot of the shares against the number of examples here.
    #[arg(long, value_name = "X.svg")]
    plot: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Pictures that trials are drawn from.
const PICTURES: Sizes = Sizes {
    singles: 2000,
    pairs: 600,
    several: 600,
    placed: 300,
};

/// Side of a drawing that the CLIP is shown, in pixels.
const SIDE: u32 = 160;

impl World {
    pub(super) fn run(self) -> Result<()> {
        let learner = Learner::open(&self.model)?;
        let split = if self.seen {
            Split::Train
        } else {
            Split::HeldOut
        };
        // Another seed than any training has.
        let seed = self.seed.wrapping_add(7_000_000);
        let gallery = learner.gallery(split, seed, PICTURES, None)?;
        let embeddings = self.embeddings(gallery.pool.scenes())?;
        let likeness = |i: usize| embeddings[i].clone();
        let likeness: Option<&dyn Fn(usize) -> Vec<f32>> =
            (!embeddings.is_empty()).then_some(&likeness);
        let report = Plan::whole(self.trials).report(&learner, &gallery, likeness)?;
        if let Some(path) = &self.plot {
            std::fs::write(path, curve(&report))?;
        }
        if self.json {
            return print(&serde_json::to_string(&report)?);
        }
        print(&report.markdown())
    }

    /// Those of all pictures, if there is a CLIP.
    fn embeddings(&self, scenes: &[crate::world::Scene]) -> Result<Vec<Vec<f32>>> {
        let Some(clip) = &self.clip else {
            return Ok(Vec::new());
        };
        let classifier = ModelFiles::find(clip)?.classifier(&Candle::new())?;
        let mut all = Vec::with_capacity(scenes.len());
        for batch in scenes.chunks(50) {
            let mut pixels = Vec::new();
            for scene in batch {
                let picture = Rgb8::new(SIDE, SIDE, render(scene, SIDE))?;
                pixels.extend(classifier.preprocess()?.apply(&picture));
            }
            all.extend(pollster::block_on(classifier.embed_images(&pixels))?);
        }
        Ok(all)
    }
}
