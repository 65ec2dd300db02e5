//! Where one writes, draws and puts pictures in, and what of it is sent.

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::choices::Choices;
use super::cut::Cut;
use super::editor::Editor;
use super::media;
use super::put_in::PutIn;
use super::store::{Mode, chat};
use super::{answer, client};
use crate::protocol::chat::Task;
use crate::ui::pictures::{Gallery, fetch_sample};
use crate::ui::store::store;
use crate::ui::web::icon;

const STILL_WRITING: &str = "An answer is still being written: wait for its end, or press Stop.";

/// Tasks, with a word for each and what it does.
pub(super) const TASKS: [(Task, &str, &str); 4] = [
    (
        Task::Describe,
        "Describe",
        "A picture: the model says what it shows.",
    ),
    (Task::Ask, "Ask", "A picture and a question about it."),
    (
        Task::Classify,
        "Sort",
        "A picture: the model names its kind, as in the examples.",
    ),
    (
        Task::Free,
        "Free",
        "Words and pictures as they stand: the model goes on.",
    ),
];

#[component]
pub(super) fn Composer() -> impl IntoView {
    let (store, chat) = (store(), chat());
    let hint = Signal::derive(move || {
        let task = chat.task.get();
        let said = TASKS.iter().find(|(other, ..)| *other == task);
        said.map_or("", |(.., hint)| hint).to_owned()
    });
    let waits = RwSignal::new(false);
    let send = Callback::new(move |()| {
        if untrack(|| chat.idle()) {
            return answer::send(store);
        }
        waits.set(true);
        store.announcement.set(STILL_WRITING.to_owned());
        set_timeout(move || waits.set(false), Duration::from_secs(4));
    });
    view! {
        <section class="panel composer" aria-label="What is asked now">
            <div class="composer-bar">
                <TaskSwitch/>
                <ModeSwitch/>
            </div>
            <Editor
                hand=chat.composer
                parts=chat.draft
                change=Callback::new(move |parts| chat.draft.set(parts))
                label="What is sent: words, and pictures in their places"
                hint=hint
                id="composer"
                enter=send
            />
            <Show when=move || waits.get() && !chat.idle()><p class="hint" id="still-writing">{STILL_WRITING}</p></Show>
            <Choices/>
            <Tools/>
            <div role="status" id="cut"><Cut plan=chat.plan/></div>
            <Raw/>
        </section>
    }
}

#[component]
fn TaskSwitch() -> impl IntoView {
    let chat = chat();
    view! {
        <div class="segments" role="group" aria-label="Task" id="tasks">
            {TASKS.map(|(task, word, hint)| view! {
                <button
                    type="button"
                    title=hint
                    aria-pressed=move || (chat.task.get() == task).to_string()
                    on:click=move |_| chat.task.set(task)
                >{word}</button>
            })}
        </div>
    }
}

#[component]
fn ModeSwitch() -> impl IntoView {
    let chat = chat();
    let modes = [
        (Mode::Write, "Write", "The model writes the answer"),
        (
            Mode::Score,
            "Compare",
            "You give the possible answers, the model says how likely each is",
        ),
    ];
    view! {
        <div class="segments" role="group" aria-label="Kind of answer" id="modes">
            {modes.map(|(mode, word, hint)| view! {
                <button
                    type="button"
                    title=hint
                    aria-pressed=move || chat.settings.with(|s| s.mode == mode).to_string()
                    on:click=move |_| chat.settings.update(|s| s.mode = mode)
                >{word}</button>
            })}
        </div>
    }
}

/// What puts pictures in, and what sends.
#[component]
fn Tools() -> impl IntoView {
    let (store, chat) = (store(), chat());
    let samples = RwSignal::new(false);
    let sample = Callback::new(move |name: String| {
        spawn_local(async move {
            if let Some(blob) = fetch_sample(&name).await {
                let id = media::add(chat, &name, &[blob]);
                chat.composer.insert(chat, &[id]);
            }
        });
    });
    let stop = move |_| client::stop();
    view! {
        <div class="composer-tools">
            <PutIn hand=chat.composer id="chat"/>
            <button type="button" class="quiet small" id="chat-samples" aria-expanded=move || samples.get().to_string() on:click=move |_| samples.update(|s| *s = !*s)>
                {icon("M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z")} <span>"Samples"</span>
            </button>
            <Meter/>
            <Show
                when=move || chat.idle()
                fallback=move || view! { <button type="button" class="send stop" id="stop" on:click=stop>{icon("M7 7h10v10H7z")} "Stop"</button> }
            >
                <button type="button" class="send" id="send" on:click=move |_| answer::send(store)>
                    {icon("M12 19V5M6 11l6-6 6 6")}
                    {move || if chat.settings.with(|s| s.mode == Mode::Score) { "Compare" } else { "Send" }}
                </button>
            </Show>
        </div>
        <Show when=move || samples.get()>
            <div class="composer-samples"><Gallery act="Put in" take=sample/></div>
        </Show>
    }
}

/// How much of what the model can read is taken.
#[component]
fn Meter() -> impl IntoView {
    let chat = chat();
    let plan = move || chat.plan.get().and_then(Result::ok);
    let part = move || {
        plan().map_or(0.0, |plan| {
            plan.total as f64 / plan.context.max(1) as f64 * 100.0
        })
    };
    let full = move || part() > 90.0;
    let words = move || {
        plan().map_or_else(String::new, |plan| {
            format!("{} of {} tokens", plan.total, plan.context)
        })
    };
    view! {
        <div class="token-meter" class:full=move || full() title="What the model reads, of what it can read">
            <span class="token-track" aria-hidden="true"><span style:width=move || format!("{:.1}%", part().min(100.0))></span></span>
            <span id="token-count">{words}</span>
        </div>
    }
}

/// The text that the tokenizer is given.
#[component]
fn Raw() -> impl IntoView {
    let chat = chat();
    let text = move || match chat.plan.get() {
        Some(Ok(plan)) => plan.text,
        _ => String::new(),
    };
    view! {
        <details class="fold raw">
            <summary>"The exact prompt" <span class="hint">"as the model reads it"</span></summary>
            <pre id="raw-prompt" tabindex="0">{text}</pre>
        </details>
    }
}
