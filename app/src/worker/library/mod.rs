//! The library: what is published, what is kept on this machine, and bringing
//! the one to the other. Downloads run beside everything else.

mod bring;
mod download;
mod judge;
mod machine;
mod need;
mod net;
mod opened;
mod own;
mod parts;
mod remote;
mod store;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use plume_core::hub::{Http, Hub, Plan, Published, Registry};
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortController;

use super::post;
use crate::protocol::{Event, Library as Told, Offer, Place, Storage, from_disk};
use bring::arrived;
use machine::Machine;
use need::Need;
use net::Net;
use store::{Manifest, Store};

struct Entry {
    model: Published,
    /// Once the hub was asked.
    plan: Option<Plan>,
    /// What its own head says, once that was read.
    need: Option<Need>,
    place: Place,
}

impl Entry {
    fn new(model: Published, plan: Option<Plan>, place: Place) -> Self {
        Self {
            model,
            plan,
            need: None,
            place,
        }
    }

    fn need(&self) -> Need {
        let published = || Need::published(&self.model, self.plan.as_ref());
        self.need.unwrap_or_else(published)
    }

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
    /// A person's own files that were found not to fit.
    refused: Option<String>,
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
            // A copy that the page was closed in the middle of.
            if !done && model.id == from_disk(&model.name) {
                if let Some(store) = &store {
                    store.forget(&model.id).await;
                }
                continue;
            }
            let place = match &store {
                Some(store) => place(store, &plan, done).await,
                None => Place::Away,
            };
            entries.push(Entry::new(model, Some(plan), place));
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
                    None => Entry::new(model, None, Place::Away),
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
                "" => String::new(),
                url if url.contains("://") => url.to_owned(),
                repository => format!("{base}/{repository}"),
            };
            Offer {
                id: model.id.clone(),
                name: model.name.clone(),
                publisher: model.publisher.clone(),
                licence: model.licence.clone(),
                good_at: model.good_at.clone(),
                kind: model.kind,
                page,
                bytes: entry.bytes(),
                fit: state.machine.fit(entry.need(), state.storage),
            }
        };
        let flamingos = state.registry.iter().flat_map(|all| &all.flamingos);
        post(&Event::Library(Told {
            offers: state.entries.iter().map(offer).collect(),
            places: state.entries.iter().map(|e| e.place.clone()).collect(),
            to_pack: flamingos
                .map(|model| parts::to_pack(model, base, &state.machine, state.storage))
                .collect(),
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

    /// Adds what an address names, and downloads it, unless it does not fit.
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
                    let entry = Entry::new(model, None, Place::Away);
                    self.0.borrow_mut().entries.push(entry);
                    self.tell();
                }
                self.start(&id, false);
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
