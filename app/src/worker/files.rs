//! Model files: those served with the page, or a person's own, read in ranges
//! and never whole.

use std::cell::Cell;

use plume_core::Error;
use plume_core::checkpoint::{self, Bytes, Checkpoint, Companions, Layout, Weights, clip_config};
use plume_core::config::ClipConfig;
use plume_core::image::Preprocess;
use plume_core::tasks::verify::Published;
use plume_core::tasks::writer::WriterConfig;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, FileReaderSync, Response};

use super::{post, scope};
use crate::protocol::Event;

/// A file of the browser's, read in ranges. Reading is synchronous, which only
/// a worker may do.
pub(super) struct InBrowser {
    blob: Blob,
    reader: FileReaderSync,
    /// Bytes read so far, told to the page now and then.
    done: Cell<f64>,
    told: Cell<f64>,
    tell: Tell,
}

/// Tells the page how many bytes of how many have been read.
pub(super) type Tell = fn(f64, f64);

/// To the page that classifies.
pub(super) fn loading(done: f64, total: f64) {
    post(&Event::Loading { done, total });
}

/// Part of the file after which progress is told.
const STEP: f64 = 0.02;

impl InBrowser {
    pub(super) fn new(blob: Blob, tell: Tell) -> Result<Self> {
        let reader = FileReaderSync::new();
        let reader = reader.map_err(|_| "this browser does not read files in ranges")?;
        Ok(Self {
            blob,
            reader,
            done: Cell::new(0.0),
            told: Cell::new(0.0),
            tell,
        })
    }

    fn tell(&self, bytes: usize) {
        let (done, total) = (self.done.get() + bytes as f64, self.blob.size());
        self.done.set(done);
        if done - self.told.get() > total * STEP {
            self.told.set(done);
            (self.tell)(done, total);
        }
    }
}

impl Bytes for InBrowser {
    fn len(&self) -> u64 {
        self.blob.size() as u64
    }

    fn read(&self, offset: u64, len: usize) -> plume_core::Result<Vec<u8>> {
        let lost = |_: JsValue| {
            Error::Read(
                "the weights cannot be read any more: was the file moved or changed? Choose it again"
                    .to_owned(),
            )
        };
        let end = (offset + len as u64) as f64;
        let slice = self
            .blob
            .slice_with_f64_and_f64(offset as f64, end)
            .map_err(lost)?;
        let buffer = self.reader.read_as_array_buffer(&slice).map_err(lost)?;
        self.tell(len);
        Ok(js_sys::Uint8Array::new(&buffer).to_vec())
    }
}

/// A name for a person: the folder's, where the file's own says nothing.
fn own_name(weights: &File) -> String {
    let path = js_sys::Reflect::get(weights, &"webkitRelativePath".into());
    let path = path.ok().and_then(|path| path.as_string());
    match path.unwrap_or_default().rsplit('/').nth(1) {
        Some(folder) => folder.to_owned(),
        None => weights.name(),
    }
}

/// Names that are taken before others, should a folder hold several: those of
/// whole models before a tower alone.
const WEIGHTS: &[&str] = &["open_clip_model.safetensors", "model.safetensors"];

/// Whether a file holds weights, by its name.
fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

/// Whether a configuration is that of a Flamingo or a language model.
fn writes(config: &str) -> bool {
    serde_json::from_str(config).is_ok_and(|config| checkpoint::writes(&config))
}

fn not_a_clip() -> Error {
    Error::Config(
        "these are the files of a model that writes, not of one that classifies pictures: load \
         it in the chat"
            .into(),
    )
}

/// The sizes that a packed file says.
fn packed_clip(config: &str) -> Result<ClipConfig, Error> {
    if writes(config) {
        return Err(not_a_clip());
    }
    clip_config(config)
}

/// A file that is served with the page.
pub(super) async fn fetched(url: &str) -> Option<Blob> {
    let response = JsFuture::from(scope().fetch_with_str(url)).await;
    let response: Response = response.ok()?.unchecked_into();
    response.ok().then_some(())?;
    let blob = JsFuture::from(response.blob().ok()?).await;
    Some(blob.ok()?.unchecked_into())
}

/// A model that is served with the page.
pub(super) struct Served {
    /// For a person.
    name: &'static str,
    folder: &'static str,
    files: &'static [&'static str],
}

impl Served {
    /// Whether it is the one that writes.
    pub(super) fn writes(&self) -> bool {
        self.folder == FLAMINGO.folder
    }
}

/// The one that classifies.
pub(super) const CLIP: Served = Served {
    name: "Plume's drawings",
    folder: "clip",
    files: &[
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
        "golden.json",
    ],
};

/// The one that writes.
pub(super) const FLAMINGO: Served = Served {
    name: "Plume's drawings, in words",
    folder: "flamingo",
    files: &[
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
    ],
};

/// The files of a model.
pub(super) struct ModelFiles {
    pub(super) name: String,
    pub(super) demo: bool,
    companions: Companions,
    tokenizer: Option<String>,
    golden: Option<String>,
    published: Option<String>,
    /// Says which tensor is where, if weights are in several files.
    index: Option<String>,
    weights: Vec<(String, Box<dyn Bytes>)>,
}

/// A model's files with their headers read: enough to load it.
pub(super) struct Opened {
    pub(super) checkpoint: Checkpoint,
    pub(super) config: ClipConfig,
    pub(super) tokenizer: String,
    pub(super) preprocess: Preprocess,
    /// Embeddings that were recorded of it.
    pub(super) golden: Option<String>,
    /// What is published about it.
    pub(super) published: Option<Published>,
}

type Result<T, E = String> = std::result::Result<T, E>;

async fn text(blob: &Blob) -> Result<String> {
    let text = JsFuture::from(blob.text())
        .await
        .map_err(|_| "a file cannot be read any more: choose it again".to_owned())?;
    Ok(text.as_string().unwrap_or_default())
}

impl ModelFiles {
    /// A model of named parts: texts, and weights that are read in ranges.
    ///
    /// # Errors
    /// Says which file is missing.
    pub(super) fn of_parts(
        name: String,
        mut texts: Vec<(String, String)>,
        mut weights: Vec<(String, Box<dyn Bytes>)>,
    ) -> Result<Self> {
        let mut take = |wanted: &dyn Fn(&str) -> bool| {
            let found = texts.iter().position(|(text, _)| wanted(text))?;
            Some(texts.swap_remove(found).1)
        };
        let index = take(&|name| name.ends_with(".safetensors.index.json"));
        let mut take = |wanted: &str| take(&|name| name == wanted);
        let companions = Companions {
            open_clip_config: take("open_clip_config.json"),
            preprocessor_config: take("preprocessor_config.json"),
            config: take("config.json"),
        };
        let tokenizer = take("tokenizer.json");
        let golden = take("golden.json");
        let published = take("published.json");
        if index.is_none() {
            // Of several forms of one model, one is enough.
            let place = |name: &&str| weights.iter().position(|(file, _)| file == name);
            let plain = WEIGHTS.iter().find_map(place);
            if let Some(plain) = plain {
                weights.swap(0, plain);
            }
            weights.truncate(1);
        }
        let Some((file, _)) = weights.first() else {
            return Err("no .safetensors or .gguf file was given".to_owned());
        };
        let missing = |what: &str| {
            format!(
                "{what} is missing: drop it together with {file}, or drop the folder that holds them"
            )
        };
        // A packed file says everything itself.
        if !file.ends_with(".gguf") {
            if companions.config.is_none() && companions.open_clip_config.is_none() {
                return Err(missing("config.json"));
            }
            tokenizer
                .as_ref()
                .ok_or_else(|| missing("tokenizer.json"))?;
        }
        Ok(Self {
            name,
            demo: false,
            companions,
            tokenizer,
            golden,
            published,
            index,
            weights,
        })
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> f64 {
        self.weights.iter().map(|(_, file)| file.len() as f64).sum()
    }

    /// Reads the headers of a model that writes.
    ///
    /// # Errors
    /// Where a file is damaged or of another architecture.
    pub(super) fn writer(self) -> Result<(WriterConfig, Checkpoint), Error> {
        let mut files = self.weights;
        let weights = match &self.index {
            Some(index) => Weights::open_shards(index, files)?,
            None => Weights::open(files.remove(0).1)?,
        };
        let packed = weights.packed().map(|packed| packed.config.to_string());
        let (texts, tokenizer) = (&self.companions, self.tokenizer.as_deref());
        let config =
            WriterConfig::of(&weights, texts, tokenizer).map_err(|error| {
                let json = [&packed, &texts.config, &texts.open_clip_config];
                let json = json.into_iter().flatten();
                match json.map(|json| clip_config(json)).any(|config| config.is_ok()) {
                true => Error::Config(
                    "these are the files of a CLIP, which classifies pictures and does not write: \
                     load it where pictures are classified"
                        .into(),
                ),
                false => error,
            }
            })?;
        let layout = config.layout;
        Ok((config, weights.under(layout)))
    }

    /// Reads the headers.
    ///
    /// # Errors
    /// Where a file is damaged or of another architecture.
    pub(super) fn open(self) -> Result<Opened, Error> {
        let mut weights = self.weights;
        let companions = self.companions;
        if let Some(config) = &companions.config
            && writes(config)
        {
            return Err(not_a_clip());
        }
        let opened = match &self.index {
            Some(index) => Checkpoint::open_shards(index, weights),
            None => Checkpoint::open(weights.remove(0).1),
        };
        // Another architecture's configuration says more than its weights do.
        let checkpoint = opened.map_err(|error| {
            let config = companions.config(Layout::Transformers);
            config.err().unwrap_or(error)
        })?;
        let layout = checkpoint.layout();
        let (config, tokenizer) = match checkpoint.packed() {
            Some(packed) => (
                packed_clip(&packed.config.to_string())?,
                packed.tokenizer.clone(),
            ),
            None => (companions.config(layout)?, self.tokenizer),
        };
        let config = checkpoint.present(&config);
        let preprocess = match checkpoint.packed() {
            Some(packed) => {
                let json = packed.preprocess.as_ref().map(ToString::to_string);
                Preprocess::of_model(json.as_deref(), &config, layout.family())?
            }
            None => companions.preprocess(layout, &config)?,
        };
        let lacks = || Error::Checkpoint("the model has no tokenizer: pack it with one".into());
        Ok(Opened {
            tokenizer: tokenizer.ok_or_else(lacks)?,
            preprocess,
            golden: self.golden,
            published: Published::about(self.published.as_deref(), &config)?,
            config,
            checkpoint,
        })
    }

    /// A model of named files.
    ///
    /// # Errors
    /// Says which file is missing or cannot be read.
    pub(super) async fn of_blobs(
        name: String,
        files: Vec<(String, Blob)>,
        tell: Tell,
    ) -> Result<Self> {
        let mut texts = Vec::new();
        let mut weights: Vec<(String, Box<dyn Bytes>)> = Vec::new();
        for (file, blob) in files {
            if is_weights(&file) {
                weights.push((file, Box::new(InBrowser::new(blob, tell)?)));
            } else if file.ends_with(".json") {
                texts.push((file, text(&blob).await?));
            }
        }
        Self::of_parts(name, texts, weights)
    }

    /// A person's own: a `.safetensors` file among its companions.
    ///
    /// # Errors
    /// Says which file is missing.
    pub(super) async fn own(files: &JsValue, tell: Tell) -> Result<Self> {
        let files: Vec<File> = js_sys::Array::from(files)
            .iter()
            .map(JsCast::unchecked_into)
            .collect();
        let weights = files.iter().find(|file| is_weights(&file.name()));
        let name = own_name(weights.ok_or("no .safetensors or .gguf file was given")?);
        let files = files.into_iter().map(|file| (file.name(), file.into()));
        Self::of_blobs(name, files.collect(), tell).await
    }

    /// One that is served with the page.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub(super) async fn served(served: &Served, tell: Tell) -> Result<Self> {
        let mut files = Vec::new();
        for name in served.files {
            let failed =
                || format!("the demo model's {name} could not be fetched: load the page again");
            let url = format!("./demo/{}/{name}", served.folder);
            let blob = fetched(&url).await.ok_or_else(failed)?;
            files.push(((*name).to_owned(), blob));
        }
        let model = Self::of_blobs(served.name.to_owned(), files, tell).await?;
        Ok(Self {
            demo: true,
            ..model
        })
    }
}
