//! From a file to pixels: the browser decodes, upright and without touching
//! the colours; everything after is ours.

use plume_core::image::{Rgb8, check_size};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, ColorSpaceConversion, ImageBitmap, ImageBitmapOptions, ImageOrientation, OffscreenCanvas,
    OffscreenCanvasRenderingContext2d, PremultiplyAlpha,
};

use super::{kind, scope};

/// Largest file that is looked at, in bytes.
const MAX_BYTES: f64 = 200e6;

/// Decodes a picture file.
///
/// # Errors
/// In words for the person who dropped it.
pub(super) async fn decode(blob: &Blob) -> Result<Rgb8, String> {
    if blob.size() == 0.0 {
        return Err("the file is empty".to_owned());
    }
    if blob.size() > MAX_BYTES {
        return Err(format!(
            "the file has {:.0} MB, more than {:.0}: make it smaller first",
            blob.size() / 1e6,
            MAX_BYTES / 1e6
        ));
    }
    let head = head(blob).await?;
    if let Some(advice) = kind::unsupported(&head) {
        return Err(advice.to_owned());
    }
    if let Some((width, height)) = kind::size(&head) {
        check_size(width, height).map_err(|error| error.to_string())?;
    }
    let options = ImageBitmapOptions::new();
    options.set_image_orientation(ImageOrientation::FromImage);
    options.set_premultiply_alpha(PremultiplyAlpha::None);
    options.set_color_space_conversion(ColorSpaceConversion::None);
    let promise = scope()
        .create_image_bitmap_with_blob_and_image_bitmap_options(blob, &options)
        .map_err(refused)?;
    let bitmap: ImageBitmap = JsFuture::from(promise)
        .await
        .map_err(|_| NOT_A_PICTURE.to_owned())?
        .unchecked_into();
    let picture = pixels(&bitmap);
    bitmap.close();
    let (width, height, rgba) = picture?;
    let opaque = rgba.as_chunks::<4>().0.iter().all(|pixel| pixel[3] == 255);
    if !opaque && let Some(picture) = transparent(blob, width, height).await {
        return Ok(picture);
    }
    Rgb8::from_rgba(width, height, &rgba).map_err(|error| error.to_string())
}

const NOT_A_PICTURE: &str =
    "this is not a picture that can be read, or it is damaged: use JPEG, PNG, WebP, GIF or AVIF";

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err as it is")]
fn refused(error: JsValue) -> String {
    let reason = error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()));
    format!(
        "the browser could not read the picture: {}",
        reason.unwrap_or_default()
    )
}

/// The colours below transparency: a canvas forgets them, Pillow's
/// `convert("RGB")` shows them. None where the bytes are not read here.
async fn transparent(blob: &Blob, width: u32, height: u32) -> Option<Rgb8> {
    let buffer = JsFuture::from(blob.array_buffer()).await.ok()?;
    let bytes = js_sys::Uint8Array::new(&buffer).to_vec();
    let picture = image::load_from_memory(&bytes).ok()?.into_rgba8();
    // An orientation of its own, or a frame smaller than its canvas.
    ((width, height) == picture.dimensions()).then_some(())?;
    Rgb8::from_rgba(width, height, picture.as_raw()).ok()
}

/// Width, height and 4 bytes a pixel.
fn pixels(bitmap: &ImageBitmap) -> Result<(u32, u32, Vec<u8>), String> {
    let (width, height) = (bitmap.width(), bitmap.height());
    check_size(width, height).map_err(|error| error.to_string())?;
    let canvas = OffscreenCanvas::new(width, height).map_err(refused)?;
    let context: OffscreenCanvasRenderingContext2d = canvas
        .get_context("2d")
        .map_err(refused)?
        .ok_or("the browser has no canvas to read the picture with")?
        .unchecked_into();
    context
        .draw_image_with_image_bitmap(bitmap, 0.0, 0.0)
        .map_err(refused)?;
    let data = context
        .get_image_data(0.0, 0.0, f64::from(width), f64::from(height))
        .map_err(|_| format!("there is not enough memory for a picture of {width} × {height}"))?;
    Ok((width, height, data.data().0))
}

/// The first bytes of the file.
async fn head(blob: &Blob) -> Result<Vec<u8>, String> {
    let slice = blob
        .slice_with_f64_and_f64(0.0, kind::HEAD as f64)
        .map_err(refused)?;
    let buffer = JsFuture::from(slice.array_buffer()).await.map_err(|_| {
        "the file cannot be read any more: was it moved or changed? Choose it again".to_owned()
    })?;
    Ok(js_sys::Uint8Array::new(&buffer).to_vec())
}
