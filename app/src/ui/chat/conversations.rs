//! Conversations: the one on the page, and the list of all.

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::store::{Chat, Conversation, Id, Outcome, ShotSet, chat, fresh, text_of};
use super::{bundle, keep, media};
use crate::ui::store::store;
use crate::ui::web::{cross, files, icon};

/// Longest title that is made of a turn's words.
const TITLE: usize = 48;

/// The conversation on the page, as it is kept.
pub(super) fn current(chat: Chat) -> Conversation {
    let turns = chat.turns.get_untracked();
    let mut title = chat.title.get_untracked();
    if title.is_empty() {
        title = first_words(&turns).unwrap_or_else(|| "New conversation".to_owned());
    }
    Conversation {
        id: chat.id.get_untracked(),
        title,
        changed: js_sys::Date::now(),
        task: chat.task.get_untracked(),
        shots: chat.shots.get_untracked(),
        turns,
        draft: chat.draft.get_untracked(),
    }
}

/// A title where the person gave none.
fn first_words(turns: &[super::store::Turn]) -> Option<String> {
    let first = turns.first()?;
    let said = text_of(&first.parts);
    let said = if said.trim().is_empty() {
        &first.answer
    } else {
        &said
    };
    let short: String = said.trim().chars().take(TITLE).collect();
    (!short.is_empty()).then_some(short)
}

/// Puts a conversation on the page.
pub(super) fn show(chat: Chat, conversation: Conversation) {
    let Conversation {
        id,
        title,
        task,
        shots,
        mut turns,
        draft,
        ..
    } = conversation;
    for turn in &mut turns {
        if turn.outcome == Outcome::Busy {
            let why = "The page was left before the answer was done.";
            turn.outcome = Outcome::Failed(why.to_owned());
        }
    }
    // A title that was made of words is made of them again.
    let made = first_words(&turns).is_some_and(|words| words == title);
    let title = if made || title == "New conversation" {
        String::new()
    } else {
        title
    };
    chat.id.set(id);
    chat.title.set(title);
    chat.task.set(task);
    chat.shots.set(shots);
    chat.turns.set(turns);
    chat.draft.set(draft);
    chat.plan.set(None);
    chat.chosen.set(None);
    chat.looks.update(std::collections::BTreeMap::clear);
}

/// Keeps the conversation on the page, unless there is nothing in it.
pub(super) fn save(chat: Chat) {
    let now = current(chat);
    let known = chat
        .all
        .with_untracked(|all| all.iter().find(|c| c.id == now.id).cloned());
    let empty = now.shots.is_empty() && now.turns.is_empty() && now.draft.is_empty();
    let same = known.as_ref().is_some_and(|known| {
        Conversation {
            changed: known.changed,
            ..now.clone()
        } == *known
    });
    if (empty && known.is_none()) || same {
        return;
    }
    keep::keep_conversation(&now);
    put(chat, now);
}

fn put(chat: Chat, conversation: Conversation) {
    chat.all.update(|all| {
        all.retain(|other| other.id != conversation.id);
        all.insert(0, conversation);
    });
}

/// Keeps the conversation whenever something of it changes.
pub(super) fn keep_along(chat: Chat) {
    let round = StoredValue::new(0_u32);
    Effect::new(move |_| {
        chat.title.track();
        chat.task.track();
        chat.shots.track();
        chat.turns.track();
        chat.draft.track();
        let settings = chat.settings.get();
        if !chat.ready.get() {
            return;
        }
        let now = round.get_value() + 1;
        round.set_value(now);
        spawn_local(async move {
            gloo_timers::future::TimeoutFuture::new(250).await;
            if round.try_get_value() == Some(now) {
                save(chat);
                keep::keep_settings(&settings);
            }
        });
    });
}

/// Begins an empty one; shots and task go along if wanted.
fn begin(chat: Chat) {
    save(chat);
    show(
        chat,
        Conversation {
            id: fresh(),
            title: String::new(),
            changed: js_sys::Date::now(),
            task: chat.task.get_untracked(),
            shots: chat.shots.get_untracked(),
            turns: Vec::new(),
            draft: Vec::new(),
        },
    );
    chat.composer.focus();
}

/// What comes after a turn goes from the page; it is kept, with all before it,
/// in a conversation of its own.
pub(super) fn branch(chat: Chat, turn: Id) {
    let before = current(chat);
    let Some(at) = before.turns.iter().position(|other| other.id == turn) else {
        return;
    };
    if at + 1 == before.turns.len() {
        return;
    }
    let copy = Conversation {
        id: fresh(),
        title: format!("{} (before the change)", before.title),
        ..before
    };
    keep::keep_conversation(&copy);
    put(chat, copy);
    chat.turns.update(|turns| turns.truncate(at + 1));
}

/// Opens another one.
fn open(chat: Chat, id: Id) {
    if !chat.idle() || chat.id.get_untracked() == id {
        return;
    }
    save(chat);
    let found = chat
        .all
        .with_untracked(|all| all.iter().find(|c| c.id == id).cloned());
    if let Some(found) = found {
        keep::keep_conversation(&found);
        show(chat, found);
    }
}

fn delete(chat: Chat, id: Id) {
    keep::drop_conversation(id);
    chat.all.update(|all| all.retain(|other| other.id != id));
    if chat.id.get_untracked() == id {
        let next = chat.all.with_untracked(|all| all.first().cloned());
        show(chat, next.unwrap_or_else(|| empty(chat)));
    }
    tidy(chat);
}

fn empty(chat: Chat) -> Conversation {
    Conversation {
        id: fresh(),
        title: String::new(),
        changed: js_sys::Date::now(),
        task: chat.task.get_untracked(),
        shots: Vec::new(),
        turns: Vec::new(),
        draft: Vec::new(),
    }
}

/// Pictures that no conversation and no set shows are dropped.
pub(super) fn tidy(chat: Chat) {
    let mut all = chat.all.get_untracked();
    all.push(current(chat));
    let used = keep::used(&all, &chat.sets.get_untracked());
    media::drop_unused(chat, &|id| used.contains(&id));
}

/// The list of conversations, and what goes in and out as a file.
#[component]
pub(super) fn Conversations() -> impl IntoView {
    let (store, chat) = (store(), chat());
    let chosen: NodeRef<leptos::html::Input> = NodeRef::new();
    let import = move |_| {
        if let Some(input) = chosen.get_untracked() {
            let files = files(input.files());
            input.set_value("");
            spawn_local(async move { bundle::import(store, &files).await });
        }
    };
    let export_all = move |_| {
        save(chat);
        let all = chat.all.get_untracked();
        spawn_local(async move {
            bundle::export(chat, "plume-chat.json", &all, &chat.sets.get_untracked()).await;
        });
    };
    let rows = Memo::new(move |_| {
        let row = |c: &Conversation| (c.id, c.title.clone(), c.turns.len());
        chat.all.with(|all| all.iter().map(row).collect::<Vec<_>>())
    });
    view! {
        <section class="panel" aria-labelledby="conversations-title">
            <div class="panel-head">
                <h2 id="conversations-title">"Conversations"</h2>
                <button type="button" class="quiet small push" id="new-conversation" disabled=move || !chat.idle() on:click=move |_| begin(chat)>
                    {icon("M12 5v14M5 12h14")} "New"
                </button>
            </div>
            <ul class="conversations">
                <For each=move || rows.get() key=Clone::clone let(row)>
                    <ConversationRow id=row.0 title=row.1 turns=row.2/>
                </For>
            </ul>
            <Show when=move || rows.with(Vec::is_empty)>
                <p class="hint">"What you say is kept here, on this machine, until you delete it."</p>
            </Show>
            <div class="row kept-row">
                <button type="button" class="quiet small" id="export-chat" on:click=export_all>"Export all"</button>
                <label class="button quiet small">
                    "Import"
                    <input id="import-chat" class="unseen" type="file" accept=".json,application/json" node_ref=chosen aria-label="Import conversations or example sets" on:change=import/>
                </label>
            </div>
        </section>
    }
}

#[component]
fn ConversationRow(id: Id, title: String, turns: usize) -> impl IntoView {
    let chat = chat();
    let here = move || chat.id.get() == id;
    let count = match turns {
        0 => "no turns yet".to_owned(),
        1 => "1 turn".to_owned(),
        n => format!("{n} turns"),
    };
    let label = format!("Delete the conversation {title}");
    let export = format!("Export the conversation {title}");
    let one = move |_| {
        save(chat);
        let found = chat
            .all
            .with_untracked(|all| all.iter().find(|c| c.id == id).cloned());
        spawn_local(async move {
            if let Some(found) = found {
                let none: &[ShotSet] = &[];
                bundle::export(chat, "plume-conversation.json", &[found], none).await;
            }
        });
    };
    view! {
        <li class:here=here>
            <button type="button" class="conversation" aria-current=move || here().then_some("true") on:click=move |_| open(chat, id)>
                <span>{title}</span>
                <span class="hint">{count}</span>
            </button>
            <button type="button" class="remove" aria-label=export title="Export" on:click=one>{icon("M12 3v12M7 11l5 5 5-5M5 20h14")}</button>
            <button type="button" class="remove" aria-label=label title="Delete" disabled=move || !chat.idle() on:click=move |_| delete(chat, id)>{cross()}</button>
        </li>
    }
}
