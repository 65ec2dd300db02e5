//! A person's own model, kept: copied from the disk into the browser's storage,
//! and from then on one of the library.

use plume_core::hub::{Plan, Planned, Published};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, AbortSignal, File};

use super::download::Stop;
use super::store::{Manifest, Refusal, Store};
use super::{Entry, Library};
use crate::protocol::{Event, Kind, Place, from_disk};
use crate::worker::post;

/// Bytes that are copied at a time.
const PIECE: f64 = (4 << 20) as f64;

/// A file of the plan; it is told from others by its name, size and date, as
/// reading it twice takes long.
fn planned(file: &File) -> Planned {
    let (name, bytes) = (file.name(), file.size() as u64);
    let version = format!("{name} {bytes} {}", file.last_modified());
    Planned {
        key: format!("{:x}", Sha256::digest(version)),
        url: String::new(),
        bytes: Some(bytes),
        sha256: None,
        etag: None,
        name,
    }
}

impl Library {
    /// Keeps the files in the payload as a model of this name.
    pub(in crate::worker) fn keep(&self, name: String, kind: Kind, payload: &JsValue) {
        let id = from_disk(&name);
        if self.0.borrow().running.contains_key(&id) {
            return;
        }
        let Ok(abort) = AbortController::new() else {
            return;
        };
        let signal = abort.signal();
        self.0.borrow_mut().running.insert(id.clone(), abort);
        let files = js_sys::Array::from(payload);
        let files: Vec<File> = files.iter().map(JsCast::unchecked_into).collect();
        let model = Published {
            id: id.clone(),
            name: name.clone(),
            publisher: "from your disk".to_owned(),
            licence: String::new(),
            good_at: String::new(),
            kind: Some(kind),
            image_size: 0,
            parameters: 0,
            picture_bytes: 0,
            gflops: 0.0,
            sources: Vec::new(),
        };
        let plan = Plan {
            repository: String::new(),
            files: files.iter().map(planned).collect(),
        };
        {
            let mut state = self.0.borrow_mut();
            state.entries.retain(|entry| entry.model.id != id);
            let entry = Entry::new(model.clone(), Some(plan.clone()), Place::Away);
            state.entries.push(entry);
        }
        self.tell();
        let library = self.clone();
        spawn_local(async move {
            let done = library.copy(&model, &plan, &files, &signal).await;
            library.0.borrow_mut().running.remove(&id);
            if let Err(stop) = done {
                // A part of a copy is of no use: the whole lies on the disk.
                let message = match stop {
                    Stop::Here(Refusal::Full) => Some(library.no_room(&id)),
                    Stop::Here(Refusal::Other(message)) => Some(message),
                    _ => None,
                };
                library.drop_own(&id).await;
                if let Some(message) = message {
                    let message = format!("{name} is not kept. {message}");
                    post(&Event::LibraryFailed { message });
                }
            }
            library.measure().await;
        });
    }

    async fn drop_own(&self, id: &str) {
        let store = self.0.borrow().store.clone();
        if let Some(store) = store {
            store.forget(id).await;
        }
        let mut state = self.0.borrow_mut();
        state.entries.retain(|entry| entry.model.id != id);
    }

    async fn copy(
        &self,
        model: &Published,
        plan: &Plan,
        files: &[File],
        signal: &AbortSignal,
    ) -> Result<(), Stop> {
        let store = self.0.borrow().store.clone();
        let store = store.ok_or(Stop::Here(Refusal::Full))?;
        let total = plan.bytes() as f64;
        let storage = Store::estimate(true).await;
        self.0.borrow_mut().storage = storage;
        if storage.quota > 0.0 && total > storage.quota - storage.used {
            return Err(Stop::Here(Refusal::Full));
        }
        let manifest = Manifest {
            model: model.clone(),
            plan: plan.clone(),
            done: false,
        };
        store.note(&manifest).await?;
        let gone = |_: JsValue| {
            let gone = "A file cannot be read any more: was it moved or changed? Open it again";
            Stop::Here(Refusal::Other(gone.to_owned()))
        };
        let mut done = 0.0;
        for (file, planned) in files.iter().zip(&plan.files) {
            let writer = store.writer(&planned.key).await?;
            writer.truncate(0.0)?;
            let mut at = 0.0;
            while at < file.size() {
                let end = (at + PIECE).min(file.size());
                let piece = file.slice_with_f64_and_f64(at, end).map_err(gone)?;
                let buffer = JsFuture::from(piece.array_buffer()).await.map_err(gone)?;
                if signal.aborted() {
                    return Err(Stop::Asked);
                }
                writer.write(at, &js_sys::Uint8Array::new(&buffer).to_vec())?;
                done += end - at;
                at = end;
                let place = Place::Coming {
                    done,
                    total,
                    rate: 0.0,
                    note: None,
                };
                self.set(&model.id, place);
            }
            writer.flush();
        }
        store.finish(&model.id).await?;
        self.set(&model.id, Place::Here { bytes: done });
        Ok(())
    }
}
