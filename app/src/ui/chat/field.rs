//! What stands in a field as the browser has it: text, and pictures as nodes
//! among it.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlElement, Node, Range};

use super::carry::copied;
use super::media::clip;
use super::parts::joined;
use super::store::Chat;
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::web::{document, window};

/// Gives the caret a place beside a picture.
pub(super) const NO_WIDTH: char = '\u{200b}';

/// Puts a picture in at a range, with room for the caret on both sides.
pub(super) fn put(range: &Range, node: &HtmlElement) {
    let space = NO_WIDTH.to_string();
    let _ = range.insert_node(node);
    let _ = node.before_with_str_1(&space);
    let _ = node.after_with_str_1(&space);
}

pub(super) fn set_caret_behind(node: &HtmlElement) {
    let Ok(range) = document().create_range() else {
        return;
    };
    match node.next_sibling() {
        Some(next) if next.node_type() == Node::TEXT_NODE => {
            let _ = range.set_start(&next, 1);
        }
        _ => {
            let _ = range.set_start_after(node);
        }
    }
    range.collapse_with_to_start(true);
    if let Ok(Some(selection)) = window().get_selection() {
        let _ = selection.remove_all_ranges();
        let _ = selection.add_range(&range);
    }
}

/// Whether it is a clip, also where only one frame was taken of it.
pub(super) fn is_clip(chat: Chat, id: PictureId) -> bool {
    let frames = chat
        .media
        .with_untracked(|all| all.get(&id).map_or(0, |media| media.urls.len()));
    frames > 1 || clip(id).is_some()
}

/// What a person hears of a picture.
pub(super) fn spoken(chat: Chat, id: PictureId) -> String {
    chat.media.with_untracked(|all| match all.get(&id) {
        Some(media) if media.urls.len() > 1 => {
            format!("Clip of {} frames: {}", media.urls.len(), media.name)
        }
        Some(media) => format!("Picture: {}", media.name),
        None => "A picture that is gone".to_owned(),
    })
}

/// A picture as it stands between words.
pub(super) fn picture(chat: Chat, id: PictureId) -> Option<HtmlElement> {
    let document = document();
    let make = |tag: &str, class: &str| -> Option<HtmlElement> {
        let element = document.create_element(tag).ok()?;
        element.set_class_name(class);
        element.dyn_into().ok()
    };
    let span = make("span", "media")?;
    span.set_attribute("contenteditable", "false").ok()?;
    span.set_attribute("data-media", &id.to_string()).ok()?;
    span.set_attribute("draggable", "true").ok()?;
    span.set_attribute("tabindex", "0").ok()?;
    span.set_attribute("role", "group").ok()?;
    span.set_attribute("aria-label", &spoken(chat, id)).ok()?;
    span.set_attribute("aria-keyshortcuts", "Alt+ArrowLeft Alt+ArrowRight Delete")
        .ok()?;
    span.set_title("Drag, or Alt with an arrow, moves it; Delete takes it out");
    let urls = chat
        .media
        .with_untracked(|all| all.get(&id).map(|media| media.urls.clone()));
    let urls = urls.unwrap_or_default();
    for url in urls.iter().take(4) {
        let image = make("img", "")?;
        image.set_attribute("src", url).ok()?;
        image.set_attribute("alt", "").ok()?;
        image.set_attribute("draggable", "false").ok()?;
        span.append_child(&image).ok()?;
    }
    let button = |class: &str, sign: &str, title: &str| -> Option<HtmlElement> {
        let button = make("button", class)?;
        button.set_attribute("type", "button").ok()?;
        // By the keys one acts on the picture itself.
        button.set_attribute("tabindex", "-1").ok()?;
        button.set_attribute("aria-label", title).ok()?;
        button.set_title(title);
        button.set_text_content(Some(sign));
        Some(button)
    };
    if is_clip(chat, id) {
        let frames = format!("{} ▾", urls.len());
        let count = button("frame-count", &frames, "Take other frames of it")?;
        span.append_child(&count).ok()?;
        span.set_title(
            "Enter takes other frames; drag, or Alt with an arrow, moves it; Delete takes it out",
        );
        let keys = "Enter Alt+ArrowLeft Alt+ArrowRight Delete";
        span.set_attribute("aria-keyshortcuts", keys).ok()?;
    }
    for (class, sign, title) in [
        ("media-earlier", "‹", "Move it earlier"),
        ("media-later", "›", "Move it later"),
        ("media-out", "×", "Take it out"),
    ] {
        let button = button(class, sign, title)?;
        span.append_child(&button).ok()?;
    }
    Some(span)
}

/// What stands in a field.
pub(super) fn read(field: &Node) -> Vec<Piece> {
    fn walk(node: &Node, out: &mut Vec<Piece>) {
        let children = node.child_nodes();
        for child in (0..children.length()).filter_map(|i| children.get(i)) {
            if child.node_type() == Node::TEXT_NODE {
                let text = child.text_content().unwrap_or_default();
                out.push(Piece::Text(text.replace(NO_WIDTH, "")));
            } else if let Some(element) = child.dyn_ref::<Element>() {
                let media = element.get_attribute("data-media");
                if let Some(id) = media.and_then(|id| id.parse().ok()) {
                    out.push(Piece::Media(id));
                } else if element.tag_name() == "BR" {
                    out.push(Piece::Text("\n".to_owned()));
                } else {
                    walk(&child, out);
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(field, &mut out);
    let mut parts = joined(out);
    // The break that browsers leave in an empty field.
    if parts.len() == 1 && parts[0] == Piece::Text("\n".to_owned()) {
        parts.clear();
    }
    parts
}

/// The pictures that stand in any field of the page, those of a turn that is
/// being changed included, and those that may yet be pasted.
pub(super) fn shown() -> Vec<PictureId> {
    let Ok(all) = document().query_selector_all("[data-media]") else {
        return Vec::new();
    };
    let all = (0..all.length()).filter_map(|i| all.get(i)?.dyn_into::<HtmlElement>().ok());
    let all = all.filter_map(|media| id_of(&media));
    all.chain(copied()).collect()
}

pub(super) fn fill(chat: Chat, field: &Element, parts: &[Piece]) {
    field.set_text_content(None);
    let Ok(range) = document().create_range() else {
        return;
    };
    for part in parts {
        let _ = range.select_node_contents(field);
        range.collapse();
        match part {
            Piece::Text(text) => {
                let _ = range.insert_node(&document().create_text_node(text));
            }
            Piece::Media(id) => {
                if let Some(node) = picture(chat, *id) {
                    put(&range, &node);
                }
            }
        }
    }
}

/// The picture that an event is about.
pub(super) fn media_at(target: Option<web_sys::EventTarget>) -> Option<HtmlElement> {
    let element = target?.dyn_into::<Element>().ok()?;
    element.closest("[data-media]").ok()??.dyn_into().ok()
}

/// Which of the field's pictures one is.
pub(super) fn nth(field: &Element, media: &HtmlElement) -> Option<usize> {
    let all = field.query_selector_all("[data-media]").ok()?;
    (0..all.length()).position(|i| {
        all.get(i)
            .is_some_and(|node| node.is_same_node(Some(media)))
    })
}

/// The place in a text under the pointer.
pub(super) fn range_at(x: i32, y: i32) -> Option<Range> {
    let (x, y) = (x as f32, y as f32);
    let range = document().create_range().ok()?;
    let has = js_sys::Reflect::has(&document(), &"caretPositionFromPoint".into());
    if has.unwrap_or(false) {
        let position = document().caret_position_from_point(x, y)?;
        range
            .set_start(&position.offset_node()?, position.offset())
            .ok()?;
        range.collapse_with_to_start(true);
        return Some(range);
    }
    // Safari's older name.
    let ask = js_sys::Reflect::get(&document(), &"caretRangeFromPoint".into()).ok()?;
    let ask: js_sys::Function = ask.dyn_into().ok()?;
    ask.call2(&document(), &x.into(), &y.into())
        .ok()?
        .dyn_into()
        .ok()
}

pub(super) fn id_of(media: &HtmlElement) -> Option<PictureId> {
    media.get_attribute("data-media")?.parse().ok()
}
