//! Labels as chips, and the sentences they are put into.

use leptos::html::{Input, Ul};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, HtmlElement, KeyboardEvent};

use super::store::{DRAWING_TEMPLATES, PHOTO_TEMPLATES, owned, store};
use super::web::{copy, cross, document, icon, window};

/// Lists that save typing: names, and labels parted by commas.
const PRESETS: &[(&str, &str)] = &[
    (
        "Drawings",
        "cat,house,fish,tree,star,umbrella,rocket,bird,heart,car,boat,flower,sun,moon,key,\
         butterfly,mushroom,cup,apple,arrow",
    ),
    (
        "Colours",
        "red thing,orange thing,yellow thing,green thing,blue thing,purple thing,pink thing,\
         brown thing,black thing,gray thing",
    ),
    (
        "CIFAR-10",
        "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
    ),
];

/// Labels that were typed or pasted, apart.
fn split(text: &str) -> Vec<String> {
    text.split([',', '\n', '\r', ';', '\t'])
        .map(str::to_owned)
        .collect()
}

/// Moves the focus to the chip at `at`, or to the field behind the last.
fn focus(list: NodeRef<Ul>, field: NodeRef<Input>, at: usize) {
    let chip = list.get_untracked().and_then(|list| {
        let mut chip = list.first_element_child();
        for _ in 0..at {
            chip = chip?.next_element_sibling();
        }
        chip?.query_selector("button").ok().flatten()
    });
    if let Some(chip) = chip.and_then(|chip| chip.dyn_into::<HtmlElement>().ok()) {
        let _ = chip.focus();
    } else if let Some(field) = field.get_untracked() {
        let _ = field.focus();
    }
}

/// The chip that has the focus.
fn focused() -> Option<usize> {
    let mut chip = document().active_element()?.closest("li").ok()??;
    let mut at = 0;
    while let Some(before) = chip.previous_element_sibling() {
        chip = before;
        at += 1;
    }
    Some(at)
}

#[component]
fn Chips() -> impl IntoView {
    let store = store();
    let typed = RwSignal::new(String::new());
    let list: NodeRef<Ul> = NodeRef::new();
    let field: NodeRef<Input> = NodeRef::new();
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
        "ArrowLeft" if typed.with_untracked(String::is_empty) => {
            let last = store.labels.with_untracked(Vec::len).saturating_sub(1);
            focus(list, field, last);
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
    let remove = move |at: usize| {
        store.labels.update(|all| {
            if at < all.len() {
                all.remove(at);
            }
        });
        // After the list has been drawn again.
        leptos::task::spawn_local(async move {
            leptos::task::tick().await;
            focus(list, field, at);
        });
    };
    // Arrow keys walk along the chips; Delete takes one off.
    let walk = move |event: KeyboardEvent| {
        let Some(at) = focused() else { return };
        match event.key().as_str() {
            "ArrowLeft" => focus(list, field, at.saturating_sub(1)),
            "ArrowRight" => focus(list, field, at + 1),
            "Delete" | "Backspace" => remove(at),
            _ => return,
        }
        event.prevent_default();
    };
    let at = move |label: &str| {
        let found = |all: &Vec<String>| all.iter().position(|other| other == label);
        store.labels.with_untracked(found)
    };
    view! {
        <div class="chips">
            <ul role="list" class="chip-list" aria-label="Labels" node_ref=list on:keydown=walk>
                <For each=move || store.labels.get() key=String::clone let(label)>
                    <li class="chip">
                        <span>{label.clone()}</span>
                        <button
                            type="button"
                            aria-label=format!("Remove {label}")
                            on:click={let label = label.clone(); move |_| if let Some(at) = at(&label) { remove(at) }}
                        >{cross()}</button>
                    </li>
                </For>
            </ul>
            <input
                id="labels-input"
                type="text"
                node_ref=field
                aria-label="Add a label"
                placeholder="Add a label…"
                autocomplete="off"
                autocapitalize="off"
                enterkeyhint="done"
                prop:value=move || typed.get()
                on:input=move |event| typed.set(event_target_value(&event))
                on:keydown=key
                on:paste=paste
                on:blur=move |_| add()
            />
        </div>
    }
}

#[component]
pub(super) fn Labels() -> impl IntoView {
    let store = store();
    let copied = RwSignal::new(false);
    let share = move |_| {
        let address = window().location().href().unwrap_or_default();
        copy(&address, move |done| {
            let text = if done {
                "The link with these labels is copied"
            } else {
                "The link is in the address bar"
            };
            store.announcement.set(text.to_owned());
            copied.set(true);
            set_timeout(move || copied.set(false), std::time::Duration::from_secs(2));
        });
    };
    view! {
        <section class="panel labels" aria-labelledby="labels-title">
            <div class="panel-head">
                <h2 id="labels-title">"Labels"</h2>
                <p class="hint">"What could the pictures show? Type one and press Enter, or paste a list."</p>
            </div>
            <Chips/>
            <div class="row">
                {PRESETS.iter().map(|&(name, words)| view! {
                    <button type="button" class="quiet small" on:click=move |_| {
                        store.labels.set(split(words));
                    }>{name}</button>
                }).collect_view()}
                <button type="button" class="quiet small" id="clear-labels" on:click=move |_| store.labels.set(Vec::new())>
                    "Clear"
                </button>
                <button type="button" class="quiet small push" id="copy-link" on:click=share>
                    {icon("M10 14a4.5 4.5 0 0 0 6.4 0l3-3A4.5 4.5 0 1 0 13 4.6l-1 1M14 10a4.5 4.5 0 0 0-6.4 0l-3 3a4.5 4.5 0 1 0 6.4 6.4l1-1")}
                    {move || if copied.get() { "Copied" } else { "Copy link" }}
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
    let summary = move || {
        let n = store.templates.with(Vec::len);
        match (n, store.ensemble.get()) {
            (0, _) => "the label alone".to_owned(),
            (1, _) => "one sentence".to_owned(),
            (_, true) => format!("{n} sentences, averaged"),
            (_, false) => "the first sentence alone".to_owned(),
        }
    };
    view! {
        <details class="fold templates">
            <summary>"Prompt templates" <span class="hint">{summary}</span></summary>
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
                <button type="button" class="quiet small" on:click=move |_| store.templates.set(owned(DRAWING_TEMPLATES))>"For drawings"</button>
                <button type="button" class="quiet small" on:click=move |_| store.templates.set(owned(PHOTO_TEMPLATES))>"For photographs"</button>
            </div>
            <label class="check">
                <input
                    id="ensemble"
                    type="checkbox"
                    prop:checked=move || store.ensemble.get()
                    on:change=move |event| store.ensemble.set(event_target_checked(&event))
                />
                <span>"Average over all of them (ensembling, as in the paper); off uses the first line alone"</span>
            </label>
        </details>
    }
}
