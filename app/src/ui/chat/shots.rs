//! The examples: what the model is shown before it is asked.

use leptos::html::Input;
use leptos::prelude::*;
use leptos::task::spawn_local;
use web_sys::DragEvent;

use super::fill::{self, ReadyMade};
use super::shot::{ShotCard, bytes};
use super::store::{Shot, ShotSet, chat, fresh};
use super::{bundle, conversations, keep};
use crate::ui::store::store;
use crate::ui::web::{cross, dropped_paths, files, icon};

/// How many examples similarity may choose; 0 takes all.
const SIMILAR: [usize; 6] = [0, 1, 2, 4, 8, 16];

#[component]
pub(super) fn Shots() -> impl IntoView {
    let (store, chat) = (store(), chat());
    let ids = Memo::new(move |_| {
        chat.shots
            .with(|shots| shots.iter().map(|s| s.id).collect::<Vec<_>>())
    });
    let drop = move |event: DragEvent| {
        if event.default_prevented() {
            return;
        }
        let Some(data) = event
            .data_transfer()
            .filter(|data| data.types().includes(&"Files".into(), 0))
        else {
            return;
        };
        event.prevent_default();
        spawn_local(async move { fill::from_files(store, dropped_paths(&data).await).await });
    };
    let add = move |_| {
        chat.shots
            .update(|shots| shots.push(Shot::new(Vec::new(), "")));
    };
    view! {
        <section class="panel shots" aria-labelledby="shots-title" on:drop=drop>
            <div class="panel-head">
                <h2 id="shots-title">"Examples"</h2>
                <p class="hint">"The model is shown these first, and goes on in kind."</p>
                <Total/>
            </div>
            <div class="row ready-made" role="group" aria-label="Ready-made examples">
                <span class="hint">"Ready-made:"</span>
                <ReadyMade/>
            </div>
            <ul role="list" class="shot-list" class:some=move || !ids.with(Vec::is_empty)>
                <For each=move || ids.get() key=|id| *id let(id)>
                    <ShotCard id/>
                </For>
                <li class="shot-new">
                    <button type="button" class="quiet" id="add-shot" on:click=add>{icon("M12 5v14M5 12h14")} "Add an example"</button>
                    <Fill/>
                </li>
            </ul>
            <div class="shot-foot">
                <Similar/>
                <Sets/>
            </div>
        </section>
    }
}

/// What the examples take together.
#[component]
fn Total() -> impl IntoView {
    let chat = chat();
    let said = move || {
        let (on, all) = chat
            .shots
            .with(|shots| (shots.iter().filter(|s| s.on).count(), shots.len()));
        if all == 0 {
            return String::new();
        }
        let known = (|| {
            let (plan, writer) = (chat.plan.get()?.ok()?, chat.writer()?);
            let mut sum = (0, 0.0);
            for (tokens, pictures) in chat.shots.with(|shots| {
                shots
                    .iter()
                    .filter_map(|shot| plan.cost.get(&shot.id).copied())
                    .collect::<Vec<_>>()
            }) {
                sum.0 += tokens;
                sum.1 += tokens as f64 * writer.bytes_per_token
                    + pictures as f64 * writer.bytes_per_image;
            }
            Some(format!(" · {} tokens · {}", sum.0, bytes(sum.1)))
        })();
        format!("{on} of {all} in use{}", known.unwrap_or_default())
    };
    view! { <span class="hint push" id="shots-total">{said}</span> }
}

/// Examples from files.
#[component]
fn Fill() -> impl IntoView {
    let store = store();
    let (folder, list): (NodeRef<Input>, NodeRef<Input>) = (NodeRef::new(), NodeRef::new());
    Effect::new(move |_| {
        if let Some(input) = folder.get() {
            input.set_webkitdirectory(true);
        }
    });
    let taken = move |input: NodeRef<Input>| {
        if let Some(input) = input.get_untracked() {
            let files = files(input.files());
            input.set_value("");
            let files = files.into_iter().map(fill::with_path).collect();
            spawn_local(async move { fill::from_files(store, files).await });
        }
    };
    view! {
        <label class="button quiet small" title="Every picture of a folder; its folder's name, or its own, is the answer">
            "From a folder"
            <input id="shots-folder-input" class="unseen" type="file" multiple node_ref=folder aria-label="Examples from a folder" on:change=move |_| taken(folder)/>
        </label>
        <label class="button quiet small" title="A table with the columns picture, question and answer, together with its pictures">
            "From CSV"
            <input id="shots-csv-input" class="unseen" type="file" multiple accept=".csv,.tsv,image/*" node_ref=list aria-label="Examples from a CSV file and its pictures" on:change=move |_| taken(list)/>
        </label>
    }
}

/// Which examples are taken.
#[component]
fn Similar() -> impl IntoView {
    let chat = chat();
    let choose = move |event| {
        let count = event_target_value(&event).parse().unwrap_or(0);
        chat.settings.update(|settings| settings.similar = count);
    };
    view! {
        <label class="field">
            <span>"Take"</span>
            <select id="similar" on:change=choose prop:value=move || chat.settings.with(|s| s.similar.to_string())>
                {SIMILAR.map(|count| view! {
                    <option value=count.to_string() selected=move || chat.settings.with(|s| s.similar == count)>
                        {match count { 0 => "all that are on".to_owned(), 1 => "the most similar one".to_owned(), n => format!("the {n} most similar") }}
                    </option>
                })}
            </select>
        </label>
        <label class="check" title="As for zero shots in the paper: the form is shown in words alone">
            <input id="words-only" type="checkbox" prop:checked=move || chat.settings.with(|s| s.words_only)
                on:change=move |event| chat.settings.update(|s| s.words_only = event_target_checked(&event))/>
            <span>"Words only, without their pictures"</span>
        </label>
    }
}

/// Sets that are kept, and what goes in and out as a file.
#[component]
fn Sets() -> impl IntoView {
    let (store, chat) = (store(), chat());
    let name = RwSignal::new(String::new());
    let save = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let shots = chat.shots.get_untracked();
        if shots.is_empty() {
            return;
        }
        let said = name.get_untracked().trim().to_owned();
        let set = ShotSet {
            id: fresh(),
            name: if said.is_empty() {
                format!("{} examples", shots.len())
            } else {
                said
            },
            task: chat.task.get_untracked(),
            shots,
        };
        keep::keep_set(&set);
        store.announcement.set(format!("{} is saved", set.name));
        chat.sets.update(|sets| sets.push(set));
        name.set(String::new());
    };
    let rows = Memo::new(move |_| {
        chat.sets.with(|sets| {
            sets.iter()
                .map(|set| (set.id, set.name.clone(), set.shots.len()))
                .collect::<Vec<_>>()
        })
    });
    let import: NodeRef<Input> = NodeRef::new();
    let taken = move |_| {
        if let Some(input) = import.get_untracked() {
            let files = files(input.files());
            input.set_value("");
            spawn_local(async move { bundle::import(store, &files).await });
        }
    };
    view! {
        <details class="fold sets" id="sets">
            <summary>"Sets" <span class="hint">{move || match rows.with(Vec::len) { 0 => "save these, or load others".to_owned(), n => format!("{n} saved") }}</span></summary>
            <form class="address" on:submit=save>
                <input id="set-name" type="text" autocomplete="off" placeholder="Name of these examples" aria-label="Name of this set" prop:value=move || name.get() on:input=move |event| name.set(event_target_value(&event))/>
                <button type="submit" class="quiet" id="save-set" disabled=move || chat.shots.with(Vec::is_empty)>"Save"</button>
                <label class="button quiet">
                    "Load a file"
                    <input id="set-file-input" class="unseen" type="file" accept=".json,application/json" node_ref=import aria-label="Load a set from a file" on:change=taken/>
                </label>
            </form>
            <ul class="set-list">
                <For each=move || rows.get() key=Clone::clone let(row)>
                    <SetRow id=row.0 name=row.1 count=row.2/>
                </For>
            </ul>
        </details>
    }
}

#[component]
fn SetRow(id: u32, name: String, count: usize) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let found = move || {
        chat.sets
            .with_untracked(|sets| sets.iter().find(|set| set.id == id).cloned())
    };
    let load = move |_| {
        if let Some(set) = found() {
            fill::put_set(store, set.task, set.shots);
        }
    };
    let share = move |_| {
        if let Some(set) = found() {
            spawn_local(async move {
                let name = format!("{}.plume.json", set.name.replace(['/', '\\'], "-"));
                bundle::export(chat, &name, &[], &[set]).await;
            });
        }
    };
    let delete = move |_| {
        keep::drop_set(id);
        chat.sets.update(|sets| sets.retain(|set| set.id != id));
        conversations::tidy(chat);
    };
    let label = |act: &str| format!("{act} the set {name}");
    view! {
        <li data-set=name.clone()>
            <span>{name.clone()} <span class="hint">{format!("{count} examples")}</span></span>
            <button type="button" class="quiet small" data-act="load" aria-label=label("Load") on:click=load>"Load"</button>
            <button type="button" class="quiet small" data-act="share" aria-label=label("Save as a file") on:click=share>"File"</button>
            <button type="button" class="remove" aria-label=label("Delete") on:click=delete>{cross()}</button>
        </li>
    }
}
