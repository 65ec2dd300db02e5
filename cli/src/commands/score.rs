use anyhow::{Result, bail};
use plume_core::backend::Backend;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::tasks::score::{Likelihood, score};

use super::generate::PromptArguments;
use super::{Device, print};
use crate::writer;

/// Say how likely each of some answers is after a prompt.
#[derive(clap::Args)]
#[command(after_long_help = "\
The prompt is a file as `plume generate` takes it. Without --json the likeliest
answer comes first, by the mean of its tokens.
JSON (--json): [{\"option\": TEXT, \"sum\": LOG, \"mean\": LOG}, …], in the order given")]
pub struct Score {
    #[command(flatten)]
    source: PromptArguments,
    /// The answers, separated by commas. A blank goes before each.
    #[arg(long, value_delimiter = ',', required = true)]
    options: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Score {
    pub(super) fn run(self) -> Result<()> {
        match self.source.device {
            Device::Cpu => pollster::block_on(self.on(&Candle::new())),
            Device::Gpu => pollster::block_on(async { self.on(&Gpu::new().await?).await }),
        }
    }

    async fn on<B: Backend>(&self, backend: &B) -> Result<()> {
        let (segments, folder) = self.source.segments()?;
        let writer = writer::open(backend, &self.source.model)?;
        let prompt = writer::prompt(&writer, &segments, folder)?;
        let options: Vec<&str> = self.options.iter().map(|option| option.trim()).collect();
        if options.iter().any(|option| option.is_empty()) {
            bail!("--options has an empty answer");
        }
        let encode = |option: &&str| writer.tokenizer().encode(&format!(" {option}"), false);
        let answers: Vec<Vec<u32>> = options.iter().map(encode).collect::<Result<_, _>>()?;
        let reading = writer.reading(&prompt)?;
        let scores = score(&reading, &prompt.ids, &answers).await?;
        let mut pairs: Vec<(&str, Likelihood)> = options.into_iter().zip(scores).collect();
        if self.json {
            let rows = pairs.iter().map(|(option, likelihood)| {
                serde_json::json!({
                    "option": option, "sum": likelihood.sum, "mean": likelihood.mean,
                })
            });
            return print(&serde_json::Value::from_iter(rows).to_string());
        }
        pairs.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
        for (option, likelihood) in pairs {
            print(&format!(
                "{:9.4} a token, {:9.4} in all  {option}",
                likelihood.mean, likelihood.sum
            ))?;
        }
        Ok(())
    }
}
