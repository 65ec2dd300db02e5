//! The library: what is published, what is kept on this machine, and bringing
//! the one to the other. Downloads run beside everything else.

mod download;
mod machine;
mod net;
mod remote;
mod store;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use plume_core::checkpoint::Bytes;
use plume_core::hub::{Http, Hub, HubError, Plan, Published, Registry, resolve};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, Blob};

use super::files::{InBrowser, ModelFiles, Tell};
use super::{now, post};
use crate::protocol::{Event, Library as Told, Offer, Place, Storage};
use download::{Download, PATIENCE, Stop};
use machine::{Machine, Need};
use net::{Ask, Net, fetch};
use remote::Remote;
use store::{Manifest, Refusal, Store};

/// Milliseconds between two words about progress.
const TELL: f64 = 250.0;

struct Entry {
    model: Published,
    /// Once the hub was asked.
    plan: Option<Plan>,
    place: Place,
}

impl Entry {
    fn bytes(&self) -> f64 {
        let plan = self.plan.as_ref().map(Plan::bytes);
        plan.unwrap_or_else(|| self.model.bytes()) as f64
    }
}

#[derive(Default)]
struct State {
    hub: Option<Hub>,
    registry: Option<Registry>,
    /// What is kept has been looked for.
    looked: bool,
    store: Option<Store>,
    storage: Storage,
    machine: Machine,
    entries: Vec<Entry>,
    running: HashMap<String, AbortController>,
}

/// The library of this worker.
#[derive(Clone, Default)]
pub(super) struct Library(Rc<RefCell<State>>);

impl Library {
    /// Reads what is published and what is here, and tells.
    pub(super) fn open(&self, hub: Option<String>, keep: bool) {
        let library = self.clone();
        spawn_local(async move {
            if let Err(message) = library.read(hub, keep).await {
                post(&Event::LibraryFailed { message });
            }
            library.tell();
        });
    }

    async fn read(&self, hub: Option<String>, keep: bool) -> Result<(), String> {
        let store = if keep { Store::open().await } else { None };
        {
            let mut state = self.0.borrow_mut();
            state.store = store.clone();
            state.looked = true;
        }
        let storage = Store::estimate(store.is_some()).await;
        let machine = Machine::look().await;
        let mut entries = Vec::new();
        let manifests = match &store {
            Some(store) => store.manifests().await,
            None => Vec::new(),
        };
        for Manifest { model, plan, done } in manifests {
            let place = match &store {
                Some(store) => place(store, &plan, done).await,
                None => Place::Away,
            };
            entries.push(Entry {
                model,
                plan: Some(plan),
                place,
            });
        }
        let json = Net.get("./models.json").await;
        let registry = json
            .map_err(|error| error.to_string())
            .and_then(|json| Registry::from_json(&json).map_err(|error| error.to_string()));
        let mut state = self.0.borrow_mut();
        if let Ok(registry) = &registry {
            let base = hub.as_deref().unwrap_or(&registry.hub);
            state.hub = Some(Hub::new(base));
            // The registry's order, then what came from elsewhere.
            let mut all = Vec::new();
            for model in &registry.models {
                let kept = entries.iter().position(|entry| entry.model.id == model.id);
                let model = model.clone();
                all.push(match kept {
                    Some(kept) => Entry {
                        model,
                        ..entries.remove(kept)
                    },
                    None => Entry {
                        model,
                        plan: None,
                        place: Place::Away,
                    },
                });
            }
            all.append(&mut entries);
            entries = all;
        }
        state.storage = storage;
        state.machine = machine;
        state.entries = entries;
        state.registry = registry.as_ref().ok().cloned();
        registry.map(drop)
    }

    /// Tells the page everything.
    fn tell(&self) {
        let state = self.0.borrow();
        let base = state.hub.as_ref().map(Hub::base).unwrap_or_default();
        let offer = |entry: &Entry| {
            let model = &entry.model;
            let place = model
                .sources
                .first()
                .map(|source| source.repository.as_str());
            let page = match place.unwrap_or_default() {
                url if url.contains("://") => url.to_owned(),
                repository => format!("{base}/{repository}"),
            };
            let bytes = entry.bytes();
            let parameters = match model.parameters {
                0 => bytes / 4.0,
                parameters => parameters as f64,
            };
            let need = Need {
                bytes,
                parameters,
                picture: model.picture_bytes as f64,
                gflops: model.gflops,
            };
            Offer {
                id: model.id.clone(),
                name: model.name.clone(),
                publisher: model.publisher.clone(),
                licence: model.licence.clone(),
                good_at: model.good_at.clone(),
                kind: model.kind,
                page,
                bytes,
                fit: state.machine.fit(need, state.storage),
            }
        };
        post(&Event::Library(Told {
            offers: state.entries.iter().map(offer).collect(),
            places: state.entries.iter().map(|e| e.place.clone()).collect(),
            storage: state.storage,
        }));
    }

    /// Runs something on the entry of this name.
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut state = self.0.borrow_mut();
        let entry = state.entries.iter_mut().find(|entry| entry.model.id == id);
        entry.map(act)
    }

    fn set(&self, id: &str, place: Place) {
        self.with(id, |entry| entry.place = place.clone());
        let id = id.to_owned();
        post(&Event::Place { id, place });
    }

    /// Adds what an address names, and downloads it.
    pub(super) fn add(&self, address: &str) {
        let model = {
            let state = self.0.borrow();
            let hub = state.hub.clone().unwrap_or_else(|| Hub::new(""));
            Published::from_address(address, &hub)
        };
        match model {
            Ok(model) => {
                let id = model.id.clone();
                let known = self.with(&id, |_| ()).is_some();
                if !known {
                    self.0.borrow_mut().entries.push(Entry {
                        model,
                        plan: None,
                        place: Place::Away,
                    });
                    self.tell();
                }
                self.download(&id);
            }
            Err(error) => post(&Event::LibraryFailed {
                message: error.to_string(),
            }),
        }
    }

    /// Stops a download; what has arrived stays.
    pub(super) fn pause(&self, id: &str) {
        if let Some(running) = self.0.borrow().running.get(id) {
            running.abort();
        }
    }

    /// Takes a model off this machine.
    pub(super) fn delete(&self, id: &str) {
        self.pause(id);
        let (library, id) = (self.clone(), id.to_owned());
        spawn_local(async move {
            // A download lets go of its file first.
            while library.0.borrow().running.contains_key(&id) {
                super::pause(20).await;
            }
            let store = library.0.borrow().store.clone();
            if let Some(store) = store {
                store.forget(&id).await;
            }
            {
                let mut state = library.0.borrow_mut();
                let models = state.registry.iter().flat_map(|registry| &registry.models);
                let published = models.into_iter().any(|model| model.id == id);
                if !published {
                    state.entries.retain(|entry| entry.model.id != id);
                }
            }
            library.with(&id, |entry| {
                entry.place = Place::Away;
                entry.plan = None;
            });
            library.measure().await;
        });
    }

    /// Looks at the storage again, and tells everything.
    async fn measure(&self) {
        let there = self.0.borrow().store.is_some();
        let storage = Store::estimate(there).await;
        self.0.borrow_mut().storage = storage;
        self.tell();
    }

    /// Starts or goes on with a download.
    pub(super) fn download(&self, id: &str) {
        if self.0.borrow().running.contains_key(id) {
            return;
        }
        let Ok(abort) = AbortController::new() else {
            return;
        };
        let signal = abort.signal();
        self.0.borrow_mut().running.insert(id.to_owned(), abort);
        let (library, id) = (self.clone(), id.to_owned());
        spawn_local(async move {
            let stop = library.bring(&id, &signal).await;
            library.0.borrow_mut().running.remove(&id);
            if let Err(stop) = stop {
                library.stopped(&id, stop).await;
            }
            library.measure().await;
        });
    }

    /// Says why, and what is here.
    async fn stopped(&self, id: &str, stop: Stop) {
        let full = matches!(stop, Stop::Here(Refusal::Full));
        if full {
            let there = self.0.borrow().store.is_some();
            let storage = Store::estimate(there).await;
            self.0.borrow_mut().storage = storage;
        }
        let message = match stop {
            Stop::Asked => None,
            Stop::Hub(error) => {
                // The next try asks the hub what it is now.
                if matches!(error, HubError::Changed { .. } | HubError::Hash { .. }) {
                    self.with(id, |entry| entry.plan = None);
                }
                Some(error.to_string())
            }
            Stop::Here(Refusal::Other(message)) => Some(message),
            Stop::Here(Refusal::Full) => Some(self.no_room(id)),
        };
        let plan = self.with(id, |entry| entry.plan.clone()).flatten();
        let store = self.0.borrow().store.clone();
        let (done, total) = match (store, plan) {
            (Some(store), Some(plan)) => (arrived(&store, &plan).await, plan.bytes() as f64),
            _ => (
                0.0,
                self.with(id, |entry| entry.bytes()).unwrap_or_default(),
            ),
        };
        let away = done == 0.0 && message.is_none();
        self.set(
            id,
            if away {
                Place::Away
            } else {
                Place::Paused {
                    done,
                    total,
                    message,
                    full,
                }
            },
        );
    }

    fn no_room(&self, id: &str) -> String {
        let bytes = self.with(id, |entry| entry.bytes()).unwrap_or_default();
        let state = self.0.borrow();
        if state.store.is_none() {
            return "This browser keeps no files for pages here (a private window, perhaps). The \
                    model runs all the same: it is read from the hub and not kept."
                .to_owned();
        }
        let free = (state.storage.quota - state.storage.used).max(0.0);
        // A browser's promise may be more than the disk has.
        let left = if free < bytes {
            format!("this browser leaves {:.0} MB to this page", free / 1e6)
        } else {
            "the disk is full".to_owned()
        };
        format!(
            "There is no room: it has {:.0} MB and {left}. Delete a model below or make room on \
             the disk, or run it without keeping it.",
            bytes / 1e6,
        )
    }

    /// What to download: as noted before, or by asking the hub.
    async fn plan(&self, id: &str) -> Result<Plan, Stop> {
        let known = self.with(id, |entry| (entry.model.clone(), entry.plan.clone()));
        let Some((model, plan)) = known else {
            return Err(Stop::Asked);
        };
        if let Some(plan) = plan {
            return Ok(plan);
        }
        let (hub, tokenizer) = {
            let state = self.0.borrow();
            let tokenizer = state.registry.as_ref().map(|r| r.tokenizer.clone());
            let hub = state.hub.clone().unwrap_or_else(|| Hub::new(""));
            (hub, tokenizer)
        };
        let plan = resolve(&Net, &hub, &model, tokenizer.as_ref()).await?;
        self.with(id, |entry| entry.plan = Some(plan.clone()));
        Ok(plan)
    }

    async fn bring(&self, id: &str, signal: &web_sys::AbortSignal) -> Result<(), Stop> {
        let total = self.with(id, |entry| entry.bytes()).unwrap_or_default();
        let coming = |done, total, note: &str| Place::Coming {
            done,
            total,
            rate: 0.0,
            note: Some(note.to_owned()),
        };
        self.set(id, coming(0.0, total, "Asking the hub"));
        let Some(store) = self.0.borrow().store.clone() else {
            return Err(Stop::Here(Refusal::Full));
        };
        let mut tries = 0;
        let plan = loop {
            let plan = self.plan(id).await;
            if signal.aborted() {
                return Err(Stop::Asked);
            }
            match plan {
                Err(Stop::Hub(HubError::Busy { seconds, .. }))
                    if tries < 3 && seconds <= PATIENCE =>
                {
                    tries += 1;
                    let note = format!("The hub asks for {seconds} s of patience");
                    self.set(id, coming(0.0, total, &note));
                    super::pause(1000 * seconds as i32).await;
                }
                plan => break plan?,
            }
        };
        // The hub's own sizes take the place of the estimates.
        self.tell();
        let total = plan.bytes() as f64;
        let here = arrived(&store, &plan).await;
        let storage = Store::estimate(true).await;
        self.0.borrow_mut().storage = storage;
        if storage.quota > 0.0 && total - here > storage.quota - storage.used {
            return Err(Stop::Here(Refusal::Full));
        }
        let model = self.with(id, |entry| entry.model.clone());
        let Some(model) = model else {
            return Err(Stop::Asked);
        };
        let manifest = Manifest {
            model,
            plan: plan.clone(),
            done: false,
        };
        store.note(&manifest).await?;
        let mut before = 0.0;
        let speed = Speed::default();
        for file in &plan.files {
            let writer = store.writer(&file.key).await?;
            let told = |at: f64, note: Option<String>| {
                // What is hashed again does not come over the network.
                let rate = speed.note(at, note.is_none());
                if note.is_some() || speed.due() {
                    self.set(
                        id,
                        Place::Coming {
                            done: before + at,
                            total: total.max(before + at),
                            rate,
                            note,
                        },
                    );
                }
            };
            let download = Download {
                file,
                writer: &writer,
                signal,
                told: &told,
            };
            download.run().await?;
            before += writer.size();
            speed.next_file();
        }
        store.finish(id).await?;
        self.set(id, Place::Here { bytes: before });
        Ok(())
    }

    /// The files of a model that is kept.
    ///
    /// # Errors
    /// Where it is not.
    pub(super) async fn kept(&self, id: &str, tell: Tell) -> Result<ModelFiles, String> {
        let gone = || {
            format!(
                "`{id}` is not on this machine any more: the browser may have cleared it. Download it again"
            )
        };
        // At the start of a page the storage is still being looked for.
        while !self.0.borrow().looked {
            super::pause(20).await;
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
    pub(super) async fn streamed(&self, id: &str, tell: Tell) -> Result<ModelFiles, String> {
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

/// Bytes of a plan that are here.
async fn arrived(store: &Store, plan: &Plan) -> f64 {
    let mut bytes = 0.0;
    for file in &plan.files {
        bytes += store.size(&file.key).await;
    }
    bytes
}

async fn place(store: &Store, plan: &Plan, done: bool) -> Place {
    let bytes = arrived(store, plan).await;
    if done {
        return Place::Here { bytes };
    }
    Place::Paused {
        done: bytes,
        total: plan.bytes() as f64,
        message: None,
        full: false,
    }
}

/// How fast bytes come, over the last seconds.
#[derive(Default)]
struct Speed {
    /// Time and bytes when it was last told.
    last: Cell<(f64, f64)>,
    rate: Cell<f64>,
    told: Cell<f64>,
}

impl Speed {
    /// Notes that this much of the file is here; bytes a second.
    fn note(&self, at: f64, over_the_network: bool) -> f64 {
        let (then, before) = self.last.get();
        let seconds = (now() - then) / 1000.0;
        if then == 0.0 || !over_the_network || at < before {
            self.last.set((now(), at));
        } else if seconds > 0.5 {
            let rate = (at - before) / seconds;
            let old = self.rate.get();
            self.rate.set(if old == 0.0 {
                rate
            } else {
                0.7 * old + 0.3 * rate
            });
            self.last.set((now(), at));
        }
        self.rate.get()
    }

    fn next_file(&self) {
        self.last.set((now(), 0.0));
    }

    /// Whether it is time to tell again.
    fn due(&self) -> bool {
        let due = now() - self.told.get() > TELL;
        if due {
            self.told.set(now());
        }
        due
    }
}
