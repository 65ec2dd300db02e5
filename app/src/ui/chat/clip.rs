//! Frames of a clip, taken from a video element.

use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AddEventListenerOptions, Blob, CanvasRenderingContext2d, EventTarget, HtmlCanvasElement,
    HtmlVideoElement,
};

use crate::ui::web::{document, window};

/// Longest side of a frame: models see 224 to 336 pixels.
const SIDE: f64 = 512.0;
const UNREADABLE: &str = "this browser cannot play it: save it as MP4 (H.264) or WebM";

/// Milliseconds after which a clip that says nothing is given up.
const PATIENCE: i32 = 30_000;

/// Waits for an event of the video, or for its error.
async fn event(video: &HtmlVideoElement, name: &str) -> Result<(), String> {
    let promise = js_sys::Promise::new(&mut |resolve, reject| {
        let options = AddEventListenerOptions::new();
        options.set_once(true);
        let target: &EventTarget = video;
        let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(&reject, PATIENCE);
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

/// How a clip is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampling {
    /// Frames in a second.
    pub(super) rate: f64,
    /// Most frames.
    pub(super) most: usize,
}

impl Sampling {
    /// Within what is sensible.
    pub(super) fn of(rate: f64, most: usize) -> Self {
        Self {
            rate: rate.clamp(0.1, 30.0),
            most: most.clamp(1, 32),
        }
    }
}

/// The frames of a clip.
pub(super) async fn frames(file: &Blob, how: Sampling) -> Result<Vec<Blob>, String> {
    let video: HtmlVideoElement = told(document().create_element("video"))?.unchecked_into();
    let url = told(web_sys::Url::create_object_url_with_blob(file))?;
    let found = sampled(how, &video, &url).await;
    video.set_src("");
    let _ = web_sys::Url::revoke_object_url(&url);
    found
}

async fn sampled(how: Sampling, video: &HtmlVideoElement, url: &str) -> Result<Vec<Blob>, String> {
    video.set_muted(true);
    video.set_preload("auto");
    // Phones show what plays over the whole screen otherwise, and have no picture
    // before something plays: only its head is waited for, and then each moment.
    let _ = video.set_attribute("playsinline", "");
    video.set_src(url);
    event(video, "loadedmetadata").await?;
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
    let mut frames = Vec::new();
    for moment in moments(duration, how.rate, how.most) {
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

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Sampling, moments};

    #[wasm_bindgen_test]
    fn moments_lie_in_the_middle_of_their_stretches() {
        assert_eq!(moments(2.0, 1.0, 8), [0.5, 1.5]);
        assert_eq!(moments(10.0, 1.0, 2), [2.5, 7.5]);
        assert_eq!(moments(0.1, 1.0, 8), [0.05]);
        assert_eq!(Sampling::of(0.0, 0), Sampling { rate: 0.1, most: 1 });
        assert_eq!(
            Sampling::of(99.0, 99),
            Sampling {
                rate: 30.0,
                most: 32
            }
        );
    }
}
