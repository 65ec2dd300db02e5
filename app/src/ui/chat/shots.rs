//! The examples: what the model is shown before it is asked.

use leptos::html::Input;
use leptos::prelude::*;
use leptos::task::spawn_local;
use web_sys::DragEvent;

use super::sets::{Asked, BesideOrInstead, ReadyMade, Sets};
use super::shot::{ShotCard, takes};
use super::store::{Shot, chat};
use super::{answer, fill};
use crate::ui::store::store;
use crate::ui::web::{dropped_paths, files, icon};

/// How many examples similarity may choose; 0 takes all.
const SIMILAR: [usize; 7] = [0, 1, 2, 4, 8, 16, 32];

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
    let asked = Asked::new(None);
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
                <ReadyMade asked/>
            </div>
            <BesideOrInstead asked/>
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
                <Sets asked/>
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
        let known = chat.plan.with(|plan| {
            let (plan, writer) = (plan.as_ref()?.as_ref().ok()?, chat.writer()?);
            let mut sum = (0, 0);
            chat.shots.with(|shots| {
                for (tokens, pictures) in shots.iter().filter_map(|s| plan.cost.get(&s.id)) {
                    sum = (sum.0 + tokens, sum.1 + pictures);
                }
            });
            Some(format!(" · {}", takes(&writer, sum)))
        });
        format!("{on} of {all} in use{}", known.unwrap_or_default())
    };
    view! { <span class="hint push" id="shots-total">{said}</span> }
}

/// Examples from files.
#[component]
fn Fill() -> impl IntoView {
    let store = store();
    let [pictures, folder, list] = [(); 3].map(|()| NodeRef::<Input>::new());
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
    let chosen = move |_| {
        if let Some(input) = pictures.get_untracked() {
            let files = files(input.files());
            input.set_value("");
            spawn_local(async move { fill::from_pictures(store, files).await });
        }
    };
    view! {
        <label class="button quiet small" title="An example for each of them; on a phone also from its camera">
            "From pictures"
            <input id="shots-picture-input" class="unseen" type="file" multiple accept="image/*,video/*" node_ref=pictures aria-label="Examples from pictures or clips, one each" on:change=chosen/>
        </label>
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
    let chooser = answer::chooser(store());
    let chooses = move || match chooser.get() {
        Some(clip) => format!("by {}, the model that classifies", clip.name),
        None => "once a model that classifies is there to choose".to_owned(),
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
        <Show when=move || chat.settings.with(|s| s.similar > 0)>
            <span class="hint" id="chooser">{chooses}</span>
        </Show>
        <label class="check" title="As for zero shots in the paper: the form is shown in words alone">
            <input id="words-only" type="checkbox" prop:checked=move || chat.settings.with(|s| s.words_only)
                on:change=move |event| chat.settings.update(|s| s.words_only = event_target_checked(&event))/>
            <span>"Words only, without their pictures"</span>
        </label>
    }
}
