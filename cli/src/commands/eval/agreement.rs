use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::prompts::Segment;
use plume_core::tasks::agreement::{Agreement, likeliest_after};
use plume_core::tasks::generate::{Method, Options, generate};
use serde::Deserialize;

use crate::commands::{Device, print};
use crate::writer;

/// Say how often a model would write the same token as another.
///
/// The other writes on after each prompt; both are then given that text, and
/// what each finds likeliest after every token of it is compared.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prompts are lines of JSON as `plume generate` takes one; pictures are found from where the file
lies: {\"segments\": [{\"image\": \"a.jpg\"}, {\"text\": \"Output:\"}]}
JSON (--json): {\"prompts\", \"tokens\", \"same\", \"percent\": NUMBER}")]
pub(super) struct Compare {
    /// The model, such as one that was packed in fewer bits.
    #[arg(long, value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// What it is held against: the same with all its bits.
    #[arg(long, value_name = "DIR_OR_FILE")]
    reference: PathBuf,
    /// What is written on after.
    #[arg(long, value_name = "FILE.jsonl")]
    prompts: PathBuf,
    /// Tokens that are written after each; with 0 the prompts' own tokens are
    /// compared.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_new_tokens: usize,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Line {
    segments: Vec<Segment>,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        match self.device {
            Device::Cpu => pollster::block_on(self.on(&Candle::new())),
            Device::Gpu => pollster::block_on(async { self.on(&Gpu::new().await?).await }),
        }
    }

    async fn on<B: Backend>(&self, backend: &B) -> Result<()> {
        let file = std::fs::read_to_string(&self.prompts)
            .with_context(|| format!("cannot read {}", self.prompts.display()))?;
        let folder = self.prompts.parent().unwrap_or(Path::new(""));
        let reference = writer::open(backend, &self.reference)?;
        let model = writer::open(backend, &self.model)?;
        let options = Options {
            max_new_tokens: self.max_new_tokens,
            method: Method::Greedy,
            repetition_penalty: 1.0,
            stop_tokens: Vec::new(),
        };
        let (mut agreement, mut prompts) = (Agreement::default(), 0);
        for (number, line) in file.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let context = || format!("{}, line {}", self.prompts.display(), number + 1);
            let line: Line = serde_json::from_str(line).with_context(context)?;
            let theirs = writer::prompt(&reference, &line.segments, folder)?;
            let ours = writer::prompt(&model, &line.segments, folder)?;
            ensure!(
                ours.ids == theirs.ids,
                "the two models have tokenizers of their own: expected the same model twice"
            );
            let reading = reference.reading(&theirs)?;
            let go_on = |_| ControlFlow::Continue(());
            let written = generate(&reading, &theirs.ids, &options, go_on).await?;
            // The last token is followed by nothing that was written.
            let mut text = [theirs.ids.as_slice(), &written.ids].concat();
            let from = if written.ids.is_empty() {
                0
            } else {
                text.pop();
                theirs.ids.len() - 1
            };
            let expected = likeliest_after(&reading, &text).await?;
            let found = likeliest_after(&model.reading(&ours)?, &text).await?;
            agreement.count(&found, &expected, from);
            prompts += 1;
        }
        ensure!(prompts > 0, "{} holds no prompts", self.prompts.display());
        let percent = agreement.percent();
        if self.json {
            let answer = serde_json::json!({
                "prompts": prompts, "tokens": agreement.tokens, "same": agreement.same,
                "percent": percent,
            });
            return print(&answer.to_string());
        }
        print(&format!(
            "{percent:.2} % of {} tokens after {prompts} prompts",
            agreement.tokens
        ))
    }
}
