//! The pictures and clips of the chat: their bytes, and how they come in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use leptos::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, ImageBitmap};

use super::clip::Sampling;
use super::store::{Chat, Media, fresh};
use super::{client, clip, keep};
use crate::protocol::PictureId;
use crate::protocol::chat::Wish;
use crate::ui::store::Store;
use crate::ui::web::window;

/// What a clip was taken from, so that it can be sampled anew.
#[derive(Clone)]
pub(super) struct Clip {
    pub(super) file: Blob,
    pub(super) how: Sampling,
}

thread_local! {
    static CLIPS: RefCell<BTreeMap<PictureId, Clip>> = RefCell::default();
    static FRAMES: RefCell<BTreeMap<PictureId, Vec<Blob>>> = RefCell::default();
    /// Those the worker was asked to look at.
    static LOOKED_AT: RefCell<BTreeSet<PictureId>> = RefCell::default();
}

/// The frames of a clip, or the one of a picture.
pub(super) fn frames(id: PictureId) -> Vec<Blob> {
    FRAMES.with_borrow(|all| all.get(&id).cloned().unwrap_or_default())
}

/// What a clip was taken from, where that is known.
pub(super) fn clip(id: PictureId) -> Option<Clip> {
    CLIPS.with_borrow(|all| all.get(&id).cloned())
}

/// Adds a picture, or the frames of a clip alone, and keeps it.
pub(super) fn add(chat: Chat, name: &str, frames: &[Blob]) -> PictureId {
    add_from(chat, name, frames, None)
}

fn add_from(chat: Chat, name: &str, frames: &[Blob], clip: Option<Clip>) -> PictureId {
    let id = fresh();
    keep::keep_media(id, name, frames, clip.as_ref());
    put(chat, id, name, frames, clip);
    id
}

/// Takes other frames of a clip: another clip.
///
/// # Errors
/// Where it cannot be read any more.
pub(super) async fn resample(
    chat: Chat,
    id: PictureId,
    how: Sampling,
) -> Result<PictureId, String> {
    let name = chat
        .media
        .with_untracked(|all| all.get(&id).map(|media| media.name.clone()));
    let name = name.unwrap_or_default();
    let gone = || format!("{name}: its file is not here any more, put it in again");
    let file = clip(id).ok_or_else(gone)?.file;
    let frames = clip::frames(&file, how).await;
    let frames = frames.map_err(|why| format!("{name}: {why}"))?;
    Ok(add_from(chat, &name, &frames, Some(Clip { file, how })))
}

/// Puts a picture that is kept on the page.
pub(super) fn put(chat: Chat, id: PictureId, name: &str, frames: &[Blob], clip: Option<Clip>) {
    if let Some(clip) = clip {
        CLIPS.with_borrow_mut(|all| all.insert(id, clip));
    }
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
    for &id in &gone {
        let media = chat.media.try_update(|all| all.remove(&id)).flatten();
        for url in media.iter().flat_map(|media| &media.urls) {
            let _ = web_sys::Url::revoke_object_url(url);
        }
        FRAMES.with_borrow_mut(|all| all.remove(&id));
        CLIPS.with_borrow_mut(|all| all.remove(&id));
        client::send(&Wish::Forget { id }, &JsValue::NULL);
    }
    keep::drop_media(gone);
}

/// Whether a file is a clip.
fn is_clip(file: &File) -> bool {
    let name = file.name().to_lowercase();
    let ends = [".mp4", ".webm", ".mov", ".m4v", ".ogv"];
    file.type_().starts_with("video/") || ends.iter().any(|end| name.ends_with(end))
}

/// A file that was left out, and why.
pub(super) struct Left {
    name: String,
    why: String,
}

impl Left {
    /// One that is no picture.
    pub(super) fn other(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            why: "neither a picture nor a clip that this browser can read".to_owned(),
        }
    }
}

/// Names that are told of those left out.
const NAMES: usize = 4;

/// What was left out, in one message; none where nothing was.
pub(super) fn left_out(taken: usize, left: &[Left]) -> Option<String> {
    let names: Vec<_> = left.iter().map(|left| left.name.as_str()).collect();
    let (some, rest) = names.split_at(names.len().min(NAMES));
    let some = some.join(", ");
    match (left, rest.len()) {
        ([], _) => None,
        ([one], _) if taken == 0 => Some(format!("{}: {}", one.name, one.why)),
        ([one], _) => Some(format!("1 file was left out: {} ({}).", one.name, one.why)),
        (_, 0) => Some(format!(
            "{} files that are no pictures were left out: {some}.",
            left.len()
        )),
        (_, more) => Some(format!(
            "{} files that are no pictures were left out: {some} and {more} more.",
            left.len()
        )),
    }
}

/// Takes pictures and clips in; what is neither is told of.
pub(super) async fn take(store: Store, files: &[File]) -> Vec<PictureId> {
    take_among(store, files, Vec::new()).await
}

/// The same, where others were left out already.
pub(super) async fn take_among(
    store: Store,
    files: &[File],
    mut left: Vec<Left>,
) -> Vec<PictureId> {
    let mut taken = Vec::new();
    for file in files {
        match take_one(store, file).await {
            Ok(id) => taken.push(id),
            Err(one) => left.push(one),
        }
    }
    if let Some(message) = left_out(taken.len(), &left) {
        store.error.set(Some(message));
    }
    taken
}

/// Takes one in.
pub(super) async fn take_one(store: Store, file: &File) -> Result<PictureId, Left> {
    let name = file.name();
    if is_clip(file) {
        let how = store
            .chat
            .settings
            .with_untracked(|s| Sampling::of(s.rate, s.frames));
        let frames = clip::frames(file, how).await;
        return match frames {
            Ok(frames) => {
                let file = file.clone().into();
                let clip = Some(Clip { file, how });
                Ok(add_from(store.chat, &name, &frames, clip))
            }
            Err(why) => Err(Left { name, why }),
        };
    }
    if readable(file).await {
        let blob: &Blob = file.unchecked_ref();
        return Ok(add(store.chat, &name, std::slice::from_ref(blob)));
    }
    Err(Left::other(&name))
}

/// Whether the browser can decode a picture.
async fn readable(blob: &Blob) -> bool {
    match window().create_image_bitmap_with_blob(blob) {
        // Many megabytes wait for the browser's collection of garbage otherwise.
        Ok(promise) => JsFuture::from(promise)
            .await
            .map(|bitmap| bitmap.unchecked_into::<ImageBitmap>().close())
            .is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Left, left_out};

    #[wasm_bindgen_test]
    fn what_was_left_out_is_one_message() {
        let left = |names: &[&str]| {
            names
                .iter()
                .map(|name| Left::other(name))
                .collect::<Vec<_>>()
        };
        let said = |taken, names: &[&str]| left_out(taken, &left(names)).unwrap_or_default();
        assert_eq!(said(3, &[]), "");
        assert!(said(0, &["a.txt"]).starts_with("a.txt: neither"));
        assert!(said(2, &["a.txt"]).starts_with("1 file was left out: a.txt"));
        assert_eq!(
            said(2, &["a", "b", "c", "d", "e", "f"]),
            "6 files that are no pictures were left out: a, b, c, d and 2 more."
        );
    }
}
