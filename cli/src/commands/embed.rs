use std::path::PathBuf;

use anyhow::{Context, Result};
use plume_core::backend::Backend;
use plume_core::tasks::classify::Classifier;

use super::{Job, ModelArguments, print};
use crate::pictures;

/// Print the embedding of a picture or a text: a point of length one in the
/// space that both share.
#[derive(clap::Args)]
#[command(after_long_help = "\
Without --json: the numbers, one on a line.
JSON (--json): {\"embedding\": [NUMBER, …]}")]
pub struct Embed {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    input: Input,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// A picture file.
    #[arg(long)]
    image: Option<PathBuf>,
    /// A text.
    #[arg(long)]
    text: Option<String>,
}

impl Embed {
    pub(super) fn run(self) -> Result<()> {
        self.model.run(Run(&self))
    }
}

struct Run<'a>(&'a Embed);

impl Job for Run<'_> {
    async fn run<B: Backend>(self, mut classifier: Classifier<B>) -> Result<()> {
        let embeddings = match (&self.0.input.image, &self.0.input.text) {
            (Some(path), _) => {
                let pixels = classifier.preprocess()?.apply(&pictures::open(path)?);
                classifier.embed_images(&pixels).await?
            }
            (None, text) => {
                let text = text.clone().unwrap_or_default();
                classifier.embed_texts(&[text]).await?
            }
        };
        let embedding = embeddings.first().context("the model gave no embedding")?;
        if self.0.json {
            return print(&serde_json::json!({ "embedding": embedding }).to_string());
        }
        let lines: Vec<String> = embedding.iter().map(f32::to_string).collect();
        print(&lines.join("\n"))
    }
}
