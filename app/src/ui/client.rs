//! The page's side of the worker: sends commands, folds events into the store,
//! and keeps the bytes of the pictures so that nothing is lost with a worker.

use std::cell::RefCell;
use std::collections::BTreeMap;

use gloo_storage::{LocalStorage, Storage as _};
use leptos::prelude::*;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, File, MessageEvent, Worker};

use super::chat;
use super::store::{
    CLIP_THRESHOLD, Check, DEMO_THRESHOLD, Job, Model, Picture, Status, Store, ranked,
};
use super::web::{query, window};
use crate::protocol::{
    Checked, Command, Device, Event, Library, Loaded, PictureId, Place, RequestId, Subject, Which,
    pack, unpack,
};

/// A model, and its files where it is the person's own.
#[derive(Clone, PartialEq)]
struct Chosen {
    which: Which,
    files: JsValue,
}

impl Default for Chosen {
    fn default() -> Self {
        Self {
            which: Which::Demo,
            files: JsValue::NULL,
        }
    }
}

/// What stands between the page and the model that the person wants. Only the
/// last wish counts: what the worker says of an earlier one is passed over.
#[derive(Default)]
enum Loading {
    /// Nothing is being loaded.
    #[default]
    Idle,
    /// To be asked for as soon as there is a worker.
    Wanted(Chosen),
    /// Asked for, under this number.
    Asked(RequestId, Chosen),
}

#[derive(Default)]
struct Client {
    worker: Option<Worker>,
    blobs: BTreeMap<PictureId, Blob>,
    /// The model that last worked.
    model: Chosen,
    loading: Loading,
    next: PictureId,
    next_request: RequestId,
    /// Crashes since something was last computed.
    crashes: u32,
    /// Devices lost since the person last chose what computes.
    losses: u32,
}

impl Client {
    /// The files of a request that has been answered; none where another one
    /// has taken its place.
    fn answered(&mut self, request: RequestId) -> Option<Chosen> {
        match std::mem::take(&mut self.loading) {
            Loading::Asked(last, files) if last == request => Some(files),
            other => {
                self.loading = other;
                None
            }
        }
    }

    /// A request for what is wanted, or for the model that last worked.
    fn ask(&mut self) -> (RequestId, Chosen) {
        let files = match std::mem::take(&mut self.loading) {
            Loading::Idle => self.model.clone(),
            Loading::Wanted(files) | Loading::Asked(_, files) => files,
        };
        self.next_request += 1;
        self.loading = Loading::Asked(self.next_request, files.clone());
        (self.next_request, files)
    }
}

thread_local! {
    static CLIENT: RefCell<Client> = RefCell::default();
}

/// The model of the library that is used, kept for the next visit.
const REMEMBERED: &str = "plume-model";

fn remember(which: &Which) {
    if let Which::Kept(id) = which {
        let _ = LocalStorage::set(REMEMBERED, id);
    } else {
        LocalStorage::delete(REMEMBERED);
    }
}

/// Begins with the model of the last visit, where it is still kept.
pub(super) fn recall() {
    if let Ok(id) = LocalStorage::get::<String>(REMEMBERED) {
        let chosen = Chosen {
            which: Which::Kept(id),
            files: JsValue::NULL,
        };
        want(chosen);
    }
}

/// The next model that is loaded.
fn want(chosen: Chosen) {
    CLIENT.with_borrow_mut(|client| client.loading = Loading::Wanted(chosen));
}

pub(super) fn send(command: &Command, payload: &JsValue) {
    CLIENT.with_borrow(|client| {
        let Some(worker) = &client.worker else {
            return;
        };
        if let Err(error) = pack(command, payload).and_then(|m| worker.post_message(&m)) {
            web_sys::console::error_1(&error);
        }
    });
}

/// Starts the worker; whatever was computing before is stopped.
pub(super) fn start(store: Store) {
    let worker = match Worker::new("./worker_loader.js") {
        Ok(worker) => worker,
        Err(_) => {
            let message =
                "this browser runs no workers: use a current Chrome, Edge, Firefox or Safari";
            store.model.set(Model::Failed(message.to_owned()));
            return;
        }
    };
    let listener =
        Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            match unpack::<Event>(&message.data()) {
                Ok((event, _)) => receive(store, event),
                Err(error) => web_sys::console::error_1(&error),
            }
        });
    worker.set_onmessage(Some(listener.as_ref().unchecked_ref()));
    listener.forget();
    let crash =
        Closure::<dyn FnMut(web_sys::ErrorEvent)>::new(move |error: web_sys::ErrorEvent| {
            crashed(store, &error.message());
        });
    worker.set_onerror(Some(crash.as_ref().unchecked_ref()));
    crash.forget();
    CLIENT.with_borrow_mut(|client| {
        if let Some(old) = client.worker.replace(worker) {
            stop(&old);
        }
    });
}

/// Something was computed: what broke before is mended.
pub(super) fn well() {
    CLIENT.with_borrow_mut(|client| client.crashes = 0);
}

fn stop(worker: &Worker) {
    // What it still says, its death included, is of no interest.
    worker.set_onmessage(None);
    worker.set_onerror(None);
    worker.terminate();
}

/// The worker ran out of memory or broke. Scores stay; what was being computed
/// can be tried again; a new worker takes over.
fn crashed(store: Store, message: &str) {
    let (loading, crashes) = CLIENT.with_borrow_mut(|client| {
        if let Some(worker) = client.worker.take() {
            stop(&worker);
        }
        client.crashes += 1;
        let loading = !matches!(client.loading, Loading::Idle);
        (loading, client.crashes)
    });
    for picture in store.pictures.get_untracked() {
        if picture.status.get_untracked() == Status::Busy && !loading {
            picture.status.set(Status::Cancelled);
        }
    }
    let why = format!("Computing stopped ({message}). There may not be enough memory");
    chat::client::worker_broke(store, &format!("{why}. What was written is kept."));
    if crashes > 1 {
        let lost =
            format!("{why}: take a smaller model or smaller pictures. What was computed is kept.");
        store.chat.model.set(Model::Lost(lost.clone()));
        store.model.set(Model::Lost(lost));
        return;
    }
    let undone = if loading {
        "for this model; the one before is loaded again."
    } else {
        "for what was being computed; it can be tried again below. Everything else is kept."
    };
    store.error.set(Some(format!("{why} {undone}")));
    CLIENT.with_borrow_mut(|client| client.loading = Loading::Idle);
    start(store);
}

fn receive(store: Store, event: Event) {
    match event {
        Event::Started => {
            let hub = query("hub");
            let keep = query("keep").is_none_or(|keep| keep != "off");
            send(&Command::Library { hub, keep }, &JsValue::NULL);
            load(store);
            chat::client::worker_came(store);
        }
        Event::Loading { done, total } => {
            let part = if total > 0.0 { done / total } else { 0.0 };
            store.model.set(Model::Loading(part));
        }
        Event::Loaded { request, loaded } => {
            let files = CLIENT.with_borrow_mut(|client| client.answered(request));
            if let Some(files) = files {
                CLIENT.with_borrow_mut(|client| client.model = files);
                loaded_one(store, loaded);
            }
        }
        Event::LoadFailed { request, message } => {
            let files = CLIENT.with_borrow_mut(|client| client.answered(request));
            let Some(files) = files else {
                return;
            };
            if CLIENT.with_borrow(|client| files != client.model) {
                store.error.set(Some(message));
                load(store);
            } else {
                store.model.set(Model::Failed(message));
            }
        }
        Event::LabelsFailed { message } => store.error.set(Some(message)),
        Event::Scores {
            id,
            labels,
            scores,
            timings,
        } => {
            well();
            let Some(picture) = store.picture(id) else {
                return;
            };
            let best = ranked(&labels, &scores).into_iter().next();
            picture.status.set(Status::Ready {
                labels,
                scores,
                timings,
            });
            if let Some((label, _, probability)) = best {
                let percent = probability * 100.0;
                announce(store, format!("{}: {label}, {percent:.0} %", picture.name));
            }
        }
        Event::PictureFailed { id, message } => {
            if let Some(picture) = store.picture(id) {
                let text = format!("{}: {message}", picture.name);
                picture.status.set(Status::Failed(message));
                announce(store, text);
            }
        }
        Event::Cancelled { id } => {
            if let Some(picture) = store.picture(id)
                && picture.status.get_untracked() == Status::Busy
            {
                picture.status.set(Status::Cancelled);
            }
        }
        Event::DeviceLost { message } => lost(store, message),
        Event::Crashed { message } => crashed(store, &message),
        Event::Report { json } => store.report.set(json),
        Event::Library(library) => {
            let Library {
                offers,
                places,
                storage,
            } = library;
            let ids = offers.iter().map(|offer| offer.id.clone());
            store.places.set(ids.zip(places).collect());
            store.storage.set(storage);
            store.offers.set(offers);
        }
        Event::Place { id, place } => placed(store, id, place),
        Event::LibraryFailed { message } => store.library_error.set(Some(message)),
        Event::Checked(found) => checked(store, found),
        Event::Chat(news) => chat::client::receive(store, news),
    }
}

/// The graphics processor is gone. It is opened again once; the next time the
/// person chooses what computes.
fn lost(store: Store, message: String) {
    let losses = CLIENT.with_borrow_mut(|client| {
        client.losses += 1;
        client.losses
    });
    if losses > 1 {
        store.model.set(Model::Lost(message));
        return;
    }
    let again = "It is opened again now. Everything computed so far is kept.";
    store.error.set(Some(format!("{message}. {again}")));
    load(store);
}

/// Tells one result by name and many by their number, so that a screen reader
/// keeps up.
fn announce(store: Store, text: String) {
    let (done, all) = untrack(|| store.progress());
    if all <= 4 {
        store.announcement.set(text);
    } else if done == all {
        store.announcement.set(format!("All {all} pictures done"));
    }
}

fn loaded_one(store: Store, loaded: Loaded) {
    CLIENT.with_borrow(|client| remember(&client.model.which));
    // That a device computes wrongly is still true on the one that takes over.
    if !matches!(
        store.check.get_untracked(),
        Check::Done { right: false, .. }
    ) {
        store.check.set(Check::Not);
    }
    store
        .announcement
        .set(format!("{} is ready, on {}", loaded.name, loaded.device));
    if !store.threshold_set.get_untracked() {
        let fitting = match loaded.even {
            Some(even) => even,
            None if loaded.demo => DEMO_THRESHOLD,
            None => CLIP_THRESHOLD,
        };
        store.threshold.set(fitting);
    }
    store.model.set(Model::Ready(loaded));
    send_labels(store);
    for picture in store.pictures.get_untracked() {
        let status = picture.status.get_untracked();
        if matches!(status, Status::Busy | Status::Ready { .. }) {
            retry(&picture);
        }
    }
}

/// Loads the model of now on the device of now.
fn load(store: Store) {
    store.model.set(Model::Loading(0.0));
    let device = store.device.get_untracked();
    let (request, chosen) = CLIENT.with_borrow_mut(Client::ask);
    let Chosen { which, files } = chosen;
    let command = Command::Load {
        request,
        device,
        which,
    };
    send(&command, &files);
}

/// Loads the person's own model.
pub(super) fn load_own(store: Store, files: &[File]) {
    if store.job.get_untracked() == Job::Chat {
        return chat::client::load_own(store, files);
    }
    let files: js_sys::Array = files.iter().collect();
    want(Chosen {
        which: Which::Own,
        files: files.into(),
    });
    go(store);
}

/// Loads the demo, or a model of the library.
pub(super) fn load_model(store: Store, which: Which) {
    store.error.set(None);
    if store.job.get_untracked() == Job::Chat {
        return chat::client::load_model(store, which);
    }
    want(Chosen {
        which,
        files: JsValue::NULL,
    });
    go(store);
}

/// Chooses the device and loads the model there.
pub(super) fn choose(store: Store, device: Device) {
    if store.job.get_untracked() == Job::Chat {
        return chat::client::choose(store, device);
    }
    store.device.set(device);
    go(store);
}

/// Loads, with a new worker where the one before is gone.
fn go(store: Store) {
    CLIENT.with_borrow_mut(|client| client.losses = 0);
    if !revive(store) {
        load(store);
    }
}

/// Starts a new worker where the one before is gone; tells whether it was.
pub(super) fn revive(store: Store) -> bool {
    let gone = matches!(store.model.get_untracked(), Model::Lost(_));
    let gone = gone || CLIENT.with_borrow(|client| client.worker.is_none());
    if gone {
        CLIENT.with_borrow_mut(|client| client.crashes = 0);
        store.model.set(Model::Loading(0.0));
        start(store);
    }
    gone
}

pub(super) fn send_labels(store: Store) {
    let labels = store.labels.get_untracked();
    let templates = untrack(|| store.used_templates());
    send(&Command::Labels { labels, templates }, &JsValue::NULL);
}

/// Sends a picture again.
pub(super) fn retry(picture: &Picture) {
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
pub(super) fn add(store: Store, name: &str, blob: &Blob) -> PictureId {
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
pub(super) fn replace(store: Store, id: PictureId, blob: &Blob) {
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
pub(super) fn remove(store: Store, id: PictureId) {
    if let Some(picture) = store.picture(id) {
        let _ = web_sys::Url::revoke_object_url(&picture.url.get_untracked());
    }
    store
        .pictures
        .update(|all| all.retain(|picture| picture.id != id));
    CLIENT.with_borrow_mut(|client| client.blobs.remove(&id));
    send(&Command::Forget { id }, &JsValue::NULL);
}

pub(super) fn cancel() {
    send(&Command::Cancel, &JsValue::NULL);
}

pub(super) fn self_test() {
    send(&Command::SelfTest, &JsValue::NULL);
}

pub(super) fn bench(subject: Subject, device: Device) {
    send(&Command::Bench { subject, device }, &JsValue::NULL);
}

/// Adds a model by its address, and downloads it.
pub(super) fn add_model(store: Store, address: String) {
    store.library_error.set(None);
    ask_to_persist();
    send(&Command::Add { address }, &JsValue::NULL);
}

/// Downloads a model of the library, from where it stopped.
pub(super) fn download_model(store: Store, id: String) {
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

pub(super) fn pause_model(id: String) {
    send(&Command::Pause { id }, &JsValue::NULL);
}

pub(super) fn delete_model(id: String) {
    send(&Command::Delete { id }, &JsValue::NULL);
}

fn placed(store: Store, id: String, place: Place) {
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

/// Compares every operation of the device of now with its reference, and the
/// model with what is known of it.
pub(super) fn check(store: Store) {
    let published = match store.model.get_untracked() {
        Model::Ready(loaded) => loaded.published,
        _ => None,
    };
    store.check.set(Check::Running);
    let pictures = store.pictures.get_untracked();
    let picture = pictures
        .iter()
        .find(|p| Some(&p.name) == published.as_ref());
    let blob = picture
        .and_then(|picture| CLIENT.with_borrow(|client| client.blobs.get(&picture.id).cloned()));
    send(&Command::Check, &blob.map_or(JsValue::NULL, Into::into));
}

/// What is not as it should be, in words.
fn wrong(checked: &Checked) -> Option<String> {
    let Checked { cases, failed, .. } = checked;
    if let Some(first) = failed.first() {
        let wrong = failed.len();
        return Some(format!(
            "This device computes {wrong} of {cases} operations wrongly ({first})."
        ));
    }
    let mut wrong = checked.findings.iter().filter(|finding| !finding.passed());
    let first = wrong.next()?;
    Some(format!(
        "{} of {} known numbers are others here ({}: {:.4}, not {:.4}). Either this device computes wrongly or these are other weights.",
        wrong.count() + 1,
        checked.findings.len(),
        first.what,
        first.found,
        first.expected
    ))
}

/// A graphics processor that computes wrongly is left before it misleads.
fn checked(store: Store, checked: Checked) {
    let loaded = match store.model.get_untracked() {
        Model::Ready(loaded) => Some(loaded),
        _ => None,
    };
    let gpu = loaded.as_ref().is_some_and(|loaded| loaded.gpu);
    let of = loaded.map_or_else(String::new, |l| format!("{}, {}", l.name, l.device));
    let wrong = wrong(&checked).map(|what| {
        let way_on = if gpu {
            "The CPU computes from now on: check again there."
        } else {
            "Do not trust its numbers: try another browser, and please report this."
        };
        format!("{what} {way_on}")
    });
    let right = format!(
        "{} operations computed here give what their references give.",
        checked.cases
    );
    store.check.set(Check::Done {
        right: wrong.is_none(),
        said: wrong.clone().unwrap_or(right),
        of,
        checked,
    });
    if let Some(message) = wrong {
        store.error.set(Some(message));
        if gpu {
            choose(store, Device::Cpu);
        }
    }
}
