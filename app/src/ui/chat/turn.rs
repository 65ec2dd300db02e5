//! The turns of a conversation.

use leptos::html::Textarea;
use leptos::prelude::*;

use super::composer::TASKS;
use super::cut::Cut;
use super::editor::{Editor, Hand};
use super::field::spoken;
use super::inside::Inside;
use super::made::{Made, Versions};
use super::prompt::Goal;
use super::put_in::PutIn;
use super::store::{Id, Plan, Shot, chat};
use super::version::{Outcome, Turn, Version};
use super::welcome::Welcome;
use super::{answer, conversations, undo};
use crate::protocol::PictureId;
use crate::protocol::chat::{Ended, Piece};
use crate::ui::store::store;
use crate::ui::web::{icon, take_along};

#[component]
pub(super) fn Turns() -> impl IntoView {
    let chat = chat();
    let ids = Memo::new(move |_| {
        chat.turns
            .with(|turns| turns.iter().map(|t| t.id).collect::<Vec<_>>())
    });
    view! {
        <section class="turns" aria-label="Conversation">
            <Show when=move || ids.with(Vec::is_empty)><Welcome/></Show>
            <ol role="list">
                <For each=move || ids.get() key=|id| *id let(id)>
                    <TurnView id/>
                </For>
            </ol>
        </section>
    }
}

/// Pictures of a turn, as they are shown in it.
#[component]
pub(super) fn Shown(id: PictureId) -> impl IntoView {
    let chat = chat();
    let urls = move || {
        chat.media
            .with(|all| all.get(&id).map(|media| media.urls.clone()))
            .unwrap_or_default()
    };
    let clip = move || urls().len() > 1;
    view! {
        <span class="shown" class:clip=clip role="img" aria-label=spoken(chat, id)>
            {move || urls().into_iter().map(|url| view! { <img src=url alt=""/> }).collect_view()}
        </span>
    }
}

fn shown(parts: Vec<Piece>) -> impl IntoView {
    parts
        .into_iter()
        .map(|part| match part {
            Piece::Media(id) => view! { <Shown id/> }.into_any(),
            Piece::Text(text) => view! { <span>{text}</span> }.into_any(),
        })
        .collect_view()
}

#[component]
fn TurnView(id: Id) -> impl IntoView {
    let chat = chat();
    let turn = chat.turn(id);
    let editing = RwSignal::new(false);
    let parts = Memo::new(move |_| turn.get().map(|turn| turn.parts).unwrap_or_default());
    let task = Memo::new(move |_| turn.get().map(|turn| turn.task).unwrap_or_default());
    let word = move || {
        let task = task.get();
        TASKS
            .iter()
            .find(|(other, ..)| *other == task)
            .map_or("", |(_, word, _)| *word)
    };
    let writing = Memo::new(move |_| {
        chat.writing
            .with(|w| w.as_ref().is_some_and(|w| w.turn == id))
    });
    // Letters that come change the text alone; the answer before stays until
    // the first of them.
    let begun = Memo::new(move |_| {
        chat.writing.with(|writing| {
            let writing = writing.as_ref().filter(|writing| writing.turn == id);
            writing.is_some_and(|writing| writing.version.says_something())
        })
    });
    let text = Memo::new(move |_| {
        let now = chat.writing.with(|writing| {
            let writing = writing.as_ref().filter(|_| begun.get());
            writing.map(|writing| writing.version.text.clone())
        });
        let text = now
            .or_else(|| turn.get().map(|turn| turn.version.text))
            .unwrap_or_default();
        text.trim().to_owned()
    });
    let version = Memo::new(move |_| turn.get().map(|turn| turn.version).unwrap_or_default());
    let before = move || writing.get() && !begun.get() && !text.with(String::is_empty);
    let trouble = move || turn.get().and_then(|turn| turn.trouble);
    view! {
        <li class="turn" data-turn=id.to_string() aria-busy=move || writing.get().to_string()>
            <Show
                when=move || !editing.get()
                fallback=move || view! { <Edit id close=move || editing.set(false)/> }
            >
                <div class="asked">
                    <span class="asked-task hint">{word}</span>
                    <p>{move || shown(parts.get())}</p>
                </div>
                <div class="answered" class:writing=move || writing.get() class:before=before>
                    <p class="answer" data-answer=text>{text}<Show when=move || writing.get()><span class="caret" aria-hidden="true"></span></Show></p>
                    <Show when=before>
                        <p class="state">"Answering once more. This answer stays until the first new word, and as a version after that."</p>
                    </Show>
                    {move || trouble().map(|why| view! { <p class="state failed">{format!("Nothing new was written: {why}")}</p> })}
                    <Show when=move || !writing.get()>
                        <Made id version/>
                        <Versions id turn/>
                        <Actions id turn editing/>
                    </Show>
                    <Inside id/>
                </div>
            </Show>
        </li>
    }
}

/// What can be done with a turn.
#[component]
fn Actions(id: Id, turn: Memo<Option<Turn>>, editing: RwSignal<bool>) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let copied = RwSignal::new(false);
    let take = move |_| {
        let text = turn.get_untracked().map(|turn| turn.version.text);
        take_along(store, text.unwrap_or_default().trim(), copied);
    };
    let unfinished = move || {
        turn.get().is_some_and(|turn| match turn.version.outcome {
            Outcome::Written { ended, .. } => ended != Ended::Itself,
            Outcome::Failed(_) => turn.version.says_something(),
            _ => false,
        })
    };
    let answered = move || turn.get().is_some_and(|turn| turn.version.says_something());
    let as_example = move |_| {
        if let Some(turn) = turn.get_untracked() {
            let shot = Shot::new(turn.parts, turn.version.text.trim());
            chat.shots.update(|shots| shots.push(shot));
            store.announcement.set("It is an example now".to_owned());
        }
    };
    let delete = move |_| undo::take_turn(store, id);
    let idle = move || chat.idle();
    view! {
        <div class="turn-do">
            <button type="button" class="text" data-act="again" disabled=move || !idle() on:click=move |_| answer::again(store, id)>
                {icon("M4 12a8 8 0 1 1 2.3 5.6M4 12V6M4 12h6")} "Again"
            </button>
            <Show when=unfinished>
                <button type="button" class="text" data-act="go-on" disabled=move || !idle() on:click=move |_| answer::answer(store, id, true)>{icon("M5 12h14M13 6l6 6-6 6")} "Go on"</button>
            </Show>
            <button type="button" class="text" data-act="edit" disabled=move || !idle() on:click=move |_| editing.set(true)>{icon("M4 20l4-1L19 8l-3-3L5 16z")} "Edit"</button>
            <Show when=answered>
                <button type="button" class="text" data-act="copy" on:click=take>{icon("M8 8h11v11H8zM16 8V5H5v11h3")} {move || if copied.get() { "Copied" } else { "Copy" }}</button>
                <button type="button" class="text" data-act="example" title="Show it to the model as an example from now on" on:click=as_example>{icon("M12 5v14M5 12h14")} "Make it an example"</button>
            </Show>
            <button type="button" class="text" data-act="delete" disabled=move || !idle() on:click=delete>{icon("M6 6l12 12M18 6L6 18")} "Delete"</button>
        </div>
    }
}

/// A turn while the person changes it.
#[component]
fn Edit(id: Id, close: impl Fn() + Copy + Send + Sync + 'static) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let turn = chat
        .turns
        .with_untracked(|turns| turns.iter().find(|t| t.id == id).cloned());
    let Some(Turn {
        task,
        parts,
        version,
        ..
    }) = turn
    else {
        return ().into_any();
    };
    let parts = RwSignal::new(parts);
    let plan = RwSignal::new(None::<Result<Plan, String>>);
    let goal = move || Goal {
        id,
        task,
        parts: parts.get(),
        begun: String::new(),
    };
    answer::plan_turn(store, goal, plan);
    let hand = Hand::new();
    let field: NodeRef<Textarea> = NodeRef::new();
    let before = version.text.trim().to_owned();
    let start = before.clone();
    let keep = move || {
        let said = field
            .get_untracked()
            .map(|field| field.value())
            .unwrap_or_default();
        let edited = said.trim() != before;
        chat.change_turn(id, |turn| {
            turn.parts = parts.get_untracked();
            if edited {
                // What the model wrote stays, as the version before.
                turn.add(Version {
                    text: said,
                    outcome: Outcome::Edited,
                    prompt: turn.version.prompt.clone(),
                    exact: turn.version.exact.clone(),
                    ..Version::default()
                });
            }
        });
        chat.forget_looks(id);
        close();
    };
    let save = keep.clone();
    // A turn after it may be being answered: it would be cut away.
    let idle = move || chat.idle();
    let again = move |_| {
        if untrack(idle) {
            conversations::branch(chat, id);
            keep();
            answer::again(store, id);
        }
    };
    let apart = move |_| {
        if untrack(idle) {
            conversations::branch(chat, id);
            save();
        }
    };
    view! {
        <div class="edit">
            <Editor hand parts change=Callback::new(move |now| parts.set(now)) label="What was asked" hint=Signal::stored(String::new())/>
            <div class="row"><PutIn hand whose="for this turn"/></div>
            <label class="edit-answer"><span class="hint">"Answer"</span>
                <textarea rows="2" node_ref=field prop:value=start></textarea>
            </label>
            <div class="row">
                <button type="button" class="small" data-act="ask-again" disabled=move || !idle() on:click=again>"Answer again from here"</button>
                <button type="button" class="quiet small" data-act="save" disabled=move || !idle() on:click=apart>"Save as it is"</button>
                <button type="button" class="quiet small" on:click=move |_| close()>"Leave it"</button>
                <span class="hint">"Turns after it are kept in a conversation of their own."</span>
            </div>
            <div role="status"><Cut plan/></div>
        </div>
    }
    .into_any()
}
