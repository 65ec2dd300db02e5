//! A field in which text and pictures interleave. What stands in it is the
//! truth while one writes; the store follows, and where the store changes by
//! itself the field is filled anew.

use leptos::html::Div;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast;
use web_sys::{
    ClipboardEvent, DragEvent, Element, HtmlElement, KeyboardEvent, MouseEvent, Node, Range,
};

use super::field::{
    NO_WIDTH, fill, id_of, is_clip, media_at, nth, picture, put, range_at, read, set_caret_behind,
};
use super::intake::take_into;
use super::parts::{moved, place};
use super::sample::Sample;
use super::store::{Chat, chat, media_of, text_of};
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::store::store;
use crate::ui::web::{document, dropped_paths, files, media, window};

/// What is copied from a field with pictures in it, for the fields of this page:
/// by the pictures' numbers.
const COPIED: &str = "application/x-plume-parts";

thread_local! {
    /// The picture that is being dragged.
    static DRAGGED: std::cell::RefCell<Option<HtmlElement>> = const { std::cell::RefCell::new(None) };
}

/// A hold on an editor, for what puts pictures into it.
#[derive(Clone, Copy)]
pub(super) struct Hand {
    field: NodeRef<Div>,
    /// Where the caret last was.
    caret: StoredValue<Option<Range>, LocalStorage>,
    /// Rises when the field was changed from outside.
    touched: RwSignal<u32>,
}

impl Hand {
    pub(super) fn new() -> Self {
        Self {
            field: NodeRef::new(),
            caret: StoredValue::new_local(None),
            touched: RwSignal::new(0),
        }
    }

    pub(super) fn focus(self) {
        if let Some(field) = self.field.get_untracked() {
            let _ = field.focus();
        }
    }

    /// Where the caret is, or the end of the field.
    fn place(self) -> Option<Range> {
        let field = self.field.get_untracked()?;
        if let Some(range) = self.caret.get_value()
            && range
                .start_container()
                .is_ok_and(|node| field.contains(Some(&node)))
        {
            return Some(range);
        }
        let range = document().create_range().ok()?;
        range.select_node_contents(&field).ok()?;
        range.collapse();
        Some(range)
    }

    /// Puts pictures in where the caret is.
    pub(super) fn insert(self, chat: Chat, pictures: &[PictureId]) {
        for &id in pictures {
            let (Some(range), Some(node)) = (self.place(), picture(chat, id)) else {
                return;
            };
            let _ = range.delete_contents();
            put(&range, &node);
            // One goes on writing; on a phone the keyboard stays away.
            if !media("(pointer: coarse)") {
                self.focus();
            }
            set_caret_behind(&node);
            self.remember();
        }
        self.touched.update(|n| *n += 1);
    }

    /// Puts words and pictures in where the caret is; pictures that are gone
    /// are left out.
    fn insert_parts(self, chat: Chat, parts: &[Piece]) {
        self.remember();
        for part in parts {
            match part {
                Piece::Media(id) => {
                    if chat.media.with_untracked(|all| all.contains_key(id)) {
                        self.insert(chat, &[*id]);
                    }
                }
                Piece::Text(text) => {
                    let Some(range) = self.place() else { return };
                    let node = document().create_text_node(text);
                    let _ = range.delete_contents();
                    let _ = range.insert_node(&node);
                    range.collapse();
                    if let Ok(Some(selection)) = window().get_selection() {
                        let _ = selection.remove_all_ranges();
                        let _ = selection.add_range(&range);
                    }
                    self.caret.set_value(Some(range));
                }
            }
        }
        self.touched.update(|n| *n += 1);
    }

    /// What is selected in the field, and where.
    fn selected(self) -> Option<(Range, Vec<Piece>)> {
        self.remember();
        let range = self.caret.get_value().filter(|range| !range.collapsed())?;
        let copied = range.clone_contents().ok()?;
        let parts = read(&copied);
        Some((range, parts))
    }

    /// Keeps where the caret is, so that a click elsewhere does not lose it.
    fn remember(self) {
        let Some(field) = self.field.get_untracked() else {
            return;
        };
        let selection = window().get_selection().ok().flatten();
        let range = selection.and_then(|s| s.get_range_at(0).ok());
        if let Some(range) = range
            && range
                .start_container()
                .is_ok_and(|node| field.contains(Some(&node)))
        {
            self.caret.set_value(Some(range.clone_range()));
        }
    }
}

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
        let now = moved(&read(&field), at, back);
        fill(chat, &field, &now);
        let at = place(&now, id, at);
        held.set_value(Some(now.clone()));
        change.run(now);
        let all = field.query_selector_all("[data-media]").ok();
        let again = all.and_then(|all| all.get(u32::try_from(at).ok()?));
        if let Some(again) = again.and_then(|node| node.dyn_into::<HtmlElement>().ok()) {
            let _ = again.focus();
        }
        store.announcement.set(
            if back {
                "Moved to the front"
            } else {
                "Moved to the end"
            }
            .to_owned(),
        );
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
    let take_out = move |media: &HtmlElement| {
        let name = media.get_attribute("aria-label").unwrap_or_default();
        set_caret_behind(media);
        media.remove();
        hand.focus();
        follow();
        store.announcement.set(format!("{name}, taken out"));
    };
    let key = move |event: KeyboardEvent| {
        let key = event.key();
        let media = media_at(event.target()).or_else(|| beside_caret(hand));
        match (key.as_str(), media) {
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
            Some("frame-count") => sampling.set(id_of(&media)),
            _ => {
                let _ = media.focus();
            }
        }
    };
    // Words alone are left to the browser.
    let copy = move |event: &ClipboardEvent, cut: bool| {
        let (media, selected) = (media_at(event.target()), hand.selected());
        let parts = match (&media, &selected) {
            (Some(media), _) => id_of(media).map(Piece::Media).into_iter().collect(),
            (None, Some((_, parts))) => parts.clone(),
            (None, None) => return,
        };
        let (Some(data), Ok(json)) = (event.clipboard_data(), serde_json::to_string(&parts)) else {
            return;
        };
        if media_of(&parts).is_empty() {
            return;
        }
        event.prevent_default();
        let _ = data.set_data("text/plain", &text_of(&parts));
        let _ = data.set_data(COPIED, &json);
        match (cut, media, selected) {
            (false, ..) => {}
            (true, Some(media), _) => take_out(&media),
            (true, None, Some((range, _))) => {
                let _ = range.delete_contents();
                follow();
            }
            (true, None, None) => {}
        }
    };
    let paste = move |event: ClipboardEvent| {
        let Some(data) = event.clipboard_data() else {
            return;
        };
        let copied = data.get_data(COPIED).unwrap_or_default();
        if let Ok(parts) = serde_json::from_str::<Vec<Piece>>(&copied) {
            event.prevent_default();
            hand.insert_parts(chat, &parts);
            return;
        }
        let pasted = files(data.files());
        if !pasted.is_empty() {
            event.prevent_default();
            let pasted = pasted.into_iter().map(|file| (file.name(), file));
            spawn_local(take_into(store, hand, pasted.collect()));
        }
    };
    let drag = move |event: DragEvent| {
        if let Some(media) = media_at(event.target()) {
            if let Some(data) = event.data_transfer() {
                let _ = data.set_data("text/x-plume-media", "");
                data.set_effect_allowed("copyMove");
            }
            DRAGGED.set(Some(media));
        }
    };
    let over = move |event: DragEvent| event.prevent_default();
    let drop = move |event: DragEvent| {
        let Some(field) = hand.field.get_untracked() else {
            return;
        };
        let range = range_at(event.client_x(), event.client_y());
        let range = range.filter(|range| {
            let node = range.start_container().ok();
            // Never into a picture's own mark.
            let outside = node.as_ref().and_then(Node::parent_element);
            let outside =
                outside.is_none_or(|e| e.closest("[data-media]").ok().flatten().is_none());
            outside && node.is_some_and(|node| field.contains(Some(&node)))
        });
        event.prevent_default();
        if let Some(range) = &range {
            hand.caret.set_value(Some(range.clone_range()));
        }
        if let Some(media) = DRAGGED.take() {
            let Some(id) = id_of(&media) else { return };
            if field.contains(Some(&media)) {
                let before = hand.place();
                media.remove();
                hand.caret.set_value(before);
            }
            hand.insert(chat, &[id]);
            return;
        }
        if let Some(data) = event.data_transfer() {
            spawn_local(async move {
                let files = dropped_paths(&data).await;
                take_into(store, hand, files).await;
            });
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
            on:copy=move |event| copy(&event, false)
            on:cut=move |event| copy(&event, true)
            on:paste=paste
            on:dragstart=drag
            on:dragend=move |_| { DRAGGED.take(); }
            on:dragover=over
            on:drop=drop
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
