//! How a clip in a field is sampled: each has a rate and a number of frames of
//! its own. Other frames make another clip, so that what was answered before
//! keeps those that it was answered by.

use leptos::html::Input;
use leptos::prelude::*;
use leptos::task::spawn_local;

use super::clip::Sampling;
use super::media;
use super::settings::FrameNote;
use super::store::chat;
use crate::protocol::PictureId;
use crate::ui::store::store;

/// A small form beside the field; `done` hears of the clip that takes the place
/// of this one, or of none.
#[component]
pub(super) fn Sample(id: PictureId, done: Callback<Option<PictureId>>) -> impl IntoView {
    let (store, chat) = (store(), chat());
    let [rate, most] = [(); 2].map(|()| NodeRef::<Input>::new());
    let busy = RwSignal::new(false);
    let clip = media::clip(id);
    let name = chat.media.with_untracked(|all| {
        let media = all.get(&id);
        media.map_or_else(String::new, |media| media.name.clone())
    });
    Effect::new(move |_| {
        if let Some(field) = rate.get() {
            let _ = field.focus();
            field.select();
        }
    });
    let take = move || {
        let number = |field: NodeRef<Input>| {
            let value = field.get_untracked()?.value_as_number();
            value.is_finite().then_some(value)
        };
        let (Some(rate), Some(most)) = (number(rate), number(most)) else {
            return;
        };
        let how = Sampling::of(rate, most as usize);
        busy.set(true);
        spawn_local(async move {
            let sampled = media::resample(chat, id, how).await;
            if busy.try_set(false).is_some() {
                // It was closed meanwhile.
                return;
            }
            match sampled {
                Ok(now) => {
                    let count = media::frames(now).len();
                    store.announcement.set(format!("{count} frames are taken"));
                    done.run(Some(now));
                }
                Err(message) => store.error.set(Some(message)),
            }
        });
    };
    let key = move |event: web_sys::KeyboardEvent| match event.key().as_str() {
        "Enter" => {
            event.prevent_default();
            take();
        }
        "Escape" => done.run(None),
        _ => {}
    };
    let label = format!("Frames of {name}");
    let form = clip.map(|clip| {
        let how = clip.how;
        view! {
            <label class="field"><span>"Frames in a second"</span>
                <input type="number" data-of="rate" min="0.1" max="30" step="0.1" prop:value=how.rate.to_string() node_ref=rate on:keydown=key/>
            </label>
            <label class="field"><span>"Most frames"</span>
                <input type="number" data-of="most" min="1" max="32" step="1" prop:value=how.most.to_string() node_ref=most on:keydown=key/>
            </label>
            <button type="button" class="small" data-act="sample" disabled=move || busy.get() on:click=move |_| take()>
                {move || if busy.get() { "Taking them…" } else { "Take these frames" }}
            </button>
        }
    });
    let gone = form.is_none().then(|| view! {
        <p class="hint">"The clip's file is not here any more: put it in again to take other frames of it."</p>
    });
    view! {
        <div class="row sample-clip" role="group" aria-label=label>
            {form}
            {gone}
            <button type="button" class="quiet small" on:click=move |_| done.run(None)>"Close"</button>
            <FrameNote/>
        </div>
    }
}
