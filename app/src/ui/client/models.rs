//! Which model is wanted and on which device: what of the worker's answers
//! counts, after models, workers and devices that failed.

use leptos::prelude::*;
use wasm_bindgen::JsValue;
use web_sys::File;

use super::pictures::retry;
use super::remembered::CLASSIFIES;
use super::{CLIENT, Client, send, send_labels, start, stop};
use crate::protocol::{Command, Device, Loaded, RequestId, Which, from_disk};
use crate::ui::chat;
use crate::ui::store::{CLIP_THRESHOLD, Check, DEMO_THRESHOLD, Job, Model, Status, Store};

/// A model, and its files where it is the person's own.
#[derive(Clone, PartialEq)]
pub(super) struct Chosen {
    which: Which,
    files: JsValue,
}

impl Default for Chosen {
    fn default() -> Self {
        Self {
            which: Which::Demo,
            files: JsValue::NULL,
        }
    }
}

/// What stands between the page and the model that the person wants. Only the
/// last wish counts: what the worker says of an earlier one is passed over.
#[derive(Default)]
pub(super) enum Loading {
    /// Nothing is being loaded.
    #[default]
    Idle,
    /// To be asked for as soon as there is a worker.
    Wanted(Chosen),
    /// Asked for, under this number.
    Asked(RequestId, Chosen),
}

impl Client {
    /// The files of a request that has been answered; none where another one
    /// has taken its place.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<Chosen> {
        match std::mem::take(&mut self.loading) {
            Loading::Asked(last, files) if last == request => Some(files),
            other => {
                self.loading = other;
                None
            }
        }
    }

    /// A request for what is wanted, or for the model that last worked.
    pub(super) fn ask(&mut self) -> (RequestId, Chosen) {
        let files = match std::mem::take(&mut self.loading) {
            Loading::Idle => self.model.clone(),
            Loading::Wanted(files) | Loading::Asked(_, files) => files,
        };
        self.next_request += 1;
        self.loading = Loading::Asked(self.next_request, files.clone());
        (self.next_request, files)
    }
}

/// Begins with the model of the last visit, where it is still kept.
pub(in crate::ui) fn recall(store: Store) {
    let which = CLASSIFIES.first(store);
    if which != Which::Demo {
        let files = JsValue::NULL;
        want(Chosen { which, files });
    }
}

/// The model that works now is the person's own.
pub(in crate::ui) fn is_own() -> bool {
    CLIENT.with_borrow(|client| client.model.which == Which::Own)
}

/// Its files.
pub(super) fn own_files() -> JsValue {
    CLIENT.with_borrow(|client| client.model.files.clone())
}

/// There is a copy now of the person's own model of this name: it is the one
/// that the next visit begins with.
pub(super) fn own_is_kept(store: Store, id: &str) {
    let Model::Ready(loaded) = store.model.get_untracked() else {
        return;
    };
    if is_own() && from_disk(&loaded.name) == id {
        let which = Which::Kept(id.to_owned());
        CLASSIFIES.note(&which, &loaded.name);
        let files = JsValue::NULL;
        CLIENT.with_borrow_mut(|client| client.model = Chosen { which, files });
        store.model.notify();
    }
}

/// The next model that is loaded.
fn want(chosen: Chosen) {
    CLIENT.with_borrow_mut(|client| client.loading = Loading::Wanted(chosen));
}

/// The worker ran out of memory or broke. Scores stay; what was being computed
/// can be tried again; a new worker takes over.
pub(super) fn crashed(store: Store, message: &str) {
    let (loading, crashes) = CLIENT.with_borrow_mut(|client| {
        if let Some(worker) = client.worker.take() {
            stop(&worker);
        }
        client.crashes += 1;
        let loading = !matches!(client.loading, Loading::Idle);
        (loading, client.crashes)
    });
    for picture in store.pictures.get_untracked() {
        if picture.status.get_untracked() == Status::Busy && !loading {
            picture.status.set(Status::Cancelled);
        }
    }
    let why = format!("Computing stopped ({message}). There may not be enough memory");
    chat::client::worker_broke(store, &format!("{why}. What was written is kept."));
    if crashes > 1 {
        let lost =
            format!("{why}: take a smaller model or smaller pictures. What was computed is kept.");
        store.chat.model.set(Model::Lost(lost.clone()));
        store.model.set(Model::Lost(lost));
        return;
    }
    let undone = if loading {
        "for this model; the one before is loaded again."
    } else {
        "for what was being computed; it can be tried again below. Everything else is kept."
    };
    store.error.set(Some(format!("{why} {undone}")));
    CLIENT.with_borrow_mut(|client| client.loading = Loading::Idle);
    start(store);
}

/// The graphics processor is gone. It is opened again once; the next time the
/// person chooses what computes.
pub(super) fn lost(store: Store, message: String) {
    let losses = CLIENT.with_borrow_mut(|client| {
        client.losses += 1;
        client.losses
    });
    if losses > 1 {
        store.model.set(Model::Lost(message));
        return;
    }
    let again = "It is opened again now. Everything computed so far is kept.";
    store.error.set(Some(format!("{message}. {again}")));
    load(store);
}

pub(super) fn loaded_one(store: Store, loaded: Loaded) {
    CLIENT.with_borrow(|client| CLASSIFIES.note(&client.model.which, &loaded.name));
    chat::client::chooser_came();
    // That a device computes wrongly is still true on the one that takes over.
    if !matches!(
        store.check.get_untracked(),
        Check::Done { right: false, .. }
    ) {
        store.check.set(Check::Not);
    }
    store
        .announcement
        .set(format!("{} is ready, on {}", loaded.name, loaded.device));
    if !store.threshold_set.get_untracked() {
        let fitting = match loaded.even {
            Some(even) => even,
            None if loaded.demo => DEMO_THRESHOLD,
            None => CLIP_THRESHOLD,
        };
        store.threshold.set(fitting);
    }
    store.model.set(Model::Ready(loaded));
    send_labels(store);
    for picture in store.pictures.get_untracked() {
        let status = picture.status.get_untracked();
        if matches!(status, Status::Busy | Status::Ready { .. }) {
            retry(&picture);
        }
    }
}

/// Loads the model of now on the device of now.
pub(super) fn load(store: Store) {
    store.model.set(Model::Loading(0.0));
    let device = store.device.get_untracked();
    let (request, chosen) = CLIENT.with_borrow_mut(Client::ask);
    let Chosen { which, files } = chosen;
    let command = Command::Load {
        request,
        device,
        which,
    };
    send(&command, &files);
}

/// Loads the person's own model.
pub(in crate::ui) fn load_own(store: Store, files: &[File]) {
    if store.job.get_untracked() == Job::Chat {
        return chat::client::load_own(store, files);
    }
    let files: js_sys::Array = files.iter().collect();
    want(Chosen {
        which: Which::Own,
        files: files.into(),
    });
    go(store);
}

/// Loads the demo, or a model of the library.
pub(in crate::ui) fn load_model(store: Store, which: Which) {
    store.error.set(None);
    if store.job.get_untracked() == Job::Chat {
        return chat::client::load_model(store, which);
    }
    want(Chosen {
        which,
        files: JsValue::NULL,
    });
    go(store);
}

/// Chooses the device and loads the model there.
pub(in crate::ui) fn choose(store: Store, device: Device) {
    if store.job.get_untracked() == Job::Chat {
        return chat::client::choose(store, device);
    }
    store.device.set(device);
    go(store);
}

/// Loads, with a new worker where the one before is gone.
fn go(store: Store) {
    CLIENT.with_borrow_mut(|client| client.losses = 0);
    if !revive(store) {
        load(store);
    }
}

/// Starts a new worker where the one before is gone; tells whether it was.
pub(in crate::ui) fn revive(store: Store) -> bool {
    let gone = matches!(store.model.get_untracked(), Model::Lost(_));
    let gone = gone || CLIENT.with_borrow(|client| client.worker.is_none());
    if gone {
        CLIENT.with_borrow_mut(|client| client.crashes = 0);
        store.model.set(Model::Loading(0.0));
        start(store);
    }
    gone
}
