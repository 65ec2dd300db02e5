//! The commands, one file each.

mod bench;
mod classify;
mod embed;
mod eval;
mod generate;
mod inspect;
mod models;
mod pack;
mod preprocess;
mod score;
mod tokenize;
mod train;
mod verify;
mod world;

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::tasks::classify::Classifier;

use crate::model::ModelFiles;

/// What `plume` can do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Say which label fits each picture.
    Classify(classify::Classify),
    /// Print the embedding of a picture or a text.
    Embed(embed::Embed),
    /// Write on after a prompt of words and pictures.
    Generate(generate::Generate),
    /// Say how likely each of some answers is after a prompt.
    Score(score::Score),
    /// Measure how good what a model writes is.
    Eval(eval::Eval),
    /// Print the token ids of a text.
    Tokenize(tokenize::Tokenize),
    /// Write what an image tower is given for a picture.
    Preprocess(preprocess::Preprocess),
    /// Make one GGUF file of a model.
    Pack(pack::Pack),
    /// Say what a model file holds.
    Inspect(inspect::Inspect),
    /// Check that a model gives here what it should.
    Verify(verify::Verify),
    /// List published models, download them, and take them away again.
    Models(models::Models),
    /// Train a model from scratch.
    Train(train::Train),
    /// Measure how long a model takes.
    Bench(bench::Bench),
    /// Draw the world that the embedded models are trained on.
    World(world::World),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// In words for the person who asked.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Classify(command) => command.run(),
            Self::Embed(command) => command.run(),
            Self::Generate(command) => command.run(),
            Self::Score(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Tokenize(command) => command.run(),
            Self::Preprocess(command) => command.run(),
            Self::Pack(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Models(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::World(command) => command.run(),
        }
    }
}

/// Which device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The graphics processor, through Vulkan, Metal or Direct3D 12.
    Gpu,
}

/// The model and the device, as most commands take them.
#[derive(clap::Args)]
pub struct ModelArguments {
    /// Directory of config.json, model.safetensors, tokenizer.json and
    /// preprocessor_config.json, the weights file inside one, a GGUF file of
    /// `plume pack`, or the id of a model that `plume models get` brought.
    #[arg(long, value_name = "DIR_OR_FILE")]
    pub model: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: Device,
}

/// Something to do with a classifier, whatever it runs on.
trait Job {
    fn run<B: Backend>(self, classifier: Classifier<B>) -> impl Future<Output = Result<()>>;
}

impl ModelArguments {
    fn run(&self, job: impl Job) -> Result<()> {
        let files = ModelFiles::find(&self.model)?;
        match self.device {
            Device::Cpu => pollster::block_on(job.run(files.classifier(&Candle::new())?)),
            Device::Gpu => {
                let gpu = pollster::block_on(Gpu::new())?;
                pollster::block_on(job.run(files.classifier(&gpu)?))
            }
        }
    }
}

/// Writes a line to standard output; a closed pipe is an error, not a panic.
fn print(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}
