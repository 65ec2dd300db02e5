//! Labels and templates in the address, so that a link carries them.

use wasm_bindgen::JsValue;
use web_sys::UrlSearchParams;

use super::store::Store;
use super::web::window;
use leptos::prelude::*;

/// Takes labels and templates from the address, where it has some.
pub(super) fn read(store: Store) {
    let hash = window().location().hash().unwrap_or_default();
    let Ok(parameters) = UrlSearchParams::new_with_str(hash.trim_start_matches('#')) else {
        return;
    };
    let all = |key: &str| -> Vec<String> {
        let values = parameters.get_all(key);
        values
            .iter()
            .filter_map(|value| value.as_string())
            .collect()
    };
    let labels = all("label");
    if !labels.is_empty() {
        store.labels.set(Vec::new());
        store.add_labels(labels);
    }
    let templates = all("template");
    if !templates.is_empty() {
        store.templates.set(templates);
    }
    if parameters.get("ensemble").as_deref() == Some("off") {
        store.ensemble.set(false);
    }
}

/// Writes them there, without a step in the history.
pub(super) fn write(store: Store) {
    let Ok(parameters) = UrlSearchParams::new() else {
        return;
    };
    store.labels.with(|all| {
        all.iter()
            .for_each(|label| parameters.append("label", label))
    });
    store.templates.with(|all| {
        all.iter()
            .for_each(|template| parameters.append("template", template))
    });
    if !store.ensemble.get() {
        parameters.append("ensemble", "off");
    }
    let hash = format!("#{}", String::from(parameters.to_string()));
    if let Ok(history) = window().history() {
        let _ = history.replace_state_with_url(&JsValue::NULL, "", Some(&hash));
    }
}
