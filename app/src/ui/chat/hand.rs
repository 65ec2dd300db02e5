//! A hold on a field, for what puts pictures into it.

use leptos::html::Div;
use leptos::prelude::*;
use web_sys::Range;

use super::field::{fill, picture, put, read, set_caret_behind};
use super::parts::with_picture;
use super::store::Chat;
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::web::{document, media, window};

/// Whether one taps: a field that gets the focus would bring up the keyboard.
pub(super) fn by_touch() -> bool {
    media("(pointer: coarse)")
}

#[derive(Clone, Copy)]
pub(super) struct Hand {
    pub(super) field: NodeRef<Div>,
    /// Where the caret last was.
    pub(super) caret: StoredValue<Option<Range>, LocalStorage>,
    /// Rises when the field was changed from outside.
    pub(super) touched: RwSignal<u32>,
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
            if !by_touch() {
                self.focus();
            }
            set_caret_behind(&node);
            self.remember();
        }
        self.touched.update(|n| *n += 1);
    }

    /// Puts words and pictures in where the caret is; gives how many pictures
    /// the page does not have: they are left out.
    pub(super) fn insert_parts(self, chat: Chat, parts: &[Piece]) -> usize {
        let mut missing = 0;
        for part in parts {
            match part {
                Piece::Media(id) if chat.media.with_untracked(|all| all.contains_key(id)) => {
                    self.insert(chat, &[*id]);
                }
                Piece::Media(_) => missing += 1,
                Piece::Text(text) => {
                    let Some(range) = self.place() else { break };
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
        missing
    }

    /// Puts a picture back behind so many letters and pictures; nothing where
    /// the field is gone.
    pub(super) fn put_back(self, chat: Chat, id: PictureId, at: usize) {
        if let Some(field) = self.field.try_get_untracked().flatten() {
            fill(chat, &field, &with_picture(&read(&field), at, id));
            self.touched.update(|n| *n += 1);
        }
    }

    /// What is selected in the field, and where.
    pub(super) fn selected(self) -> Option<(Range, Vec<Piece>)> {
        self.remember();
        let range = self.caret.get_value().filter(|range| !range.collapsed())?;
        let copied = range.clone_contents().ok()?;
        let parts = read(&copied);
        Some((range, parts))
    }

    /// Keeps where the caret is, so that a click elsewhere does not lose it.
    pub(super) fn remember(self) {
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
