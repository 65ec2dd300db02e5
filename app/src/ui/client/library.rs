//! Models of the library: brought here, paused, taken away.

use leptos::prelude::*;
use wasm_bindgen::JsValue;

use super::send;
use crate::protocol::{Command, Place};
use crate::ui::store::Store;
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
fn ask_to_persist() {
    let storage = window().navigator().storage();
    if !JsValue::from(&storage).is_undefined()
        && let Ok(promise) = storage.persist()
    {
        leptos::task::spawn_local(async move {
            let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
        });
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
        Place::Here { .. } => store
            .announcement
            .set(format!("{name} is downloaded and can be used")),
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
