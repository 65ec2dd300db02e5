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

use super::intake::take_into;
use super::media::clip;
use super::parts::{joined, moved, place};
use super::sample::Sample;
use super::store::{Chat, chat, media_of, text_of};
use crate::protocol::PictureId;
use crate::protocol::chat::Piece;
use crate::ui::store::store;
use crate::ui::web::{document, dropped_paths, files, media, window};

/// What is copied from a field with pictures in it, for the fields of this page:
/// by the pictures' numbers.
const COPIED: &str = "application/x-plume-parts";

/// Gives the caret a place beside a picture.
const NO_WIDTH: char = '\u{200b}';

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

/// Puts a picture in at a range, with room for the caret on both sides.
fn put(range: &Range, node: &HtmlElement) {
    let space = NO_WIDTH.to_string();
    let _ = range.insert_node(node);
    let _ = node.before_with_str_1(&space);
    let _ = node.after_with_str_1(&space);
}

fn set_caret_behind(node: &HtmlElement) {
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
fn is_clip(chat: Chat, id: PictureId) -> bool {
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
fn picture(chat: Chat, id: PictureId) -> Option<HtmlElement> {
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
    span.set_attribute("role", "img").ok()?;
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
    if is_clip(chat, id) {
        let count = make("button", "frame-count")?;
        count.set_attribute("type", "button").ok()?;
        count.set_attribute("tabindex", "-1").ok()?;
        count.set_attribute("aria-hidden", "true").ok()?;
        count.set_title("Take other frames of it");
        count.set_text_content(Some(&format!("{} ▾", urls.len())));
        span.append_child(&count).ok()?;
        span.set_title(
            "Enter takes other frames; drag, or Alt with an arrow, moves it; Delete takes it out",
        );
        let keys = "Enter Alt+ArrowLeft Alt+ArrowRight Delete";
        span.set_attribute("aria-keyshortcuts", keys).ok()?;
    }
    let remove = make("button", "media-out")?;
    remove.set_attribute("type", "button").ok()?;
    remove.set_attribute("tabindex", "-1").ok()?;
    remove.set_attribute("aria-hidden", "true").ok()?;
    remove.set_text_content(Some("×"));
    span.append_child(&remove).ok()?;
    Some(span)
}

/// What stands in a field.
fn read(field: &Node) -> Vec<Piece> {
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
/// being changed included.
pub(super) fn shown() -> Vec<PictureId> {
    let Ok(all) = document().query_selector_all("[data-media]") else {
        return Vec::new();
    };
    let all = (0..all.length()).filter_map(|i| all.get(i)?.dyn_into::<HtmlElement>().ok());
    all.filter_map(|media| id_of(&media)).collect()
}

fn fill(chat: Chat, field: &Element, parts: &[Piece]) {
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
fn media_at(target: Option<web_sys::EventTarget>) -> Option<HtmlElement> {
    let element = target?.dyn_into::<Element>().ok()?;
    element.closest("[data-media]").ok()??.dyn_into().ok()
}

/// Which of the field's pictures one is.
fn nth(field: &Element, media: &HtmlElement) -> Option<usize> {
    let all = field.query_selector_all("[data-media]").ok()?;
    (0..all.length()).position(|i| {
        all.get(i)
            .is_some_and(|node| node.is_same_node(Some(media)))
    })
}

/// The place in a text under the pointer.
fn range_at(x: i32, y: i32) -> Option<Range> {
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

fn id_of(media: &HtmlElement) -> Option<PictureId> {
    media.get_attribute("data-media")?.parse().ok()
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
