//! Picture files to pixels.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, bail};
use image::{ImageDecoder, ImageReader};
use plume_core::image::{Rgb8, check_size};

/// Reads and decodes a picture file, turned upright as its EXIF says.
///
/// # Errors
/// Where the file cannot be read or is no picture that we know.
pub fn open(path: &Path) -> Result<Rgb8> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    decode(&bytes).with_context(|| format!("{}", path.display()))
}

/// Decodes a picture: the first frame of an animation, transparency dropped.
///
/// # Errors
/// Says what the bytes are instead, or what is wrong with the picture.
pub fn decode(bytes: &[u8]) -> Result<Rgb8> {
    if let Some(advice) = unsupported(bytes) {
        bail!("{advice}");
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let Some(format) = reader.format() else {
        bail!("this is not a picture that can be read: expected JPEG, PNG, WebP, GIF or BMP");
    };
    let mut decoder = reader
        .into_decoder()
        .with_context(|| format!("the {format:?} picture is damaged"))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let orientation = decoder.orientation().map_or(1, |o| o.to_exif());
    let picture = image::DynamicImage::from_decoder(decoder)
        .with_context(|| format!("the {format:?} picture is damaged or cut short"))?
        .into_rgb8();
    Ok(Rgb8::new(width, height, picture.into_raw())?.oriented(orientation))
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
