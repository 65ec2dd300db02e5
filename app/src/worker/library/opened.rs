//! Opening a model for use: from what is kept, or from the hub as it is read.

use std::cell::Cell;
use std::rc::Rc;

use plume_core::checkpoint::Bytes;
use plume_core::hub::{Http, HubError};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

use super::Library;
use super::download::Stop;
use super::net::{Ask, Net, fetch};
use super::remote::Remote;
use crate::worker::files::{InBrowser, ModelFiles, Tell};
use crate::worker::pause;

impl Library {
    /// The files of a model that is kept.
    ///
    /// # Errors
    /// Where it is not.
    pub(in crate::worker) async fn kept(&self, id: &str, tell: Tell) -> Result<ModelFiles, String> {
        let gone = || {
            format!(
                "`{id}` is not on this machine any more: the browser may have cleared it. Download it again"
            )
        };
        // At the start of a page the storage is still being looked for.
        while !self.0.borrow().looked {
            pause(20).await;
        }
        let store = self.0.borrow().store.clone();
        let store = store.ok_or_else(gone)?;
        let manifests = store.manifests().await;
        let manifest = manifests.into_iter().find(|m| m.model.id == id && m.done);
        let manifest = manifest.ok_or_else(gone)?;
        let mut files: Vec<(String, Blob)> = Vec::new();
        for file in &manifest.plan.files {
            let blob = store.file(&file.key).await.ok_or_else(gone)?;
            if file.bytes.is_some_and(|bytes| bytes as f64 != blob.size()) {
                return Err(gone());
            }
            files.push((file.name.clone(), blob.into()));
        }
        ModelFiles::of_blobs(manifest.model.name, files, tell).await
    }

    /// The files of a model, read from the hub tensor by tensor; where the hub
    /// gives no ranges the weights are fetched once, into the browser's memory.
    ///
    /// # Errors
    /// In words.
    pub(in crate::worker) async fn streamed(
        &self,
        id: &str,
        tell: Tell,
    ) -> Result<ModelFiles, String> {
        let plan = match self.plan(id).await {
            Ok(plan) => plan,
            Err(Stop::Hub(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("the library has no `{id}`")),
        };
        let name = self.with(id, |entry| entry.model.name.clone());
        let total = plan.bytes() as f64;
        let mut texts = Vec::new();
        let mut weights: Vec<(String, Box<dyn Bytes>)> = Vec::new();
        let done = Rc::new(Cell::new(0.0));
        for file in &plan.files {
            if file.name.ends_with(".json") {
                let text = Net
                    .get(&file.url)
                    .await
                    .map_err(|error| error.to_string())?;
                texts.push((file.name.clone(), text));
                continue;
            }
            let done = done.clone();
            let told = move |bytes: usize| {
                done.set(done.get() + bytes as f64);
                tell(done.get().min(total), total);
            };
            let remote = Remote::open(&file.url, file.bytes.unwrap_or(0), Box::new(told));
            let bytes: Box<dyn Bytes> = match remote {
                Some(remote) => Box::new(remote),
                None => Box::new(InBrowser::new(blob(&file.url).await?, tell)?),
            };
            weights.push((file.name.clone(), bytes));
        }
        ModelFiles::of_parts(name.unwrap_or_default(), texts, weights)
    }
}

/// A whole file, in memory or wherever the browser puts it.
async fn blob(url: &str) -> Result<Blob, String> {
    let cut = || {
        HubError::Cut {
            url: url.to_owned(),
        }
        .to_string()
    };
    let response = fetch(url, Ask::default()).await;
    let response = response.map_err(|error| error.to_string())?;
    let blob = response.blob().map_err(|_| cut())?;
    let blob = JsFuture::from(blob).await.map_err(|_| cut())?;
    Ok(blob.unchecked_into())
}
