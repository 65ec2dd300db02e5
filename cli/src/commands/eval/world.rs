use std::path::PathBuf;

use anyhow::{Context, Result};
use plume_core::cpu::Candle;
use plume_core::image::Rgb8;

use super::super::print;
use crate::model::ModelFiles;
use crate::train::learner::Learner;
use crate::train::report::{curve, in_card, markdown};
use crate::train::trials::{Plan, Report};
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
    /// Put the tables into this model card, of both kinds of combinations.
    #[arg(long, value_name = "README.md", conflicts_with_all = ["seen", "json"])]
    card: Option<PathBuf>,
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
        let report = self.report(&learner, split)?;
        if let Some(path) = &self.plot {
            std::fs::write(path, curve(&report))?;
        }
        if let Some(path) = &self.card {
            let seen = self.report(&learner, Split::Train)?;
            let card = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            std::fs::write(path, in_card(&card, &report, &seen)?)?;
            return Ok(());
        }
        if self.json {
            return print(&serde_json::to_string(&report)?);
        }
        print(&markdown(&report))
    }

    fn report(&self, learner: &Learner, split: Split) -> Result<Report> {
        // Another seed than any training has.
        let seed = self.seed.wrapping_add(7_000_000);
        let gallery = learner.gallery(split, seed, PICTURES, None)?;
        let embeddings = self.embeddings(gallery.pool.scenes())?;
        let likeness = |i: usize| embeddings[i].clone();
        let likeness: Option<&dyn Fn(usize) -> Vec<f32>> =
            (!embeddings.is_empty()).then_some(&likeness);
        Plan::whole(self.trials).report(learner, &gallery, likeness)
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
