//! Flamingos that are published in parts, and the commands that make one file
//! of each.

use serde::{Deserialize, Serialize};

/// A Flamingo that no page can read as it is published: `plume pack` makes one
/// file of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InParts {
    /// Its name in the list; the name of the file that is made begins with it.
    pub id: String,
    /// Its name for a person.
    pub name: String,
    /// Who trained it.
    pub publisher: String,
    /// What its parts are licensed under, as far as it is known.
    pub licence: String,
    /// What it is good at, and what one should know.
    pub good_at: String,
    /// What is downloaded. The first has the page about it.
    pub parts: Vec<Part>,
    /// Numbers in all its weights.
    pub parameters: u64,
    /// Bytes of its weights once they are packed.
    pub packed: PackedBytes,
    /// Bytes that a token of a prompt keeps, in f32.
    pub token_bytes: u64,
    /// The same of a picture.
    pub image_bytes: u64,
    /// Bytes of the largest tensor between two layers for one picture, in f32.
    pub picture_bytes: u64,
}

/// One of several that a model is published in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is for `plume pack`.
    pub option: PackOption,
    /// `owner/name` on the hub.
    pub repository: String,
    /// What is needed of it; everything where none is named. A part that is one
    /// file is given to `plume pack` as that file, another as its folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// The options of `plume pack` that name a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackOption {
    /// The model, or what joins the others.
    From,
    /// The CLIP that it sees with.
    Vision,
    /// The language model that it writes with.
    Lm,
    /// The tokenizer, where it is published elsewhere.
    Tokenizer,
}

impl PackOption {
    fn flag(self) -> &'static str {
        match self {
            Self::From => "--from",
            Self::Vision => "--vision",
            Self::Lm => "--lm",
            Self::Tokenizer => "--tokenizer",
        }
    }
}

/// Bytes of a model's weights as `plume pack --dtype` stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedBytes {
    /// Four bits and a half for most weights.
    pub q4_0: u64,
    /// Eight and a half.
    pub q8_0: u64,
    /// Sixteen.
    pub f16: u64,
}

impl PackedBytes {
    /// By the names of the types, the smallest first.
    pub fn by_dtype(&self) -> [(&'static str, u64); 3] {
        [("q4_0", self.q4_0), ("q8_0", self.q8_0), ("f16", self.f16)]
    }
}

impl Part {
    fn folder(&self) -> &str {
        let name = self.repository.rsplit_once('/');
        name.map_or(&self.repository, |(_, name)| name)
    }

    /// Where it lies once it is downloaded.
    fn path(&self) -> String {
        match self.files.as_slice() {
            [file] => format!("{}/{file}", self.folder()),
            _ => self.folder().to_owned(),
        }
    }

    fn download(&self) -> String {
        let words = ["hf download", &self.repository];
        let words = words
            .into_iter()
            .chain(self.files.iter().map(String::as_str));
        let words: Vec<_> = words.chain(["--local-dir", self.folder()]).collect();
        words.join(" ")
    }
}

impl InParts {
    /// The commands that make it, one a line: a download for each part, then
    /// `plume pack`.
    pub fn commands(&self, dtype: &str) -> String {
        let parts = self.parts.iter();
        let paths = parts.map(|part| format!("{} {}", part.option.flag(), part.path()));
        let paths = paths.collect::<Vec<_>>().join(" ");
        let Self { id, name, .. } = self;
        let to = format!("--name \"{name}\" --to {id}-{dtype}.gguf");
        let pack = format!("plume pack {paths} --dtype {dtype} {to}");
        let downloads = self.parts.iter().map(Part::download);
        downloads.chain([pack]).collect::<Vec<_>>().join("\n")
    }
}
