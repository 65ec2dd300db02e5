//! Sets of examples: ready-made ones, those that are kept, and how a whole set
//! comes on the page.

use std::collections::BTreeSet;

use gloo_net::http::Request;
use leptos::html::{Button, Input};
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde::Deserialize;
use web_sys::Blob;

use super::fill::with_question;
use super::store::{Shot, ShotSet, chat, fresh, media_of};
use super::{bundle, keep, media, undo};
use crate::protocol::PictureId;
use crate::protocol::chat::{Piece, Task};
use crate::ui::store::{Store, store};
use crate::ui::web::{cross, files};

/// A set that is served with the page.
#[derive(Clone, Deserialize)]
pub(super) struct Made {
    name: String,
    task: Task,
    shots: Vec<MadeShot>,
    /// A picture to try it on, and a question.
    #[serde(rename = "try")]
    ask: Option<MadeShot>,
}

#[derive(Clone, Deserialize)]
struct MadeShot {
    /// Its address, from the page's demo folder.
    picture: String,
    #[serde(default)]
    question: String,
    #[serde(default)]
    answer: String,
}

/// A set that is to come on the page.
#[derive(Clone)]
pub(super) enum Coming {
    Made(Made),
    Kept(ShotSet),
}

impl Coming {
    /// What it is called, and how many examples it has.
    fn about(&self) -> (&str, usize) {
        match self {
            Self::Made(made) => (&made.name, made.shots.len()),
            Self::Kept(set) => (&set.name, set.shots.len()),
        }
    }
}

/// A set of which the person is asked whether it comes beside what is there.
pub(super) type Asked = RwSignal<Option<Coming>>;

async fn fetched(address: &str) -> Option<Vec<u8>> {
    let response = Request::get(&format!("./demo/{address}"))
        .send()
        .await
        .ok()?;
    response.ok().then_some(())?;
    response.binary().await.ok()
}

async fn parts(store: Store, made: &MadeShot) -> Option<Vec<Piece>> {
    let bytes = fetched(&made.picture).await?;
    let bits = js_sys::Array::of1(&js_sys::Uint8Array::from(bytes.as_slice()));
    let blob = Blob::new_with_u8_array_sequence(&bits).ok()?;
    let name = made.picture.rsplit('/').next().unwrap_or_default();
    let id = media::add(store.chat, name, &[blob]);
    Some(with_question(id, &made.question))
}

/// Whether an example has nothing in it yet.
fn blank(shot: &Shot) -> bool {
    shot.parts.is_empty() && shot.answer.trim().is_empty()
}

/// Brings a set; where there are examples already, the person is asked.
fn bring(store: Store, asked: Asked, coming: Coming) {
    if store.chat.shots.with_untracked(|s| s.iter().all(blank)) {
        spawn_local(place(store, coming, false));
    } else {
        asked.set(Some(coming));
    }
}

/// Puts a set on the page, beside the examples that are there or in their place.
async fn place(store: Store, coming: Coming, beside: bool) {
    let chat = store.chat;
    let (task, shots, ask) = match coming {
        Coming::Kept(set) => (set.task, set.shots, None),
        Coming::Made(made) => {
            let mut shots = Vec::new();
            for shot in &made.shots {
                let Some(parts) = parts(store, shot).await else {
                    let name = &shot.picture;
                    store.error.set(Some(format!(
                        "{name} cannot be fetched: is the network there?"
                    )));
                    return;
                };
                shots.push(Shot::new(parts, &shot.answer));
            }
            (made.task, shots, made.ask)
        }
    };
    let mut shots: Vec<_> = shots.into_iter().map(anew).collect();
    let count = shots.len();
    let before = chat.shots.get_untracked();
    let task_before = chat.task.get_untracked();
    if beside {
        shots = [before.clone(), shots].concat();
    }
    chat.task.set(task);
    chat.shots.set(shots);
    let said = format!("{count} examples are loaded");
    if before.iter().all(blank) {
        store.announcement.set(said);
    } else {
        let said = if beside {
            said
        } else {
            format!("{said} in the place of {}", before.len())
        };
        let pictures: BTreeSet<PictureId> =
            before.iter().flat_map(|s| media_of(&s.parts)).collect();
        let of = Some(chat.id.get_untracked());
        undo::offer(store, &said, of, pictures, move || {
            chat.task.set(task_before);
            chat.shots.set(before.clone());
        });
    }
    let empty = chat.draft.with_untracked(Vec::is_empty);
    if let Some(ask) = ask.filter(|_| empty)
        && let Some(parts) = parts(store, &ask).await
    {
        chat.draft.set(parts);
    }
}

/// A shot under a number of its own: a set can be loaded twice.
fn anew(shot: Shot) -> Shot {
    let id = fresh();
    Shot { id, ..shot }
}

/// Beside the examples that are there, or in their place.
#[component]
pub(super) fn BesideOrInstead(asked: Asked) -> impl IntoView {
    let store = store();
    let first: NodeRef<Button> = NodeRef::new();
    Effect::new(move |_| {
        if let Some(button) = first.get() {
            let _ = button.focus();
        }
    });
    let question = move || {
        let (name, count) = asked.with(|coming| {
            let about = coming.as_ref().map(Coming::about);
            about.map(|(name, count)| (name.to_owned(), count))
        })?;
        let here = store.chat.shots.with(Vec::len);
        Some(format!(
            "“{name}” has {count} examples, and {here} are here."
        ))
    };
    let go = move |beside| {
        if let Some(coming) = asked.get_untracked() {
            asked.set(None);
            spawn_local(place(store, coming, beside));
        }
    };
    let escape = move |event: web_sys::KeyboardEvent| {
        if event.key() == "Escape" {
            asked.set(None);
        }
    };
    view! {
        <Show when=move || asked.with(Option::is_some)>
            <div class="row set-asked" role="group" aria-label=question on:keydown=escape>
                <span>{question}</span>
                <button type="button" class="small" data-act="add" node_ref=first on:click=move |_| go(true)>"Add to these"</button>
                <button type="button" class="quiet small" data-act="replace" on:click=move |_| go(false)>"Replace"</button>
                <button type="button" class="quiet small" data-act="leave" on:click=move |_| asked.set(None)>"Leave it"</button>
            </div>
        </Show>
    }
}

/// Buttons that load what is served with the page.
#[component]
pub(super) fn ReadyMade(asked: Asked) -> impl IntoView {
    let store = store();
    let sets = RwSignal::new(Vec::<Made>::new());
    spawn_local(async move {
        if let Some(json) = fetched("shots/index.json").await
            && let Ok(found) = serde_json::from_slice(&json)
        {
            sets.set(found);
        }
    });
    view! {
        <For each=move || sets.get() key=|made| made.name.clone() let(made)>
            <button type="button" class="quiet small" data-set=made.name.clone() on:click={
                let made = made.clone();
                move |_| bring(store, asked, Coming::Made(made.clone()))
            }>{made.name.clone()}</button>
        </For>
    }
}

/// Sets that are kept, and what goes in and out as a file.
#[component]
pub(super) fn Sets(asked: Asked) -> impl IntoView {
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
                    <SetRow id=row.0 name=row.1 count=row.2 asked/>
                </For>
            </ul>
        </details>
    }
}

#[component]
fn SetRow(id: u32, name: String, count: usize, asked: Asked) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let found = move || {
        chat.sets
            .with_untracked(|sets| sets.iter().find(|set| set.id == id).cloned())
    };
    let load = move |_| {
        if let Some(set) = found() {
            bring(store, asked, Coming::Kept(set));
        }
    };
    let share = move |_| {
        if let Some(set) = found() {
            spawn_local(async move {
                let name = format!("{}.plume.json", set.name.replace(['/', '\\'], "-"));
                bundle::export(store, &name, &[], &[set]).await;
            });
        }
    };
    let delete = move |_| {
        let Some(set) = found() else { return };
        keep::drop_set(id);
        chat.sets.update(|sets| sets.retain(|set| set.id != id));
        let pictures = keep::used(&[], std::slice::from_ref(&set));
        undo::offer(store, "Set deleted", None, pictures, move || {
            keep::keep_set(&set);
            chat.sets.update(|sets| sets.push(set.clone()));
        });
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
