//! The ways a picture comes in: drop, files, folder, paste, address, camera,
//! samples.

use gloo_net::http::Request;
use leptos::html::{Dialog, Input, Video};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    Blob, CanvasRenderingContext2d, DragEvent, File, HtmlCanvasElement, MediaStream,
    MediaStreamConstraints, MediaStreamTrack,
};

use super::client;
use super::pad::Pad;
use super::store::{Store, store};
use super::web::{document, dropped, files, window};

/// Takes files in: model files are loaded, everything else is a picture.
pub(super) fn take(store: Store, files: &[File]) {
    let is = |file: &File, ends: &[&str]| {
        let name = file.name().to_lowercase();
        ends.iter().any(|end| name.ends_with(end))
    };
    if files.iter().any(|file| is(file, &[".safetensors"])) {
        client::load_own(store, Some(files));
        return;
    }
    if let Some(file) = files
        .iter()
        .find(|file| is(file, &[".bin", ".pt", ".gguf", ".onnx"]))
    {
        store.error.set(Some(format!(
            "{} is a model of a kind that is not read: drop model.safetensors together with \
             config.json and tokenizer.json",
            file.name()
        )));
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
async fn fetch(store: Store, url: String) {
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
            event.prevent_default();
            over.set(true);
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
            event.prevent_default();
            over.set(false);
            if let Some(data) = event.data_transfer() {
                spawn_local(async move { take(store, &dropped(&data).await) });
            }
        }),
    );
    let paste = gloo_events::EventListener::new(&window, "paste", move |event| {
        let event: &web_sys::ClipboardEvent = event.unchecked_ref();
        let pasted = event.clipboard_data().map(|data| files(data.files()));
        if let Some(pasted) = pasted.filter(|files| !files.is_empty()) {
            take(store, &pasted);
        }
    });
    paste.forget();
}

#[component]
pub(super) fn Intake() -> impl IntoView {
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
            <h2 id="pictures-title">"Pictures"</h2>
            <div class="drop-zone">
                <p>"Drop pictures or a folder anywhere, paste one, or"</p>
                <div class="row">
                    <label class="button">
                        "Choose files"
                        <input id="file-input" class="unseen" type="file" multiple node_ref=chosen on:change=move |_| taken(chosen)/>
                    </label>
                    <label class="button quiet">
                        "Choose a folder"
                        <input id="folder-input" class="unseen" type="file" multiple node_ref=folder on:change=move |_| taken(folder)/>
                    </label>
                    <button type="button" class="quiet" on:click=move |_| camera.set(true)>"Camera"</button>
                </div>
                <form class="row" on:submit=go>
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
            </div>
            <Gallery/>
            <details class="pad-box" open>
                <summary>"Draw one"</summary>
                <Pad/>
            </details>
            <Show when=move || camera.get()>
                <Camera close=move || camera.set(false)/>
            </Show>
        </section>
    }
}

/// The sample drawings, so that one click shows a result.
#[component]
fn Gallery() -> impl IntoView {
    let store = store();
    let names = RwSignal::new(Vec::<String>::new());
    spawn_local(async move {
        if let Ok(response) = Request::get("./demo/samples/index.json").send().await
            && let Ok(list) = response.json::<Vec<String>>().await
        {
            names.set(list);
        }
    });
    let add = move |name: String| {
        spawn_local(fetch(store, format!("./demo/samples/{name}")));
    };
    view! {
        <div class="gallery" role="group" aria-label="Sample drawings">
            <For each=move || names.get() key=String::clone let(name)>
                <button
                    type="button"
                    class="sample"
                    aria-label=format!("Classify the sample {}", name.trim_end_matches(".png").replace('-', " "))
                    on:click={let name = name.clone(); move |_| add(name.clone())}
                >
                    <img src=format!("./demo/samples/{name}") alt="" width="64" height="64" loading="lazy"/>
                </button>
            </For>
        </div>
    }
}

/// A picture from the camera.
#[component]
fn Camera(close: impl Fn() + Copy + Send + Sync + 'static) -> impl IntoView {
    let store = store();
    let dialog: NodeRef<Dialog> = NodeRef::new();
    let video: NodeRef<Video> = NodeRef::new();
    let problem = RwSignal::new(None::<&'static str>);
    let stream = StoredValue::new_local(None::<MediaStream>);
    let stop = move || {
        if let Some(stream) = stream.get_value() {
            for track in stream.get_tracks().iter() {
                track.unchecked_into::<MediaStreamTrack>().stop();
            }
        }
        close();
    };
    Effect::new(move |_| {
        let (Some(dialog), Some(video)) = (dialog.get(), video.get()) else {
            return;
        };
        let _ = dialog.show_modal();
        spawn_local(async move {
            let asked = MediaStreamConstraints::new();
            asked.set_video(&JsValue::TRUE);
            let devices = window().navigator().media_devices();
            let promise = devices.and_then(|d| d.get_user_media_with_constraints(&asked));
            let given = match promise {
                Ok(promise) => JsFuture::from(promise).await,
                Err(error) => Err(error),
            };
            match given {
                Ok(given) => {
                    let given: MediaStream = given.unchecked_into();
                    video.set_src_object(Some(&given));
                    stream.set_value(Some(given));
                    let _ = video.play();
                }
                Err(_) => problem.set(Some(
                    "The camera cannot be used: allow it in the browser's settings for this page, or choose a file.",
                )),
            }
        });
    });
    let snap = move |_| {
        let Some(video) = video.get_untracked() else {
            return;
        };
        let Ok(canvas) = document().create_element("canvas") else {
            return;
        };
        let canvas: HtmlCanvasElement = canvas.unchecked_into();
        canvas.set_width(video.video_width());
        canvas.set_height(video.video_height());
        let context = canvas.get_context("2d").ok().flatten();
        if let Some(context) = context.and_then(|c| c.dyn_into::<CanvasRenderingContext2d>().ok()) {
            let _ = context.draw_image_with_html_video_element(&video, 0.0, 0.0);
        }
        let taken = Closure::once_into_js(move |blob: Option<Blob>| {
            if let Some(blob) = blob {
                client::add(store, "camera.png", &blob);
            }
        });
        let _ = canvas.to_blob(taken.unchecked_ref());
        stop();
    };
    view! {
        <dialog class="camera" node_ref=dialog aria-label="Camera" on:close=move |_| stop()>
            <video node_ref=video playsinline muted></video>
            {move || problem.get().map(|text| view! { <p class="state failed" role="alert">{text}</p> })}
            <div class="row">
                <button type="button" disabled=move || problem.get().is_some() on:click=snap>"Take the picture"</button>
                <button type="button" class="quiet" on:click=move |_| stop()>"Close"</button>
            </div>
        </dialog>
    }
}
