//! Models of the library: brought here, paused, taken away.

use leptos::prelude::*;
use wasm_bindgen::JsValue;

use super::models::{own_files, own_is_kept};
use super::send;
use crate::protocol::{Command, Kind, Place, from_disk};
use crate::ui::chat;
use crate::ui::store::{Job, Model, Store};
use crate::ui::web::window;

/// Adds a model by its address, and downloads it.
pub(in crate::ui) fn add_model(store: Store, address: String) {
    store.library_error.set(None);
    ask_to_persist();
    send(&Command::Add { address }, &JsValue::NULL);
}

/// Downloads a model of the library, from where it stopped.
pub(in crate::ui) fn download_model(store: Store, id: String) {
    store.library_error.set(None);
    ask_to_persist();
    send(&Command::Download { id }, &JsValue::NULL);
}

/// Only a page may ask, not its worker; the answer is shown by the storage.
pub(in crate::ui) fn ask_to_persist() {
    let storage = window().navigator().storage();
    if !JsValue::from(&storage).is_undefined()
        && let Ok(promise) = storage.persist()
    {
        leptos::task::spawn_local(async move {
            let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
        });
    }
}

/// Keeps a copy of the person's own model that works now.
pub(in crate::ui) fn keep_model(store: Store) {
    store.library_error.set(None);
    ask_to_persist();
    let (ready, kind, files) = match store.job.get_untracked() {
        Job::Classify => {
            let name = match store.model.get_untracked() {
                Model::Ready(loaded) => Some(loaded.name),
                _ => None,
            };
            (name, Kind::Clip, own_files())
        }
        Job::Chat => {
            let name = match store.chat.model.get_untracked() {
                Model::Ready(writer) => Some(writer.name),
                _ => None,
            };
            (name, Kind::Flamingo, chat::client::own_files())
        }
    };
    if let Some(name) = ready {
        send(&Command::Keep { name, kind }, &files);
    }
}

pub(in crate::ui) fn pause_model(id: String) {
    send(&Command::Pause { id }, &JsValue::NULL);
}

pub(in crate::ui) fn delete_model(id: String) {
    send(&Command::Delete { id }, &JsValue::NULL);
}

/// Where a model is now.
pub(super) fn placed(store: Store, id: String, place: Place) {
    let name = untrack(|| {
        let offers = store.offers.get();
        let offer = offers.into_iter().find(|offer| offer.id == id);
        offer.map_or_else(|| id.clone(), |offer| offer.name)
    });
    match &place {
        Place::Here { .. } => {
            let here = if id == from_disk(&name) {
                own_is_kept(store, &id);
                chat::client::own_is_kept(store, &id);
                format!("{name} is kept on this device")
            } else {
                format!("{name} is downloaded and can be used")
            };
            store.announcement.set(here);
        }
        Place::Paused {
            message: Some(message),
            ..
        } => store.announcement.set(format!("{name}: {message}")),
        _ => {}
    }
    store.places.update(|places| {
        places.insert(id, place);
    });
}
