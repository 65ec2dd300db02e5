//! The page as a whole.

use leptos::prelude::*;

use super::chat::ChatPage;
use super::header::Header;
use super::intake::listen;
use super::labels::Labels;
use super::pad::PadPanel;
use super::pictures::Pictures;
use super::results::{Jump, Results, Viewer};
use super::store::{Job, Model, Store, store};
use super::web::document;
use super::{client, link, web};
use crate::protocol::{Device, Subject};

/// The page.
#[component]
pub fn App() -> impl IntoView {
    let store = Store::new();
    provide_context(store);
    let over = RwSignal::new(false);
    link::read(store);
    link::follow(store);
    listen(store, over);
    client::recall(store);
    client::start(store);
    Effect::new(move |first: Option<()>| {
        link::write(store);
        if first.is_some() {
            client::send_labels(store);
        }
    });
    Effect::new(move |_| {
        document().set_title(match store.job.get() {
            Job::Classify => "Plume: see which label fits a picture",
            Job::Chat => "Plume: teach a model by example",
        });
    });
    // Once it is there it stays, so that nothing in it is lost.
    let chatted = Memo::new(move |before: Option<&bool>| {
        before.copied().unwrap_or_default() || store.job.get() == Job::Chat
    });
    let veil = move || match store.job.get() {
        Job::Classify => "Drop pictures, a folder, or a model",
        Job::Chat => "Drop pictures, clips, a model, or a file that was exported here",
    };
    view! {
        <Header/>
        <main hidden=move || store.job.get() != Job::Classify>
            <div class="side">
                <Pictures/>
                <PadPanel/>
            </div>
            <div class="work">
                <Labels/>
                <Jump/>
                <Results/>
            </div>
        </main>
        <Show when=move || chatted.get()><ChatPage/></Show>
        <footer>
            <p>"Nothing leaves this machine: pictures, words and drawings stay in this page, and the model runs here, also without a network."</p>
        </footer>
        <Report/>
        <Viewer/>
        <div class="drop-veil" aria-hidden="true" class:shown=move || over.get()>
            <p>{veil}</p>
        </div>
        <Live/>
    }
}

/// What is told to those who do not see the page. Each time it is an element of
/// its own: the same words once more change no text, and would not be read aloud.
#[component]
fn Live() -> impl IntoView {
    let store = store();
    let count = StoredValue::new(0_u32);
    let told = move || {
        count.update_value(|count| *count += 1);
        [(count.get_value(), store.announcement.get())]
    };
    view! {
        <p id="live" class="unseen" role="status" aria-live="polite">
            <For each=told key=|(nth, _)| *nth let(told)><span>{told.1}</span></For>
        </p>
    }
}

/// `?selftest` and `?bench` ask for a report once the model is there; it is
/// shown as JSON. `?bench=vit-b-32,gpu` measures that model there, `chat` the one
/// that writes.
#[component]
fn Report() -> impl IntoView {
    let store = store();
    let query = web::window().location().search().unwrap_or_default();
    let asks = |word: &str| query.contains(word);
    let (test, bench) = (asks("selftest"), asks("bench"));
    let subject = match () {
        () if asks("vit-b-32") => Subject::VitB32,
        () if asks("chat") => Subject::Chat,
        () => Subject::Demo,
    };
    let device = if asks("gpu") {
        Device::Gpu
    } else {
        Device::Cpu
    };
    let asked = StoredValue::new(!test && !bench);
    Effect::new(move |_| {
        if matches!(store.model.get(), Model::Ready(_)) && !asked.get_value() {
            asked.set_value(true);
            if test {
                client::self_test();
            } else {
                client::bench(subject, device);
            }
        }
    });
    let report = move || store.report.get();
    view! {
        {test.then(|| view! { <pre id="selftest">{report}</pre> })}
        {(bench && !test).then(|| view! { <pre id="bench">{report}</pre> })}
    }
}
