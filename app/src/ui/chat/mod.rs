//! The chat: teach by example, with pictures and words, and the model goes on
//! in kind. The page reads from top to bottom as the prompt does: examples,
//! the turns so far, and what is asked now.

mod answer;
mod bundle;
mod carry;
mod choices;
pub(super) mod client;
mod clip;
mod composer;
mod conversations;
mod cut;
mod draw;
mod editor;
mod field;
mod fill;
mod follow;
mod hand;
mod inside;
pub(super) mod intake;
mod keep;
mod looks;
mod made;
mod media;
mod parts;
mod prompt;
mod put_in;
mod sample;
mod sets;
mod settings;
mod shot;
mod shots;
mod store;
mod turn;
mod undo;
mod version;
mod welcome;

pub(super) use store::Chat;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::store::{Job, store};
use composer::Composer;
use conversations::Conversations;
use settings::SettingsPanel;
use shots::Shots;
use turn::Turns;
use undo::UndoNotice;

/// The page. It is made when it is first asked for and stays.
#[component]
pub(super) fn ChatPage() -> impl IntoView {
    let store = store();
    let chat = store.chat;
    spawn_local(async move {
        keep::read(store).await;
        client::begin(store);
    });
    answer::plan_along(store);
    answer::count_along(chat);
    follow::follow(chat);
    conversations::keep_along(chat);
    view! {
        <main class="chat" hidden=move || store.job.get() != Job::Chat>
            <UndoNotice/>
            <div class="work">
                <Shots/>
                <Turns/>
                <Composer/>
            </div>
            <div class="side">
                <Conversations/>
                <SettingsPanel/>
            </div>
        </main>
    }
}
