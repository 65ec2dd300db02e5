//! What comes in: dropped, chosen, pasted or fetched.

use gloo_net::http::Request;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Blob, DragEvent, File};

use super::store::{Job, Store};
use super::web::{dropped_paths, files, window};
use super::{chat, client};

/// Endings of models that are not read here.
const FOREIGN: [&str; 6] = [".bin", ".pt", ".pth", ".ckpt", ".onnx", ".pkl"];

/// Whether a file is a model that is not read here, by its name.
pub(super) fn is_foreign(name: &str) -> bool {
    let name = name.to_lowercase();
    FOREIGN.iter().any(|end| name.ends_with(end))
}

/// What is to be done with such a model.
pub(super) fn foreign(name: &str) -> String {
    format!(
        "{name} is a model of a kind that is not read here: drop the one GGUF file that “plume \
         pack” makes of it, or model.safetensors together with config.json and tokenizer.json"
    )
}

/// Takes files in: model files are loaded, everything else is a picture.
pub(super) fn take(store: Store, files: &[File]) {
    let is = |file: &File, ends: &[&str]| {
        let name = file.name().to_lowercase();
        ends.iter().any(|end| name.ends_with(end))
    };
    if files
        .iter()
        .any(|file| is(file, &[".safetensors", ".gguf"]))
    {
        client::load_own(store, files);
        return;
    }
    if let Some(file) = files.iter().find(|file| is_foreign(&file.name())) {
        store.error.set(Some(foreign(&file.name())));
        return;
    }
    // A folder of pictures may hold notes and lists; a single file is told of.
    let many = files.len() > 1;
    for file in files.iter().rev() {
        let other = !file.type_().starts_with("image/")
            && is(
                file,
                &[".txt", ".json", ".md", ".csv", ".html", ".ds_store"],
            );
        if !(many && other) {
            client::add(store, &file.name(), file);
        }
    }
}

/// Fetches a picture that the person gave the address of.
pub(super) async fn fetch(store: Store, url: String) {
    let name = url.split(['?', '#']).next().unwrap_or(&url);
    let name = name
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or("picture")
        .to_owned();
    let refused = "that site does not let other pages read its pictures, or it cannot be reached: \
                   save the picture and drop it here";
    let response = match Request::get(&url).send().await {
        Ok(response) if response.ok() => response,
        Ok(response) => {
            let status = response.status();
            store
                .error
                .set(Some(format!("{url}: the site answered {status}")));
            return;
        }
        Err(_) => {
            store.error.set(Some(format!("{url}: {refused}")));
            return;
        }
    };
    match response.binary().await {
        Ok(bytes) => {
            let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
            if let Ok(blob) = Blob::new_with_u8_array_sequence(&parts) {
                client::add(store, &name, &blob);
            }
        }
        Err(_) => store.error.set(Some(format!("{url}: {refused}"))),
    }
}

/// Takes files in for what the page is used for now.
fn take_for(store: Store, files: Vec<(String, File)>) {
    match store.job.get_untracked() {
        Job::Classify => {
            let files: Vec<_> = files.into_iter().map(|(_, file)| file).collect();
            take(store, &files);
        }
        Job::Chat => chat::intake::take(store, files),
    }
}

/// Listens to drops and pastes anywhere on the page.
pub(super) fn listen(store: Store, over: RwSignal<bool>) {
    let window = window();
    let on = |name: &'static str, mut act: Box<dyn FnMut(DragEvent)>| {
        let listener = gloo_events::EventListener::new_with_options(
            &window,
            name,
            gloo_events::EventListenerOptions::enable_prevent_default(),
            move |event| act(event.clone().unchecked_into()),
        );
        listener.forget();
    };
    on(
        "dragover",
        Box::new(move |event| {
            // What is dragged within the page is no file.
            let types = event.data_transfer().map(|data| data.types());
            if types.is_some_and(|types| types.includes(&"Files".into(), 0)) {
                event.prevent_default();
                over.set(true);
            }
        }),
    );
    on(
        "dragleave",
        Box::new(move |event| {
            if event.related_target().is_none() {
                over.set(false);
            }
        }),
    );
    on(
        "drop",
        Box::new(move |event| {
            over.set(false);
            // Some part of the page has taken it already.
            if event.default_prevented() {
                return;
            }
            event.prevent_default();
            if let Some(data) = event.data_transfer() {
                spawn_local(async move { take_for(store, dropped_paths(&data).await) });
            }
        }),
    );
    let paste = gloo_events::EventListener::new(&window, "paste", move |event| {
        let event: &web_sys::ClipboardEvent = event.unchecked_ref();
        if event.default_prevented() {
            return;
        }
        let pasted = event.clipboard_data().map(|data| files(data.files()));
        if let Some(pasted) = pasted.filter(|files| !files.is_empty()) {
            let pasted = pasted.into_iter().map(|file| (file.name(), file));
            take_for(store, pasted.collect());
        }
    });
    paste.forget();
}
