use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use plume_core::checkpoint::{Asked, Checkpoint, Layout, Stored, asked};
use plume_core::models::clip::Clip;
use serde_json::{Value, json};

use super::print;
use crate::model::ModelFiles;
use crate::writer::WriterFiles;

/// Say what a model file holds: architecture, configuration, tensors, and
/// what is missing or left over. Weights are not read.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON (--json): {\"format\": TEXT, \"layout\": TEXT, \"config\": OBJECT or null, \"preprocess\": OBJECT
or null, \"tokenizer\": BOOL, \"name\", \"license\": TEXT or null, \"parameters\": NUMBER, \"bytes\":
NUMBER, \"tensors\": [{\"name\", \"shape\", \"dtype\", \"bytes\"}, …], \"missing\": [NAME, …],
\"left_over\": [NAME, …], \"problems\": [TEXT, …]}

The exit status is 1 where something is missing.")]
pub struct Inspect {
    /// Directory of a model, or its weights.
    #[arg(value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let files = ModelFiles::find(&self.model)?;
        let mut problems = Vec::new();
        let (checkpoint, told) = if files.writes()? {
            writer(&files, &mut problems)?
        } else {
            clip(&files, &mut problems)?
        };
        let file = checkpoint.file();
        let tensors: Vec<(&str, Stored)> = file
            .names()
            .filter_map(|name| Some((name, file.stored(name)?)))
            .collect();
        let (missing, left_over) = match &told.asked {
            Some(asked) => checkpoint.compare(asked.iter().map(|asked| asked.name.as_str())),
            None => Default::default(),
        };

        let bytes: u64 = tensors.iter().map(|(_, stored)| stored.bytes).sum();
        let numbers = |stored: &Stored| stored.shape.iter().product::<usize>();
        let parameters: usize = tensors.iter().map(|(_, stored)| numbers(stored)).sum();
        let packed = checkpoint.packed();
        let report = json!({
            "format": file.format(),
            "layout": format!("{:?}", checkpoint.layout()),
            "config": told.config,
            "preprocess": told.preprocess,
            "tokenizer": told.tokenizer,
            "name": packed.and_then(|packed| packed.name.clone()),
            "license": packed.and_then(|packed| packed.license.clone()),
            "parameters": parameters,
            "bytes": bytes,
            "tensors": tensors.iter().map(|(name, stored)| json!({
                "name": name, "shape": stored.shape, "dtype": stored.dtype, "bytes": stored.bytes,
            })).collect::<Vec<_>>(),
            "missing": missing,
            "left_over": left_over,
            "problems": problems,
        });
        if self.json {
            print(&serde_json::to_string_pretty(&report)?)?;
        } else {
            print(&text(&report, &tensors))?;
        }
        if missing.is_empty() {
            Ok(())
        } else {
            anyhow::bail!("{} tensors are missing", missing.len())
        }
    }
}

/// What the texts beside or inside the weights say.
#[derive(Default)]
struct Told {
    config: Value,
    preprocess: Value,
    tokenizer: bool,
    /// The tensors that a model of these sizes asks for.
    asked: Option<Vec<Asked>>,
}

/// What is wrong is noted, and the rest told.
fn noted<T>(result: Result<T>, problems: &mut Vec<String>) -> Option<T> {
    result
        .map_err(|error| problems.push(format!("{error:#}")))
        .ok()
}

fn clip(files: &ModelFiles, problems: &mut Vec<String>) -> Result<(Checkpoint, Told)> {
    let checkpoint = files.checkpoint()?;
    let config = files.config().map(|config| checkpoint.present(&config));
    let model = config.and_then(|config| {
        let asked = asked(|device, source| Clip::load(device, &config, source))?;
        Ok((config, asked))
    });
    let mut told = Told::default();
    if let Some((config, asked)) = noted(model, problems) {
        if config.vision.is_some() {
            let preprocess = noted(files.preprocess(), problems);
            told.preprocess = preprocess.map_or(Value::Null, |preprocess| preprocess.to_json());
        }
        if config.text.is_some() {
            told.tokenizer = noted(files.tokenizer_json(), problems).is_some();
        }
        told.config = config.to_json();
        told.asked = Some(asked);
    }
    Ok((checkpoint, told))
}

fn writer(files: &ModelFiles, problems: &mut Vec<String>) -> Result<(Checkpoint, Told)> {
    let found = WriterFiles::of(files).and_then(|WriterFiles { config, checkpoint }| {
        let packed = config.to_packed();
        let told = Told {
            config: packed.config,
            preprocess: packed.preprocess.unwrap_or_default(),
            tokenizer: true,
            asked: Some(config.asked()?),
        };
        Ok((checkpoint, told))
    });
    match noted(found, problems) {
        Some(found) => Ok(found),
        None => Ok((files.weights()?.under(Layout::Canonical), Told::default())),
    }
}

fn text(report: &Value, tensors: &[(&str, Stored)]) -> String {
    let mut lines = Vec::new();
    for key in ["name", "license", "format", "layout"] {
        if let Some(value) = report[key].as_str() {
            lines.push(format!("{key:<10} {value}"));
        }
    }
    for key in ["config", "preprocess"] {
        if !report[key].is_null() {
            lines.push(format!("{key:<10} {}", report[key]));
        }
    }
    lines.push(format!("tokenizer  {}", report["tokenizer"]));
    let mut kinds: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for (_, stored) in tensors {
        let kind = kinds.entry(&stored.dtype).or_default();
        *kind = (kind.0 + 1, kind.1 + stored.bytes);
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(dtype, (count, bytes))| {
            format!("{count} of {dtype} ({:.1} MB)", *bytes as f64 / 1e6)
        })
        .collect();
    lines.push(format!(
        "tensors    {}: {}",
        tensors.len(),
        kinds.join(", ")
    ));
    lines.push(format!("numbers    {}", report["parameters"]));
    for (name, stored) in tensors {
        lines.push(format!("  {name} {:?} {}", stored.shape, stored.dtype));
    }
    for (key, head) in [
        ("missing", "missing from the file"),
        ("left_over", "asked for by nothing"),
        ("problems", "problems"),
    ] {
        let items: Vec<&str> = report[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !items.is_empty() {
            lines.push(format!("{head}:\n  {}", items.join("\n  ")));
        }
    }
    lines.join("\n")
}
