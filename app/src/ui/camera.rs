//! A picture from the camera.

use leptos::html::{Dialog, Video};
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    Blob, CanvasRenderingContext2d, HtmlCanvasElement, MediaStream, MediaStreamConstraints,
    MediaStreamTrack,
};

use super::web::{document, window};

fn turn_off(stream: &MediaStream) {
    for track in stream.get_tracks().iter() {
        track.unchecked_into::<MediaStreamTrack>().stop();
    }
}

/// The camera, live, with a button to take the picture.
#[component]
pub(super) fn Camera(
    close: impl Fn() + Copy + Send + Sync + 'static,
    take: Callback<Blob>,
) -> impl IntoView {
    let dialog: NodeRef<Dialog> = NodeRef::new();
    let video: NodeRef<Video> = NodeRef::new();
    let problem = RwSignal::new(None::<&'static str>);
    // There is a picture to take.
    let live = RwSignal::new(false);
    let stream = StoredValue::new_local(None::<MediaStream>);
    let stop = move || {
        stream.get_value().iter().for_each(turn_off);
        close();
    };
    Effect::new(move |_| {
        let (Some(dialog), Some(video)) = (dialog.get(), video.get()) else {
            return;
        };
        let _ = dialog.show_modal();
        spawn_local(async move {
            let asked = MediaStreamConstraints::new();
            asked.set_video(&JsValue::TRUE);
            let devices = window().navigator().media_devices();
            let promise = devices.and_then(|d| d.get_user_media_with_constraints(&asked));
            let given = match promise {
                Ok(promise) => JsFuture::from(promise).await,
                Err(error) => Err(error),
            };
            match given {
                Ok(given) => {
                    let given: MediaStream = given.unchecked_into();
                    video.set_src_object(Some(&given));
                    // Closed before the person had allowed it: off again.
                    if let Some(late) = stream.try_set_value(Some(given)) {
                        late.iter().for_each(turn_off);
                        return;
                    }
                    let _ = video.play();
                }
                Err(_) => problem.set(Some(
                    "The camera cannot be used: allow it in the browser's settings for this page, or choose a file.",
                )),
            }
        });
    });
    let snap = move |_| {
        let Some(video) = video.get_untracked() else {
            return;
        };
        let Ok(canvas) = document().create_element("canvas") else {
            return;
        };
        let canvas: HtmlCanvasElement = canvas.unchecked_into();
        canvas.set_width(video.video_width());
        canvas.set_height(video.video_height());
        let context = canvas.get_context("2d").ok().flatten();
        if let Some(context) = context.and_then(|c| c.dyn_into::<CanvasRenderingContext2d>().ok()) {
            let _ = context.draw_image_with_html_video_element(&video, 0.0, 0.0);
        }
        let taken = Closure::once_into_js(move |blob: Option<Blob>| {
            if let Some(blob) = blob {
                take.run(blob);
            }
        });
        let _ = canvas.to_blob(taken.unchecked_ref());
        stop();
    };
    view! {
        <dialog class="camera" node_ref=dialog aria-label="Camera" on:close=move |_| stop()>
            <video node_ref=video playsinline muted on:loadeddata=move |_| live.set(true)></video>
            {move || problem.get().map(|text| view! { <p class="state failed" role="alert">{text}</p> })}
            <div class="row">
                <button type="button" id="take-picture" disabled=move || !live.get() on:click=snap>"Take the picture"</button>
                <button type="button" class="quiet" on:click=move |_| stop()>"Close"</button>
            </div>
        </dialog>
    }
}
