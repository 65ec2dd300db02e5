//! What is kept on this machine: conversations, sets and settings as text,
//! pictures as they came, in the browser's own database.

mod alone;
mod pictures;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use rexie::{ObjectStore, Rexie, Transaction, TransactionMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use super::store::{Chat, Conversation, Id, Settings, ShotSet, fresh};
use crate::protocol::PictureId;
use crate::ui::client::ask_to_persist;
use crate::ui::store::Store;
pub(super) use pictures::{drop_media, keep_media, used};
use pictures::{put_media, sweep};

const NAME: &str = "plume-chat";
/// Pictures: `[name, [frame, …]]` by their number; of a clip also its file, the
/// rate and the most frames that were taken of it.
const MEDIA: &str = "media";
/// JSON by `conversation-7`, `set-7`, `settings` and `open`.
const RECORDS: &str = "records";

thread_local! {
    static DATABASE: RefCell<Option<Rc<Rexie>>> = RefCell::default();
    /// Where it is told what becomes of it.
    static PAGE: Cell<Option<Store>> = const { Cell::new(None) };
    /// That something is not kept has been told.
    static TOLD: Cell<bool> = const { Cell::new(false) };
    /// The browser has been asked not to clear what is kept.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// This page among those of other tabs.
    static WRITER: Id = fresh();
    /// The revision of each conversation that this page knows.
    static KNOWN: RefCell<BTreeMap<Id, u64>> = RefCell::default();
    /// Conversations of this page that have got a number of their own, as
    /// another tab had changed them too.
    static MOVED: RefCell<BTreeMap<Id, Id>> = RefCell::default();
}

/// A conversation as it is kept, with what tells whether another tab has
/// changed it since it was read.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    conversation: Conversation,
    /// Rises with every change.
    #[serde(default)]
    revision: u64,
    /// The page that wrote it.
    #[serde(default)]
    writer: Id,
}

impl Record {
    /// Whether it is another page's and newer than what this one has read.
    fn is_news(&self) -> bool {
        let known = KNOWN.with_borrow(|all| all.get(&self.conversation.id).copied());
        self.writer != WRITER.with(|id| *id) && known != Some(self.revision)
    }

    fn note(&self) {
        KNOWN.with_borrow_mut(|all| all.insert(self.conversation.id, self.revision));
    }
}

fn database() -> Option<Rc<Rexie>> {
    DATABASE.with_borrow(Clone::clone)
}

/// The words of an error; the library's own say too little.
fn words(error: &rexie::Error) -> String {
    format!("{error:?}")
}

/// Waits until all of it is written: a full disk ends it only then.
async fn written(transaction: Transaction) -> Result<(), String> {
    let done = transaction.done().await.map_err(|error| words(&error))?;
    if done.is_committed() {
        Ok(())
    } else {
        Err("the browser undid it".to_owned())
    }
}

async fn change(store: &'static str, key: JsValue, value: Option<JsValue>) -> Result<(), String> {
    let Some(database) = database() else {
        return Ok(());
    };
    let make = || database.transaction(&[store], TransactionMode::ReadWrite);
    let transaction = make().map_err(|error| words(&error))?;
    let put = async {
        let records = transaction.store(store)?;
        match value {
            Some(value) => records.put(&value, Some(&key)).await.map(drop),
            None => records.delete(key).await,
        }
    };
    put.await.map_err(|error| words(&error))?;
    written(transaction).await
}

fn changed(store: &'static str, key: JsValue, value: Option<JsValue>) {
    spawn_local(async move {
        if let Err(why) = change(store, key, value).await {
            not_kept(&why);
        }
    });
}

/// Tells the person, once, that something is not kept, and what to do.
fn not_kept(why: &str) {
    web_sys::console::error_1(&why.into());
    if TOLD.replace(true) {
        return;
    }
    let cause = if why.contains("Quota") {
        "The browser has no room left to keep this chat. Deleting conversations, or models, makes \
         room."
    } else {
        "The browser does not keep this chat (a private window, or a full disk?)."
    };
    tell(format!(
        "{cause} It stays on this page until you close it: “Export all”, under Conversations, \
         saves it as a file."
    ));
}

/// Tells something of what is kept.
pub(super) fn tell(message: String) {
    if let Some(store) = PAGE.get() {
        store.error.set(Some(message));
    }
}

/// Asks the browser not to clear what is kept, now that there is something.
fn lasting() {
    if !ASKED.replace(true) {
        ask_to_persist();
    }
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
    lasting();
    keep(&format!("set-{}", set.id), set);
}

pub(super) fn drop_set(id: u32) {
    changed(RECORDS, format!("set-{id}").into(), None);
}

/// Keeps which conversation the next visit begins with.
pub(super) fn keep_open(id: Id) {
    keep("open", &id);
}

fn key(id: Id) -> JsValue {
    format!("conversation-{id}").into()
}

/// Keeps a conversation. Where another tab has changed it since it was read
/// here, both are kept: this one under a number and a title of its own.
pub(super) fn keep_conversation(chat: Chat, conversation: &Conversation) {
    lasting();
    let conversation = conversation.clone();
    spawn_local(async move {
        let id = conversation.id;
        match keep_record(conversation).await {
            Ok(None) => {}
            Ok(Some((ours, theirs))) => super::conversations::part(chat, id, ours, theirs),
            Err(why) => not_kept(&why),
        }
    });
}

/// Both, where there are two now: this page's, and the other's.
type Parted = Option<(Conversation, Conversation)>;

async fn keep_record(mut conversation: Conversation) -> Result<Parted, String> {
    let Some(database) = database() else {
        return Ok(None);
    };
    let make = || database.transaction(&[RECORDS], TransactionMode::ReadWrite);
    let transaction = make().map_err(|error| words(&error))?;
    let put = async {
        let records = transaction.store(RECORDS)?;
        let stored = records.get(key(conversation.id)).await?;
        let stored = stored.and_then(|value| parsed::<Record>(&value));
        let moved = MOVED.with_borrow(|all| all.get(&conversation.id).copied());
        let theirs = stored.clone().filter(|s| moved.is_none() && s.is_news());
        if let Some(theirs) = &theirs {
            theirs.note();
            let apart = fresh();
            MOVED.with_borrow_mut(|all| all.insert(conversation.id, apart));
            conversation.title = format!("{} (this tab)", conversation.title);
            conversation.id = apart;
        } else if let Some(moved) = moved {
            conversation.id = moved;
        }
        let record = Record {
            revision: stored.map_or(0, |stored| stored.revision) + 1,
            writer: WRITER.with(|id| *id),
            conversation,
        };
        record.note();
        let json = serde_json::to_string(&record).unwrap_or_default();
        let key = key(record.conversation.id);
        records.put(&json.into(), Some(&key)).await?;
        let both = theirs.map(|theirs| (record.conversation, theirs.conversation));
        Ok::<_, rexie::Error>(both)
    };
    let both = put.await.map_err(|error| words(&error))?;
    written(transaction).await?;
    Ok(both)
}

pub(super) fn drop_conversation(id: u32) {
    changed(RECORDS, key(id), None);
}

/// A conversation as it is kept now, with its pictures on the page: another tab
/// may have changed it.
pub(super) async fn reread(chat: Chat, id: Id) -> Option<Conversation> {
    let database = database()?;
    let parts = [RECORDS, MEDIA];
    let transaction = database
        .transaction(&parts, TransactionMode::ReadOnly)
        .ok()?;
    let stored = transaction.store(RECORDS).ok()?.get(key(id)).await.ok()?;
    let record = parsed::<Record>(&stored?).filter(Record::is_news)?;
    let pictures = transaction.store(MEDIA).ok()?;
    for id in used(std::slice::from_ref(&record.conversation), &[]) {
        let here = chat.media.with_untracked(|all| all.contains_key(&id));
        if !here && let Ok(Some(value)) = pictures.get(id.into()).await {
            put_media(chat, id, &value);
        }
    }
    record.note();
    Some(record.conversation)
}

/// Opens the database and puts on the page what is kept.
pub(super) async fn read(store: Store) {
    let chat = store.chat;
    PAGE.set(Some(store));
    let opened = Rexie::builder(NAME)
        .version(1)
        .add_object_store(ObjectStore::new(MEDIA))
        .add_object_store(ObjectStore::new(RECORDS))
        .build()
        .await;
    match opened {
        Ok(database) => {
            let database = Rc::new(database);
            DATABASE.set(Some(database.clone()));
            // Held while it is read, so that no other page deletes any of it.
            let alone = alone::enter().await;
            match read_all(chat, &database).await {
                Ok(unused) if alone.is_some() => sweep(&unused).await,
                Ok(_) => {}
                Err(_) => store.error.set(Some(
                    "What was kept of the chat cannot be read: another page may hold it. Reload."
                        .to_owned(),
                )),
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
async fn all(
    transaction: &Transaction,
    store: &str,
) -> Result<impl Iterator<Item = (JsValue, JsValue)>, rexie::Error> {
    let records = transaction.store(store)?;
    let keys = records.get_all_keys(None, None).await?;
    let values = records.get_all(None, None).await?;
    Ok(keys.into_iter().zip(values))
}

fn parsed<T: DeserializeOwned>(value: &JsValue) -> Option<T> {
    serde_json::from_str(&value.as_string()?).ok()
}

/// What is kept as text.
#[derive(Default)]
struct Texts {
    settings: Option<Settings>,
    open: Option<Id>,
    records: Vec<Record>,
    sets: Vec<ShotSet>,
    /// There are some that only another version of the page can read.
    strange: bool,
}

async fn texts(transaction: &Transaction) -> Result<Texts, rexie::Error> {
    let mut texts = Texts::default();
    for (key, value) in all(transaction, RECORDS).await? {
        let key = key.as_string().unwrap_or_default();
        if key == "settings" {
            texts.settings = parsed(&value);
        } else if key == "open" {
            texts.open = parsed(&value);
        } else if let (true, Some(record)) = (key.starts_with("conversation-"), parsed(&value)) {
            texts.records.push(record);
        } else if let (true, Some(set)) = (key.starts_with("set-"), parsed(&value)) {
            texts.sets.push(set);
        } else {
            texts.strange = true;
        }
    }
    Ok(texts)
}

/// Puts on the page what is kept; gives the pictures that nothing shows.
async fn read_all(chat: Chat, database: &Rexie) -> Result<Vec<PictureId>, rexie::Error> {
    let transaction = database.transaction(&[RECORDS, MEDIA], TransactionMode::ReadOnly)?;
    let texts = texts(&transaction).await?;
    let media = all(&transaction, MEDIA).await?;
    if let Some(settings) = texts.settings {
        chat.settings.set(settings);
    }
    texts.records.iter().for_each(Record::note);
    let conversations = texts.records.into_iter().map(|record| record.conversation);
    let mut conversations: Vec<_> = conversations.collect();
    conversations.sort_by(|a, b| b.changed.total_cmp(&a.changed));
    let used = used(&conversations, &texts.sets);
    let mut unused = Vec::new();
    for (key, value) in media {
        let Some(id) = key.as_f64().map(|id| id as PictureId) else {
            continue;
        };
        if used.contains(&id) {
            put_media(chat, id, &value);
        } else if !chat.media.with_untracked(|all| all.contains_key(&id)) {
            // Not what was put in on this page meanwhile.
            unused.push(id);
        }
    }
    let last = conversations
        .iter()
        .find(|c| Some(c.id) == texts.open)
        .or(conversations.first());
    if let Some(last) = last.cloned() {
        super::conversations::show(chat, last);
    }
    chat.all.set(conversations);
    chat.sets.set(texts.sets);
    Ok(unused)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{KNOWN, Record, WRITER};
    use crate::ui::chat::store::Conversation;

    fn old() -> Record {
        // As the first version of the page wrote it.
        let json = r#"{"id": 7, "title": "t", "changed": 1.5, "task": "ask", "shots": [],
            "turns": [], "draft": [{"Media": 3}, {"Text": "what?"}]}"#;
        serde_json::from_str(json).expect("a record")
    }

    #[wasm_bindgen_test]
    fn records_go_out_and_in() {
        let record = Record {
            revision: 5,
            writer: 9,
            ..old()
        };
        let json = serde_json::to_string(&record).expect("JSON");
        let again: Record = serde_json::from_str(&json).expect("a record");
        assert_eq!((again.revision, again.writer), (5, 9));
        assert_eq!(again.conversation, record.conversation);
        let plain: Conversation = serde_json::from_str(&json).expect("a conversation");
        assert_eq!(plain, record.conversation);
    }

    #[wasm_bindgen_test]
    fn what_another_tab_wrote_since_is_news() {
        let mut record = old();
        record.note();
        assert!(!record.is_news());
        (record.revision, record.writer) = (1, 1);
        assert!(record.is_news());
        record.note();
        assert!(!record.is_news());
        // What this page wrote itself is none, however late it hears of it.
        (record.revision, record.writer) = (9, WRITER.with(|id| *id));
        assert!(!record.is_news());
        KNOWN.with_borrow_mut(std::collections::BTreeMap::clear);
    }
}
