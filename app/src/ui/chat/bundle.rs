//! Conversations and sets as one file, the pictures in it as data URLs. Of a
//! clip its frames go along, not the file that they were taken from.

use std::collections::BTreeMap;

use gloo_net::http::Request;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File, FileReader};

use super::store::{Chat, Conversation, Shot, ShotSet, fresh};
use super::{conversations, keep, media};
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::store::Store;
use crate::ui::web::save;

/// The file.
#[derive(Serialize, Deserialize)]
struct Bundle {
    /// Says what it is, for people and for other programs.
    plume: String,
    media: BTreeMap<PictureId, Kept>,
    #[serde(default)]
    conversations: Vec<Conversation>,
    #[serde(default)]
    sets: Vec<ShotSet>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    frames: Vec<String>,
}

const KIND: &str = "conversations and example sets, format 1";

/// A blob as `data:…;base64,…`.
async fn data_url(blob: &Blob) -> Option<String> {
    let reader = FileReader::new().ok()?;
    reader.read_as_data_url(blob).ok()?;
    let done = js_sys::Promise::new(&mut |resolve, _| {
        reader.set_onloadend(Some(&resolve));
    });
    JsFuture::from(done).await.ok()?;
    reader.result().ok()?.as_string()
}

/// Back again. Browsers read data URLs by `fetch`; nothing is sent. What kind of
/// picture it is stands in its bytes, not always in the URL.
async fn blob(url: &str) -> Option<Blob> {
    if !url.starts_with("data:") {
        return None;
    }
    let response = Request::get(url).send().await.ok()?;
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(
        response.binary().await.ok()?.as_slice(),
    ));
    Blob::new_with_u8_array_sequence(&parts).ok()
}

/// Saves conversations and sets as a file of the person's.
pub(super) async fn export(
    chat: Chat,
    name: &str,
    conversations: &[Conversation],
    sets: &[ShotSet],
) {
    let mut kept = BTreeMap::new();
    for id in keep::used(conversations, sets) {
        let known = chat.media.with_untracked(|all| all.get(&id).cloned());
        let Some(known) = known else { continue };
        let mut frames = Vec::new();
        for frame in media::frames(id) {
            frames.extend(data_url(&frame).await);
        }
        let name = known.name;
        kept.insert(id, Kept { name, frames });
    }
    let bundle = Bundle {
        plume: KIND.to_owned(),
        media: kept,
        conversations: conversations.to_vec(),
        sets: sets.to_vec(),
    };
    if let Ok(json) = serde_json::to_string(&bundle) {
        save(name, "application/json", &json);
    }
}

/// Whether a file was exported here, by its first bytes.
pub(super) async fn is_one(file: &File) -> bool {
    let Ok(head) = file.slice_with_f64_and_f64(0.0, 64.0) else {
        return false;
    };
    let text = JsFuture::from(head.text()).await.ok();
    let text = text.and_then(|text| text.as_string()).unwrap_or_default();
    text.trim_start().starts_with("{\"plume\":")
}

/// Takes files in that were exported.
pub(super) async fn import(store: Store, files: &[File]) {
    for file in files {
        let text = JsFuture::from(file.text()).await.ok();
        let text = text.and_then(|text| text.as_string()).unwrap_or_default();
        match serde_json::from_str::<Bundle>(&text) {
            Ok(bundle) => add(store, bundle).await,
            Err(error) => store.error.set(Some(format!(
                "{} is no file that was exported here ({error})",
                file.name()
            ))),
        }
    }
}

/// Pictures get new numbers, so that nothing here is written over.
fn renumber(parts: &mut Vec<Piece>, ids: &BTreeMap<PictureId, PictureId>) {
    parts.retain_mut(|part| match part {
        Piece::Media(id) => match ids.get(id) {
            Some(now) => {
                *id = *now;
                true
            }
            None => false,
        },
        Piece::Text(_) => true,
    });
}

async fn add(store: Store, bundle: Bundle) {
    let chat = store.chat;
    let mut ids = BTreeMap::new();
    for (old, kept) in bundle.media {
        let mut frames = Vec::new();
        for url in &kept.frames {
            frames.extend(blob(url).await);
        }
        if !frames.is_empty() {
            ids.insert(old, media::add(chat, &kept.name, &frames));
        }
    }
    let shots = |shots: &mut Vec<Shot>| {
        for shot in shots {
            shot.id = fresh();
            renumber(&mut shot.parts, &ids);
        }
    };
    for mut set in bundle.sets {
        set.id = fresh();
        shots(&mut set.shots);
        keep::keep_set(&set);
        store.announcement.set(format!("{} is here", set.name));
        chat.sets.update(|sets| sets.push(set));
    }
    let mut last = None;
    for mut conversation in bundle.conversations {
        conversation.id = fresh();
        shots(&mut conversation.shots);
        renumber(&mut conversation.draft, &ids);
        for turn in &mut conversation.turns {
            turn.id = fresh();
            turn.all_parts_mut().for_each(|parts| renumber(parts, &ids));
        }
        keep::keep_conversation(chat, &conversation);
        chat.all.update(|all| all.insert(0, conversation.clone()));
        last = Some(conversation);
    }
    if let Some(last) = last.filter(|_| untrack(|| chat.idle())) {
        conversations::save(chat);
        store.announcement.set(format!("{} is here", last.title));
        conversations::show(chat, last);
    }
}
