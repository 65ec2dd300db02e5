//! Picture files to pixels.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use image::{DynamicImage, ImageDecoder, ImageReader};
use libjpeg_turbo_rs::{Decoder, PixelFormat};
use plume_core::image::{Rgb8, check_size};

/// Reads and decodes a picture file, turned upright as its EXIF says.
///
/// # Errors
/// Where the file cannot be read or is no picture that we know.
pub fn open(path: &Path) -> Result<Rgb8> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    decode(&bytes).with_context(|| format!("{}", path.display()))
}

/// Decodes a picture: the first frame of an animation.
///
/// # Errors
/// Says what the bytes are instead, or what is wrong with the picture.
pub fn decode(bytes: &[u8]) -> Result<Rgb8> {
    if let Some(advice) = unsupported(bytes) {
        bail!("{advice}");
    }
    let picture = if bytes.starts_with(&[0xff, 0xd8]) {
        decode_jpeg(bytes)?
    } else {
        decode_other(bytes)?
    };
    Ok(picture.oriented(orientation(bytes)))
}

/// JPEG leaves the last bit to the decoder. This one gives libjpeg-turbo's
/// bytes, as Pillow and Chromium do; others move the logits of a small picture
/// by tenths.
fn decode_jpeg(bytes: &[u8]) -> Result<Rgb8> {
    let damaged = "the JPEG picture is damaged or cut short";
    let mut decoder = Decoder::new(bytes).context(damaged)?;
    let header = decoder.header();
    check_size(u32::from(header.width), u32::from(header.height))?;
    decoder.set_output_format(PixelFormat::Rgb);
    let picture = decoder.decode_image().context(damaged)?;
    let (width, height) = (picture.width as u32, picture.height as u32);
    Ok(Rgb8::new(width, height, picture.data)?)
}

fn decode_other(bytes: &[u8]) -> Result<Rgb8> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let Some(format) = reader.format() else {
        bail!("this is not a picture that can be read: expected JPEG, PNG, WebP, GIF or BMP");
    };
    let damaged = || format!("the {format:?} picture is damaged or cut short");
    let decoder = reader.into_decoder().with_context(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let picture = DynamicImage::from_decoder(decoder).with_context(damaged)?;
    if picture.color().has_alpha() {
        return Ok(Rgb8::from_rgba(
            width,
            height,
            picture.into_rgba8().as_raw(),
        )?);
    }
    Ok(Rgb8::new(width, height, picture.into_rgb8().into_raw())?)
}

/// How the camera was held, 1 (upright) where the file does not say.
fn orientation(bytes: &[u8]) -> u8 {
    let exif = exif::Reader::new().read_from_container(&mut Cursor::new(bytes));
    let field = exif.ok().and_then(|exif| {
        let field = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?;
        field.value.get_uint(0)
    });
    field
        .and_then(|value| u8::try_from(value).ok())
        .unwrap_or(1)
}

/// Formats that people have and that we do not decode, with what to do.
fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12)?;
    if brand.starts_with(b"ftyp") {
        return Some(match &brand[4..] {
            b"heic" | b"heix" | b"mif1" | b"msf1" | b"hevc" => {
                "this is a HEIC picture, which is not supported: export it as JPEG or PNG"
            }
            b"avif" | b"avis" => {
                "this is an AVIF picture, which is not supported: export it as JPEG or PNG"
            }
            _ => "this is a video: take a still picture from it",
        });
    }
    let start = String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes)).to_lowercase();
    if start.contains("<svg") {
        return Some("this is an SVG drawing, which is not supported: export it as PNG");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_is_told_by_name() {
        let message = |bytes: &[u8]| format!("{:#}", decode(bytes).unwrap_err());
        assert!(message(b"\0\0\0\x18ftypheic\0\0\0\0").contains("HEIC"));
        assert!(message(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>").contains("SVG"));
        assert!(message(b"hello, this is a text").contains("not a picture"));
        assert!(message(b"").contains("not a picture"));
    }
}
