use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_pcg::Pcg64Mcg;

use crate::commands::{Device, print};
use crate::eval::{Case, Evaluation, Plan, Row, Selection, Task};
use crate::model::ModelFiles;
use crate::{pictures, writer};

/// Ask a model about every case of a file, with shots before each, and say how
/// good its answers are.
///
/// Prompts are written by the checkpoint's own conventions. With 0 shots, two
/// are shown in words alone.
#[derive(clap::Args)]
#[command(after_long_help = "\
Cases are lines of JSON; pictures are found from where the file lies:
  caption     {\"image\": FILE, \"captions\": [TEXT, …]}
  vqa         {\"image\": FILE, \"question\": TEXT, \"answers\": [TEXT, …]}
  classify    {\"image\": FILE, \"label\": TEXT}
  hateful     {\"image\": FILE, \"text\": TEXT, \"label\": \"yes\" or \"no\"}
  winoground  {\"images\": [FILE, FILE], \"captions\": [TEXT, TEXT]}
The support has lines of the same kind; those of winoground are captions.

JSON (--json): {\"task\", \"metric\", \"select\": TEXT, \"seed\": NUMBER, \"options\": [TEXT, …],
  \"rows\": [{\"shots\", \"value\": NUMBER, \"cases\": [{\"shots\": [INDEX, …], \"text\": TEXT or
  \"likelihoods\": [LOG, …]}, …]}, …]}; value is null where all cases are of one kind.")]
pub(super) struct Data {
    /// A packed model, or a directory as published.
    #[arg(long, value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// What is asked.
    #[arg(long, value_enum)]
    task: Task,
    /// The cases.
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    /// Cases to show as shots. Without it: the others of --data.
    #[arg(long, value_name = "FILE.jsonl")]
    support: Option<PathBuf>,
    /// How many shots; several numbers give several rows.
    #[arg(long, value_delimiter = ',', default_value = "0,4,8,16,32")]
    shots: Vec<usize>,
    /// How shots are chosen.
    #[arg(long, value_enum, default_value = "random")]
    select: Selection,
    /// The CLIP by which pictures are found similar.
    #[arg(long, value_name = "DIR_OR_FILE", required_if_eq("select", "rices"))]
    clip: Option<PathBuf>,
    /// Ask only so many of the cases, chosen by chance.
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// Beams of the search for captions and answers; 1 is the likeliest token.
    #[arg(long, value_name = "K", default_value_t = 3)]
    beams: usize,
    /// Most tokens of a caption (20 unless set) or an answer (5).
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Likelihoods are averaged over so many orders of the shots.
    #[arg(long, value_name = "N", default_value_t = 6)]
    orders: usize,
    /// The same seed chooses the same cases and shots.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Print JSON, with what was said of each case.
    #[arg(long)]
    json: bool,
}

impl Data {
    pub(super) fn run(self) -> Result<()> {
        ensure!(self.beams > 0, "--beams takes a number above 0");
        match self.device {
            Device::Cpu => pollster::block_on(self.on(&Candle::new())),
            Device::Gpu => pollster::block_on(async { self.on(&Gpu::new().await?).await }),
        }
    }

    async fn on<B: Backend>(&self, backend: &B) -> Result<()> {
        let plan = Plan {
            task: self.task,
            shots: self.shots.clone(),
            selection: self.select,
            beams: self.beams,
            max_new_tokens: self.max_new_tokens,
            orders: self.orders,
            seed: self.seed,
        };
        let all = self.task.cases(&self.data)?;
        let support = match (&self.support, self.task) {
            (Some(file), Task::Winoground) => Task::Caption.cases(file)?,
            (Some(file), task) => task.cases(file)?,
            (None, Task::Winoground) => Vec::new(),
            (None, _) => all.clone(),
        };
        let cases = self.queried(all);
        let likeness = match &self.clip {
            Some(clip) if self.select == Selection::Rices => {
                Some(likeness(backend, clip, [&cases, &support]).await?)
            }
            _ => None,
        };
        let writer = writer::open(backend, &self.model)?;
        let evaluation = Evaluation::new(&writer, &plan, [&cases, &support], likeness)?;
        let bar = ProgressBar::new((cases.len() * plan.shots.len()) as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} answers {wide_bar} {eta}",
        )?);
        let rows = evaluation.run(|| bar.inc(1)).await;
        bar.finish_and_clear();
        let rows = rows?;
        let (metric, _) = self.task.metric();
        if self.json {
            let answer = serde_json::json!({
                "task": self.task, "metric": metric, "select": self.select, "seed": self.seed,
                "options": evaluation.options(), "rows": rows,
            });
            return print(&serde_json::to_string_pretty(&answer)?);
        }
        print(&table(metric, &rows, cases.len()))
    }

    /// The cases that are asked, in their order.
    fn queried(&self, mut cases: Vec<Case>) -> Vec<Case> {
        if let Some(queries) = self.queries.filter(|&queries| queries < cases.len()) {
            let mut random = Pcg64Mcg::seed_from_u64(self.seed);
            let mut chosen = sample(&mut random, cases.len(), queries).into_vec();
            chosen.sort_unstable();
            cases = chosen.into_iter().map(|i| cases[i].clone()).collect();
        }
        cases
    }
}

/// Embeddings, of length one, of the first picture of each case.
async fn likeness<B: Backend>(
    backend: &B,
    clip: &Path,
    sets: [&[Case]; 2],
) -> Result<[Vec<Vec<f32>>; 2]> {
    let classifier = ModelFiles::find(clip)?.classifier(backend)?;
    let mut both = [Vec::new(), Vec::new()];
    for (embeddings, cases) in both.iter_mut().zip(sets) {
        for case in cases {
            let picture = pictures::open(Path::new(&case.images[0]))?;
            let pixels = classifier.preprocess()?.apply(&picture);
            embeddings.extend(classifier.embed_images(&pixels).await?);
        }
    }
    Ok(both)
}

/// A table in Markdown.
fn table(metric: &str, rows: &[Row], cases: usize) -> String {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}"));
    let mut lines = vec![
        format!("| shots | {metric} |"),
        "| ---: | ---: |".to_owned(),
    ];
    let winoground = rows.iter().any(|row| row.text.is_some());
    if winoground {
        lines = vec![
            "| shots | text | image | group |".to_owned(),
            "| ---: | ---: | ---: | ---: |".to_owned(),
        ];
    }
    for row in rows {
        let mut cells = vec![row.shots.to_string()];
        if winoground {
            cells.extend([row.text, row.image].map(number));
        }
        cells.push(number(row.value));
        lines.push(format!("| {} |", cells.join(" | ")));
    }
    lines.push(String::new());
    lines.push(format!("{cases} cases"));
    lines.join("\n")
}
