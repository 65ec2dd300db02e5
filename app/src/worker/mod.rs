//! The worker: an inbox, one job at a time, and cancelling between jobs.

mod bench;
mod chat;
mod check;
mod decode;
mod device;
mod files;
mod kind;
mod library;
mod session;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::{Blob, DedicatedWorkerGlobalScope, MessageEvent};

use crate::protocol::{
    Checked, Command, Device, Event, Loaded, PictureId, Scores, Timings, Which, pack, unpack,
};
use files::{CLIP, ModelFiles, Served, Tell, loading};
use library::Library;
use session::Session;

/// Everything the worker knows.
#[derive(Default)]
struct Worker {
    inbox: VecDeque<(Command, JsValue)>,
    busy: bool,
    library: Library,
    session: Option<Session>,
    labels: Vec<String>,
    templates: Vec<String>,
    /// Embedding and timings of each picture so far.
    pictures: HashMap<PictureId, (Vec<f32>, Timings)>,
    chat: chat::State,
}

type Shared = Rc<RefCell<Worker>>;

fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

fn post(event: &Event) {
    let sent = pack(event, &JsValue::NULL).and_then(|message| scope().post_message(&message));
    if let Err(error) = sent {
        web_sys::console::error_1(&error);
    }
}

/// Milliseconds since the worker began.
fn now() -> f64 {
    let performance = js_sys::Reflect::get(&scope(), &"performance".into());
    performance
        .ok()
        .and_then(|p| p.dyn_into::<web_sys::Performance>().ok())
        .map_or(0.0, |p| p.now())
}

/// Listens for commands until the page goes away.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        console_error_panic_hook::hook(panic);
        post(&Event::Crashed {
            message: panic.to_string(),
        });
    }));
    let worker = Shared::default();
    let listener =
        Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            match unpack::<Command>(&message.data()) {
                Ok((command, payload)) => receive(&worker, command, payload),
                Err(error) => web_sys::console::error_1(&error),
            }
        });
    scope().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    listener.forget();
    post(&Event::Started);
}

fn receive(shared: &Shared, command: Command, payload: JsValue) {
    let mut worker = shared.borrow_mut();
    match command {
        Command::Cancel => {
            let waiting = worker
                .inbox
                .iter()
                .filter_map(|(command, _)| match command {
                    Command::Picture { id } => Some(*id),
                    _ => None,
                });
            for id in waiting.collect::<Vec<_>>() {
                post(&Event::Cancelled { id });
            }
            worker
                .inbox
                .retain(|(command, _)| !matches!(command, Command::Picture { .. }));
        }
        // Only the last labels count, and the last model.
        Command::Labels { .. } | Command::Load { .. } => {
            let kind = std::mem::discriminant(&command);
            worker
                .inbox
                .retain(|(waiting, _)| std::mem::discriminant(waiting) != kind);
            worker.inbox.push_back((command, payload));
        }
        Command::Chat(wish) => chat::receive(&mut worker, wish, payload),
        // Downloads run beside what is computed.
        Command::Library { hub, keep } => return worker.library.open(hub, keep),
        Command::Add { address } => return worker.library.add(&address),
        Command::Download { id } => return worker.library.download(&id),
        Command::Keep { name, kind } => return worker.library.keep(name, kind, &payload),
        Command::Pause { id } => return worker.library.pause(&id),
        Command::Delete { id } => return worker.library.delete(&id),
        _ => worker.inbox.push_back((command, payload)),
    }
    if !worker.busy {
        worker.busy = true;
        spawn_local(work(shared.clone()));
    }
}

/// Works off the inbox.
async fn work(shared: Shared) {
    loop {
        let next = shared.borrow_mut().inbox.pop_front();
        let Some((command, payload)) = next else {
            shared.borrow_mut().busy = false;
            return;
        };
        match command {
            Command::Load {
                request,
                device,
                which,
            } => {
                let done = load(&shared, device, which, &payload).await;
                post(&match done {
                    Ok(loaded) => Event::Loaded { request, loaded },
                    Err(message) => Event::LoadFailed { request, message },
                });
            }
            Command::Labels { labels, templates } => {
                {
                    let mut worker = shared.borrow_mut();
                    worker.labels = labels;
                    worker.templates = templates;
                }
                rescore(&shared).await;
            }
            Command::Picture { id } => pictures(&shared, id, payload).await,
            Command::Forget { id } => {
                shared.borrow_mut().pictures.remove(&id);
            }
            Command::Chat(wish) => chat::meet(&shared, wish, &payload).await,
            Command::Check => check(&shared, payload).await,
            Command::SelfTest => report(session::self_test().await),
            Command::Bench { subject, device } => report(bench::run(subject, device).await),
            // Done as they come.
            Command::Cancel
            | Command::Library { .. }
            | Command::Add { .. }
            | Command::Download { .. }
            | Command::Keep { .. }
            | Command::Pause { .. }
            | Command::Delete { .. } => {}
        }
    }
}

fn report(json: String) {
    post(&Event::Report { json });
}

/// Puts a model in the place of the one before.
async fn load(
    shared: &Shared,
    device: Device,
    which: Which,
    payload: &JsValue,
) -> Result<Loaded, String> {
    let files = model_files(shared, (device, which), payload, (&CLIP, loading)).await?;
    // The one before makes room; the page loads it again if this fails.
    {
        let mut worker = shared.borrow_mut();
        worker.session = None;
        worker.pictures.clear();
        worker.chat.forget_embeddings();
    }
    let loaded = Session::load(device, files).await;
    let (session, loaded) = loaded.map_err(|error| error.to_string())?;
    shared.borrow_mut().session = Some(session);
    Ok(loaded)
}

/// The files of a model: the one that is served, or another. `Tell` is told how
/// much of them has been read.
async fn model_files(
    shared: &Shared,
    (device, which): (Device, Which),
    payload: &JsValue,
    (served, tell): (&Served, Tell),
) -> Result<ModelFiles, String> {
    let library = shared.borrow().library.clone();
    match which {
        Which::Demo => ModelFiles::served(served, tell).await,
        Which::Own => {
            library.judge(payload, device, served).await?;
            ModelFiles::own(payload, tell).await
        }
        Which::Kept(id) => library.kept(&id, tell).await,
        Which::Streamed(id) => library.streamed(&id, tell).await,
    }
}

/// Checks the session's device and model. A picture that cannot be read is
/// left out: its card says why.
async fn check(shared: &Shared, payload: JsValue) {
    let Some(mut session) = take(shared) else {
        return;
    };
    let picture = match payload.dyn_ref::<Blob>() {
        Some(blob) => decode::decode(blob).await.ok(),
        None => None,
    };
    let outcome = session.check(picture.as_ref()).await;
    put_back(shared, session, outcome.as_ref().err());
    post(&Event::Checked(outcome.unwrap_or_else(|error| Checked {
        failed: vec![error.to_string()],
        ..Checked::default()
    })));
}

/// Takes the session out for the time of a job, so that nothing is borrowed
/// while the job waits.
fn take(shared: &Shared) -> Option<Session> {
    shared.borrow_mut().session.take()
}

/// A failure of the device ends the session; others leave it.
fn put_back(shared: &Shared, session: Session, error: Option<&plume_core::Error>) -> bool {
    if let Some(plume_core::Error::Device(error)) = error {
        post(&Event::DeviceLost {
            message: error.to_string(),
        });
        lost_too(shared, error);
        return false;
    }
    shared.borrow_mut().session = Some(session);
    true
}

/// The models that classify and write have a device each, so that one that runs
/// out of memory leaves the other. Where one was lost, as when a driver is
/// restarted, the other may be as well; it hears of it a little later.
fn lost_too(shared: &Shared, error: &plume_core::DeviceError) {
    if !matches!(error, plume_core::DeviceError::Lost(_)) {
        return;
    }
    let shared = shared.clone();
    spawn_local(async move {
        pause(100).await;
        chat::ask_device(&shared);
        let fault = |worker: &Worker| worker.session.as_ref().and_then(Session::fault);
        let fault = fault(&shared.borrow());
        if let Some(error @ plume_core::DeviceError::Lost(_)) = fault {
            shared.borrow_mut().session = None;
            post(&Event::DeviceLost {
                message: error.to_string(),
            });
        }
    });
}

/// Scores every picture so far against the labels of now.
async fn rescore(shared: &Shared) {
    let Some(mut session) = take(shared) else {
        return;
    };
    let (labels, templates) = {
        let worker = shared.borrow();
        (worker.labels.clone(), worker.templates.clone())
    };
    let done = session.set_labels(&labels, &templates).await;
    let ok = put_back(shared, session, done.as_ref().err());
    match done {
        Ok(()) => {
            let worker = shared.borrow();
            let mut ids: Vec<_> = worker.pictures.keys().copied().collect();
            ids.sort_unstable();
            ids.into_iter().for_each(|id| announce(&worker, id));
        }
        Err(error) if ok => post(&Event::LabelsFailed {
            message: error.to_string(),
        }),
        Err(_) => {}
    }
}

fn announce(worker: &Worker, id: PictureId) {
    let (Some(session), Some((embedding, timings))) = (&worker.session, worker.pictures.get(&id))
    else {
        return;
    };
    let scores = if worker.labels.is_empty() {
        Scores::default()
    } else {
        session.scores(embedding)
    };
    post(&Event::Scores {
        id,
        labels: worker.labels.clone(),
        scores,
        timings: *timings,
    });
}

/// Classifies a picture, and with it those that wait right behind.
async fn pictures(shared: &Shared, first: PictureId, payload: JsValue) {
    // Without a model the picture waits at the page, which sends it again.
    let Some(mut session) = take(shared) else {
        return;
    };
    let mut batch = vec![(first, payload)];
    {
        let mut worker = shared.borrow_mut();
        while batch.len() < session.batch()
            && let Some((Command::Picture { id }, _)) = worker.inbox.front()
        {
            let id = *id;
            if let Some((_, payload)) = worker.inbox.pop_front() {
                batch.push((id, payload));
            }
        }
    }
    let mut pixels = Vec::new();
    let mut timed = Vec::new();
    let preprocess = session.preprocess();
    for (id, payload) in batch {
        let start = now();
        match decode::decode(payload.unchecked_ref::<Blob>()).await {
            Ok(picture) => {
                let decoded = now();
                pixels.extend(preprocess.apply(&picture));
                let timings = Timings {
                    decode: decoded - start,
                    resize: now() - decoded,
                    encode: 0.0,
                };
                timed.push((id, timings));
            }
            Err(message) => post(&Event::PictureFailed { id, message }),
        }
    }
    if timed.is_empty() {
        put_back(shared, session, None);
        return;
    }
    let start = now();
    let embeddings = session.embed_images(&pixels).await;
    let encode = (now() - start) / timed.len() as f64;
    let ok = put_back(shared, session, embeddings.as_ref().err());
    match embeddings {
        Ok(embeddings) => {
            let mut worker = shared.borrow_mut();
            for ((id, mut timings), embedding) in timed.into_iter().zip(embeddings) {
                timings.encode = encode;
                worker.pictures.insert(id, (embedding, timings));
                announce(&worker, id);
            }
        }
        Err(_) if !ok => {}
        Err(error) => {
            for (id, _) in timed {
                post(&Event::PictureFailed {
                    id,
                    message: error.to_string(),
                });
            }
        }
    }
    // Let the inbox be looked at: Cancel may wait there.
    pause(0).await;
}

/// Lets so many milliseconds pass, and messages that wait be received.
async fn pause(milliseconds: i32) {
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        let _ =
            scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
    });
    let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
}
