//! The page's side of the worker: sends commands, folds events into the store,
//! and keeps the bytes of the pictures so that nothing is lost with a worker.

use std::cell::RefCell;
use std::collections::BTreeMap;

use leptos::prelude::*;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, File, MessageEvent, Worker};

use super::store::{Model, Picture, Status, Store, ranked};
use crate::protocol::{Command, Device, Event, PictureId, pack, unpack};

#[derive(Default)]
struct Client {
    worker: Option<Worker>,
    blobs: BTreeMap<PictureId, Blob>,
    /// The person's own model files, if any.
    own: Option<js_sys::Array>,
    next: PictureId,
}

thread_local! {
    static CLIENT: RefCell<Client> = RefCell::default();
}

fn send(command: &Command, payload: &JsValue) {
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
            match unpack::<Event>(message.data()) {
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
            old.terminate();
        }
    });
}

/// The worker ran out of memory or broke: scores stay, the rest can be tried
/// again.
fn crashed(store: Store, message: &str) {
    let message = format!(
        "computing stopped ({message}): there may not be enough memory. Load the model again, or \
         take a smaller one; what was computed is kept"
    );
    store.pictures.with_untracked(|all| {
        for picture in all {
            if picture.status.get_untracked() == Status::Busy {
                picture.status.set(Status::Cancelled);
            }
        }
    });
    store.model.set(Model::Lost(message));
}

fn receive(store: Store, event: Event) {
    match event {
        Event::Started => load(store),
        Event::Loaded(loaded) => {
            store
                .announcement
                .set(format!("{} is ready, on {}", loaded.name, loaded.device));
            store.model.set(Model::Ready(loaded));
            send_labels(store);
            resend(store);
        }
        Event::LoadFailed { message } => {
            let own = CLIENT.with_borrow_mut(|client| client.own.take());
            if own.is_some() {
                // The demo goes on.
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
            let Some(picture) = store.picture(id) else {
                return;
            };
            if let Some((label, _, probability)) = ranked(&labels, &scores).first() {
                let percent = probability * 100.0;
                let text = format!("{}: {label}, {percent:.0} %", picture.name);
                store.announcement.set(text);
            }
            picture.status.set(Status::Ready {
                labels,
                scores,
                timings,
            });
        }
        Event::PictureFailed { id, message } => {
            if let Some(picture) = store.picture(id) {
                store
                    .announcement
                    .set(format!("{}: {message}", picture.name));
                picture.status.set(Status::Failed(message));
            }
        }
        Event::Cancelled { id } => {
            if let Some(picture) = store.picture(id) {
                picture.status.set(Status::Cancelled);
            }
        }
        Event::DeviceLost { message } => store.model.set(Model::Lost(message)),
        Event::Report { json } => store.report.set(json),
    }
}

/// Loads the model of now on the device of now.
pub(super) fn load(store: Store) {
    store.model.set(Model::Loading);
    let device = store.device.get_untracked();
    let own = CLIENT.with_borrow(|client| client.own.clone());
    let payload = own.map_or(JsValue::NULL, JsValue::from);
    send(&Command::Load { device }, &payload);
}

/// Loads the person's own model; none means the demo again.
pub(super) fn load_own(store: Store, files: Option<&[File]>) {
    let files = files.map(|files| files.iter().collect::<js_sys::Array>());
    CLIENT.with_borrow_mut(|client| client.own = files);
    load(store);
}

/// Chooses the device and loads the model there.
pub(super) fn choose(store: Store, device: Device) {
    store.device.set(device);
    if matches!(store.model.get_untracked(), Model::Lost(_)) {
        start(store);
    } else {
        load(store);
    }
}

pub(super) fn send_labels(store: Store) {
    let labels = store.labels.get_untracked();
    let templates = untrack(|| store.used_templates());
    send(&Command::Labels { labels, templates }, &JsValue::NULL);
}

/// Sends every picture that has not failed to a worker that knows none.
fn resend(store: Store) {
    for picture in store.pictures.get_untracked() {
        if !matches!(picture.status.get_untracked(), Status::Failed(_)) {
            retry(&picture);
        }
    }
}

/// Sends a picture again.
pub(super) fn retry(picture: &Picture) {
    let blob = CLIENT.with_borrow(|client| client.blobs.get(&picture.id).cloned());
    if let Some(blob) = blob {
        if !matches!(picture.status.get_untracked(), Status::Ready { .. }) {
            picture.status.set(Status::Busy);
        }
        send(&Command::Picture { id: picture.id }, &blob);
    }
}

/// Adds a picture and has it classified.
pub(super) fn add(store: Store, name: &str, blob: &Blob) -> PictureId {
    let id = CLIENT.with_borrow_mut(|client| {
        client.next += 1;
        client.blobs.insert(client.next, blob.clone());
        client.next
    });
    let url = web_sys::Url::create_object_url_with_blob(blob).unwrap_or_default();
    let picture = Picture {
        id,
        name: name.to_owned(),
        url,
        status: RwSignal::new(Status::Busy),
    };
    store.pictures.update(|all| all.insert(0, picture));
    if matches!(store.model.get_untracked(), Model::Ready(_)) {
        send(&Command::Picture { id }, blob);
    }
    id
}

/// Takes a picture off the page.
pub(super) fn remove(store: Store, id: PictureId) {
    if let Some(picture) = store.picture(id) {
        let _ = web_sys::Url::revoke_object_url(&picture.url);
    }
    store
        .pictures
        .update(|all| all.retain(|picture| picture.id != id));
    CLIENT.with_borrow_mut(|client| client.blobs.remove(&id));
    send(&Command::Forget { id }, &JsValue::NULL);
}

pub(super) fn cancel() {
    send(&Command::Cancel, &JsValue::NULL);
}

pub(super) fn self_test() {
    send(&Command::SelfTest, &JsValue::NULL);
}

pub(super) fn bench(demo: bool) {
    send(&Command::Bench { demo }, &JsValue::NULL);
}
