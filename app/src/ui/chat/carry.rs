//! What is carried from field to field: by the clipboard, and by dragging. Words
//! alone are left to the browser, which can also undo them; pictures go by their
//! numbers.

use std::cell::RefCell;

use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast;
use web_sys::{ClipboardEvent, DataTransfer, DragEvent, Element, Node, Range};

use super::field::{id_of, media_at, range_at};
use super::hand::Hand;
use super::intake::take_into;
use super::store::{media_of, text_of};
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::store::Store;
use crate::ui::web::{document, dropped_paths, files};

/// Words and pictures as they are carried, for the fields of this page.
const PARTS: &str = "application/x-plume-parts";

thread_local! {
    /// What is being dragged with pictures in it, and where it was.
    static LIFTED: RefCell<Option<(Range, Vec<Piece>)>> = const { RefCell::new(None) };
    /// The pictures that were copied last: they may yet be pasted.
    static COPIED: RefCell<Vec<PictureId>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn copied() -> Vec<PictureId> {
    COPIED.with_borrow(Clone::clone)
}

fn write(data: &DataTransfer, parts: &[Piece]) {
    if let Ok(json) = serde_json::to_string(parts) {
        let _ = data.set_data("text/plain", &text_of(parts));
        let _ = data.set_data(PARTS, &json);
    }
}

fn carried(data: &DataTransfer) -> Option<Vec<Piece>> {
    serde_json::from_str(&data.get_data(PARTS).unwrap_or_default()).ok()
}

/// Copies a picture that has the focus, or what is selected, where there are
/// pictures in it → whether.
pub(super) fn copy(event: &ClipboardEvent, hand: Hand) -> bool {
    let parts = match media_at(event.target()) {
        Some(media) => id_of(&media).map(Piece::Media).into_iter().collect(),
        None => hand.selected().map(|(_, parts)| parts).unwrap_or_default(),
    };
    let pictures = media_of(&parts);
    let Some(data) = event.clipboard_data().filter(|_| !pictures.is_empty()) else {
        return false;
    };
    event.prevent_default();
    write(&data, &parts);
    COPIED.set(pictures);
    true
}

pub(super) fn paste(event: &ClipboardEvent, store: Store, hand: Hand) {
    let Some(data) = event.clipboard_data() else {
        return;
    };
    if let Some(parts) = carried(&data) {
        event.prevent_default();
        hand.remember();
        return put(store, hand, &parts);
    }
    let pasted = files(data.files());
    if !pasted.is_empty() {
        event.prevent_default();
        let pasted = pasted.into_iter().map(|file| (file.name(), file));
        spawn_local(take_into(store, hand, pasted.collect()));
    }
}

/// Puts in what was carried, and tells of pictures that are not here.
fn put(store: Store, hand: Hand, parts: &[Piece]) {
    let left = match hand.insert_parts(store.chat, parts) {
        0 => return,
        1 => "A picture was".to_owned(),
        n => format!("{n} pictures were"),
    };
    store.error.set(Some(format!(
        "{left} left out: copied in another tab, or deleted since. Put in the file instead."
    )));
}

/// A drag begins: of a picture, or of what is selected.
pub(super) fn lift(event: &DragEvent, hand: Hand) {
    let lifted = match media_at(event.target()) {
        Some(media) => document().create_range().ok().and_then(|range| {
            range.select_node(&media).ok()?;
            Some((range, vec![Piece::Media(id_of(&media)?)]))
        }),
        None => hand.selected(),
    };
    let lifted = lifted.filter(|(_, parts)| !media_of(parts).is_empty());
    if let (Some((range, parts)), Some(data)) = (lifted, event.data_transfer()) {
        write(&data, &parts);
        data.set_effect_allowed("copyMove");
        LIFTED.set(Some((range.clone_range(), parts)));
    }
}

/// A drag has ended, here or elsewhere.
pub(super) fn let_go() {
    LIFTED.take();
}

/// Whether it is words alone that are dragged.
fn only_words(data: &DataTransfer) -> bool {
    let types = data.types();
    let has = |kind: &str| types.includes(&kind.into(), 0);
    has("text/plain") && !has("Files") && !has(PARTS)
}

/// Where nothing is said, the browser shows where words will go.
pub(super) fn over(event: &DragEvent) {
    if !event.data_transfer().is_some_and(|data| only_words(&data)) {
        event.prevent_default();
    }
}

/// The place in a field where something was dropped, never in a picture's own
/// mark.
fn place(event: &DragEvent, field: &Node) -> Option<Range> {
    let range = range_at(event.client_x(), event.client_y())?;
    let node = range.start_container().ok()?;
    let element = node.dyn_ref::<Element>().cloned();
    let mark = element.or_else(|| node.parent_element())?;
    let mark = mark.closest("[data-media]").ok().flatten();
    (mark.is_none() && field.contains(Some(&node))).then_some(range)
}

pub(super) fn drop(event: &DragEvent, store: Store, hand: Hand) {
    let (Some(field), Some(data)) = (hand.field.get_untracked(), event.data_transfer()) else {
        return;
    };
    if only_words(&data) {
        // Nor does the page take them for files.
        return event.stop_propagation();
    }
    event.prevent_default();
    let to = place(event, &field);
    let lifted = LIFTED.take();
    // Within a field it moves; into another one it is copied.
    let from = lifted.as_ref().map(|(range, _)| range).filter(|range| {
        let around = range.common_ancestor_container().ok();
        around.is_some_and(|node| field.contains(Some(&node))) && !event.ctrl_key()
    });
    let within = |from: &Range, to: &Range| {
        let node = to.start_container().ok()?;
        from.is_point_in_range(&node, to.start_offset().ok()?).ok()
    };
    if let (Some(from), Some(to)) = (from, &to)
        && within(from, to) == Some(true)
    {
        return;
    }
    if to.is_some() {
        hand.caret.set_value(to);
    }
    if let Some(from) = from {
        let _ = from.delete_contents();
    }
    if let Some(parts) = lifted.map(|(_, parts)| parts).or_else(|| carried(&data)) {
        return put(store, hand, &parts);
    }
    spawn_local(async move {
        let files = dropped_paths(&data).await;
        take_into(store, hand, files).await;
    });
}
