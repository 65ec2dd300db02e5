//! Conversations: the one on the page, and the list of all.

use std::collections::BTreeSet;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::store::{Chat, Conversation, Id, ShotSet, chat, fresh, text_of};
use super::version::Turn;
use super::{bundle, field, keep, media, undo};
use crate::protocol::PictureId;
use crate::ui::store::{Store, store};
use crate::ui::web::{cross, files, icon};

/// Longest title that is made of a turn's words.
const TITLE: usize = 48;
/// The title of one that has no words yet.
const UNTITLED: &str = "New conversation";

/// The conversation on the page, as it is kept.
pub(super) fn current(chat: Chat) -> Conversation {
    let mut turns = chat.turns.get_untracked();
    if let Some(writing) = chat.writing.get_untracked()
        && let Some(turn) = turns.iter_mut().find(|turn| turn.id == writing.turn)
    {
        // As far as it has come: a reload loses nothing of it.
        let more = writing.more();
        turn.take(writing.version, writing.anew, more);
    }
    let mut title = chat.title.get_untracked();
    if title.is_empty() {
        title = first_words(&turns).unwrap_or_else(|| UNTITLED.to_owned());
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
fn first_words(turns: &[Turn]) -> Option<String> {
    let first = turns.first()?;
    let said = text_of(&first.parts);
    let said = if said.trim().is_empty() {
        &first.version.text
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
    turns.iter_mut().for_each(Turn::wake);
    // A title that was made of words is made of them again.
    let made = first_words(&turns).is_some_and(|words| words == title);
    let title = if made || title == UNTITLED {
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
    keep::keep_conversation(chat, &now);
    keep::keep_open(now.id);
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
    if untrack(|| !chat.idle()) {
        return;
    }
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
    keep::keep_conversation(chat, &copy);
    put(chat, copy);
    chat.turns.update(|turns| turns.truncate(at + 1));
}

/// Opens another one, as it is kept now.
fn open(chat: Chat, id: Id) {
    if chat.id.get_untracked() == id {
        return;
    }
    if untrack(|| !chat.idle()) {
        keep::tell(
            "An answer is being written here: stop it, or wait for it, before you open another \
             conversation."
                .to_owned(),
        );
        return;
    }
    save(chat);
    spawn_local(async move {
        if let Some(fresh) = keep::reread(chat, id).await {
            put(chat, fresh);
        }
        let found = chat
            .all
            .with_untracked(|all| all.iter().find(|c| c.id == id).cloned());
        if let Some(found) = found.filter(|_| untrack(|| chat.idle())) {
            keep::keep_open(id);
            show(chat, found);
        }
    });
}

/// Another tab had changed the conversation as well: both are in the list now,
/// and what is on this page is the one of this page.
pub(super) fn part(chat: Chat, id: Id, ours: Conversation, theirs: Conversation) {
    let (title, apart) = (ours.title.clone(), ours.id);
    put(chat, theirs);
    put(chat, ours);
    if chat.id.get_untracked() == id {
        chat.id.set(apart);
        chat.title.set(title.clone());
        keep::keep_open(apart);
    }
    keep::tell(format!(
        "This conversation was changed in another tab as well. Both are kept: what you have here \
         is “{title}” from now on."
    ));
}

/// Gives a conversation another title; without one it has that of its words.
fn rename(chat: Chat, id: Id, title: &str) {
    let title = title.trim();
    if chat.id.get_untracked() == id {
        chat.title.set(title.to_owned());
        return save(chat);
    }
    let mut found = None;
    chat.all.update(|all| {
        if let Some(one) = all.iter_mut().find(|c| c.id == id) {
            let words = || first_words(&one.turns).unwrap_or_else(|| UNTITLED.to_owned());
            one.title = if title.is_empty() {
                words()
            } else {
                title.to_owned()
            };
            found = Some(one.clone());
        }
    });
    if let Some(found) = found {
        keep::keep_conversation(chat, &found);
    }
}

/// The day of a time, for a person.
fn day(milliseconds: f64) -> String {
    let date = js_sys::Date::new(&milliseconds.into());
    let now = js_sys::Date::new_0();
    let of = |date: &js_sys::Date| (date.get_full_year(), date.get_month(), date.get_date());
    if of(&date) == of(&now) {
        return "today".to_owned();
    }
    let options = js_sys::Object::new();
    let set = |name: &str, value: &str| {
        let _ = js_sys::Reflect::set(&options, &name.into(), &value.into());
    };
    set("day", "numeric");
    set("month", "short");
    if date.get_full_year() != now.get_full_year() {
        set("year", "numeric");
    }
    date.to_locale_date_string("en-GB", &options).into()
}

fn delete(store: Store, id: Id) {
    let chat = store.chat;
    let here = chat.id.get_untracked() == id;
    if here {
        save(chat);
    }
    let found = |all: &Vec<Conversation>| all.iter().find(|c| c.id == id).cloned();
    let gone = chat.all.with_untracked(found);
    keep::drop_conversation(id);
    chat.all.update(|all| all.retain(|other| other.id != id));
    if here {
        let next = chat.all.with_untracked(|all| all.first().cloned());
        show(chat, next.unwrap_or_else(|| empty(chat)));
    }
    let Some(gone) = gone else { return };
    let pictures = keep::used(std::slice::from_ref(&gone), &[]);
    undo::offer(store, "Conversation deleted", None, pictures, move || {
        keep::keep_conversation(chat, &gone);
        put(chat, gone.clone());
        if here && untrack(|| chat.idle()) {
            save(chat);
            show(chat, gone.clone());
        }
    });
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

/// Drops those of some pictures that nothing shows any more and nothing can
/// bring back.
pub(super) fn tidy(chat: Chat, pictures: &BTreeSet<PictureId>) {
    if pictures.is_empty() {
        return;
    }
    let mut all = chat.all.get_untracked();
    all.push(current(chat));
    let mut used = keep::used(&all, &chat.sets.get_untracked());
    used.extend(chat.undo.pictures());
    used.extend(field::shown());
    media::drop_unused(chat, &|id| used.contains(&id) || !pictures.contains(&id));
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
            bundle::export(store, "plume-chat.json", &all, &chat.sets.get_untracked()).await;
        });
    };
    let ids = Memo::new(move |_| {
        chat.all
            .with(|all| all.iter().map(|c| c.id).collect::<Vec<_>>())
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
                <For each=move || ids.get() key=|id| *id let(id)>
                    <ConversationRow id/>
                </For>
            </ul>
            <Show when=move || ids.with(Vec::is_empty)>
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

/// One of the list: its title, how long it is and when it was last changed.
#[component]
fn ConversationRow(id: Id) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let here = move || chat.id.get() == id;
    let find = move || {
        chat.all
            .with_untracked(|all| all.iter().find(|c| c.id == id).cloned())
    };
    let row = Memo::new(move |_| {
        let row = |c: &Conversation| (c.title.clone(), c.turns.len(), day(c.changed));
        let found = |all: &Vec<Conversation>| all.iter().find(|c| c.id == id).map(row);
        chat.all.with(found).unwrap_or_default()
    });
    let title = move || row.get().0;
    let about = move || {
        let (_, turns, day) = row.get();
        let count = match turns {
            0 => "no turns yet".to_owned(),
            1 => "1 turn".to_owned(),
            n => format!("{n} turns"),
        };
        format!("{count} · {day}")
    };
    let label = move |act: &'static str| move || format!("{act} the conversation {}", title());
    let one = move |_| {
        save(chat);
        if let Some(found) = find() {
            spawn_local(async move {
                let none: &[ShotSet] = &[];
                bundle::export(store, "plume-conversation.json", &[found], none).await;
            });
        }
    };
    let naming = RwSignal::new(false);
    view! {
        <li class:here=here>
            <Show
                when=move || !naming.get()
                fallback=move || view! { <Name id title=title() naming/> }
            >
                <button type="button" class="conversation" aria-current=move || here().then_some("true") on:click=move |_| open(chat, id)>
                    <span>{title}</span>
                    <span class="hint">{about}</span>
                </button>
            </Show>
            <button type="button" class="remove" aria-label=label("Rename") title="Rename" on:click=move |_| naming.set(true)>{icon("M4 20l4-1L19 8l-3-3L5 16z")}</button>
            <button type="button" class="remove" aria-label=label("Export") title="Export" on:click=one>{icon("M12 3v12M7 11l5 5 5-5M5 20h14")}</button>
            <button type="button" class="remove" aria-label=label("Delete") title="Delete" disabled=move || !chat.idle() on:click=move |_| delete(store, id)>{cross()}</button>
        </li>
    }
}

/// The field for another title: Enter takes it, Escape leaves it.
#[component]
fn Name(id: Id, title: String, naming: RwSignal<bool>) -> impl IntoView {
    let chat = chat();
    let field: NodeRef<leptos::html::Input> = NodeRef::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            // In the next frame it is on the page.
            request_animation_frame(move || {
                let _ = field.focus();
                field.select();
            });
        }
    });
    let take = move || {
        if naming.try_get_untracked() == Some(true) {
            naming.set(false);
            if let Some(field) = field.get_untracked() {
                rename(chat, id, &field.value());
            }
        }
    };
    let key = move |event: web_sys::KeyboardEvent| match event.key().as_str() {
        "Enter" => take(),
        "Escape" => naming.set(false),
        _ => {}
    };
    view! {
        <input type="text" class="conversation-name" autocomplete="off" aria-label="Title of the conversation" node_ref=field prop:value=title on:keydown=key on:blur=move |_| take()/>
    }
}
