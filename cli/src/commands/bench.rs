mod text;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use plume_core::backend::Backend;
use plume_core::bench::language::Counters;
use plume_core::bench::{Plan, Row, TEXT, Times, times};
use plume_core::checkpoint::{Init, Source};
use plume_core::config::ClipConfig;
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::models::clip::Clip;

use super::{Device, print};
use crate::model::ModelFiles;

/// Measure how long a model takes for a picture and for a label.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON (--json): {\"model\": NAME, \"device\": NAME, \"image_flops\": NUMBER, \"text_flops\": NUMBER,
  \"images\": [ROW, …], \"texts\": [ROW, …], \"roof\": NUMBER}
where a ROW is {\"batch\": NUMBER, \"least\": MS, \"median\": MS, \"most\": MS}, for the whole batch,
image_flops and text_flops are the operations of one picture and of one text of 8 tokens, and
roof is the GFLOP/s of one large matrix product alone. Of a model that writes:
  {\"model\", \"device\", \"prompt\": TOKENS, \"prefill\": ROW, \"token\": ROW, \"dispatches\", \"submits\":
  NUMBER or null, \"bytes\": NUMBER, \"copy\": NUMBER}
where a row is of the whole prompt or of one token after it, bytes are those of the weights read for
a token, and copy is the GB/s, read and written, of a large copy alone.")]
pub struct Bench {
    /// A model, as for the other commands, or the name of a published size,
    /// such as RN50 or ViT-L/14, for random weights; without it ViT-B/32. Of
    /// OpenFlamingo-3B, -4B and -9B one layer pair is taken.
    #[arg(long, value_name = "DIR_OR_FILE_OR_NAME")]
    model: Option<PathBuf>,
    /// What the random weights of an OpenFlamingo are stored as.
    #[arg(long, value_enum, default_value = "f16")]
    dtype: Dtype,
    /// What computes.
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Dtype {
    F16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        match self.device {
            Device::Cpu => self.on(&Candle::new(), "CPU", &|| None),
            Device::Gpu => {
                let gpu = pollster::block_on(Gpu::new())?;
                let info = gpu.info();
                let name = format!("{} · {}", info.api, info.name);
                let counters = || {
                    let counters = gpu.counters();
                    Some([counters.dispatches, counters.submits])
                };
                self.on(&gpu, &name, &counters)
            }
        }
    }

    fn on<B: Backend>(&self, backend: &B, device: &str, counters: Counters<'_>) -> Result<()> {
        let path = self.model.as_deref().unwrap_or(Path::new("ViT-B/32"));
        let name = path.display().to_string();
        let writes = path.exists() && ModelFiles::find(path)?.writes()?;
        if writes || FlamingoConfig::open_flamingo(&name).is_some() {
            let text = text::Text {
                model: path,
                dtype: self.dtype,
                cpu: self.device == Device::Cpu,
                json: self.json,
            };
            return text.on(backend, device, counters);
        }
        let preset = ClipConfig::preset(&name).filter(|_| !path.exists());
        let (config, source): (_, Box<dyn Source>) = match preset {
            Some(config) => (config.clone(), Box::new(Init::new(config, 1))),
            None => {
                let files = ModelFiles::find(path)?;
                (files.config()?, Box::new(files.checkpoint()?))
            }
        };
        let clip = Clip::load(backend, &config, source.as_ref())?;
        let begun = Instant::now();
        let now = || begun.elapsed().as_secs_f64() * 1e3;
        let times = pollster::block_on(times(&clip, &Plan::usual(), &now))?;
        if self.json {
            let mut json = serde_json::to_value(&times)?;
            json["model"] = name.into();
            json["device"] = device.into();
            return print(&json.to_string());
        }
        print(&format!("{name} on {device}"))?;
        print(&table(&times))
    }
}

/// Median and spread of each batch, for people.
fn table(times: &Times) -> String {
    let mut lines = Vec::new();
    let kinds = [
        ("picture", &times.images, times.image_flops),
        ("text", &times.texts, times.text_flops),
    ];
    for (what, rows, flops) in kinds {
        for row in rows {
            let &Row { batch, median, .. } = row;
            let each = |ms: f64| ms / batch as f64;
            lines.push(format!(
                "{batch:>3} at once: {:8.2} ms for each {what} ({:.2} to {:.2}), {:.1} GFLOP/s",
                each(median),
                each(row.least),
                each(row.most),
                flops / each(median) / 1e6
            ));
        }
    }
    lines.push(format!(
        "a text is of {TEXT} tokens; one large product alone reaches {:.1} GFLOP/s",
        times.roof
    ));
    lines.join("\n")
}
