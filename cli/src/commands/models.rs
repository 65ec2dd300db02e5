use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::print;
use crate::hub;

/// List published models, download them, and take them away again.
#[derive(clap::Args)]
#[command(after_long_help = "\
A model is named by its id in `plume models list`, by owner/name as on the hub,
or by the address of its weights. What is downloaded can be given to every
command: `plume classify --model vit-b-32 …`. HF_ENDPOINT names another hub.")]
pub struct Models {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// Say what is published and what is here.
    List {
        /// Print JSON: [{"id", "name", "bytes", "licence", "here"}, …]
        #[arg(long)]
        json: bool,
    },
    /// Download a model, or go on where it stopped; prints its folder.
    Get {
        /// Id, owner/name or address.
        model: String,
    },
    /// Print the folder of a model that is here.
    Path {
        /// Id, owner/name or address.
        model: String,
    },
    /// Delete a model and what has arrived of it.
    Remove {
        /// Id, owner/name or address.
        model: String,
    },
}

impl Models {
    pub(super) fn run(self) -> Result<()> {
        match self.act {
            Act::List { json } => list(json),
            Act::Get { model } => get(&model),
            Act::Path { model } => {
                let folder = hub::whole(&model);
                let folder = folder
                    .with_context(|| format!("{model} is not here: plume models get {model}"))?;
                print(&folder.display().to_string())
            }
            Act::Remove { model } => {
                let folder = hub::folder(&model)?;
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("{model} is not here ({})", folder.display()))
            }
        }
    }
}

fn list(json: bool) -> Result<()> {
    let (registry, _) = hub::registry()?;
    if json {
        let models = registry.models.iter().map(|model| {
            serde_json::json!({
                "id": model.id, "name": model.name, "bytes": model.bytes(),
                "licence": model.licence, "here": hub::whole(&model.id).is_some(),
            })
        });
        return print(&serde_json::Value::from_iter(models).to_string());
    }
    for model in &registry.models {
        let here = if hub::whole(&model.id).is_some() {
            "here"
        } else {
            ""
        };
        print(&format!(
            "{:16} {:5} {:5.0} MB  {}: {}",
            model.id,
            here,
            model.bytes() as f64 / 1e6,
            model.name,
            model.good_at
        ))?;
    }
    Ok(())
}

fn get(name: &str) -> Result<()> {
    let model = hub::published(name)?;
    let bar = ProgressBar::new(0);
    let style = "{bar:32} {bytes} of {total_bytes} · {bytes_per_sec} · {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let told = |done, total, note: Option<&str>| {
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(note.unwrap_or_default().to_owned());
    };
    let folder = hub::download(&model, &told)?;
    bar.finish_and_clear();
    print(&folder.display().to_string())
}
