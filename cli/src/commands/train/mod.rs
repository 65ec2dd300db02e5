mod ablations;
mod flamingo;

use std::path::PathBuf;

use anyhow::Result;

use crate::train::words::{Words, tokenizer_json};
use crate::train::{Recipe, Run, language, recipe};

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
    /// A small language model, on words about the world of drawings.
    Lm(Language),
    /// What lets a language model see: a Flamingo, on the world of drawings.
    Flamingo(Box<flamingo::Flamingo>),
    /// What a Flamingo is without each of its parts: all of them, and a table.
    Ablations(ablations::Ablations),
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

/// Train the language model of the demo Flamingo on words alone: captions,
/// questions and answers, and documents in which made-up names are taught.
#[derive(clap::Args)]
struct Language {
    /// Folder for the finished model.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder for the run itself.
    #[arg(long, value_name = "DIR", default_value = "target/train-lm")]
    work: PathBuf,
    /// Steps of the schedule.
    #[arg(long, default_value_t = 3200)]
    steps: usize,
    /// What decides documents and weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with the run in --work; --steps may lengthen its schedule.
    #[arg(long)]
    resume: bool,
}

impl Train {
    pub(super) fn run(self) -> Result<()> {
        match self.model {
            Model::Clip(arguments) => arguments.run(),
            Model::Lm(arguments) => arguments.run(),
            Model::Flamingo(arguments) => arguments.run(),
            Model::Ablations(arguments) => arguments.run(),
        }
    }
}

impl Clip {
    fn run(self) -> Result<()> {
        let mut run = if self.resume {
            Run::resume(&self.work, self.steps)?
        } else {
            Run::begin(&self.work, Recipe::demo(self.seed, self.steps))?
        };
        run.train()?;
        let command = format!(
            "plume train clip --steps {} --seed {} --out {}",
            self.steps,
            self.seed,
            self.out.display()
        );
        run.publish(&self.out, &command)
    }
}

impl Language {
    fn run(self) -> Result<()> {
        let mut run = if self.resume {
            language::Run::resume(&self.work, &self.work, self.steps)?
        } else {
            let words = Words::new(&tokenizer_json()?)?;
            let recipe = recipe::Recipe::lm(self.seed, self.steps, words.tokenizer().size());
            language::Run::begin(&self.work, &self.work, recipe)?
        };
        run.train()?;
        run.publish(&self.out)
    }
}
