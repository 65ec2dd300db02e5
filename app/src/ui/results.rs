//! The answers: as cards, as a matrix, and one picture large.

use leptos::html::Dialog;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::HtmlElement;

use super::card::{Answer, Card, Verdict};
use super::matrix::Matrix;
use super::pictures::sample;
use super::store::{Model, Status, View, store};
use super::web::{cross, document};
use super::{client, export};

/// Samples that the welcome puts on the page at once.
const FIRST: usize = 6;

#[component]
pub(super) fn Results() -> impl IntoView {
    let store = store();
    let empty = Memo::new(move |_| store.pictures.with(Vec::is_empty));
    view! {
        <section class="results" id="results" aria-labelledby="results-title">
            <Show when=move || !empty.get() fallback=Welcome>
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
fn Welcome() -> impl IntoView {
    let store = store();
    let start = move |_| {
        let names = store.samples.get_untracked();
        for name in names.iter().take(FIRST).rev() {
            sample(store, name);
        }
    };
    view! {
        <div class="welcome">
            <img src="./icon.svg" alt="" width="84" height="84"/>
            <h2 id="results-title">"Show it a picture"</h2>
            <p>"Choose a sample, draw one yourself, or drop your own. You see which of your labels fits best, and how well."</p>
            <button type="button" id="try-samples" on:click=start disabled=move || store.samples.with(Vec::is_empty)>
                "Try six samples"
            </button>
        </div>
    }
}

#[component]
fn Explanation() -> impl IntoView {
    let store = store();
    let own = move || matches!(store.model.get(), Model::Ready(loaded) if loaded.even.is_some());
    let probability = move || {
        if own() {
            " is each label's own with this model, whatever the others are: several may fit, or none. "
        } else {
            " shares 100 % out among your labels, so the best one can get a high share even where none fits. "
        }
    };
    view! {
        <details class="fold explain">
            <summary>"How to read this"</summary>
            <div class="legend" aria-hidden="true">
                <span><i class="swatch-bar"></i>"probability"</span>
                <span><i class="swatch-thin"></i>"cosine"</span>
                <span><i class="swatch-mark"></i>"threshold"</span>
            </div>
            <p>
                "The model turns each picture and each label into a point; what belongs together lies close. The "
                <b>"cosine"</b>" says how close, from −1 to 1, whatever the other labels are. The "<b>"probability"</b>
                {probability}
                "That is what the "<b>"threshold"</b>" is for: a label whose cosine stays below it does not count, and if "
                "none reaches it, the answer reads “None of these”. Fitting thresholds differ from model to model; "
                "published CLIPs seldom go beyond 0.35."
            </p>
        </details>
    }
}

#[component]
fn Toolbar() -> impl IntoView {
    let store = store();
    let progress = Memo::new(move |_| store.progress());
    let working = move || {
        let (done, all) = progress.get();
        done < all
    };
    let view_button = move |view: View, name: &'static str| {
        view! {
            <button
                type="button"
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
    let slide = move |event| {
        store.threshold_set.set(true);
        let value = event_target_value(&event).parse();
        store.threshold.set(value.unwrap_or_default());
    };
    let count = move || match progress.get().1 {
        1 => "1 picture".to_owned(),
        n => format!("{n} pictures"),
    };
    view! {
        <div class="toolbar">
            <h2 id="results-title">"Results" <span class="hint">{count}</span></h2>
            <div class="segments" role="group" aria-label="View">
                {view_button(View::Cards, "Cards")}
                {view_button(View::Matrix, "Matrix")}
            </div>
            <div class="row push">
                <button type="button" class="quiet small" id="export-csv" title="Save the scores as CSV" on:click=move |_| export::csv(store)>"CSV"</button>
                <button type="button" class="quiet small" id="export-json" title="Save the scores as JSON" on:click=move |_| export::json(store)>"JSON"</button>
                <button type="button" class="quiet small" id="clear-pictures" on:click=clear>"Remove all"</button>
            </div>
            <label class="threshold">
                <span>"“None of these” below cosine "<output>{move || format!("{:.2}", store.threshold.get())}</output></span>
                <input
                    id="threshold"
                    type="range"
                    min="-0.1"
                    max="0.9"
                    step="0.01"
                    prop:value=move || store.threshold.get().to_string()
                    on:input=slide
                />
            </label>
        </div>
        <div class="subbar">
            <Explanation/>
            <div class="progress" class:shown=working>
                <progress
                    aria-label="Pictures done"
                    prop:value=move || progress.get().0 as f64
                    prop:max=move || progress.get().1.max(1) as f64
                ></progress>
                <span>{move || format!("{} of {}", progress.get().0, progress.get().1)}</span>
                <button type="button" class="quiet small" id="cancel" disabled=move || !working() on:click=move |_| client::cancel()>"Cancel"</button>
            </div>
        </div>
    }
}

/// On a phone the answers lie below what asks for them: a way there.
#[component]
pub(super) fn Jump() -> impl IntoView {
    let store = store();
    let count = move || store.pictures.with(Vec::len);
    let jump = move |_| {
        if let Some(results) = document().get_element_by_id("results") {
            results.scroll_into_view();
        }
    };
    view! {
        <Show when=move || count() != 0>
            <button type="button" class="jump" on:click=jump>{move || format!("Results ({}) ↓", count())}</button>
        </Show>
    }
}

/// The picture that is shown large.
#[component]
pub(super) fn Viewer() -> impl IntoView {
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
    let beside = move |event: web_sys::MouseEvent| {
        let target = event
            .target()
            .and_then(|t| t.dyn_into::<HtmlElement>().ok());
        if target.is_some_and(|target| target.tag_name() == "DIALOG") {
            store.open.set(None);
        }
    };
    let content = move || {
        picture().map(|picture| {
            let failed = matches!(picture.status.get_untracked(), Status::Failed(_));
            let (url, name) = (picture.url, picture.name.clone());
            view! {
                <header>
                    <h2>{picture.name.clone()}</h2>
                    <button type="button" class="remove" aria-label="Close" on:click=move |_| store.open.set(None)>{cross()}</button>
                </header>
                <div class="opened">
                    {(!failed).then(|| view! { <img src=move || url.get() alt=name/> })}
                    <div>
                        <Verdict picture=picture.clone()/>
                        <Answer picture=picture.clone() all=true/>
                    </div>
                </div>
            }
        })
    };
    view! {
        <dialog class="viewer" node_ref=dialog aria-label="Picture" on:close=move |_| store.open.set(None) on:click=beside>
            {content}
        </dialog>
    }
}
