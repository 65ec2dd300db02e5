//! What is kept on this machine: conversations, sets and settings as text,
//! pictures as they came, in the browser's own database.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use rexie::{ObjectStore, Rexie, TransactionMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Blob;

use super::media;
use super::store::{Chat, Conversation, Settings, Shot, ShotSet, media_of};
use crate::protocol::PictureId;
use crate::ui::store::Store;

const NAME: &str = "plume-chat";
/// Pictures: `[name, [frame, …]]` by their number.
const MEDIA: &str = "media";
/// JSON by `conversation-7`, `set-7`, `settings` and `open`.
const RECORDS: &str = "records";

thread_local! {
    static DATABASE: RefCell<Option<Rc<Rexie>>> = RefCell::default();
}

fn database() -> Option<Rc<Rexie>> {
    DATABASE.with_borrow(Clone::clone)
}

async fn change(store: &'static str, key: JsValue, value: Option<JsValue>) -> rexie::Result<()> {
    let Some(database) = database() else {
        return Ok(());
    };
    let transaction = database.transaction(&[store], TransactionMode::ReadWrite)?;
    let records = transaction.store(store)?;
    match value {
        Some(value) => {
            records.put(&value, Some(&key)).await?;
        }
        None => records.delete(key).await?,
    }
    transaction.done().await.map(|_| ())
}

fn changed(store: &'static str, key: JsValue, value: Option<JsValue>) {
    spawn_local(async move {
        if let Err(error) = change(store, key, value).await {
            web_sys::console::error_1(&error.to_string().into());
        }
    });
}

pub(super) fn keep_media(id: PictureId, name: &str, frames: &[Blob]) {
    let frames: js_sys::Array = frames.iter().collect();
    let value = js_sys::Array::of2(&name.into(), &frames);
    changed(MEDIA, id.into(), Some(value.into()));
}

pub(super) fn drop_media(id: PictureId) {
    changed(MEDIA, id.into(), None);
}

fn keep<T: Serialize>(key: &str, value: &T) {
    if let Ok(json) = serde_json::to_string(value) {
        changed(RECORDS, key.into(), Some(json.into()));
    }
}

pub(super) fn keep_settings(settings: &Settings) {
    keep("settings", settings);
}

pub(super) fn keep_set(set: &ShotSet) {
    keep(&format!("set-{}", set.id), set);
}

pub(super) fn drop_set(id: u32) {
    changed(RECORDS, format!("set-{id}").into(), None);
}

pub(super) fn keep_conversation(conversation: &Conversation) {
    keep(&format!("conversation-{}", conversation.id), conversation);
    keep("open", &conversation.id);
}

pub(super) fn drop_conversation(id: u32) {
    changed(RECORDS, format!("conversation-{id}").into(), None);
}

/// Opens the database and puts on the page what is kept.
pub(super) async fn read(store: Store) {
    let chat = store.chat;
    let opened = Rexie::builder(NAME)
        .version(1)
        .add_object_store(ObjectStore::new(MEDIA))
        .add_object_store(ObjectStore::new(RECORDS))
        .build()
        .await;
    match opened {
        Ok(database) => {
            DATABASE.set(Some(Rc::new(database)));
            if read_all(chat).await.is_none() {
                store.error.set(Some(
                    "What was kept of the chat cannot be read: another page may hold it. Reload."
                        .to_owned(),
                ));
            }
        }
        Err(_) => store.error.set(Some(
            "This browser keeps nothing for this page (a private window?): export what you want \
             to keep."
                .to_owned(),
        )),
    }
    chat.ready.set(true);
}

/// All keys and values of a part of the database, in the same order.
async fn all(store: &'static str) -> Option<Vec<(JsValue, JsValue)>> {
    let database = database()?;
    let transaction = database
        .transaction(&[store], TransactionMode::ReadOnly)
        .ok()?;
    let records = transaction.store(store).ok()?;
    let keys = records.get_all_keys(None, None).await.ok()?;
    let values = records.get_all(None, None).await.ok()?;
    Some(keys.into_iter().zip(values).collect())
}

fn parsed<T: DeserializeOwned>(value: &JsValue) -> Option<T> {
    serde_json::from_str(&value.as_string()?).ok()
}

async fn read_all(chat: Chat) -> Option<()> {
    let (mut open, mut conversations, mut sets) =
        (None::<u32>, Vec::<Conversation>::new(), Vec::new());
    for (key, value) in all(RECORDS).await? {
        let key = key.as_string().unwrap_or_default();
        if key == "settings" {
            if let Some(settings) = parsed(&value) {
                chat.settings.set(settings);
            }
        } else if key == "open" {
            open = parsed(&value);
        } else if key.starts_with("conversation-") {
            conversations.extend(parsed::<Conversation>(&value));
        } else if key.starts_with("set-") {
            sets.extend(parsed::<ShotSet>(&value));
        }
    }
    conversations.sort_by(|a, b| b.changed.total_cmp(&a.changed));
    let used = used(&conversations, &sets);
    for (key, value) in all(MEDIA).await? {
        let Some(id) = key.as_f64().map(|id| id as PictureId) else {
            continue;
        };
        if !used.contains(&id) {
            drop_media(id);
            continue;
        }
        let pair = js_sys::Array::from(&value);
        let frames = js_sys::Array::from(&pair.get(1));
        let frames: Vec<Blob> = frames
            .iter()
            .filter_map(|frame| frame.dyn_into().ok())
            .collect();
        media::put(
            chat,
            id,
            &pair.get(0).as_string().unwrap_or_default(),
            &frames,
        );
    }
    let last = conversations
        .iter()
        .find(|c| Some(c.id) == open)
        .or(conversations.first());
    if let Some(last) = last.cloned() {
        super::conversations::show(chat, last);
    }
    chat.all.set(conversations);
    chat.sets.set(sets);
    Some(())
}

/// Every picture that a conversation or a set shows.
pub(super) fn used(conversations: &[Conversation], sets: &[ShotSet]) -> BTreeSet<PictureId> {
    let of_shots = |shots: &[Shot]| {
        shots
            .iter()
            .flat_map(|shot| media_of(&shot.parts))
            .collect::<Vec<_>>()
    };
    let mut used: BTreeSet<_> = sets.iter().flat_map(|set| of_shots(&set.shots)).collect();
    for conversation in conversations {
        used.extend(of_shots(&conversation.shots));
        used.extend(media_of(&conversation.draft));
        for turn in &conversation.turns {
            used.extend(media_of(&turn.parts));
            used.extend(media_of(&turn.prompt));
        }
    }
    used
}
