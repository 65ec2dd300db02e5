use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::prompts::Segment;
use plume_core::tasks::generate::{End, Method, Options, TextStream, generate};
use serde::Deserialize;

use super::{Device, print};
use crate::writer;

/// Write on after a prompt of words and pictures.
///
/// Words appear as they come; a beam search shows its text at the end.
#[derive(clap::Args)]
#[command(after_long_help = "\
The prompt is a file of JSON; pictures are found from where it lies:
  {\"segments\": [{\"image\": \"a.jpg\"}, {\"text\": \"Output:\"}]}
A video is {\"video\": [\"1.jpg\", \"2.jpg\"]}, its frames in order.
JSON (--json): {\"text\": TEXT, \"tokens\": [ID, …],
  \"end\": \"length\", \"token\" or \"stop\"}")]
pub struct Generate {
    #[command(flatten)]
    source: PromptArguments,
    /// Always the likeliest token; so it is without --beams and --temperature.
    #[arg(long, conflicts_with_all = ["beams", "temperature"])]
    greedy: bool,
    /// Search with so many beams for the likeliest text.
    #[arg(long, value_name = "K", conflicts_with = "temperature")]
    beams: Option<usize>,
    /// Above 0, long texts gain in a search with beams.
    #[arg(
        long,
        default_value_t = 1.0,
        requires = "beams",
        allow_negative_numbers = true
    )]
    length_penalty: f32,
    /// Choose tokens by chance; below 1 the likely become likelier.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// By chance among so many of the likeliest; 0 is all.
    #[arg(long, default_value_t = 0, requires = "temperature")]
    top_k: usize,
    /// By chance among as many of the likeliest as make up this probability.
    #[arg(long, default_value_t = 1.0, requires = "temperature")]
    top_p: f32,
    /// The same seed gives the same text.
    #[arg(long, default_value_t = 0, requires = "temperature")]
    seed: u64,
    /// Above 1, tokens that stand in the text already become less likely.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Most tokens to write.
    #[arg(long, default_value_t = 64)]
    max_new_tokens: usize,
    /// Text that ends what is written; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is asked of which model, as `generate` and `score` take it.
#[derive(clap::Args)]
pub(super) struct PromptArguments {
    /// Directory of config.json, weights and tokenizer.json as published, or a
    /// GGUF file of `plume pack`.
    #[arg(long, value_name = "DIR_OR_FILE")]
    pub(super) model: PathBuf,
    /// The prompt.
    #[arg(long, value_name = "FILE")]
    pub(super) prompt: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    pub(super) device: Device,
}

#[derive(Deserialize)]
struct PromptFile {
    segments: Vec<Segment>,
}

impl PromptArguments {
    /// The pieces of the prompt, and where its pictures lie.
    pub(super) fn segments(&self) -> Result<(Vec<Segment>, &Path)> {
        let context = || self.prompt.display().to_string();
        let json = std::fs::read_to_string(&self.prompt).with_context(context)?;
        let file: PromptFile = serde_json::from_str(&json).with_context(context)?;
        Ok((file.segments, self.prompt.parent().unwrap_or(Path::new(""))))
    }
}

impl Generate {
    pub(super) fn run(self) -> Result<()> {
        match self.source.device {
            Device::Cpu => pollster::block_on(self.on(&Candle::new())),
            Device::Gpu => pollster::block_on(async { self.on(&Gpu::new().await?).await }),
        }
    }

    fn method(&self) -> Method {
        match (self.beams, self.temperature) {
            (Some(width), _) => Method::Beams {
                width,
                length_penalty: self.length_penalty,
            },
            (None, Some(temperature)) => Method::Sample {
                temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
            },
            (None, None) => Method::Greedy,
        }
    }

    async fn on<B: Backend>(&self, backend: &B) -> Result<()> {
        let (segments, folder) = self.source.segments()?;
        let writer = writer::open(backend, &self.source.model)?;
        let prompt = writer::prompt(&writer, &segments, folder)?;
        let options = Options {
            max_new_tokens: self.max_new_tokens,
            method: self.method(),
            repetition_penalty: self.repetition_penalty,
            stop_tokens: writer.stops().to_vec(),
        };
        let decode = |ids: &[u32]| Ok(writer.tokenizer().decode(ids)?);
        let mut stream = TextStream::new(&decode, &self.stop);
        let fault = RefCell::new(None);
        let show = !self.json;
        let written = generate(&writer.reading(&prompt)?, &prompt.ids, &options, |token| {
            let Some(token) = token else {
                return ControlFlow::Continue(());
            };
            let shown = match stream.push(token) {
                Ok(piece) if show => say(&piece),
                Ok(_) => Ok(()),
                Err(error) => Err(error.into()),
            };
            match shown {
                Ok(()) if stream.stopped() => ControlFlow::Break(()),
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    fault.replace(Some(error));
                    ControlFlow::Break(())
                }
            }
        })
        .await?;
        if let Some(error) = fault.into_inner() {
            return Err(error);
        }
        let rest = stream.finish();
        if show {
            say(&rest)?;
            return print("");
        }
        let end = match written.end {
            End::Length => "length",
            End::Token => "token",
            End::Told => "stop",
        };
        let answer = serde_json::json!({
            "text": stream.text(), "tokens": written.ids, "end": end,
        });
        print(&answer.to_string())
    }
}

/// Writes a piece of a line; at a terminal it shows at once.
fn say(piece: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{piece}")?;
    if out.is_terminal() {
        out.flush()?;
    }
    Ok(())
}
