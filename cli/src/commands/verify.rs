use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use plume_core::backend::Backend;
use plume_core::contract;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::tasks::verify::{Finding, Golden, tolerance};

use super::{Device, print};
use crate::model::ModelFiles;
use crate::pictures;

/// Check that a model gives here what it should.
///
/// Every operation of the device against its reference; what is published
/// about the checkpoint; embeddings recorded before; and on a graphics
/// processor the model's own embeddings against the CPU's. Expected is shown
/// beside found.
#[derive(clap::Args)]
#[command(after_long_help = "\
The exit status is 1 where anything is wrong.

With recorded embeddings a model can be checked wherever it goes:
  plume verify model --record model.golden.json      where it is known to be right
  plume verify model.gguf --against model.golden.json")]
pub struct Verify {
    /// Directory of a model, or its weights.
    #[arg(value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// The picture that something is published about: for OpenAI's ViT-B/32,
    /// CLIP.png of their repository. For other models published.json beside the
    /// weights may say it: {"model", "picture", "file": TEXT, "texts": [TEXT, …],
    /// "probabilities": [NUMBER, …]}.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Write the embeddings of Plume's own pictures and texts.
    #[arg(long, value_name = "FILE.json")]
    record: Option<PathBuf>,
    /// Compare with embeddings that were written by --record.
    #[arg(long, value_name = "FILE.json", conflicts_with = "record")]
    against: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self) -> Result<()> {
        let files = ModelFiles::find(&self.model)?;
        match self.device {
            Device::Cpu => pollster::block_on(self.check(&Candle::new(), &files)),
            Device::Gpu => {
                let gpu = pollster::block_on(Gpu::new())?;
                print(&format!("device     {}", gpu.info().name))?;
                pollster::block_on(self.check(&gpu, &files))
            }
        }
    }

    async fn check<B: Backend>(&self, backend: &B, files: &ModelFiles) -> Result<()> {
        let mut wrong = 0;
        let outcomes = contract::run(backend, false).await?;
        let failed: Vec<_> = outcomes.iter().filter(|case| !case.passed()).collect();
        print(&format!(
            "operations {} of {} as their references",
            outcomes.len() - failed.len(),
            outcomes.len()
        ))?;
        for case in &failed {
            print(&format!(
                "  WRONG    {}: off by {:.1e}, at most {:.1e}",
                case.name, case.error, case.tolerance
            ))?;
        }
        wrong += failed.len();

        let mut classifier = files.classifier(backend)?;
        let tolerance = tolerance(&files.checkpoint()?);
        match (files.published()?, &self.picture) {
            (Some(published), Some(path)) => {
                let picture = pictures::open(path)?;
                let findings = published.check(&mut classifier, &picture).await?;
                wrong += show(&format!("published about {}", published.model), &findings)?;
            }
            (Some(published), None) => print(&format!(
                "published  of these sizes is {}: not checked; give --picture, {}",
                published.model, published.picture
            ))?,
            (None, Some(_)) => bail!("nothing is published about a model of these sizes"),
            (None, None) => print("published  nothing is known about models of these sizes")?,
        }

        let found = Golden::record(&mut classifier).await?;
        if self.device == Device::Gpu {
            let cpu = Golden::record(&mut files.classifier(&Candle::new())?).await?;
            let findings = cpu.compare(&found, tolerance);
            wrong += show("the CPU's embeddings", &findings)?;
        }
        if let Some(path) = &self.against {
            let context = || format!("{} holds no embeddings of --record", path.display());
            let golden = std::fs::read(path).with_context(context)?;
            let golden: Golden = serde_json::from_slice(&golden).with_context(context)?;
            let findings = golden.compare(&found, tolerance);
            if findings.is_empty() {
                bail!(context());
            }
            wrong += show("recorded embeddings", &findings)?;
        }
        if let Some(path) = &self.record {
            std::fs::write(path, serde_json::to_string(&found)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            print(&format!("recorded   {}", path.display()))?;
        }
        match wrong {
            0 => print("all is as it should be"),
            n => bail!("{n} findings are not as they should be"),
        }
    }
}

/// Prints findings; how many are wrong.
fn show(head: &str, findings: &[Finding]) -> Result<usize> {
    print(&format!("{head}: expected, found"))?;
    for finding in findings {
        let mark = if finding.passed() { "right" } else { "WRONG" };
        print(&format!(
            "  {mark}    {:.6}  {:.6}  {}",
            finding.expected, finding.found, finding.what
        ))?;
    }
    Ok(findings.iter().filter(|finding| !finding.passed()).count())
}
