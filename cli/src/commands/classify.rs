use std::path::PathBuf;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use plume_core::backend::Backend;
use plume_core::tasks::classify::{Classifier, Labels, Scores};
use serde::Serialize;

use super::{Job, ModelArguments, print};
use crate::pictures;

/// Say which label fits each picture.
///
/// Pictures that cannot be read are reported and skipped; the exit status is
/// then 1, and the others are still answered.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON (--json): one array with one object for each picture, in the order given:
  {\"image\": PATH,
   \"scores\": [{\"label\": TEXT, \"cosine\": -1 to 1, \"probability\": 0 to 1}, …]}
in the order of --labels, or {\"image\": PATH, \"error\": TEXT}.
Probabilities are of these labels and sum to 1; those of a SigLIP are each
label's own and do not.")]
pub struct Classify {
    #[command(flatten)]
    model: ModelArguments,
    /// The labels, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    labels: Vec<String>,
    /// Sentence with {} in the place of the label; several are averaged.
    /// Without it: "a photo of a {}".
    #[arg(long)]
    template: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Pictures that go through the model at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Picture files: JPEG, PNG, WebP, GIF or BMP.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<Score>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Score {
    label: String,
    cosine: f32,
    probability: f32,
}

impl Classify {
    pub(super) fn run(mut self) -> Result<()> {
        self.labels = self
            .labels
            .iter()
            .map(|label| label.trim().to_owned())
            .collect();
        self.labels.retain(|label| !label.is_empty());
        if self.labels.is_empty() {
            bail!("--labels names no label");
        }
        if self.template.is_empty() {
            self.template.push("a photo of a {}".to_owned());
        }
        // The arguments are read again inside the job.
        let model = &self.model;
        model.run(Run(&self))
    }

    fn answer(&self, image: &str, scores: Scores) -> Answer {
        let pairs = scores.cosine.into_iter().zip(scores.probability);
        let scores = self.labels.iter().zip(pairs);
        Answer {
            image: image.to_owned(),
            scores: Some(
                scores
                    .map(|(label, (cosine, probability))| Score {
                        label: label.clone(),
                        cosine,
                        probability,
                    })
                    .collect(),
            ),
            error: None,
        }
    }

    /// Scores each picture of a batch, or says why not.
    async fn batch<B: Backend>(
        &self,
        classifier: &Classifier<B>,
        labels: &Labels,
        paths: &[PathBuf],
    ) -> Result<Vec<Answer>> {
        let preprocess = classifier.preprocess()?;
        let mut pixels = Vec::new();
        let mut answers = Vec::with_capacity(paths.len());
        for path in paths {
            let image = path.display().to_string();
            let error = match pictures::open(path) {
                Ok(picture) => {
                    pixels.extend(preprocess.apply(&picture));
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            answers.push(Answer {
                image,
                scores: None,
                error,
            });
        }
        if pixels.is_empty() {
            return Ok(answers);
        }
        let mut embeddings = classifier.embed_images(&pixels).await?.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.error.is_none()) {
            if let Some(embedding) = embeddings.next() {
                *answer = self.answer(&answer.image, classifier.scores(&embedding, labels));
            }
        }
        Ok(answers)
    }
}

struct Run<'a>(&'a Classify);

impl Job for Run<'_> {
    async fn run<B: Backend>(self, mut classifier: Classifier<B>) -> Result<()> {
        let arguments = self.0;
        let labels = classifier
            .labels(&arguments.labels, &arguments.template)
            .await?;
        let bar = ProgressBar::new(arguments.images.len() as u64);
        bar.set_style(ProgressStyle::with_template(
            "{pos}/{len} pictures {wide_bar} {eta}",
        )?);
        let mut answers = Vec::with_capacity(arguments.images.len());
        for paths in arguments.images.chunks(usize::from(arguments.batch)) {
            answers.extend(arguments.batch(&classifier, &labels, paths).await?);
            bar.inc(paths.len() as u64);
        }
        bar.finish_and_clear();
        if arguments.json {
            print(&serde_json::to_string_pretty(&answers)?)?;
        } else {
            for answer in &answers {
                print(&text(answer))?;
            }
        }
        match answers
            .iter()
            .filter(|answer| answer.error.is_some())
            .count()
        {
            0 => Ok(()),
            failed => bail!("{failed} of {} pictures could not be read", answers.len()),
        }
    }
}

/// The labels of one picture, best first.
fn text(answer: &Answer) -> String {
    let mut lines = vec![answer.image.clone()];
    if let Some(error) = &answer.error {
        lines.push(format!("  cannot be read: {error}"));
    }
    let mut scores: Vec<&Score> = answer.scores.iter().flatten().collect();
    scores.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    for score in scores {
        lines.push(format!(
            "  {:5.1} %  cosine {:+.4}  {}",
            score.probability * 100.0,
            score.cosine,
            score.label
        ));
    }
    lines.join("\n")
}
