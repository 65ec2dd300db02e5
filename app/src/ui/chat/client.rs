//! The page's side of the chat: wishes that are answered, answers as they are
//! written, and what happens when a model or a device fails.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_channel::oneshot;
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsValue;
use web_sys::File;

use super::media;
use super::store::{Chat, Id};
use crate::protocol::chat::{Gaze, Likely, News, Piece, Planned, STOPPED, Wish, Writer};
use crate::protocol::{Command, Device, PictureId, RequestId, Which, from_disk};
use crate::ui::client as worker;
use crate::ui::store::{Model, Store};

/// A model, and its files where it is the person's own.
#[derive(Clone, PartialEq)]
struct Chosen {
    which: Which,
    files: JsValue,
}

impl Chosen {
    fn of(which: Which) -> Self {
        let files = JsValue::NULL;
        Self { which, files }
    }
}

#[derive(Default)]
struct Client {
    next: RequestId,
    waiting: HashMap<RequestId, oneshot::Sender<Result<News, String>>>,
    /// The answer that is written.
    writing: Option<RequestId>,
    /// Ends what is done for an answer.
    stop: Option<oneshot::Sender<()>>,
    /// The model that last worked, and the wish for the one to come.
    model: Option<Chosen>,
    loading: Option<(RequestId, Chosen)>,
    /// Devices lost since the person last chose.
    losses: u32,
    /// The last choice by similarity, by the CLIP of now: it is asked for whenever
    /// a letter changes.
    similar: Option<(Similar, Vec<(PictureId, f32)>)>,
    /// Tokens of examples, by the model of now.
    counted: HashMap<Id, (Vec<Piece>, usize)>,
}

/// Query, support and count.
type Similar = (PictureId, Vec<PictureId>, usize);

thread_local! {
    static CLIENT: RefCell<Client> = RefCell::default();
}

pub(super) fn send(wish: &Wish, payload: &JsValue) {
    worker::send(&Command::Chat(wish.clone()), payload);
}

fn next() -> RequestId {
    CLIENT.with_borrow_mut(|client| {
        client.next += 1;
        client.next
    })
}

/// Sends a wish and waits for what answers it.
async fn ask(request: RequestId, wish: Wish) -> Result<News, String> {
    let (sender, receiver) = oneshot::channel();
    CLIENT.with_borrow_mut(|client| client.waiting.insert(request, sender));
    send(&wish, &JsValue::NULL);
    let gone = || Err("Nothing computes any more: reload the page. What was said is kept.".into());
    receiver.await.unwrap_or_else(|_| gone())
}

/// Answers a wish on behalf of the worker.
fn settle(request: RequestId, answer: Result<News, String>) {
    let waiting = CLIENT.with_borrow_mut(|client| client.waiting.remove(&request));
    if let Some(waiting) = waiting {
        let _ = waiting.send(answer);
    }
}

const STRANGE: &str = "the worker answered something else: reload the page";

pub(super) async fn planned(prompt: Vec<Piece>) -> Result<Planned, String> {
    let request = next();
    match ask(request, Wish::Plan { request, prompt }).await? {
        News::Planned { planned, .. } => Ok(planned),
        _ => Err(STRANGE.to_owned()),
    }
}

/// Tokens of each of some examples by themselves. All are counted at once, but
/// only those that are new or have changed: there may be hundreds.
pub(super) async fn counted(examples: &[(Id, Vec<Piece>)]) -> Result<Vec<usize>, String> {
    let new: Vec<_> = CLIENT.with_borrow(|client| {
        let is_new = |(id, pieces): &&(Id, Vec<Piece>)| {
            let known = client.counted.get(id);
            known.is_none_or(|(known, _)| known != pieces)
        };
        examples.iter().filter(is_new).cloned().collect()
    });
    if !new.is_empty() {
        let all = new.iter().flat_map(|(_, pieces)| pieces.clone());
        let mut tokens = planned(all.collect()).await?.tokens.into_iter();
        let new = new.into_iter().map(|(id, pieces)| {
            let count = tokens.by_ref().take(pieces.len()).sum();
            (id, (pieces, count))
        });
        CLIENT.with_borrow_mut(|client| client.counted.extend(new));
    }
    let count = |client: &Client, id: &Id| client.counted.get(id).map_or(0, |(_, count)| *count);
    let counts = |client: &Client| examples.iter().map(|(id, _)| count(client, id)).collect();
    Ok(CLIENT.with_borrow(counts))
}

/// The pictures most like another, the most similar last, with their cosines.
pub(super) async fn choose_similar(
    query: PictureId,
    support: Vec<PictureId>,
    count: usize,
) -> Result<Vec<(PictureId, f32)>, String> {
    let key = (query, support.clone(), count);
    let known = CLIENT.with_borrow(|client| client.similar.clone());
    if let Some((_, chosen)) = known.filter(|(known, _)| *known == key) {
        return Ok(chosen);
    }
    let request = next();
    let wish = Wish::Choose {
        request,
        query,
        support,
        count,
    };
    match ask(request, wish).await? {
        News::Chosen { chosen, .. } => {
            CLIENT.with_borrow_mut(|client| client.similar = Some((key, chosen.clone())));
            Ok(chosen)
        }
        _ => Err(STRANGE.to_owned()),
    }
}

/// How likely answers are, and how many milliseconds it took.
pub(super) async fn scored(
    prompts: Vec<Vec<Piece>>,
    answers: Vec<String>,
) -> Result<(Vec<Likely>, f64), String> {
    let request = next();
    let wish = Wish::Score {
        request,
        prompts,
        answers,
    };
    match ask(request, wish).await? {
        News::Scored {
            likely,
            milliseconds,
            ..
        } => Ok((likely, milliseconds)),
        _ => Err(STRANGE.to_owned()),
    }
}

pub(super) async fn looked(
    prompt: Vec<Piece>,
    answer: String,
    layers: Vec<usize>,
) -> Result<Vec<Gaze>, String> {
    let request = next();
    let wish = Wish::Look {
        request,
        prompt,
        answer,
        layers,
    };
    match ask(request, wish).await? {
        News::Looked { gazes, .. } => Ok(gazes),
        _ => Err(STRANGE.to_owned()),
    }
}

/// Has an answer written; it comes into `chat.writing` as it is.
pub(super) async fn written(wish: impl FnOnce(RequestId) -> Wish) -> Result<News, String> {
    let request = next();
    CLIENT.with_borrow_mut(|client| client.writing = Some(request));
    ask(request, wish(request)).await
}

/// What comes of an answer, unless the person says stop before: then it is left
/// where it is, be it that a model is still being loaded.
pub(super) async fn unless_stopped<T>(
    job: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let (sender, mut stop) = oneshot::channel();
    CLIENT.with_borrow_mut(|client| client.stop = Some(sender));
    let mut job = pin!(job);
    let done = poll_fn(|context| match job.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => Pin::new(&mut stop)
            .poll(context)
            .map(|_| Err(STOPPED.to_owned())),
    })
    .await;
    // What still comes of it belongs to nothing.
    CLIENT.with_borrow_mut(|client| client.writing = None);
    done
}

/// Ends what is being answered. The worker soon tells how an answer went that was
/// being written; where it is in the middle of something long, the page does not
/// wait for it.
pub(super) fn stop() {
    send(&Wish::Stop, &JsValue::NULL);
    let (stop, writing) =
        CLIENT.with_borrow_mut(|client| (client.stop.take(), client.writing.is_some()));
    let Some(stop) = stop else { return };
    spawn_local(async move {
        if writing {
            TimeoutFuture::new(300).await;
        }
        // It may have ended by itself.
        let _ = stop.send(());
    });
}

/// Another CLIP is there: it may choose otherwise.
pub(in crate::ui) fn chooser_came() {
    CLIENT.with_borrow_mut(|client| client.similar = None);
}

/// Waits for a model that can be used.
pub(super) async fn ready(chat: Chat) -> Result<Writer, String> {
    loop {
        match chat.model.get_untracked() {
            Model::Ready(writer) => return Ok(writer),
            Model::Failed(message) | Model::Lost(message) => return Err(message),
            Model::Loading(_) => TimeoutFuture::new(100).await,
        }
    }
}

/// The chat is opened for the first time.
pub(super) fn begin(store: Store) {
    if store.chat.begun.get_untracked() {
        return;
    }
    store.chat.begun.set(true);
    load(store, Chosen::of(worker::WRITES.first(store)));
}

fn load(store: Store, chosen: Chosen) {
    let chat = store.chat;
    let request = next();
    let device = chat.device.get_untracked();
    let wish = Wish::Load {
        request,
        device,
        which: chosen.which.clone(),
    };
    let files = chosen.files.clone();
    CLIENT.with_borrow_mut(|client| client.loading = Some((request, chosen)));
    chat.model.set(Model::Loading(0.0));
    worker::send(&Command::Chat(wish), &files);
}

/// The model that was wanted last.
fn wanted() -> Chosen {
    CLIENT.with_borrow(|client| {
        let loading = client.loading.as_ref().map(|(_, chosen)| chosen.clone());
        let last = loading.or_else(|| client.model.clone());
        last.unwrap_or_else(|| Chosen::of(Which::Demo))
    })
}

/// Loads on another device, or once more.
pub(in crate::ui) fn choose(store: Store, device: Device) {
    store.chat.device.set(device);
    CLIENT.with_borrow_mut(|client| client.losses = 0);
    if worker::revive(store) {
        // The new worker asks for the model when it is there.
        store.chat.model.set(Model::Loading(0.0));
    } else {
        load(store, wanted());
    }
}

/// Loads the demo, or a model of the library.
pub(in crate::ui) fn load_model(store: Store, which: Which) {
    store.error.set(None);
    load(store, Chosen::of(which));
}

/// Loads the person's own model.
pub(in crate::ui) fn load_own(store: Store, files: &[File]) {
    store.error.set(None);
    let files = files.iter().collect::<js_sys::Array>().into();
    let which = Which::Own;
    load(store, Chosen { which, files });
}

/// A new worker listens: it is given the pictures and the model.
pub(in crate::ui) fn worker_came(store: Store) {
    media::give_all();
    if store.chat.begun.get_untracked() {
        load(store, wanted());
    }
}

/// The worker broke; what it was asked for is told so. The model that broke
/// it in loading is not tried again.
pub(in crate::ui) fn worker_broke(store: Store, message: &str) {
    // Nothing is asked of the next one before it has the model.
    if store.chat.begun.get_untracked() {
        store.chat.model.set(Model::Loading(0.0));
    }
    let waiting = CLIENT.with_borrow_mut(|client| {
        client.loading = None;
        std::mem::take(&mut client.waiting)
    });
    for (_, waiting) in waiting {
        let _ = waiting.send(Err(message.to_owned()));
    }
}

pub(in crate::ui) fn receive(store: Store, news: News) {
    let chat = store.chat;
    match news {
        News::Loading { done, total } => {
            let part = if total > 0.0 { done / total } else { 0.0 };
            chat.model.set(Model::Loading(part));
        }
        News::Loaded { request, writer } => {
            if let Some(chosen) = loaded(request) {
                worker::WRITES.note(&chosen.which, &writer.name);
                CLIENT.with_borrow_mut(|client| {
                    client.model = Some(chosen);
                    client.counted.clear();
                });
                // They are of the model before.
                chat.looks.update(BTreeMap::clear);
                let text = format!("{} is ready, on {}", writer.name, writer.device);
                store.announcement.set(text);
                chat.model.set(Model::Ready(*writer));
            }
        }
        News::LoadFailed { request, message } => {
            if let Some(chosen) = loaded(request) {
                not_loaded(store, &chosen, message);
            }
        }
        News::Seen { .. } => {}
        News::SeeFailed { id, message } => {
            let name = chat.media.with_untracked(|all| {
                let media = all.get(&id);
                media.map_or_else(String::new, |media| media.name.clone())
            });
            store.error.set(Some(format!("{name}: {message}")));
        }
        News::Text { request, text } => more(store, request, &text),
        News::Failed { request, message } => settle(request, Err(message)),
        News::Planned { request, .. }
        | News::Written { request, .. }
        | News::Scored { request, .. }
        | News::Chosen { request, .. }
        | News::Looked { request, .. } => {
            worker::well();
            settle(request, Ok(news));
        }
        News::DeviceLost { message } => lost(store, message),
    }
}

/// The model of an answered wish; none where another one has taken its place.
fn loaded(request: RequestId) -> Option<Chosen> {
    CLIENT.with_borrow_mut(|client| {
        let (_, chosen) = client.loading.take_if(|(last, _)| *last == request)?;
        Some(chosen)
    })
}

/// The model that works now is the person's own.
pub(in crate::ui) fn is_own() -> bool {
    own_files().is_object()
}

/// Its files; null where it is another one.
pub(in crate::ui) fn own_files() -> JsValue {
    let files = |client: &Client| client.model.as_ref().map(|model| model.files.clone());
    CLIENT.with_borrow(files).unwrap_or(JsValue::NULL)
}

/// There is a copy now of the person's own model of this name: it is the one
/// that the next visit begins with.
pub(in crate::ui) fn own_is_kept(store: Store, id: &str) {
    let Model::Ready(writer) = store.chat.model.get_untracked() else {
        return;
    };
    if is_own() && from_disk(&writer.name) == id {
        let which = Which::Kept(id.to_owned());
        worker::WRITES.note(&which, &writer.name);
        CLIENT.with_borrow_mut(|client| client.model = Some(Chosen::of(which)));
        store.chat.model.notify();
    }
}

/// The one before comes back; where there is none, that is told.
fn not_loaded(store: Store, chosen: &Chosen, message: String) {
    let before = CLIENT.with_borrow(|client| client.model.clone());
    let kept = matches!(chosen.which, Which::Kept(_));
    let before = before.or_else(|| kept.then(|| Chosen::of(Which::Demo)));
    match before.filter(|before| before != chosen) {
        Some(before) => {
            store.error.set(Some(message));
            load(store, before);
        }
        None => store.chat.model.set(Model::Failed(message)),
    }
}

/// Bytes up to the end of the last sentence. What ends with the text may go on:
/// `3.` becomes `3.5`.
fn sentences(text: &str) -> Option<usize> {
    let mut end = None;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let blank = letters.peek().is_some_and(|(_, next)| next.is_whitespace());
        if letter == '\n' || (blank && matches!(letter, '.' | '!' | '?')) {
            end = Some(at + letter.len_utf8());
        }
    }
    end
}

/// More of an answer. It is read aloud by sentences, not by tokens.
fn more(store: Store, request: RequestId, text: &str) {
    if CLIENT.with_borrow(|client| client.writing) != Some(request) {
        return;
    }
    let mut said = None;
    store.chat.writing.update(|writing| {
        let Some(writing) = writing else { return };
        writing.version.text.push_str(text);
        if writing.more() && writing.first.is_none() {
            writing.first = Some(js_sys::Date::now() - writing.since);
        }
        let fresh = writing.version.text.get(writing.spoken..);
        let fresh = fresh.unwrap_or_default();
        if let Some(end) = sentences(fresh) {
            said = Some(fresh[..end].trim().to_owned());
            writing.spoken += end;
        }
    });
    if let Some(sentence) = said.filter(|sentence| !sentence.is_empty()) {
        store.announcement.set(sentence);
    }
}

/// The graphics processor is gone; it is opened again once.
fn lost(store: Store, message: String) {
    let (waiting, losses) = CLIENT.with_borrow_mut(|client| {
        client.losses += 1;
        (std::mem::take(&mut client.waiting), client.losses)
    });
    for (_, waiting) in waiting {
        let _ = waiting.send(Err(message.clone()));
    }
    if losses > 1 {
        store.chat.model.set(Model::Lost(message));
        return;
    }
    let again = "It is opened again now; what was written is kept, and can be gone on with.";
    store.error.set(Some(format!("{message}. {again}")));
    load(store, wanted());
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::sentences;

    #[wasm_bindgen_test]
    fn a_sentence_ends_before_a_blank_or_with_its_line() {
        for (text, read) in [
            ("a cat. A", "a cat."),
            ("3.5 of them", ""),
            ("It is 3.", ""),
            ("Really?! Yes! W", "Really?! Yes!"),
            ("one\ntwo", "one\n"),
            ("é. ü", "é."),
        ] {
            assert_eq!(&text[..sentences(text).unwrap_or(0)], read, "{text:?}");
        }
    }
}
