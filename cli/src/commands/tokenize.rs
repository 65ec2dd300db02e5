use std::path::PathBuf;

use anyhow::Result;

use super::print;
use crate::model::ModelFiles;

/// Print the token ids of a text, start and end included.
#[derive(clap::Args)]
#[command(after_long_help = "\
Without --json: the ids on one line.
JSON (--json): {\"ids\": [ID, …], \"eot\": POSITION, \"truncated\": true or false}
`eot` is where the text tower is read; a text that is longer than the model's
context is cut and keeps its end.")]
pub struct Tokenize {
    /// Model directory, or the weights file inside one.
    #[arg(long, value_name = "DIR_OR_FILE")]
    model: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The text.
    text: String,
}

impl Tokenize {
    pub(super) fn run(self) -> Result<()> {
        let files = ModelFiles::find(&self.model)?;
        let tokenizer = files.tokenizer(files.config()?.text()?.context)?;
        let tokens = tokenizer.encode(&self.text)?;
        if self.json {
            return print(
                &serde_json::json!({
                    "ids": tokens.ids,
                    "eot": tokens.eot,
                    "truncated": tokens.truncated,
                })
                .to_string(),
            );
        }
        let ids: Vec<String> = tokens.ids.iter().map(u32::to_string).collect();
        print(&ids.join(" "))
    }
}
