//! Model files: those served with the page, or a person's own, read in ranges
//! and never whole.

use std::cell::Cell;

use plume_core::checkpoint::{Bytes, Companions};
use plume_core::{Error, Result};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, FileReaderSync, Response};

use super::{post, scope};
use crate::protocol::Event;

/// A file of the browser's, read in ranges. Reading is synchronous, which only
/// a worker may do.
struct InBrowser {
    blob: Blob,
    reader: FileReaderSync,
    /// Bytes read so far, told to the page now and then.
    done: Cell<f64>,
    told: Cell<f64>,
}

/// Part of the file after which progress is told.
const STEP: f64 = 0.02;

impl InBrowser {
    fn new(blob: Blob) -> std::result::Result<Self, String> {
        let reader = FileReaderSync::new();
        let reader = reader.map_err(|_| "this browser does not read files in ranges")?;
        Ok(Self {
            blob,
            reader,
            done: Cell::new(0.0),
            told: Cell::new(0.0),
        })
    }

    fn tell(&self, bytes: usize) {
        let (done, total) = (self.done.get() + bytes as f64, self.blob.size());
        self.done.set(done);
        if done - self.told.get() > total * STEP {
            self.told.set(done);
            post(&Event::Loading { done, total });
        }
    }
}

impl Bytes for InBrowser {
    fn len(&self) -> u64 {
        self.blob.size() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
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

/// The files of a model.
pub(super) struct ModelFiles {
    pub(super) name: String,
    pub(super) demo: bool,
    pub(super) companions: Companions,
    pub(super) tokenizer: String,
    pub(super) weights: Box<dyn Bytes>,
}

async fn text(blob: &Blob) -> std::result::Result<String, String> {
    let text = JsFuture::from(blob.text())
        .await
        .map_err(|_| "a file cannot be read any more: choose it again".to_owned())?;
    Ok(text.as_string().unwrap_or_default())
}

impl ModelFiles {
    /// The person's own files, or the demo's where there are none.
    ///
    /// # Errors
    /// Says which file is missing.
    pub(super) async fn open(payload: &JsValue) -> std::result::Result<Self, String> {
        if payload.is_null() || payload.is_undefined() {
            Self::demo().await
        } else {
            Self::own(payload).await
        }
    }

    /// A person's own: a `.safetensors` file among its companions.
    ///
    /// # Errors
    /// Says which file is missing.
    async fn own(files: &JsValue) -> std::result::Result<Self, String> {
        let files: Vec<File> = js_sys::Array::from(files)
            .iter()
            .map(JsCast::unchecked_into)
            .collect();
        let named = |name: &str| files.iter().find(|file| file.name() == name);
        let weights = WEIGHTS
            .iter()
            .find_map(|name| named(name))
            .or_else(|| files.iter().find(|f| f.name().ends_with(".safetensors")))
            .ok_or("no .safetensors file was given")?;
        let missing = |what: &str| {
            format!(
                "{what} is missing: drop it together with {}, or drop the folder that holds them",
                weights.name()
            )
        };
        let read = async |name: &str| match named(name) {
            Some(file) => text(file).await.map(Some),
            None => Ok(None),
        };
        let companions = Companions {
            config: read("config.json").await?,
            open_clip_config: read("open_clip_config.json").await?,
            preprocessor_config: read("preprocessor_config.json").await?,
        };
        if companions.config.is_none() && companions.open_clip_config.is_none() {
            return Err(missing("config.json"));
        }
        let tokenizer = named("tokenizer.json").ok_or_else(|| missing("tokenizer.json"))?;
        Ok(Self {
            name: own_name(weights),
            demo: false,
            companions,
            tokenizer: text(tokenizer).await?,
            weights: Box::new(InBrowser::new(weights.clone().into())?),
        })
    }

    /// The one that is served with the page.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    async fn demo() -> std::result::Result<Self, String> {
        let blob = |name: &'static str| async move {
            let failed =
                || format!("the demo model's {name} could not be fetched: load the page again");
            let url = format!("./demo/clip/{name}");
            let response = JsFuture::from(scope().fetch_with_str(&url)).await;
            let response: Response = response.map_err(|_| failed())?.unchecked_into();
            if !response.ok() {
                return Err(failed());
            }
            let blob = response.blob().map_err(|_| failed())?;
            let blob = JsFuture::from(blob).await.map_err(|_| failed())?;
            Ok::<Blob, String>(blob.unchecked_into())
        };
        let weights = blob("model.safetensors").await?;
        Ok(Self {
            name: "Plume's drawings".to_owned(),
            demo: true,
            companions: Companions {
                config: Some(text(&blob("config.json").await?).await?),
                preprocessor_config: Some(text(&blob("preprocessor_config.json").await?).await?),
                ..Companions::default()
            },
            tokenizer: text(&blob("tokenizer.json").await?).await?,
            weights: Box::new(InBrowser::new(weights)?),
        })
    }
}
