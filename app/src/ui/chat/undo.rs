//! Undo: what was just taken away or replaced is offered back for a while. There
//! is one offer at a time; while it stands, none of the pictures that it would
//! bring back is dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leptos::ev;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, KeyboardEvent};

use super::conversations;
use super::store::{Chat, Id, Shot, fresh, media_of};
use super::version::Turn;
use crate::protocol::PictureId;
use crate::ui::store::{Job, Store, store};

/// How long an offer stands.
const STANDS: Duration = Duration::from_secs(10);

/// What can be brought back.
#[derive(Clone)]
struct Offer {
    id: Id,
    said: String,
    /// The conversation it belongs to: elsewhere it would do something else.
    of: Option<Id>,
    /// What is dropped with it, unless something else shows it.
    pictures: BTreeSet<PictureId>,
    back: Arc<dyn Fn() + Send + Sync>,
}

/// The offer of now.
#[derive(Clone, Copy)]
pub(super) struct Undo(RwSignal<Option<Offer>>);

impl Undo {
    pub(super) fn new() -> Self {
        Self(RwSignal::new(None))
    }

    /// Pictures that may be brought back.
    pub(super) fn pictures(self) -> BTreeSet<PictureId> {
        let pictures = |offer: &Option<Offer>| offer.as_ref().map(|o| o.pictures.clone());
        self.0.with_untracked(pictures).unwrap_or_default()
    }

    fn is(self, id: Id) -> bool {
        self.0
            .with_untracked(|offer| offer.as_ref().is_some_and(|offer| offer.id == id))
    }

    /// The offer, where it belongs to what is on the page.
    fn here(self, chat: Chat) -> Option<Offer> {
        let offer = self.0.get()?;
        offer
            .of
            .is_none_or(|of| of == chat.id.get())
            .then_some(offer)
    }
}

/// Says what was done, and offers to undo it → the offer's number.
pub(super) fn offer(
    store: Store,
    said: &str,
    of: Option<Id>,
    pictures: BTreeSet<PictureId>,
    back: impl Fn() + Send + Sync + 'static,
) -> Id {
    let (chat, id) = (store.chat, fresh());
    let before = chat.undo.pictures();
    chat.undo.0.set(Some(Offer {
        id,
        said: said.to_owned(),
        of,
        pictures,
        back: Arc::new(back),
    }));
    conversations::tidy(chat, &before);
    store
        .announcement
        .set(format!("{said}. Control and Z undoes it"));
    end_later(chat, id);
    id
}

/// Undoes what is offered on this page now, `id` alone where it is given →
/// whether there was such an offer.
pub(super) fn take_back(store: Store, id: Option<Id>) -> bool {
    let chat = store.chat;
    let offer = untrack(|| chat.undo.here(chat));
    let Some(offer) = offer.filter(|offer| id.is_none_or(|id| id == offer.id)) else {
        return false;
    };
    chat.undo.0.set(None);
    (offer.back)();
    store.announcement.set("It is back".to_owned());
    true
}

/// Ends an offer, where it still stands.
pub(super) fn end(chat: Chat, id: Id) {
    if chat.undo.is(id) {
        let pictures = chat.undo.pictures();
        chat.undo.0.set(None);
        conversations::tidy(chat, &pictures);
    }
}

/// Ends an offer, but not under a hand that is about to take it.
fn end_later(chat: Chat, id: Id) {
    let end = move || {
        if !chat.undo.is(id) {
            return;
        }
        let held = crate::ui::web::document().query_selector(".undo:is(:hover, :focus-within)");
        if held.is_ok_and(|held| held.is_some()) {
            return end_later(chat, id);
        }
        end(chat, id);
    };
    set_timeout(end, STANDS);
}

/// Takes one out of a list of the conversation, and offers it back at its place.
fn take_out<T: Clone + Send + Sync + 'static>(
    store: Store,
    list: RwSignal<Vec<T>>,
    is: impl Fn(&T) -> bool + Send + Sync + 'static,
    pictures: impl Fn(&T) -> Vec<PictureId>,
    said: &str,
) {
    let Some(at) = list.with_untracked(|all| all.iter().position(&is)) else {
        return;
    };
    let Some(one) = list.try_update(|all| all.remove(at)) else {
        return;
    };
    let pictures = pictures(&one).into_iter().collect();
    let back = move || {
        list.update(|all| {
            if !all.iter().any(&is) {
                all.insert(at.min(all.len()), one.clone());
            }
        });
    };
    let of = Some(store.chat.id.get_untracked());
    offer(store, said, of, pictures, back);
}

/// Takes an example out.
pub(super) fn take_shot(store: Store, id: Id) {
    let pictures = |shot: &Shot| media_of(&shot.parts);
    let shots = store.chat.shots;
    take_out(
        store,
        shots,
        move |s| s.id == id,
        pictures,
        "Example removed",
    );
}

/// Takes a turn out.
pub(super) fn take_turn(store: Store, id: Id) {
    let pictures = |turn: &Turn| turn.all_parts().flat_map(|parts| media_of(parts)).collect();
    let turns = store.chat.turns;
    take_out(store, turns, move |t| t.id == id, pictures, "Turn deleted");
}

/// The offer, while it stands.
#[component]
pub(super) fn UndoNotice() -> impl IntoView {
    let store = store();
    let chat = store.chat;
    // In a field the keys undo what was typed.
    let key = move |event: KeyboardEvent| {
        let undoes = (event.ctrl_key() || event.meta_key()) && event.key() == "z";
        let target = event
            .target()
            .and_then(|t| t.dyn_into::<HtmlElement>().ok());
        let field = |element: &HtmlElement| {
            element.is_content_editable()
                || matches!(element.tag_name().as_str(), "INPUT" | "TEXTAREA" | "SELECT")
        };
        let writes = target.as_ref().is_some_and(field);
        let chats = store.job.get_untracked() == Job::Chat;
        if undoes && chats && !writes && take_back(store, None) {
            event.prevent_default();
        }
    };
    let listener = window_event_listener(ev::keydown, key);
    on_cleanup(move || listener.remove());
    let said = move || chat.undo.here(chat).map(|offer| offer.said);
    view! {
        <Show when=move || said().is_some()>
            <div class="undo">
                <span>{said}</span>
                <button type="button" class="small" id="undo" aria-keyshortcuts="Control+Z" on:click=move |_| { take_back(store, None); }>"Undo"</button>
            </div>
        </Show>
    }
}
