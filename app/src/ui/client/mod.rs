//! The page's side of the worker: sends commands and folds events into the
//! store.

mod check;
mod library;
mod models;
mod pictures;
mod remembered;

use std::cell::RefCell;
use std::collections::BTreeMap;

use leptos::prelude::*;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, MessageEvent, Worker};

pub(super) use check::check;
pub(super) use library::{
    add_model, ask_to_persist, delete_model, download_model, keep_model, pause_model,
};
pub(super) use models::{choose, is_own, load_model, load_own, recall, revive};
pub(super) use pictures::{add, remove, replace, retry};
pub(super) use remembered::WRITES;

use super::chat;
use super::store::{Model, Status, Store, ranked};
use super::web::query;
use crate::protocol::{
    Command, Device, Event, Library, PictureId, RequestId, Subject, pack, unpack,
};
use models::{Chosen, Loading, crashed, load, loaded_one, lost};

#[derive(Default)]
struct Client {
    worker: Option<Worker>,
    blobs: BTreeMap<PictureId, Blob>,
    /// The model that last worked.
    model: Chosen,
    loading: Loading,
    next: PictureId,
    next_request: RequestId,
    /// Crashes since something was last computed.
    crashes: u32,
    /// Devices lost since the person last chose what computes.
    losses: u32,
}

thread_local! {
    static CLIENT: RefCell<Client> = RefCell::default();
}

pub(super) fn send(command: &Command, payload: &JsValue) {
    CLIENT.with_borrow(|client| {
        let Some(worker) = &client.worker else {
            return;
        };
        if let Err(error) = pack(command, payload).and_then(|m| worker.post_message(&m)) {
            web_sys::console::error_1(&error);
        }
    });
}

/// Starts the worker; whatever was computing before is stopped.
pub(super) fn start(store: Store) {
    let worker = match Worker::new("./worker_loader.js") {
        Ok(worker) => worker,
        Err(_) => {
            let message =
                "this browser runs no workers: use a current Chrome, Edge, Firefox or Safari";
            store.model.set(Model::Failed(message.to_owned()));
            return;
        }
    };
    let listener =
        Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            match unpack::<Event>(&message.data()) {
                Ok((event, _)) => receive(store, event),
                Err(error) => web_sys::console::error_1(&error),
            }
        });
    worker.set_onmessage(Some(listener.as_ref().unchecked_ref()));
    listener.forget();
    let crash =
        Closure::<dyn FnMut(web_sys::ErrorEvent)>::new(move |error: web_sys::ErrorEvent| {
            crashed(store, &error.message());
        });
    worker.set_onerror(Some(crash.as_ref().unchecked_ref()));
    crash.forget();
    CLIENT.with_borrow_mut(|client| {
        if let Some(old) = client.worker.replace(worker) {
            stop(&old);
        }
    });
}

/// Something was computed: what broke before is mended.
pub(super) fn well() {
    CLIENT.with_borrow_mut(|client| client.crashes = 0);
}

fn stop(worker: &Worker) {
    // What it still says, its death included, is of no interest.
    worker.set_onmessage(None);
    worker.set_onerror(None);
    worker.terminate();
}

fn receive(store: Store, event: Event) {
    match event {
        Event::Started => {
            let hub = query("hub");
            let keep = query("keep").is_none_or(|keep| keep != "off");
            send(&Command::Library { hub, keep }, &JsValue::NULL);
            load(store);
            chat::client::worker_came(store);
        }
        Event::Loading { done, total } => {
            let part = if total > 0.0 { done / total } else { 0.0 };
            store.model.set(Model::Loading(part));
        }
        Event::Loaded { request, loaded } => {
            let files = CLIENT.with_borrow_mut(|client| client.answered(request));
            if let Some(files) = files {
                CLIENT.with_borrow_mut(|client| client.model = files);
                loaded_one(store, loaded);
            }
        }
        Event::LoadFailed { request, message } => {
            let files = CLIENT.with_borrow_mut(|client| client.answered(request));
            let Some(files) = files else {
                return;
            };
            if CLIENT.with_borrow(|client| files != client.model) {
                store.error.set(Some(message));
                load(store);
            } else {
                store.model.set(Model::Failed(message));
            }
        }
        Event::LabelsFailed { message } => store.error.set(Some(message)),
        Event::Scores {
            id,
            labels,
            scores,
            timings,
        } => {
            well();
            let Some(picture) = store.picture(id) else {
                return;
            };
            let best = ranked(&labels, &scores).into_iter().next();
            picture.status.set(Status::Ready {
                labels,
                scores,
                timings,
            });
            if let Some((label, _, probability)) = best {
                let percent = probability * 100.0;
                announce(store, format!("{}: {label}, {percent:.0} %", picture.name));
            }
        }
        Event::PictureFailed { id, message } => {
            if let Some(picture) = store.picture(id) {
                let text = format!("{}: {message}", picture.name);
                picture.status.set(Status::Failed(message));
                announce(store, text);
            }
        }
        Event::Cancelled { id } => {
            if let Some(picture) = store.picture(id)
                && picture.status.get_untracked() == Status::Busy
            {
                picture.status.set(Status::Cancelled);
            }
        }
        Event::DeviceLost { message } => lost(store, message),
        Event::Crashed { message } => crashed(store, &message),
        Event::Report { json } => store.report.set(json),
        Event::Library(library) => {
            let Library {
                offers,
                places,
                to_pack,
                storage,
            } = library;
            let ids = offers.iter().map(|offer| offer.id.clone());
            store.places.set(ids.zip(places).collect());
            store.storage.set(storage);
            store.offers.set(offers);
            store.to_pack.set(to_pack);
        }
        Event::Place { id, place } => library::placed(store, id, place),
        Event::LibraryFailed { message } => store.library_error.set(Some(message)),
        Event::Checked(found) => check::checked(store, found),
        Event::Chat(news) => chat::client::receive(store, news),
    }
}

/// Tells one result by name and many by their number, so that a screen reader
/// keeps up.
fn announce(store: Store, text: String) {
    let (done, all) = untrack(|| store.progress());
    if all <= 4 {
        store.announcement.set(text);
    } else if done == all {
        store.announcement.set(format!("All {all} pictures done"));
    }
}

pub(super) fn send_labels(store: Store) {
    let labels = store.labels.get_untracked();
    let templates = untrack(|| store.used_templates());
    send(&Command::Labels { labels, templates }, &JsValue::NULL);
}

pub(super) fn cancel() {
    send(&Command::Cancel, &JsValue::NULL);
}

pub(super) fn self_test() {
    send(&Command::SelfTest, &JsValue::NULL);
}

pub(super) fn bench(subject: Subject, device: Device) {
    send(&Command::Bench { subject, device }, &JsValue::NULL);
}
