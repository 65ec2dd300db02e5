//! The pictures, whose bytes are kept here so that nothing is lost with a
//! worker.

use leptos::prelude::*;
use wasm_bindgen::JsValue;
use web_sys::Blob;

use super::{CLIENT, send};
use crate::protocol::{Command, PictureId};
use crate::ui::store::{Model, Picture, Status, Store};

/// Sends a picture again.
pub(in crate::ui) fn retry(picture: &Picture) {
    let blob = CLIENT.with_borrow(|client| client.blobs.get(&picture.id).cloned());
    if let Some(blob) = blob {
        if !matches!(picture.status.get_untracked(), Status::Ready { .. }) {
            picture.status.set(Status::Busy);
        }
        send(&Command::Picture { id: picture.id }, &blob);
    }
}

fn object_url(blob: &Blob) -> String {
    web_sys::Url::create_object_url_with_blob(blob).unwrap_or_default()
}

/// Adds a picture and has it classified.
pub(in crate::ui) fn add(store: Store, name: &str, blob: &Blob) -> PictureId {
    let id = CLIENT.with_borrow_mut(|client| {
        client.next += 1;
        client.blobs.insert(client.next, blob.clone());
        client.next
    });
    let picture = Picture {
        id,
        name: name.to_owned(),
        url: RwSignal::new(object_url(blob)),
        status: RwSignal::new(Status::Busy),
    };
    store.pictures.update(|all| all.insert(0, picture));
    if matches!(store.model.get_untracked(), Model::Ready(_)) {
        send(&Command::Picture { id }, blob);
    }
    id
}

/// Puts other bytes in the place of a picture; its scores stay until the new
/// ones come.
pub(in crate::ui) fn replace(store: Store, id: PictureId, blob: &Blob) {
    let Some(picture) = store.picture(id) else {
        return;
    };
    CLIENT.with_borrow_mut(|client| client.blobs.insert(id, blob.clone()));
    let _ = web_sys::Url::revoke_object_url(&picture.url.get_untracked());
    picture.url.set(object_url(blob));
    if matches!(store.model.get_untracked(), Model::Ready(_)) {
        retry(&picture);
    }
}

/// Takes a picture off the page.
pub(in crate::ui) fn remove(store: Store, id: PictureId) {
    if let Some(picture) = store.picture(id) {
        let _ = web_sys::Url::revoke_object_url(&picture.url.get_untracked());
    }
    store
        .pictures
        .update(|all| all.retain(|picture| picture.id != id));
    CLIENT.with_borrow_mut(|client| client.blobs.remove(&id));
    send(&Command::Forget { id }, &JsValue::NULL);
}
