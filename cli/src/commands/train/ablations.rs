use std::path::PathBuf;

use anyhow::Result;

use super::super::print;
use crate::train::ablations::{Plan, table};
use crate::train::base::Base;

/// Train a Flamingo once for each choice that the paper compares, for the same
/// few steps on the same CLIP and language model, measure all in the same
/// trials, and print one table. A row that is finished in --work is not trained
/// again; one that was broken off goes on.
#[derive(clap::Args)]
pub(super) struct Ablations {
    /// Folder of the CLIP.
    #[arg(long, value_name = "DIR", default_value = "www/demo/clip")]
    clip: PathBuf,
    /// Folder of the language model, or of a Flamingo that has it.
    #[arg(long, value_name = "DIR", default_value = "www/demo/flamingo")]
    lm: PathBuf,
    /// Folder for the runs.
    #[arg(long, value_name = "DIR", default_value = "target/ablations")]
    work: PathBuf,
    /// Steps of each, with batches half as large as the demo's.
    #[arg(long, default_value_t = 300)]
    steps: usize,
    /// Trials of each figure.
    #[arg(long, default_value_t = 150)]
    trials: usize,
    /// What decides documents, pictures, weights and trials.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Ablations {
    pub(super) fn run(self) -> Result<()> {
        let plan = Plan {
            base: Base {
                clip: Some(self.clip),
                lm: Some(self.lm),
                ..Base::default()
            },
            work: self.work,
            steps: self.steps,
            trials: self.trials,
            seed: self.seed,
        };
        let rows = plan.run()?;
        if self.json {
            return print(&serde_json::to_string_pretty(&rows)?);
        }
        print(&table(&rows))
    }
}
