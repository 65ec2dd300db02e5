//! What stands above: the name, what computes, and which model.

use leptos::html::Dialog;
use leptos::prelude::*;

use super::client;
use super::library::LibraryDialog;
use super::store::{Model, store};
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

#[component]
pub(super) fn Header() -> impl IntoView {
    let store = store();
    let badge = move || match store.model.get() {
        Model::Loading(part) if part > 0.0 => format!("Loading {:.0} %", part * 100.0),
        Model::Loading(_) => "Loading…".to_owned(),
        Model::Ready(loaded) => loaded.device,
        Model::Failed(_) => "No model".to_owned(),
        Model::Lost(_) => "Stopped".to_owned(),
    };
    let kind = move || match store.model.get() {
        Model::Ready(loaded) if loaded.gpu => "gpu",
        Model::Ready(_) => "cpu",
        Model::Loading(_) => "loading",
        Model::Failed(_) | Model::Lost(_) => "failed",
    };
    let name = move || match store.model.get() {
        Model::Ready(loaded) => loaded.name,
        Model::Loading(_) => "Loading…".to_owned(),
        Model::Failed(_) | Model::Lost(_) => "none".to_owned(),
    };
    // Why the CPU computes, where the person might wonder, takes the place of
    // the claim: nothing moves.
    let claim = move || match store.model.get() {
        Model::Ready(Loaded {
            note: Some(note), ..
        }) => note,
        _ => "Which label fits a picture? Computed here, on your machine.".to_owned(),
    };
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
            <p class="claim" id="device-note">{claim}</p>
            <div class="machine">
                <button type="button" class="quiet small" id="model-button" on:click=open title="Which model computes, and how to use your own">
                    <span class="faint">"Model "</span><span class="model-name">{name}</span>
                </button>
                <div class="device">
                    <span id="device-badge" class="badge" data-kind=kind>{badge}</span>
                    <select id="device-select" aria-label="What computes" on:change=choose>
                        <option value="best">"Automatic"</option>
                        <option value="gpu">"WebGPU"</option>
                        <option value="cpu">"CPU"</option>
                    </select>
                </div>
                <button type="button" class="quiet small square" aria-label="Light or dark" title="Light or dark" on:click=move |_| switch_theme()>
                    {icon("M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z")}
                </button>
            </div>
        </header>
        <LibraryDialog dialog/>
        <Notices/>
    }
}

/// What went wrong, with a way on.
#[component]
fn Notices() -> impl IntoView {
    let store = store();
    let stopped = move || match store.model.get() {
        Model::Failed(message) | Model::Lost(message) => Some(view! {
            <div class="notice" role="alert" id="model-error">
                <p>{message}</p>
                <div class="row">
                    <button type="button" on:click=move |_| client::choose(store, Device::Cpu)>"Compute on the CPU"</button>
                    <button type="button" class="quiet" on:click=move |_| client::choose(store, store.device.get_untracked())>"Try again"</button>
                </div>
            </div>
        }),
        _ => None,
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
