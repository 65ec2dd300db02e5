use std::path::PathBuf;

use anyhow::Result;

use crate::train::{Recipe, Run};

/// Train a model from scratch.
#[derive(clap::Args)]
pub struct Train {
    #[command(subcommand)]
    model: Model,
}

#[derive(clap::Subcommand)]
enum Model {
    /// CLIP, on the world of drawings.
    Clip(Clip),
}

/// Train CLIP on the world of drawings. Every 200 steps the run is kept in
/// --work, with its losses (loss.csv) and its figures (figures.jsonl); --resume
/// goes on from there.
#[derive(clap::Args)]
struct Clip {
    /// Folder for the finished model.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder for the run itself.
    #[arg(long, value_name = "DIR", default_value = "target/train-clip")]
    work: PathBuf,
    /// Steps of 128 drawings.
    #[arg(long, default_value_t = 2400)]
    steps: usize,
    /// What decides drawings, captions and weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with the run in --work; --steps may lengthen its schedule.
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(super) fn run(self) -> Result<()> {
        let Model::Clip(arguments) = self.model;
        let (mut run, before) = if arguments.resume {
            Run::resume(&arguments.work, arguments.steps)?
        } else {
            let recipe = Recipe::demo(arguments.seed, arguments.steps);
            (Run::begin(&arguments.work, recipe)?, 0.0)
        };
        run.train(before)?;
        let command = format!(
            "plume train clip --steps {} --seed {} --out {}",
            arguments.steps,
            arguments.seed,
            arguments.out.display()
        );
        run.publish(&arguments.out, &command)
    }
}
