//! The pictures and clips of the chat: their bytes, and how they come in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use leptos::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File};

use super::store::{Chat, Media, fresh};
use super::{client, clip, keep};
use crate::protocol::PictureId;
use crate::protocol::chat::Wish;
use crate::ui::store::Store;
use crate::ui::web::window;

thread_local! {
    static FRAMES: RefCell<BTreeMap<PictureId, Vec<Blob>>> = RefCell::default();
    /// Those the worker was asked to look at.
    static LOOKED_AT: RefCell<BTreeSet<PictureId>> = RefCell::default();
}

/// The frames of a clip, or the one of a picture.
pub(super) fn frames(id: PictureId) -> Vec<Blob> {
    FRAMES.with_borrow(|all| all.get(&id).cloned().unwrap_or_default())
}

/// Adds a picture or a clip, and keeps it.
pub(super) fn add(chat: Chat, name: &str, frames: &[Blob]) -> PictureId {
    let id = fresh();
    put(chat, id, name, frames);
    keep::keep_media(id, name, frames);
    id
}

/// Puts a picture that is kept on the page.
pub(super) fn put(chat: Chat, id: PictureId, name: &str, frames: &[Blob]) {
    let url = |blob: &Blob| web_sys::Url::create_object_url_with_blob(blob).unwrap_or_default();
    let media = Media {
        name: name.to_owned(),
        urls: frames.iter().map(url).collect(),
    };
    FRAMES.with_borrow_mut(|all| all.insert(id, frames.to_vec()));
    chat.media.update(|all| {
        all.insert(id, media);
    });
    client::send(&Wish::Keep { id }, &payload(id));
}

/// Gives the worker all pictures, where it is a new one.
pub(super) fn give_all() {
    LOOKED_AT.with_borrow_mut(BTreeSet::clear);
    let ids: Vec<_> = FRAMES.with_borrow(|all| all.keys().copied().collect());
    for id in ids {
        client::send(&Wish::Keep { id }, &payload(id));
    }
}

/// Has a picture looked at while the person still writes.
pub(super) fn look_ahead(id: PictureId) {
    if LOOKED_AT.with_borrow_mut(|all| all.insert(id)) {
        client::send(&Wish::See { id }, &payload(id));
    }
}

/// One blob, or a list of those of a clip.
fn payload(id: PictureId) -> JsValue {
    match frames(id).as_slice() {
        [one] => one.into(),
        many => many.iter().collect::<js_sys::Array>().into(),
    }
}

/// Drops pictures that nothing shows any more.
pub(super) fn drop_unused(chat: Chat, used: &dyn Fn(PictureId) -> bool) {
    let gone: Vec<_> = chat
        .media
        .with_untracked(|all| all.keys().copied().filter(|id| !used(*id)).collect());
    for id in gone {
        let media = chat.media.try_update(|all| all.remove(&id)).flatten();
        for url in media.iter().flat_map(|media| &media.urls) {
            let _ = web_sys::Url::revoke_object_url(url);
        }
        FRAMES.with_borrow_mut(|all| all.remove(&id));
        client::send(&Wish::Forget { id }, &JsValue::NULL);
        keep::drop_media(id);
    }
}

/// Whether a file is a clip.
fn is_clip(file: &File) -> bool {
    let name = file.name().to_lowercase();
    let ends = [".mp4", ".webm", ".mov", ".m4v", ".ogv"];
    file.type_().starts_with("video/") || ends.iter().any(|end| name.ends_with(end))
}

/// Takes pictures and clips in; what is neither is told of.
pub(super) async fn take(store: Store, files: &[File]) -> Vec<PictureId> {
    let mut taken = Vec::new();
    for file in files {
        if let Some(id) = take_one(store, file).await {
            taken.push(id);
        }
    }
    taken
}

/// Takes one in.
pub(super) async fn take_one(store: Store, file: &File) -> Option<PictureId> {
    let name = file.name();
    let problem = if is_clip(file) {
        match clip::frames(store.chat, file).await {
            Ok(frames) => return Some(add(store.chat, &name, &frames)),
            Err(message) => message,
        }
    } else if readable(file).await {
        let blob: &Blob = file.unchecked_ref();
        return Some(add(store.chat, &name, std::slice::from_ref(blob)));
    } else {
        "neither a picture nor a clip that this browser can read".to_owned()
    };
    store.error.set(Some(format!("{name}: {problem}")));
    None
}

/// Whether the browser can decode a picture.
async fn readable(blob: &Blob) -> bool {
    match window().create_image_bitmap_with_blob(blob) {
        Ok(promise) => JsFuture::from(promise).await.is_ok(),
        Err(_) => false,
    }
}
