//! A field in which text and pictures interleave. What stands in it is the
//! truth while one writes; the store follows, and where the store changes by
//! itself the field is filled anew.

use std::collections::BTreeSet;

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, Element, HtmlElement, KeyboardEvent, MouseEvent, Node};

use super::field::{NO_WIDTH, fill, id_of, is_clip, media_at, nth, read, set_caret_behind};
pub(super) use super::hand::Hand;
use super::hand::by_touch;
use super::parts::{before, moved, place, whereabouts};
use super::sample::Sample;
use super::store::{Id, chat};
use super::{carry, undo};
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::store::store;

/// The field. `enter` runs on Enter, where there is something to send to.
#[component]
pub(super) fn Editor(
    hand: Hand,
    #[prop(into)] parts: Signal<Vec<Piece>>,
    change: Callback<Vec<Piece>>,
    #[prop(into)] label: String,
    #[prop(into)] hint: Signal<String>,
    #[prop(optional)] id: Option<&'static str>,
    #[prop(optional)] enter: Option<Callback<()>>,
) -> impl IntoView {
    let (store, chat) = (store(), chat());
    // What the field holds, so that one's own changes do not fill it anew.
    let held = StoredValue::new(None::<Vec<Piece>>);
    let follow = move || {
        if let Some(field) = hand.field.get_untracked() {
            let now = read(&field);
            if held.get_value().as_ref() != Some(&now) {
                held.set_value(Some(now.clone()));
                change.run(now);
            }
        }
    };
    Effect::new(move |_| {
        let parts = parts.get();
        if let Some(field) = hand.field.get()
            && held.get_value().as_ref() != Some(&parts)
        {
            fill(chat, &field, &parts);
            held.set_value(Some(parts));
            hand.caret.set_value(None);
        }
    });
    Effect::new(move |first: Option<()>| {
        hand.touched.track();
        if first.is_some() {
            follow();
        }
    });
    let move_one = move |media: &HtmlElement, back: bool| {
        let Some(field) = hand.field.get_untracked() else {
            return;
        };
        let (Some(at), Some(id)) = (nth(&field, media), id_of(media)) else {
            return;
        };
        let before = read(&field);
        let now = moved(&before, at, back);
        if now == before {
            return;
        }
        fill(chat, &field, &now);
        let at = place(&now, id, at);
        held.set_value(Some(now.clone()));
        change.run(now.clone());
        let all = field.query_selector_all("[data-media]").ok();
        let again = all.and_then(|all| all.get(u32::try_from(at).ok()?));
        if let Some(again) = again.and_then(|node| node.dyn_into::<HtmlElement>().ok()) {
            let _ = again.focus();
        }
        let now = whereabouts(&now, at);
        store.announcement.set(format!("Moved, now {now}"));
    };
    // The clip that is being sampled anew.
    let sampling = RwSignal::new(None::<PictureId>);
    let sampled = Callback::new(move |now: Option<PictureId>| {
        let before = sampling.get_untracked();
        sampling.set(None);
        hand.focus();
        let (Some(before), Some(now), Some(field)) = (before, now, hand.field.get_untracked())
        else {
            return;
        };
        let mut parts = read(&field);
        for part in &mut parts {
            if *part == Piece::Media(before) {
                *part = Piece::Media(now);
            }
        }
        fill(chat, &field, &parts);
        held.set_value(Some(parts.clone()));
        change.run(parts);
    });
    // The offer to undo what was taken out last, and what the field held then.
    let taken = StoredValue::new(None::<(Id, Vec<Piece>)>);
    let take_out = move |media: &HtmlElement| {
        let Some(field) = hand.field.get_untracked() else {
            return;
        };
        let at = nth(&field, media).and_then(|nth| before(&read(&field), nth));
        let (Some(at), Some(id)) = (at, id_of(media)) else {
            return;
        };
        if by_touch() {
            media.remove();
        } else {
            set_caret_behind(media);
            media.remove();
            hand.focus();
        }
        follow();
        let said = if is_clip(chat, id) {
            "Clip taken out"
        } else {
            "Picture taken out"
        };
        let of = Some(chat.id.get_untracked());
        let back = move || hand.put_back(chat, id, at);
        let offer = undo::offer(store, said, of, BTreeSet::from([id]), back);
        taken.set_value(Some((offer, read(&field))));
    };
    // As long as nothing was written since, the keys undo it; else they undo that.
    let take_back = move || {
        let (Some((offer, then)), Some(field)) = (taken.get_value(), hand.field.get_untracked())
        else {
            return false;
        };
        read(&field) == then && undo::take_back(store, Some(offer))
    };
    on_cleanup(move || {
        if let Some((offer, _)) = taken.try_get_value().flatten() {
            undo::end(chat, offer);
        }
    });
    let key = move |event: KeyboardEvent| {
        let key = event.key();
        let media = media_at(event.target()).or_else(|| beside_caret(hand));
        match (key.as_str(), media) {
            ("z", _) if (event.ctrl_key() || event.meta_key()) && take_back() => {
                event.prevent_default();
            }
            ("ArrowLeft" | "ArrowUp", Some(media)) if event.alt_key() => {
                event.prevent_default();
                move_one(&media, true);
            }
            ("ArrowRight" | "ArrowDown", Some(media)) if event.alt_key() => {
                event.prevent_default();
                move_one(&media, false);
            }
            ("Delete" | "Backspace", _) if media_at(event.target()).is_some() => {
                event.prevent_default();
                if let Some(media) = media_at(event.target()) {
                    take_out(&media);
                }
            }
            ("Enter", _)
                if media_at(event.target())
                    .and_then(|m| id_of(&m))
                    .is_some_and(|id| is_clip(chat, id)) =>
            {
                event.prevent_default();
                sampling.set(media_at(event.target()).and_then(|media| id_of(&media)));
            }
            ("Enter", _) if !event.shift_key() && !event.is_composing() => {
                if let Some(enter) = enter {
                    event.prevent_default();
                    follow();
                    enter.run(());
                }
            }
            _ => {}
        }
    };
    let click = move |event: MouseEvent| {
        let Some(media) = media_at(event.target()) else {
            return;
        };
        let on = event.target().and_then(|t| t.dyn_into::<Element>().ok());
        match on.map(|element| element.class_name()).as_deref() {
            Some("media-out") => take_out(&media),
            Some("media-earlier") => move_one(&media, true),
            Some("media-later") => move_one(&media, false),
            Some("frame-count") => sampling.set(id_of(&media)),
            _ => {
                let _ = media.focus();
            }
        }
    };
    let cut = move |event: ClipboardEvent| {
        if !carry::copy(&event, hand) {
            return;
        }
        if let Some(media) = media_at(event.target()) {
            take_out(&media);
        } else if let Some((range, _)) = hand.selected() {
            let _ = range.delete_contents();
            follow();
        }
    };
    let empty = move || parts.with(Vec::is_empty);
    view! {
        <div
            class="editor"
            class:empty=empty
            id=id
            node_ref=hand.field
            contenteditable="plaintext-only"
            role="textbox"
            aria-multiline="true"
            aria-label=label
            attr:aria-placeholder=move || hint.get()
            data-hint=move || hint.get()
            spellcheck="false"
            on:input=move |_| follow()
            on:keydown=key
            on:keyup=move |_| hand.remember()
            on:mouseup=move |_| hand.remember()
            on:blur=move |_| hand.remember()
            on:click=click
            on:copy=move |event| { carry::copy(&event, hand); }
            on:cut=cut
            on:paste=move |event| carry::paste(&event, store, hand)
            on:dragstart=move |event| carry::lift(&event, hand)
            on:dragend=move |_| carry::let_go()
            on:dragover=move |event| carry::over(&event)
            on:drop=move |event| carry::drop(&event, store, hand)
        ></div>
        {move || sampling.get().map(|id| view! { <Sample id done=sampled/> })}
    }
}

/// The picture that the caret stands beside.
fn beside_caret(hand: Hand) -> Option<HtmlElement> {
    hand.remember();
    let range = hand.caret.get_value()?;
    let node = range.start_container().ok()?;
    let blank =
        |text: Option<String>| text.is_none_or(|text| text.trim_matches(NO_WIDTH).is_empty());
    let media = |node: Option<Node>| -> Option<HtmlElement> {
        let element = node?.dyn_into::<HtmlElement>().ok()?;
        element.has_attribute("data-media").then_some(element)
    };
    if node.node_type() == Node::TEXT_NODE {
        let text = node.text_content().unwrap_or_default();
        let at = range.start_offset().unwrap_or(0) as usize;
        let units: Vec<u16> = text.encode_utf16().collect();
        let (before, behind) = units.split_at(at.min(units.len()));
        let text = |units: &[u16]| Some(String::from_utf16_lossy(units));
        if blank(text(before))
            && let Some(found) = media(node.previous_sibling())
        {
            return Some(found);
        }
        if blank(text(behind)) {
            return media(node.next_sibling());
        }
        return None;
    }
    let at = range.start_offset().unwrap_or(0);
    let children = node.child_nodes();
    media(at.checked_sub(1).and_then(|at| children.get(at))).or_else(|| media(children.get(at)))
}
