//! What puts pictures into a field: files, the pad, the camera. The composer,
//! each example and a turn that is changed have the same, so that a phone, which
//! neither drops nor pastes, can do as much everywhere.

use leptos::html::Input;
use leptos::prelude::*;
use leptos::task::spawn_local;

use super::draw::Draw;
use super::editor::Hand;
use super::media;
use super::store::chat;
use crate::ui::camera::Camera;
use crate::ui::store::store;
use crate::ui::web::{files, icon};

/// The buttons. `whose` ends their names for those who do not see where they
/// stand; `small` ones are signs without words; `id` is the beginning of theirs.
#[component]
pub(super) fn PutIn(
    hand: Hand,
    #[prop(into, optional)] whose: Signal<String>,
    #[prop(optional)] small: bool,
    #[prop(optional)] id: Option<&'static str>,
) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let chosen: NodeRef<Input> = NodeRef::new();
    let (drawing, camera) = (RwSignal::new(false), RwSignal::new(false));
    let taken = move |_| {
        if let Some(input) = chosen.get_untracked() {
            let files = files(input.files());
            input.set_value("");
            spawn_local(async move {
                let taken = media::take(store, &files).await;
                hand.insert(chat, &taken);
            });
        }
    };
    // Made here, not where they are shown: a picture comes when its dialogue is
    // gone.
    let [drawn, snapped] = ["drawing.png", "camera.png"].map(|name| {
        Callback::new(move |blob: web_sys::Blob| {
            let id = media::add(chat, name, &[blob]);
            hand.insert(chat, &[id]);
        })
    });
    let label = move |act: &'static str| move || format!("{act} {}", whose.get()).trim().to_owned();
    let id = move |end: &str| id.map(|id| format!("{id}-{end}"));
    let class = if small { "remove" } else { "quiet small" };
    let chooser = if small {
        "button remove"
    } else {
        "button quiet small"
    };
    let word = move |word: &'static str| (!small).then(|| view! { <span>{word}</span> });
    view! {
        <label class=chooser data-act="choose" title="Pictures or clips from this machine; on a phone also from its camera">
            {icon("M4 17l5-6 4 4 3-3 4 5M4 5h16v14H4zM15.5 9.5h.01")}
            {word("Picture")}
            <input id=id("file-input") class="unseen" type="file" multiple accept="image/*,video/*" node_ref=chosen aria-label=label("Choose pictures or clips") on:change=taken/>
        </label>
        <button type="button" class=class id=id("draw") data-act="draw" title="Draw a picture" aria-label=label("Draw a picture") on:click=move |_| drawing.set(true)>
            {icon("M4 20l4-1L19 8l-3-3L5 16z")} {word("Draw")}
        </button>
        <button type="button" class=class id=id("camera") data-act="camera" title="A picture from the camera" aria-label=label("Take a picture with the camera") on:click=move |_| camera.set(true)>
            {icon("M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z")} {word("Camera")}
        </button>
        <Show when=move || drawing.get()>
            <Draw close=move || drawing.set(false) take=drawn/>
        </Show>
        <Show when=move || camera.get()>
            <Camera close=move || camera.set(false) take=snapped/>
        </Show>
    }
}
