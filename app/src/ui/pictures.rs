//! The panel that takes pictures in.

use gloo_net::http::Request;
use leptos::html::Input;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::Blob;

use super::camera::Camera;
use super::client;
use super::intake::{fetch, take};
use super::store::store;
use super::web::{files, icon};

#[component]
pub(super) fn Pictures() -> impl IntoView {
    let store = store();
    let url = RwSignal::new(String::new());
    let camera = RwSignal::new(false);
    let chosen: NodeRef<Input> = NodeRef::new();
    let folder: NodeRef<Input> = NodeRef::new();
    Effect::new(move |_| {
        if let Some(input) = folder.get() {
            input.set_webkitdirectory(true);
        }
    });
    let taken = move |input: NodeRef<Input>| {
        if let Some(input) = input.get_untracked() {
            take(store, &files(input.files()));
            input.set_value("");
        }
    };
    let photograph = Callback::new(move |blob: Blob| {
        client::add(store, "camera.png", &blob);
    });
    let one = Callback::new(move |name: String| sample(store, &name));
    let go = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let address = url.get_untracked().trim().to_owned();
        if !address.is_empty() {
            url.set(String::new());
            spawn_local(fetch(store, address));
        }
    };
    view! {
        <section class="panel" aria-labelledby="pictures-title">
            <div class="panel-head">
                <h2 id="pictures-title">"Pictures"</h2>
                <p class="hint">"Drop or paste anywhere, or choose:"</p>
            </div>
            <div class="sources">
                <label class="button">
                    {icon("M4 17l5-6 4 4 3-3 4 5M4 5h16v14H4zM15.5 9.5h.01")}
                    "Files"
                    <input id="file-input" class="unseen" type="file" multiple node_ref=chosen aria-label="Choose picture files" on:change=move |_| taken(chosen)/>
                </label>
                <label class="button quiet">
                    {icon("M3 7a1 1 0 0 1 1-1h5l2 2h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z")}
                    "Folder"
                    <input id="folder-input" class="unseen" type="file" multiple node_ref=folder aria-label="Choose a folder of pictures" on:change=move |_| taken(folder)/>
                </label>
                <button type="button" class="quiet" id="camera" on:click=move |_| camera.set(true)>
                    {icon("M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z")}
                    "Camera"
                </button>
            </div>
            <form class="address" on:submit=go>
                <input
                    id="url-input"
                    type="url"
                    aria-label="Address of a picture"
                    placeholder="https://…"
                    prop:value=move || url.get()
                    on:input=move |event| url.set(event_target_value(&event))
                />
                <button type="submit" class="quiet">"Fetch"</button>
            </form>
            <Gallery act="Classify" take=one/>
            <Show when=move || camera.get()>
                <Camera close=move || camera.set(false) take=photograph/>
            </Show>
        </section>
    }
}

/// A sample's name for a person: `orange-cat.png` → `orange cat`.
fn spoken(name: &str) -> String {
    name.trim_end_matches(".png").replace('-', " ")
}

/// The sample drawings, so that one click shows a result; `act` says what a
/// click does.
#[component]
pub(super) fn Gallery(act: &'static str, take: Callback<String>) -> impl IntoView {
    let store = store();
    let names = store.samples;
    spawn_local(async move {
        if names.with_untracked(|names| !names.is_empty()) {
            return;
        }
        if let Ok(response) = Request::get("./demo/samples/index.json").send().await
            && let Ok(list) = response.json::<Vec<String>>().await
        {
            names.set(list);
        }
    });
    view! {
        <h3 class="gallery-title">"Samples"</h3>
        <div class="gallery" role="group" aria-label="Sample drawings">
            <For each=move || names.get() key=String::clone let(name)>
                <button
                    type="button"
                    class="sample"
                    title=spoken(&name)
                    aria-label=format!("{act} the sample {}", spoken(&name))
                    on:click={let name = name.clone(); move |_| take.run(name.clone())}
                >
                    <img src=format!("./demo/samples/{name}") alt="" width="64" height="64"/>
                </button>
            </For>
            <Show when=move || !names.with(Vec::is_empty)>
                <button type="button" class="quiet all-samples" id="all-samples" on:click=move |_| {
                    names.get_untracked().into_iter().rev().for_each(|name| take.run(name));
                }>"All of them"</button>
            </Show>
        </div>
    }
}

/// A sample drawing's bytes.
pub(super) async fn fetch_sample(name: &str) -> Option<Blob> {
    let response = Request::get(&format!("./demo/samples/{name}")).send().await;
    let bytes = response.ok()?.binary().await.ok()?;
    let parts = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
    Blob::new_with_u8_array_sequence(&parts).ok()
}

/// Takes a sample drawing in.
pub(super) fn sample(store: super::store::Store, name: &str) {
    spawn_local(fetch(store, format!("./demo/samples/{name}")));
}
