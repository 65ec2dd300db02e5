//! The job, labels and templates in the address, so that a link carries them:
//! `#chat`, or `#labels=cat,house&templates=a {}⏎a drawing of a {}&ensemble=off`.

use leptos::prelude::*;
use wasm_bindgen::JsValue;
use web_sys::UrlSearchParams;

use super::store::{DRAWING_TEMPLATES, Job, Store, owned};
use super::web::window;

/// The chat's part of the address; all others are the labels'.
pub(super) const CHAT: &str = "#chat";

/// Takes the job from the address, now and whenever it changes.
pub(super) fn follow(store: Store) {
    let look = move || {
        let hash = window().location().hash().unwrap_or_default();
        let job = if hash.starts_with(CHAT) {
            Job::Chat
        } else {
            Job::Classify
        };
        if store.job.get_untracked() != job {
            store.job.set(job);
        }
    };
    look();
    gloo_events::EventListener::new(&window(), "hashchange", move |_| look()).forget();
}

/// Takes labels and templates from the address, where it has some.
pub(super) fn read(store: Store) {
    let hash = window().location().hash().unwrap_or_default();
    let Ok(parameters) = UrlSearchParams::new_with_str(hash.trim_start_matches('#')) else {
        return;
    };
    if let Some(labels) = parameters.get("labels") {
        store.labels.set(Vec::new());
        store.add_labels(labels.split(',').map(str::to_owned));
    }
    if let Some(templates) = parameters.get("templates") {
        let lines = templates.lines().map(str::trim).filter(|l| !l.is_empty());
        store.templates.set(lines.map(str::to_owned).collect());
    }
    if parameters.get("ensemble").as_deref() == Some("off") {
        store.ensemble.set(false);
    }
}

/// Writes them there, without a step in the history.
pub(super) fn write(store: Store) {
    if store.job.get() == Job::Chat {
        return;
    }
    let Ok(parameters) = UrlSearchParams::new() else {
        return;
    };
    // A label holds no comma: commas part what is typed.
    parameters.append("labels", &store.labels.get().join(","));
    let templates = store.templates.get();
    if templates != owned(DRAWING_TEMPLATES) {
        parameters.append("templates", &templates.join("\n"));
    }
    if !store.ensemble.get() {
        parameters.append("ensemble", "off");
    }
    let hash = format!("#{}", String::from(parameters.to_string()));
    if let Ok(history) = window().history() {
        let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&hash));
    }
}
