use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;

use crate::train::base::Base;
use crate::train::design::Design;
use crate::train::language::Run;
use crate::train::pages::Pages;

/// Train resampler and gated cross-attention between the tower of a CLIP and a
/// language model, both of which stay as they are unless you say otherwise; or
/// train a Flamingo on. Every 200 steps the run is kept in --work, with its
/// losses (loss.csv) and its figures; --resume goes on from there.
#[derive(clap::Args)]
pub(super) struct Flamingo {
    /// Folder of the CLIP.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["from", "resume"])]
    clip: Option<PathBuf>,
    /// Folder of the language model, or of a Flamingo that has it.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["from", "resume"])]
    lm: Option<PathBuf>,
    /// Train this Flamingo on, instead of beginning with a CLIP and a language
    /// model.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["clip", "lm"])]
    from: Option<PathBuf>,
    /// Folder for the finished model.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder for the run itself.
    #[arg(long, value_name = "DIR", default_value = "target/train-flamingo")]
    work: PathBuf,
    /// Steps of the schedule.
    #[arg(long, default_value_t = 7000)]
    steps: usize,
    /// What decides documents, pictures and weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Documents of your own, and how much their loss counts; may be given
    /// several times. Each line is one: {"segments": [{"image": "a.jpg"},
    /// {"text": "Output:a house"}, …]}, with pictures where the file lies.
    #[arg(long, value_name = "FILE[=WEIGHT]")]
    dataset: Vec<Pages>,
    /// Documents that a step takes of each of these.
    #[arg(long, value_name = "N", default_value = "8")]
    batch: NonZeroUsize,
    /// Show the drawings beside documents of your own.
    #[arg(long, requires = "dataset")]
    drawings: bool,
    #[command(flatten)]
    design: Design,
    /// Go on with the run in --work as it was begun; --steps may lengthen its
    /// schedule.
    #[arg(long)]
    resume: bool,
}

impl Flamingo {
    pub(super) fn run(self) -> Result<()> {
        let mut run = if self.resume {
            Run::resume(&self.work, &self.work, self.steps)?
        } else {
            let base = Base {
                clip: self.clip,
                lm: self.lm,
                from: self.from,
                ..Base::default()
            };
            let mut recipe = self.design.recipe(base, self.seed, self.steps)?;
            if !self.dataset.is_empty() && !self.drawings {
                recipe = recipe.without_drawings();
            }
            recipe.pages = self.dataset;
            recipe.page_batch = self.batch.get();
            Run::begin(&self.work, &self.work, recipe)?
        };
        run.train()?;
        run.publish(&self.out)
    }
}
