//! What stands above: the name, what computes, and which model.

use leptos::html::Dialog;
use leptos::prelude::*;

use super::client;
use super::library::LibraryDialog;
use super::store::{Job, Model, Store, store};
use super::web::{cross, document, icon, media};
use crate::protocol::{Device, Loaded};

const THEME: &str = "plume-theme";

/// Light or dark, where the person prefers other than the system.
fn switch_theme() {
    let Some(root) = document().document_element() else {
        return;
    };
    let system_dark = media("(prefers-color-scheme: dark)");
    let dark = match root.get_attribute("data-theme").as_deref() {
        Some("dark") => true,
        Some("light") => false,
        _ => system_dark,
    };
    let store = web_sys::window().and_then(|window| window.local_storage().ok().flatten());
    let name = if dark { "light" } else { "dark" };
    let _ = root.set_attribute("data-theme", name);
    if let Some(store) = store {
        let _ = store.set_item(THEME, name);
    }
}

/// What computes for the job of now.
#[derive(Clone, PartialEq)]
struct Now {
    badge: String,
    kind: &'static str,
    name: String,
    /// Why the CPU computes where WebGPU was asked for.
    note: Option<String>,
    /// What went wrong.
    failed: Option<String>,
}

impl Now {
    fn of(store: Store) -> Self {
        match store.job.get() {
            Job::Classify => Self::from(store.model.get(), |loaded: Loaded| {
                (loaded.name, loaded.device, loaded.gpu, loaded.note)
            }),
            Job::Chat => Self::from(store.chat.model.get(), |writer| {
                (writer.name, writer.device, writer.gpu, writer.note)
            }),
        }
    }

    fn from<T>(
        model: Model<T>,
        ready: impl Fn(T) -> (String, String, bool, Option<String>),
    ) -> Self {
        let (badge, kind, name, note, failed) = match model {
            Model::Loading(part) => {
                let badge = if part > 0.0 {
                    format!("Loading {:.0} %", part * 100.0)
                } else {
                    "Loading…".to_owned()
                };
                (badge, "loading", "Loading…".to_owned(), None, None)
            }
            Model::Ready(model) => {
                let (name, device, gpu, note) = ready(model);
                (device, if gpu { "gpu" } else { "cpu" }, name, note, None)
            }
            Model::Failed(why) => (
                "No model".to_owned(),
                "failed",
                "none".to_owned(),
                None,
                Some(why),
            ),
            Model::Lost(why) => (
                "Stopped".to_owned(),
                "failed",
                "none".to_owned(),
                None,
                Some(why),
            ),
        };
        Self {
            badge,
            kind,
            name,
            note,
            failed,
        }
    }
}

#[component]
pub(super) fn Header() -> impl IntoView {
    let store = store();
    let now = Memo::new(move |_| Now::of(store));
    let (badge, kind) = (move || now.get().badge, move || now.get().kind);
    let name = move || now.get().name;
    // Why the CPU computes, where the person might wonder, takes the place of
    // the claim: nothing moves.
    let claim = move || {
        now.get().note.unwrap_or_else(|| {
            match store.job.get() {
                Job::Classify => "Which label fits a picture? Computed here, on your machine.",
                Job::Chat => "Show a few examples, then ask. Computed here, on your machine.",
            }
            .to_owned()
        })
    };
    let device = move |device: Device| match store.job.get() {
        Job::Classify => store.device.get() == device,
        Job::Chat => store.chat.device.get() == device,
    };
    let here = move |job: Job| (store.job.get() == job).then_some("page");
    let dialog: NodeRef<Dialog> = NodeRef::new();
    let open = move |_| {
        if let Some(dialog) = dialog.get_untracked() {
            let _ = dialog.show_modal();
        }
    };
    let choose = move |event| {
        let device = match event_target_value(&event).as_str() {
            "gpu" => Device::Gpu,
            "cpu" => Device::Cpu,
            _ => Device::Best,
        };
        client::choose(store, device);
    };
    view! {
        <header class="top">
            <a class="brand" href="./">
                <img src="./icon.svg" alt="" width="34" height="34"/>
                <h1>"Plume"</h1>
            </a>
            <nav class="jobs" aria-label="What to do">
                <a href="#classify" id="job-classify" aria-current=move || here(Job::Classify)>"Classify"</a>
                <a href="#chat" id="job-chat" aria-current=move || here(Job::Chat)>"Chat"</a>
            </nav>
            <p class="claim" id="device-note">{claim}</p>
            <div class="machine">
                <button type="button" class="quiet small" id="model-button" on:click=open title="Which model computes, and how to use your own">
                    <span class="faint">"Model "</span><span class="model-name">{name}</span>
                </button>
                <div class="device">
                    <span id="device-badge" class="badge" data-kind=kind>{badge}</span>
                    <select id="device-select" aria-label="What computes" on:change=choose>
                        <option value="best" selected=move || device(Device::Best)>"Automatic"</option>
                        <option value="gpu" selected=move || device(Device::Gpu)>"WebGPU"</option>
                        <option value="cpu" selected=move || device(Device::Cpu)>"CPU"</option>
                    </select>
                </div>
                <button type="button" class="quiet small square" aria-label="Light or dark" title="Light or dark" on:click=move |_| switch_theme()>
                    {icon("M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z")}
                </button>
            </div>
        </header>
        <LibraryDialog dialog/>
        <Notices failed=Memo::new(move |_| now.get().failed)/>
    }
}

/// What went wrong, with a way on.
#[component]
fn Notices(failed: Memo<Option<String>>) -> impl IntoView {
    let store = store();
    let again = move || match store.job.get_untracked() {
        Job::Classify => store.device.get_untracked(),
        Job::Chat => store.chat.device.get_untracked(),
    };
    let stopped = move || {
        failed.get().map(|message| view! {
            <div class="notice" role="alert" id="model-error">
                <p>{message}</p>
                <div class="row">
                    <button type="button" on:click=move |_| client::choose(store, Device::Cpu)>"Compute on the CPU"</button>
                    <button type="button" class="quiet" on:click=move |_| client::choose(store, again())>"Try again"</button>
                </div>
            </div>
        })
    };
    let error = move || {
        store.error.get().map(|message| {
            view! {
                <div class="notice" role="alert" id="error">
                    <p>{message}</p>
                    <button type="button" class="remove" aria-label="Dismiss" on:click=move |_| store.error.set(None)>{cross()}</button>
                </div>
            }
        })
    };
    view! { {stopped} {error} }
}
