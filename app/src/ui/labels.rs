//! Labels as chips, and the sentences they are put into.

use leptos::prelude::*;
use web_sys::{ClipboardEvent, KeyboardEvent};

use super::store::{DRAWING_TEMPLATES, PHOTO_TEMPLATES, owned, store};

/// Lists that save typing.
const PRESETS: &[(&str, &[&str])] = &[
    (
        "Drawings",
        &[
            "cat",
            "house",
            "fish",
            "tree",
            "star",
            "umbrella",
            "rocket",
            "bird",
            "heart",
            "car",
            "boat",
            "flower",
            "sun",
            "moon",
            "key",
            "crown",
            "butterfly",
            "mushroom",
            "cup",
            "arrow",
        ],
    ),
    (
        "Colours",
        &[
            "red thing",
            "orange thing",
            "yellow thing",
            "green thing",
            "blue thing",
            "purple thing",
            "pink thing",
            "brown thing",
            "black thing",
            "gray thing",
        ],
    ),
    (
        "CIFAR-10",
        &[
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ],
    ),
];

/// Labels that were typed or pasted, apart.
fn split(text: &str) -> Vec<String> {
    text.split([',', '\n', ';', '\t'])
        .map(str::to_owned)
        .collect()
}

#[component]
pub(super) fn Labels() -> impl IntoView {
    let store = store();
    let typed = RwSignal::new(String::new());
    let add = move || {
        store.add_labels(split(&typed.get_untracked()));
        typed.set(String::new());
    };
    let key = move |event: KeyboardEvent| match event.key().as_str() {
        "Enter" | "," => {
            event.prevent_default();
            add();
        }
        "Backspace" if typed.with_untracked(String::is_empty) => {
            store.labels.update(|labels| {
                labels.pop();
            });
        }
        _ => {}
    };
    let paste = move |event: ClipboardEvent| {
        let text = event
            .clipboard_data()
            .and_then(|data| data.get_data("text").ok());
        if let Some(text) = text.filter(|text| text.contains(['\n', ',', ';', '\t'])) {
            event.prevent_default();
            store.add_labels(split(&text));
        }
    };
    let remove = move |label: &str| {
        store
            .labels
            .update(|all| all.retain(|other| other != label))
    };
    view! {
        <section class="panel" aria-labelledby="labels-title">
            <h2 id="labels-title">"Labels"</h2>
            <p class="hint">"What could be in the pictures? Type a label and press Enter, or paste a list."</p>
            <div class="chips">
                <ul class="chip-list" aria-label="Labels">
                    <For each=move || store.labels.get() key=String::clone let(label)>
                        <li class="chip">
                            <span>{label.clone()}</span>
                            <button
                                type="button"
                                aria-label=format!("Remove {label}")
                                on:click={let label = label.clone(); move |_| remove(&label)}
                            >"×"</button>
                        </li>
                    </For>
                </ul>
                <input
                    id="labels-input"
                    type="text"
                    aria-label="Add a label"
                    placeholder="Add a label…"
                    autocomplete="off"
                    prop:value=move || typed.get()
                    on:input=move |event| typed.set(event_target_value(&event))
                    on:keydown=key
                    on:paste=paste
                    on:blur=move |_| add()
                />
            </div>
            <div class="row">
                {PRESETS.iter().map(|&(name, words)| view! {
                    <button type="button" class="quiet" on:click=move |_| store.labels.set(owned(words))>
                        {name}
                    </button>
                }).collect_view()}
                <button type="button" class="quiet" id="clear-labels" on:click=move |_| store.labels.set(Vec::new())>
                    "Clear"
                </button>
            </div>
            <Templates/>
        </section>
    }
}

#[component]
fn Templates() -> impl IntoView {
    let store = store();
    let text = move || store.templates.get().join("\n");
    let edit = move |event| {
        let text = event_target_value(&event);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        store.templates.set(lines.map(str::to_owned).collect());
    };
    view! {
        <details class="templates">
            <summary>"Prompt templates"</summary>
            <p class="hint">
                "The model compares pictures with sentences. Each line is one, with {} in the place of the label."
            </p>
            <textarea
                id="templates-input"
                rows="4"
                aria-label="Prompt templates, one on a line"
                prop:value=text
                on:change=edit
            ></textarea>
            <div class="row">
                <button type="button" class="quiet" on:click=move |_| store.templates.set(owned(DRAWING_TEMPLATES))>"For drawings"</button>
                <button type="button" class="quiet" on:click=move |_| store.templates.set(owned(PHOTO_TEMPLATES))>"For photographs"</button>
            </div>
            <label class="check">
                <input
                    id="ensemble"
                    type="checkbox"
                    prop:checked=move || store.ensemble.get()
                    on:change=move |event| store.ensemble.set(event_target_checked(&event))
                />
                <span>"Average over all of them (ensembling); off uses the first line alone"</span>
            </label>
        </details>
    }
}
