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
    Flamingo(Flamingo),
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
    #[arg(long, default_value_t = 2500)]
    steps: usize,
    /// What decides documents and weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with the run in --work; --steps may lengthen its schedule.
    #[arg(long)]
    resume: bool,
}

/// Train resampler and gated cross-attention between the tower of a CLIP and a
/// language model, both of which stay as they are.
#[derive(clap::Args)]
struct Flamingo {
    /// Folder of the CLIP.
    #[arg(long, value_name = "DIR")]
    clip: PathBuf,
    /// Folder of the language model.
    #[arg(long, value_name = "DIR")]
    lm: PathBuf,
    /// Folder for the finished model.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder for the run itself.
    #[arg(long, value_name = "DIR", default_value = "target/train-flamingo")]
    work: PathBuf,
    /// Steps of the schedule.
    #[arg(long, default_value_t = 3900)]
    steps: usize,
    /// What decides documents, pictures and weights.
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
        }
    }
}

impl Clip {
    fn run(self) -> Result<()> {
        let (mut run, before) = if self.resume {
            Run::resume(&self.work, self.steps)?
        } else {
            let recipe = Recipe::demo(self.seed, self.steps);
            (Run::begin(&self.work, recipe)?, 0.0)
        };
        run.train(before)?;
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
        let base = language::Base::default();
        let (mut run, before) = if self.resume {
            language::Run::resume(&self.work, self.steps)?
        } else {
            let words = Words::new(&tokenizer_json()?)?;
            let recipe = recipe::Recipe::lm(self.seed, self.steps, words.tokenizer().size());
            (language::Run::begin(&self.work, recipe, &base)?, 0.0)
        };
        run.train(before, &base)?;
        run.publish(&self.out, &base)
    }
}

impl Flamingo {
    fn run(self) -> Result<()> {
        let base = language::Base {
            clip: Some(self.clip),
            lm: Some(self.lm),
        };
        let (mut run, before) = if self.resume {
            language::Run::resume(&self.work, self.steps)?
        } else {
            let recipe = base.recipe(self.seed, self.steps)?;
            (language::Run::begin(&self.work, recipe, &base)?, 0.0)
        };
        run.train(before, &base)?;
        run.publish(&self.out, &base)
    }
}
