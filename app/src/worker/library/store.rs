//! What is kept on this machine, in the browser's private file system (OPFS):
//! `files/` by what is in them, `models/` with a plan for each model, and beside
//! it an empty `.done` once everything in the plan is there and right.

use js_sys::{AsyncIterator, IteratorNext, JsString};
use plume_core::hub::{Plan, Published, slug};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
    StorageEstimate,
};

use super::super::{pause, scope};
use crate::protocol::Storage;

/// Why something cannot be kept.
pub(super) enum Refusal {
    /// There is no room.
    Full,
    /// Anything else, in words.
    Other(String),
}

/// A model that is kept, or on its way.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) model: Published,
    pub(super) plan: Plan,
    #[serde(skip)]
    pub(super) done: bool,
}

/// The two folders.
#[derive(Clone)]
pub(super) struct Store {
    files: FileSystemDirectoryHandle,
    models: FileSystemDirectoryHandle,
}

/// The name of an exception, which is how the browser tells them apart.
fn name(error: &JsValue) -> String {
    let name = js_sys::Reflect::get(error, &"name".into()).ok();
    name.and_then(|name| name.as_string()).unwrap_or_default()
}

fn refusal(error: &JsValue) -> Refusal {
    match name(error).as_str() {
        "QuotaExceededError" => Refusal::Full,
        "NoModificationAllowedError" => Refusal::Other(
            "another tab of this page is downloading it: look there, or close that tab".to_owned(),
        ),
        other => Refusal::Other(format!(
            "the browser does not let it be kept ({other}): run it without keeping it"
        )),
    }
}

async fn folder(
    parent: &FileSystemDirectoryHandle,
    name: &str,
) -> Option<FileSystemDirectoryHandle> {
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(true);
    let found = parent.get_directory_handle_with_options(name, &options);
    Some(JsFuture::from(found).await.ok()?.unchecked_into())
}

impl Store {
    /// None where this browser, or this window, keeps nothing.
    pub(super) async fn open() -> Option<Self> {
        let storage = scope().navigator().storage();
        if JsValue::from(&storage).is_undefined() {
            return None;
        }
        let root = JsFuture::from(storage.get_directory()).await.ok()?;
        let root = root.unchecked_into();
        let store = Self {
            files: folder(&root, "files").await?,
            models: folder(&root, "models").await?,
        };
        // Where files cannot be written from here, better to know now.
        let probe = store.writer("probe").await.ok()?;
        drop(probe);
        store.remove("probe").await;
        Some(store)
    }

    /// How much is used and may be.
    pub(super) async fn estimate(there: bool) -> Storage {
        let storage = scope().navigator().storage();
        if JsValue::from(&storage).is_undefined() {
            return Storage::default();
        }
        let ask = async |promise: Result<js_sys::Promise, JsValue>| {
            JsFuture::from(promise.ok()?).await.ok()
        };
        let estimate = ask(storage.estimate()).await;
        let estimate: StorageEstimate = estimate.unwrap_or_default().unchecked_into();
        let number = |name: &str| {
            let found = js_sys::Reflect::get(&estimate, &name.into()).ok();
            found.and_then(|found| found.as_f64()).unwrap_or_default()
        };
        Storage {
            there,
            used: number("usage"),
            quota: number("quota"),
            persisted: ask(storage.persisted()).await == Some(JsValue::TRUE),
        }
    }

    /// Bytes of a file; 0 where there is none.
    pub(super) async fn size(&self, key: &str) -> f64 {
        self.file(key).await.map_or(0.0, |file| file.size())
    }

    /// A file, to be read in ranges.
    pub(super) async fn file(&self, key: &str) -> Option<File> {
        read(&self.files, key).await
    }

    /// A file, to be written on.
    pub(super) async fn writer(&self, key: &str) -> Result<Writer, Refusal> {
        writer(&self.files, key).await
    }

    /// Takes a file away.
    pub(super) async fn remove(&self, key: &str) {
        // Not being there is as good.
        let _ = JsFuture::from(self.files.remove_entry(key)).await;
    }

    /// Every model that is here or on its way.
    pub(super) async fn manifests(&self) -> Vec<Manifest> {
        let mut manifests = Vec::new();
        let names = names(&self.models).await;
        for name in &names {
            let Some(stem) = name.strip_suffix(".json") else {
                continue;
            };
            let Some(file) = read(&self.models, name).await else {
                continue;
            };
            let Ok(text) = JsFuture::from(file.text()).await else {
                continue;
            };
            // One that was cut while it was written had nothing to lose yet.
            if let Ok(manifest) = serde_json::from_str(&text.as_string().unwrap_or_default()) {
                let done = names.contains(&format!("{stem}.done"));
                manifests.push(Manifest { done, ..manifest });
            }
        }
        manifests
    }

    /// Notes what a model is made of, before its first byte.
    pub(super) async fn note(&self, manifest: &Manifest) -> Result<(), Refusal> {
        let name = format!("{}.json", slug(&manifest.model.id));
        let json = serde_json::to_vec(manifest)
            .map_err(|error| Refusal::Other(format!("the plan cannot be written: {error}")))?;
        let writer = writer(&self.models, &name).await?;
        writer.truncate(0.0)?;
        writer.write(0.0, &json)
    }

    /// Notes that a model is whole.
    pub(super) async fn finish(&self, id: &str) -> Result<(), Refusal> {
        let name = format!("{}.done", slug(id));
        writer(&self.models, &name).await.map(drop)
    }

    /// Forgets a model, and the files that no other one needs.
    pub(super) async fn forget(&self, id: &str) {
        let all = self.manifests().await;
        for end in ["done", "json"] {
            let name = format!("{}.{end}", slug(id));
            let _ = JsFuture::from(self.models.remove_entry(&name)).await;
        }
        let (gone, rest): (Vec<_>, Vec<_>) = all.iter().partition(|m| m.model.id == id);
        let keys = |of: &[&Manifest]| -> Vec<String> {
            let files = of.iter().flat_map(|manifest| &manifest.plan.files);
            files.map(|file| file.key.clone()).collect()
        };
        let needed = keys(&rest);
        for key in keys(&gone) {
            if !needed.contains(&key) {
                self.remove(&key).await;
            }
        }
    }
}

async fn names(folder: &FileSystemDirectoryHandle) -> Vec<String> {
    let iterator: AsyncIterator = folder.keys().unchecked_into();
    let mut names = Vec::new();
    while let Ok(promise) = iterator.next() {
        let Ok(next) = JsFuture::from(promise).await else {
            break;
        };
        let next: IteratorNext = next.unchecked_into();
        if next.done() {
            break;
        }
        names.push(String::from(next.value().unchecked_into::<JsString>()));
    }
    names
}

async fn read(folder: &FileSystemDirectoryHandle, name: &str) -> Option<File> {
    let handle = JsFuture::from(folder.get_file_handle(name)).await.ok()?;
    let handle: FileSystemFileHandle = handle.unchecked_into();
    let file = JsFuture::from(handle.get_file()).await.ok()?;
    Some(file.unchecked_into())
}

async fn writer(folder: &FileSystemDirectoryHandle, name: &str) -> Result<Writer, Refusal> {
    let options = FileSystemGetFileOptions::new();
    options.set_create(true);
    let handle = JsFuture::from(folder.get_file_handle_with_options(name, &options)).await;
    let handle: FileSystemFileHandle = handle.map_err(|e| refusal(&e))?.unchecked_into();
    // A page that was just closed lets go a moment later.
    let mut tries = 0;
    loop {
        match JsFuture::from(handle.create_sync_access_handle()).await {
            Ok(handle) => return Ok(Writer(handle.unchecked_into())),
            Err(error) if tries == 10 => return Err(refusal(&error)),
            Err(error) if self::name(&error) != "NoModificationAllowedError" => {
                return Err(refusal(&error));
            }
            Err(_) => pause(200).await,
        }
        tries += 1;
    }
}

/// A file that nobody else may open meanwhile.
pub(super) struct Writer(FileSystemSyncAccessHandle);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn at(offset: f64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(offset);
    options
}

impl Writer {
    pub(super) fn size(&self) -> f64 {
        self.0.get_size().unwrap_or_default()
    }

    pub(super) fn truncate(&self, size: f64) -> Result<(), Refusal> {
        let done = self.0.truncate_with_f64(size);
        done.map(drop).map_err(|error| refusal(&error))
    }

    pub(super) fn write(&self, offset: f64, bytes: &[u8]) -> Result<(), Refusal> {
        let written = self.0.write_with_u8_array_and_options(bytes, &at(offset));
        match written {
            Ok(written) if written == bytes.len() as f64 => Ok(()),
            Ok(_) => Err(Refusal::Full),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Reads into `bytes` and says how many there were.
    pub(super) fn read(&self, offset: f64, bytes: &mut [u8]) -> Result<usize, Refusal> {
        let read = self.0.read_with_u8_array_and_options(bytes, &at(offset));
        read.map(|read| read as usize).map_err(|e| refusal(&e))
    }

    pub(super) fn flush(&self) {
        // What is not on disk yet is fetched again after a crash.
        let _ = self.0.flush();
    }
}
