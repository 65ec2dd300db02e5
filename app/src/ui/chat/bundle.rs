//! Conversations and sets as one file of JSON, the pictures in it as data URLs.
//! Of a clip its frames go along, not the file that they were taken from.
//!
//! A text of all pictures may be larger than browsers let one be (2²⁹ characters
//! in Chromium): each picture stands on a line of its own, and lines go out and
//! come in one by one.

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
use crate::ui::web::{blob, save};

/// The file, whose first key, `plume`, says what it is, for people and for other
/// programs.
#[derive(Serialize, Deserialize)]
struct Bundle {
    #[serde(default)]
    media: Media,
    #[serde(default)]
    conversations: Vec<Conversation>,
    #[serde(default)]
    sets: Vec<ShotSet>,
}

/// Pictures by their number.
type Media = BTreeMap<PictureId, Kept>;

#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    frames: Vec<String>,
}

/// The first line; a picture on each line follows, then [`REST`].
const HEAD: &str = r#"{"plume":"conversations and example sets, format 1","media":{"#;

/// What the last line, everything but the pictures, begins with.
const REST: &str = "},";

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
async fn picture(url: &str) -> Option<Blob> {
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
    store: Store,
    name: &str,
    conversations: &[Conversation],
    sets: &[ShotSet],
) {
    match file(store.chat, conversations, sets).await {
        Ok((file, left)) => {
            save(name, &file);
            not_read(store, left);
        }
        Err(why) => store
            .error
            .set(Some(format!("{name} could not be written ({why})"))),
    }
}

/// The file, and how many pictures could not be read.
async fn file(
    chat: Chat,
    conversations: &[Conversation],
    sets: &[ShotSet],
) -> Result<(Blob, usize), String> {
    let words = |error: serde_json::Error| error.to_string();
    let json = |parts: &js_sys::Array| {
        blob(parts, "application/json").map_err(|error| format!("{error:?}"))
    };
    // The browser keeps the lines; the page has one of them at a time.
    let parts = js_sys::Array::of1(&HEAD.into());
    let mut left = 0;
    let mut comma = "";
    for id in keep::used(conversations, sets) {
        let known = chat.media.with_untracked(|all| all.get(&id).cloned());
        let mut frames = Vec::new();
        for frame in media::frames(id) {
            frames.extend(data_url(&frame).await);
        }
        let Some(known) = known.filter(|_| !frames.is_empty()) else {
            left += 1;
            continue;
        };
        let name = known.name;
        let kept = serde_json::to_string(&Kept { name, frames }).map_err(words)?;
        let line = format!("{comma}\n\"{id}\":{kept}");
        let line = json(&js_sys::Array::of1(&line.into()))?;
        parts.push(&line);
        comma = ",";
    }
    let rest = Bundle {
        media: Media::new(),
        conversations: conversations.to_vec(),
        sets: sets.to_vec(),
    };
    let rest = serde_json::to_string(&rest).map_err(words)?;
    let rest = rest.replacen("{\"media\":{},", REST, 1);
    parts.push(&format!("\n{rest}\n").into());
    Ok((json(&parts)?, left))
}

fn not_read(store: Store, pictures: usize) {
    if pictures > 0 {
        let which = match pictures {
            1 => "1 picture could not be read and is".to_owned(),
            n => format!("{n} pictures could not be read and are"),
        };
        store.error.set(Some(format!("{which} left out.")));
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
        let left = match read(store.chat, file).await {
            Ok((bundle, ids)) => {
                add(store, bundle, &ids);
                ids.values().filter(|id| id.is_none()).count()
            }
            Err(why) => {
                store.error.set(Some(format!(
                    "{} is no file that was exported here ({why})",
                    file.name()
                )));
                0
            }
        };
        not_read(store, left);
    }
}

/// What number a picture of a file has here; none where it could not be read.
type Numbers = BTreeMap<PictureId, Option<PictureId>>;

/// Reads a file, and puts its pictures on the page.
async fn read(chat: Chat, file: &File) -> Result<(Bundle, Numbers), String> {
    let words = |error: serde_json::Error| error.to_string();
    let mut lines = Lines::of(file);
    let mut ids = Numbers::new();
    if lines.next().await?.as_deref() != Some(HEAD) {
        // Somebody has written it anew, in one line or with more of them.
        let text = JsFuture::from(file.text()).await;
        let text = text.ok().and_then(|text| text.as_string());
        let text = text.ok_or("it cannot be read")?;
        let whole: serde_json::Value = serde_json::from_str(&text).map_err(words)?;
        whole.get("plume").ok_or("it lacks the key `plume`")?;
        let mut bundle: Bundle = serde_json::from_value(whole).map_err(words)?;
        put(chat, std::mem::take(&mut bundle.media), &mut ids).await;
        return Ok((bundle, ids));
    }
    loop {
        let line = lines.next().await?.ok_or("its end is missing")?;
        if let Some(rest) = line.strip_prefix(REST) {
            let bundle = serde_json::from_str(&format!("{{{rest}")).map_err(words)?;
            return Ok((bundle, ids));
        }
        let line = format!("{{{}}}", line.trim_end_matches(','));
        put(chat, serde_json::from_str(&line).map_err(words)?, &mut ids).await;
    }
}

/// Pictures get new numbers, so that nothing here is written over.
async fn put(chat: Chat, media: Media, ids: &mut Numbers) {
    for (old, kept) in media {
        let mut frames = Vec::new();
        for url in &kept.frames {
            frames.extend(picture(url).await);
        }
        let now = (!frames.is_empty()).then(|| media::add(chat, &kept.name, &frames));
        ids.insert(old, now);
    }
}

/// The lines of a file, read piece by piece.
struct Lines<'a> {
    file: &'a File,
    /// Bytes that have been read.
    at: f64,
    /// Those of them that are not given out yet.
    read: Vec<u8>,
}

impl<'a> Lines<'a> {
    const PIECE: f64 = 4e6;

    fn of(file: &'a File) -> Self {
        let (at, read) = (0.0, Vec::new());
        Self { file, at, read }
    }

    /// The next line, without its end.
    async fn next(&mut self) -> Result<Option<String>, String> {
        let mut looked = 0;
        loop {
            let end = self.read[looked..].iter().position(|&byte| byte == b'\n');
            if let Some(end) = end {
                let rest = self.read.split_off(looked + end + 1);
                let mut line = std::mem::replace(&mut self.read, rest);
                line.pop();
                return Self::text(line).map(Some);
            }
            looked = self.read.len();
            if self.at >= self.file.size() {
                let line = std::mem::take(&mut self.read);
                return match line.is_empty() {
                    true => Ok(None),
                    false => Self::text(line).map(Some),
                };
            }
            let to = (self.at + Self::PIECE).min(self.file.size());
            let piece = self.file.slice_with_f64_and_f64(self.at, to);
            let bytes = match piece {
                Ok(piece) => JsFuture::from(piece.array_buffer()).await,
                Err(error) => Err(error),
            };
            let bytes = bytes.map_err(|error| format!("it cannot be read: {error:?}"))?;
            let bytes = js_sys::Uint8Array::new(&bytes);
            self.read.extend(bytes.to_vec());
            self.at = to;
        }
    }

    fn text(line: Vec<u8>) -> Result<String, String> {
        String::from_utf8(line).map_err(|_| "it is no text".to_owned())
    }
}

fn renumber(parts: &mut Vec<Piece>, ids: &Numbers) {
    parts.retain_mut(|part| match part {
        Piece::Media(id) => match ids.get(id).copied().flatten() {
            Some(now) => {
                *id = now;
                true
            }
            None => false,
        },
        Piece::Text(_) => true,
    });
}

fn add(store: Store, bundle: Bundle, ids: &Numbers) {
    let chat = store.chat;
    let shots = |shots: &mut Vec<Shot>| {
        for shot in shots {
            shot.id = fresh();
            renumber(&mut shot.parts, ids);
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
        renumber(&mut conversation.draft, ids);
        for turn in &mut conversation.turns {
            turn.id = fresh();
            turn.all_parts_mut().for_each(|parts| renumber(parts, ids));
        }
        keep::keep_conversation(chat, &conversation);
        chat.all.update(|all| all.insert(0, conversation.clone()));
        last = Some(conversation);
    }
    if let Some(last) = last.filter(|_| untrack(|| chat.idle())) {
        conversations::save(chat);
        keep::keep_open(last.id);
        store.announcement.set(format!("{} is here", last.title));
        conversations::show(chat, last);
    }
}
