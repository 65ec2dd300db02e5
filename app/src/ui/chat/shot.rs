//! One example: pictures, a question, and the right answer.

use std::cell::Cell;

use leptos::html::Li;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{DragEvent, HtmlElement, KeyboardEvent};

use super::editor::{Editor, Hand};
use super::put_in::PutIn;
use super::store::{Chat, Id, Shot, chat, fresh};
use super::undo;
use crate::protocol::chat::{Task, Writer};
use crate::ui::offer::megabytes;
use crate::ui::store::store;
use crate::ui::web::{cross, icon};

thread_local! {
    /// The example that is being dragged.
    static DRAGGED: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Bytes for a person, small ones too.
fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b => megabytes(b),
    }
}

/// Moves one example to where another is.
fn reorder(chat: Chat, from: Id, to: Id) {
    chat.shots.update(|shots| {
        let place = |id| shots.iter().position(|shot: &Shot| shot.id == id);
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            let shot = shots.remove(from);
            shots.insert(to, shot);
        }
    });
}

/// Moves one by a place.
fn step(chat: Chat, id: Id, back: bool) -> Option<usize> {
    let mut now = None;
    chat.shots.update(|shots| {
        let Some(at) = shots.iter().position(|shot| shot.id == id) else {
            return;
        };
        let to = if back {
            at.checked_sub(1)
        } else {
            Some(at + 1)
        };
        if let Some(to) = to.filter(|&to| to < shots.len()) {
            shots.swap(at, to);
            now = Some(to);
        }
    });
    now
}

/// What so many tokens and pictures take of the model's room.
pub(super) fn takes(writer: &Writer, (tokens, pictures): (usize, usize)) -> String {
    let memory = tokens as f64 * writer.bytes_per_token + pictures as f64 * writer.bytes_per_image;
    format!("{tokens} tokens · {}", bytes(memory))
}

/// What an example takes, or would.
fn cost(chat: Chat, id: Id) -> Option<String> {
    let writer = chat.writer()?;
    // Looked at where it is: there may be hundreds of cards.
    chat.plan.with(|plan| {
        let plan = plan.as_ref()?.as_ref().ok()?;
        Some(match plan.cost.get(&id) {
            Some((tokens, _)) if plan.cut.contains(&id) => {
                format!("{tokens} tokens · does not fit")
            }
            Some(cost) => takes(&writer, *cost),
            None => format!("would take {}", takes(&writer, *plan.spare.get(&id)?)),
        })
    })
}

/// Whether similarity chose it, and how similar it is.
fn similarity(chat: Chat, id: Id) -> Option<(String, bool)> {
    let chosen = chat.chosen.get()?;
    let count = chosen.len();
    Some(match chosen.iter().position(|(shot, _)| *shot == id) {
        Some(at) if at + 1 == count => (
            format!("most similar, so last · cosine {:.3}", chosen[at].1),
            true,
        ),
        Some(at) => (
            format!("chosen {} of {count} · cosine {:.3}", at + 1, chosen[at].1),
            true,
        ),
        None => ("not chosen".to_owned(), false),
    })
}

#[component]
pub(super) fn ShotCard(id: Id) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let card: NodeRef<Li> = NodeRef::new();
    let shot = chat.shot(id);
    let hand = Hand::new();
    let place = Memo::new(move |_| {
        chat.shots
            .with(|shots| shots.iter().position(|shot| shot.id == id))
            .unwrap_or(0)
            + 1
    });
    let on = move || shot.with(|shot| shot.as_ref().is_some_and(|shot| shot.on));
    let parts = Signal::derive(move || shot.get().map(|shot| shot.parts).unwrap_or_default());
    let answer = move || shot.get().map(|shot| shot.answer).unwrap_or_default();
    let hint = Signal::derive(move || {
        match chat.task.get() {
            Task::Ask => "Picture and question",
            Task::Free => "Words and pictures",
            Task::Describe | Task::Classify => "Picture",
        }
        .to_owned()
    });
    let out = move || similarity(chat, id).is_some_and(|(_, chosen)| !chosen);
    let last = Memo::new(move |_| {
        let last = |shots: &Vec<Shot>| shots.last().is_some_and(|shot| shot.id == id);
        chat.shots.with(last)
    });
    // Where the list has been drawn again, the focus stays: on the first of
    // these that can have it.
    let go = move |back: bool, focus: [&'static str; 2]| {
        let Some(now) = step(chat, id, back) else {
            return;
        };
        store
            .announcement
            .set(format!("Example moved to place {}", now + 1));
        leptos::task::spawn_local(async move {
            leptos::task::tick().await;
            let Some(card) = card.try_get_untracked().flatten() else {
                return;
            };
            let find = |css: &str| card.query_selector(css).ok().flatten();
            let found = focus.into_iter().find_map(find);
            if let Some(found) = found.and_then(|found| found.dyn_into::<HtmlElement>().ok()) {
                let _ = found.focus();
            }
        });
    };
    let key = move |event: KeyboardEvent| {
        let back = match event.key().as_str() {
            "ArrowUp" | "ArrowLeft" => true,
            "ArrowDown" | "ArrowRight" => false,
            _ => return,
        };
        if event.alt_key() {
            event.prevent_default();
            go(back, [".grip"; 2]);
        }
    };
    let earlier = move |_| go(true, [".earlier:enabled", ".later"]);
    let later = move |_| go(false, [".later:enabled", ".earlier"]);
    let drag = move |event: DragEvent| {
        DRAGGED.set(Some(id));
        if let Some(data) = event.data_transfer() {
            let _ = data.set_data("text/x-plume-shot", "");
            data.set_effect_allowed("move");
        }
    };
    let over = move |event: DragEvent| {
        if DRAGGED.get().is_some() {
            event.prevent_default();
        }
    };
    let drop = move |event: DragEvent| {
        if let Some(from) = DRAGGED.take() {
            event.prevent_default();
            reorder(chat, from, id);
        }
    };
    let double = move |_| {
        chat.shots.update(|shots| {
            if let Some(at) = shots.iter().position(|shot| shot.id == id) {
                let copy = Shot {
                    id: fresh(),
                    ..shots[at].clone()
                };
                shots.insert(at + 1, copy);
            }
        });
    };
    let whose = Signal::derive(move || format!("for example {}", place.get()));
    view! {
        <li class="shot" node_ref=card class:off=move || !on() || out() data-shot=id.to_string() on:dragover=over on:drop=drop>
            <div class="shot-head">
                <button
                    type="button" class="grip" draggable="true"
                    aria-label=move || format!("Example {}: drag, or Alt with an arrow, moves it", place.get())
                    aria-keyshortcuts="Alt+ArrowUp Alt+ArrowDown"
                    title="Drag, or Alt with an arrow, moves it"
                    on:keydown=key on:dragstart=drag on:dragend=move |_| DRAGGED.set(None)
                >{icon("M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01")}<span>{place}</span></button>
                <label class="shot-on" title="Stands in the prompt">
                    <input type="checkbox" aria-label=move || format!("Use example {}", place.get()) prop:checked=on
                        on:change=move |event| chat.change_shot(id, |shot| shot.on = event_target_checked(&event))/>
                </label>
                <span class="push"></span>
                <button type="button" class="remove step earlier" title="Earlier" aria-label=move || format!("Move example {} earlier", place.get()) disabled=move || place.get() == 1 on:click=earlier>{icon("M15 6l-6 6 6 6")}</button>
                <button type="button" class="remove step later" title="Later" aria-label=move || format!("Move example {} later", place.get()) disabled=last on:click=later>{icon("M9 6l6 6-6 6")}</button>
                <button type="button" class="remove" title="Duplicate" aria-label=move || format!("Duplicate example {}", place.get()) on:click=double>{icon("M8 8h11v11H8zM16 8V5H5v11h3")}</button>
                <button type="button" class="remove" title="Remove" aria-label=move || format!("Remove example {}", place.get()) on:click=move |_| undo::take_shot(store, id)>{cross()}</button>
            </div>
            <Editor hand parts change=Callback::new(move |parts| chat.change_shot(id, |shot| shot.parts = parts)) label="Example: picture and question" hint/>
            <div class="shot-put"><PutIn hand whose small=true/></div>
            <input
                type="text" class="shot-answer" autocomplete="off" placeholder="Answer"
                aria-label=move || format!("Answer of example {}", place.get())
                prop:value=answer
                on:input=move |event| chat.change_shot(id, |shot| shot.answer = event_target_value(&event))
            />
            <p class="timings">
                {move || cost(chat, id)}
                {move || similarity(chat, id).map(|(said, chosen)| view! { <span class="similarity" class:chosen=chosen>{said}</span> })}
            </p>
        </li>
    }
}
