//! Frames of a clip, taken from a video element.

use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AddEventListenerOptions, Blob, CanvasRenderingContext2d, EventTarget, File, HtmlCanvasElement,
    HtmlVideoElement,
};

use super::store::Chat;
use crate::ui::web::document;

/// Longest side of a frame: models see 224 to 336 pixels.
const SIDE: f64 = 512.0;
const UNREADABLE: &str = "this browser cannot play it: save it as MP4 (H.264) or WebM";

/// Waits for an event of the video, or for its error.
async fn event(video: &HtmlVideoElement, name: &str) -> Result<(), String> {
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        let options = AddEventListenerOptions::new();
        options.set_once(true);
        let target: &EventTarget = video;
        for (name, act) in [(name, &resolve), ("error", &reject)] {
            let _ = target.add_event_listener_with_callback_and_add_event_listener_options(
                name, act, &options,
            );
        }
    });
    told(JsFuture::from(promise).await).map(|_| ())
}

fn told<T, E>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|_| UNREADABLE.to_owned())
}

/// Moments of a clip: as many in a second as asked, each in the middle of its
/// stretch, and no more than are allowed.
fn moments(duration: f64, rate: f64, most: usize) -> Vec<f64> {
    let wanted = (duration * rate).round().clamp(1.0, most as f64);
    let stretch = duration / wanted;
    (0..wanted as usize)
        .map(|i| (i as f64 + 0.5) * stretch)
        .collect()
}

/// The frames of a clip, at the rate and number of the settings.
pub(super) async fn frames(chat: Chat, file: &File) -> Result<Vec<Blob>, String> {
    let video: HtmlVideoElement = told(document().create_element("video"))?.unchecked_into();
    let url = told(web_sys::Url::create_object_url_with_blob(file))?;
    let found = sampled(chat, &video, &url).await;
    video.set_src("");
    let _ = web_sys::Url::revoke_object_url(&url);
    found
}

async fn sampled(chat: Chat, video: &HtmlVideoElement, url: &str) -> Result<Vec<Blob>, String> {
    video.set_muted(true);
    video.set_preload("auto");
    video.set_src(url);
    event(video, "loadeddata").await?;
    if !video.duration().is_finite() {
        // What a browser recorded itself has no length in its head: the end
        // has to be looked for.
        video.set_current_time(1e9);
        event(video, "seeked").await?;
    }
    let duration = video.duration();
    let (width, height) = (
        f64::from(video.video_width()),
        f64::from(video.video_height()),
    );
    if width < 1.0 || height < 1.0 || !duration.is_finite() {
        return Err(UNREADABLE.to_owned());
    }
    let scale = (SIDE / width.max(height)).min(1.0);
    let (width, height) = ((width * scale).round(), (height * scale).round());
    let canvas: HtmlCanvasElement = told(document().create_element("canvas"))?.unchecked_into();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let context = canvas.get_context("2d").ok().flatten();
    let context = context.and_then(|context| context.dyn_into::<CanvasRenderingContext2d>().ok());
    let context = context.ok_or(UNREADABLE)?;
    let (rate, most) = chat
        .settings
        .with_untracked(|settings| (settings.rate, settings.frames));
    let mut frames = Vec::new();
    for moment in moments(duration, rate, most.max(1)) {
        video.set_current_time(moment);
        event(video, "seeked").await?;
        told(
            context
                .draw_image_with_html_video_element_and_dw_and_dh(video, 0.0, 0.0, width, height),
        )?;
        frames.push(picture(&canvas).await?);
    }
    Ok(frames)
}

/// What is on a canvas, as a picture.
pub(super) async fn picture(canvas: &HtmlCanvasElement) -> Result<Blob, String> {
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        if canvas.to_blob(&resolve).is_err() {
            let _ = reject.call0(&JsValue::NULL);
        }
    });
    told(JsFuture::from(promise).await)?
        .dyn_into()
        .map_err(|_| UNREADABLE.to_owned())
}
