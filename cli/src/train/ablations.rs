//! What a Flamingo is without each of its parts: the ablations of the paper
//! (Tables 3 and 10) in miniature.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::design::Design;
use super::keep;
use super::language::Run;
use super::learner::Learner;
use super::trials::{Count, Plan as Trials, Report};
use super::{read, write};
use crate::world::{Sizes, Sort, Split};

/// A choice.
struct Ablation {
    /// What it is, in words.
    name: &'static str,
    /// What `plume train flamingo` is told.
    switches: &'static str,
    /// The paper's overall score of it, of a Flamingo-3B with 4 shots.
    paper: Option<f32>,
}

const fn row(name: &'static str, switches: &'static str, paper: Option<f32>) -> Ablation {
    Ablation {
        name,
        switches,
        paper,
    }
}

/// All of them; the first is the demo's own.
const ABLATIONS: [Ablation; 16] = [
    row("as it is", "", Some(66.7)),
    row("no gate", "--gate none", Some(66.5)),
    row("vanilla cross-attention", "--xattn vanilla", Some(66.9)),
    row("grafting", "--graft 4", Some(63.1)),
    row("one layer in the middle", "--layers 2", Some(59.8)),
    row("before every 4th block", "--layers 0", Some(68.8)),
    row("before every 2nd block", "--layers 0,2", Some(68.2)),
    row("resampler: MLP", "--resampler mlp", Some(66.6)),
    row(
        "resampler: Perceiver, 64 latents",
        "--latents 64",
        Some(70.7),
    ),
    row("resampler: Perceiver, 16 latents", "--latents 16", None),
    row("all previous pictures", "--all-previous", Some(63.5)),
    row("language model unfrozen", "--unfreeze lm", Some(62.7)),
    row("language model from nothing", "--random lm", Some(57.8)),
    row("image tower unfrozen", "--unfreeze vision", Some(68.1)),
    row("round robin", "--round-robin", Some(62.9)),
    row("next picture half of the time", "--p-next 0.5", None),
];

/// What all rows have, the first as well: of the demo's four layers of resampler
/// names are hardly learned within the steps that there are.
const COMMON: &str = "--resampler-depth 2";

/// How a choice did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is, in words.
    pub name: String,
    /// What `plume train flamingo` was told.
    pub switches: String,
    /// The paper's overall score of it.
    pub paper: Option<f32>,
    /// Steps of the run.
    pub steps: usize,
    /// Seconds that training took.
    pub seconds: f64,
    /// Numbers that were trained.
    pub trained: usize,
    /// Right names of kinds, with four kinds and eight examples of all together,
    /// by what kinds differ in.
    pub named: Vec<(Sort, Count)>,
    /// Captions that are right in every word.
    pub captions: Count,
    /// Right answers.
    pub answers: Count,
}

impl Row {
    /// The mean of the figures, in percent, as the paper's overall score is one
    /// of its tasks.
    pub fn overall(&self) -> f64 {
        let shares = self.counts().into_iter().map(|count| count.share());
        100.0 * shares.sum::<f64>() / self.counts().len() as f64
    }

    fn counts(&self) -> Vec<Count> {
        let named = self.named.iter().map(|(_, count)| *count);
        named.chain([self.captions, self.answers]).collect()
    }
}

/// What is trained and measured.
pub struct Plan {
    /// The CLIP and the language model of all.
    pub base: Base,
    /// The folder of the runs.
    pub work: PathBuf,
    /// Steps of each.
    pub steps: usize,
    /// Trials of each figure.
    pub trials: usize,
    /// What decides everything else.
    pub seed: u64,
}

/// Pictures of the trials.
const PICTURES: Sizes = Sizes {
    singles: 2000,
    pairs: 600,
    several: 600,
    placed: 300,
};

impl Plan {
    /// Trains and measures what is not finished yet.
    ///
    /// # Errors
    /// Where the computation or the disk fails.
    pub fn run(&self) -> Result<Vec<Row>> {
        fs::create_dir_all(&self.work)
            .with_context(|| format!("cannot make {}", self.work.display()))?;
        ABLATIONS
            .iter()
            .map(|ablation| self.row(ablation))
            .collect()
    }

    fn row(&self, ablation: &Ablation) -> Result<Row> {
        let name = ablation.name.replace([' ', ':'], "-");
        let folder = self.work.join(name);
        let finished = folder.join("row.json");
        let design = Design::typed(&format!("{COMMON} {}", ablation.switches))?;
        let recipe = design.recipe(self.base.clone(), self.seed, self.steps)?;
        let recipe = recipe.with_as_many_batches().with_batches_of(0.5);
        if finished.exists() {
            let row: Row = serde_json::from_str(&read(&finished)?)
                .with_context(|| format!("{} is no row", finished.display()))?;
            ensure!(
                row.steps == recipe.steps,
                "{} is of {} steps, not {}: rows of a table have a folder of their own",
                finished.display(),
                row.steps,
                recipe.steps
            );
            return Ok(row);
        }
        let mut run = if keep::file(&folder).exists() {
            Run::resume(&folder, &self.work, recipe.steps)?
        } else {
            Run::begin(&folder, &self.work, recipe)?
        };
        run.train()?;
        run.publish(&folder.join("model"))?;
        let report = self.measure(&folder.join("model"))?;
        let sum = |counts: &mut dyn Iterator<Item = Count>| {
            counts.fold(Count::default(), |a, b| Count {
                right: a.right + b.right,
                trials: a.trials + b.trials,
            })
        };
        let row = Row {
            name: ablation.name.to_owned(),
            switches: ablation.switches.to_owned(),
            paper: ablation.paper,
            steps: run.steps(),
            seconds: run.seconds(),
            trained: run.trained(),
            named: report
                .named
                .iter()
                .map(|cell| (cell.sort, cell.chosen))
                .collect(),
            captions: sum(&mut report.captions.iter().map(|captions| captions.exact)),
            answers: sum(&mut report.answers.iter().map(|answers| answers.right)),
        };
        write(&finished, serde_json::to_string_pretty(&row)?)?;
        Ok(row)
    }

    /// In the same trials as all others.
    fn measure(&self, model: &Path) -> Result<Report> {
        let learner = Learner::open(model)?;
        // Another seed than any training has.
        let seed = self.seed.wrapping_add(7_000_000);
        let gallery = learner.gallery(Split::HeldOut, seed, PICTURES, Some(&self.work))?;
        Trials::short(self.trials).report(&learner, &gallery, None)
    }
}

/// The table, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what is different | switches | trained, thousands | minutes | by both | by thing | \
         by colour | captions | answers | mean | paper |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let switches = match row.switches.as_str() {
            "" => "–".to_owned(),
            switches => format!("`{switches}`"),
        };
        let figures: Vec<String> = row.counts().iter().map(Count::words).collect();
        let paper = row
            .paper
            .map_or("–".to_owned(), |score| format!("{score:.1}"));
        let _ = writeln!(
            text,
            "| {} | {switches} | {} | {:.1} | {} | {:.1} | {paper} |",
            row.name,
            row.trained / 1000,
            row.seconds / 60.0,
            figures.join(" | "),
            row.overall(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ABLATIONS, Base, Design, Path};

    /// Each is a model, and another than the first or trained otherwise.
    #[test]
    fn every_row_is_a_choice() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/demo");
        let recipes = ABLATIONS.iter().map(|ablation| {
            let base = Base {
                clip: Some(demo.join("clip")),
                lm: Some(demo.join("flamingo")),
                ..Base::default()
            };
            let design = Design::typed(ablation.switches).expect(ablation.switches);
            let recipe = design.recipe(base, 1, 10).expect(ablation.switches);
            serde_json::to_string(&recipe).expect("a recipe")
        });
        let recipes: Vec<String> = recipes.collect();
        for (i, recipe) in recipes.iter().enumerate() {
            assert!(!recipes[..i].contains(recipe), "{}", ABLATIONS[i].name);
        }
    }
}
