//! The page as a whole.

use leptos::html::Dialog;
use leptos::prelude::*;

use super::card::{Answer, Card};
use super::intake::{Intake, listen};
use super::labels::Labels;
use super::matrix::Matrix;
use super::store::{Model, Status, Store, View, store};
use super::{client, export, link, web};
use crate::protocol::Device;

/// The page.
#[component]
pub fn App() -> impl IntoView {
    let store = Store::new();
    provide_context(store);
    let over = RwSignal::new(false);
    link::read(store);
    listen(store, over);
    client::start(store);
    Effect::new(move |first: Option<()>| {
        link::write(store);
        if first.is_some() {
            client::send_labels(store);
        }
    });
    let query = web::window().location().search().unwrap_or_default();
    Effect::new(move |_| {
        if matches!(store.model.get(), Model::Ready(_)) {
            if query.contains("selftest") {
                client::self_test();
            } else if query.contains("bench") {
                client::bench(!query.contains("vit-b-32"));
            }
        }
    });
    view! {
        <Header/>
        <main class:over=move || over.get()>
            <div class="intake">
                <Intake/>
                <Labels/>
            </div>
            <Results/>
        </main>
        <footer>
            <p>
                "Nothing leaves this machine: pictures, labels and drawings stay in this page, and the model runs here. "
                "The model that comes with the page knows drawings; for photographs drop a published CLIP "
                "(model.safetensors, config.json, tokenizer.json) anywhere."
            </p>
        </footer>
        <Opened/>
        <Drop over/>
        <p id="live" class="unseen" role="status" aria-live="polite">{move || store.announcement.get()}</p>
        <pre id="selftest" class="unseen">{move || store.report.get()}</pre>
        <pre id="bench" class="unseen">{move || store.report.get()}</pre>
    }
}

#[component]
fn Drop(over: RwSignal<bool>) -> impl IntoView {
    view! {
        <div class="drop-veil" aria-hidden="true" class:shown=move || over.get()>
            <p>"Drop pictures, a folder, or a model"</p>
        </div>
    }
}

#[component]
fn Header() -> impl IntoView {
    let store = store();
    let badge = move || match store.model.get() {
        Model::Loading => "Loading the model…".to_owned(),
        Model::Ready(loaded) => loaded.device,
        Model::Failed(_) => "No model".to_owned(),
        Model::Lost(_) => "Stopped".to_owned(),
    };
    let kind = move || match store.model.get() {
        Model::Ready(loaded) if loaded.gpu => "gpu",
        Model::Ready(_) => "cpu",
        Model::Loading => "loading",
        Model::Failed(_) | Model::Lost(_) => "failed",
    };
    let model = move || match store.model.get() {
        Model::Ready(loaded) => {
            let (size, time) = (loaded.image_size, loaded.milliseconds);
            let about = format!("sees {size} × {size} pixels · loaded in {time:.0} ms");
            let back = (!loaded.demo).then(|| view! {
                <button type="button" class="quiet" id="demo-model" on:click=move |_| client::load_own(store, None)>
                    "Back to the drawings model"
                </button>
            });
            view! { <span class="model-name">{loaded.name}</span> <span class="hint">{about}</span> {back} }.into_any()
        }
        _ => ().into_any(),
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
            <a class="brand" href="./" aria-label="Plume">
                <img src="./icon.svg" alt="" width="36" height="36"/>
                <h1>"Plume"</h1>
            </a>
            <p class="claim">"See which label fits a picture, on your own machine."</p>
            <div class="machine">
                <span id="device-badge" class="badge" data-kind=kind>{badge}</span>
                <label>
                    <span class="unseen">"What computes"</span>
                    <select id="device-select" on:change=choose>
                        <option value="best">"Choose for me"</option>
                        <option value="gpu">"WebGPU"</option>
                        <option value="cpu">"CPU"</option>
                    </select>
                </label>
            </div>
            <div class="model">{model}</div>
        </header>
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
                    <button type="button" class="quiet" on:click=move |_| client::choose(store, Device::Best)>"Try again"</button>
                </div>
            </div>
        }),
        _ => None,
    };
    let note = move || match store.model.get() {
        Model::Ready(loaded) => loaded
            .note
            .map(|note| view! { <p class="note" id="device-note">{note}</p> }),
        _ => None,
    };
    let error = move || {
        store.error.get().map(|message| view! {
        <div class="notice" role="alert" id="error">
            <p>{message}</p>
            <button type="button" class="quiet" aria-label="Dismiss" on:click=move |_| store.error.set(None)>"×"</button>
        </div>
    })
    };
    view! { {stopped} {note} {error} }
}

#[component]
fn Results() -> impl IntoView {
    let store = store();
    let empty = move || store.pictures.with(Vec::is_empty);
    view! {
        <section class="results" aria-labelledby="results-title">
            <header>
                <h2 id="results-title">"Results"</h2>
                <Progress/>
            </header>
            <Show when=empty>
                <div class="welcome">
                    <p class="big">"Choose a sample drawing, draw one yourself, or drop your own pictures."</p>
                    <p class="hint">
                        "Each picture and each label becomes a point in one space. The "<b>"cosine"</b>
                        " says how near they are, whatever the other labels; the "<b>"probability"</b>
                        " shares 100 % out among your labels, so it is high for the best one even where none fits."
                    </p>
                </div>
            </Show>
            <Show when=move || !empty()>
                <Toolbar/>
                <Show
                    when=move || store.view.get() == View::Matrix
                    fallback=move || view! {
                        <div class="cards">
                            <For each=move || store.pictures.get() key=|picture| picture.id let(picture)>
                                <Card picture/>
                            </For>
                        </div>
                    }
                >
                    <Matrix/>
                </Show>
            </Show>
        </section>
    }
}

#[component]
fn Progress() -> impl IntoView {
    let store = store();
    let progress = Memo::new(move |_| store.progress());
    let working = move || {
        let (done, all) = progress.get();
        done < all
    };
    view! {
        <div class="progress" class:shown=working>
            <progress
                aria-label="Pictures done"
                prop:value=move || progress.get().0 as f64
                prop:max=move || progress.get().1.max(1) as f64
            ></progress>
            <span>{move || format!("{} of {}", progress.get().0, progress.get().1)}</span>
            <button type="button" class="quiet" id="cancel" disabled=move || !working() on:click=move |_| client::cancel()>"Cancel"</button>
        </div>
    }
}

#[component]
fn Toolbar() -> impl IntoView {
    let store = store();
    let view_button = move |view: View, name: &'static str| {
        view! {
            <button
                type="button"
                class="quiet"
                aria-pressed=move || (store.view.get() == view).to_string()
                on:click=move |_| store.view.set(view)
            >{name}</button>
        }
    };
    let clear = move |_| {
        for picture in store.pictures.get_untracked() {
            client::remove(store, picture.id);
        }
    };
    view! {
        <div class="toolbar">
            <div class="row" role="group" aria-label="View">
                {view_button(View::Cards, "Cards")}
                {view_button(View::Matrix, "Matrix")}
            </div>
            <label class="threshold" title="Below this cosine a label does not count as a fit; if none reaches it, the answer is none of these">
                <span>"None of these below cosine "<output>{move || format!("{:.2}", store.threshold.get())}</output></span>
                <input
                    id="threshold"
                    type="range"
                    min="-0.1"
                    max="0.9"
                    step="0.01"
                    prop:value=move || store.threshold.get().to_string()
                    on:input=move |event| store.threshold.set(event_target_value(&event).parse().unwrap_or(0.0))
                />
            </label>
            <div class="row">
                <button type="button" class="quiet" id="export-csv" on:click=move |_| export::csv(store)>"CSV"</button>
                <button type="button" class="quiet" id="export-json" on:click=move |_| export::json(store)>"JSON"</button>
                <button type="button" class="quiet" id="clear-pictures" on:click=clear>"Remove all"</button>
            </div>
        </div>
    }
}

/// The picture that is shown large.
#[component]
fn Opened() -> impl IntoView {
    let store = store();
    let dialog: NodeRef<Dialog> = NodeRef::new();
    let picture = move || store.open.get().and_then(|id| store.picture(id));
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get() {
            if store.open.get().is_none() {
                dialog.close();
            } else if !dialog.open() {
                let _ = dialog.show_modal();
            }
        }
    });
    let content = move || {
        picture().map(|picture| {
            let failed = matches!(picture.status.get_untracked(), Status::Failed(_));
            view! {
                <header>
                    <h2>{picture.name.clone()}</h2>
                    <button type="button" class="remove" aria-label="Close" on:click=move |_| store.open.set(None)>"×"</button>
                </header>
                <div class="opened">
                    {(!failed).then(|| view! { <img src=picture.url.clone() alt=picture.name.clone()/> })}
                    <div class="answer"><Answer picture=picture.clone()/></div>
                </div>
            }
        })
    };
    view! {
        <dialog class="viewer" node_ref=dialog aria-label="Picture" on:close=move |_| store.open.set(None)>
            {content}
        </dialog>
    }
}
