//! Pictures and their preparation for a model, equal to Pillow's to the bit.

mod preprocess;
mod resize;

use std::borrow::Cow;

pub use preprocess::{Family, Preprocess};
pub use resize::Filter;

/// Longest side and largest number of pixels that are accepted: what fits
/// beside a model in a browser's memory.
pub const MAX_SIDE: u32 = 32_768;
/// See [`MAX_SIDE`].
pub const MAX_PIXELS: u64 = 120_000_000;

/// A picture that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No pixels, too many, or not as many as the sides say.
    #[error("picture: {0}")]
    Size(String),
    /// A preprocessing configuration that cannot be followed.
    #[error("preprocessor_config.json: {0}")]
    Config(String),
}

/// A picture: rows from the top, 3 bytes (red, green, blue) a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    width: u32,
    height: u32,
    data: Vec<u8>,
    /// How opaque each pixel is, where not all are wholly.
    alpha: Option<Vec<u8>>,
}

/// Says whether a picture of these sides can be used; asked before decoding.
///
/// # Errors
/// Where a side is 0 or the picture is enormous.
pub fn check_size(width: u32, height: u32) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Size(format!(
            "it is {width} × {height}: there is nothing to see"
        )));
    }
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::Size(format!(
            "it is {width} × {height}, more than {} million pixels or {MAX_SIDE} on a side: \
             make it smaller first",
            MAX_PIXELS / 1_000_000
        )));
    }
    Ok(())
}

impl Rgb8 {
    /// A picture of `width · height · 3` bytes.
    ///
    /// # Errors
    /// Where a side is 0, the picture is enormous, or `data` has another length.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self, ImageError> {
        check_size(width, height)?;
        let expected = width as usize * height as usize * 3;
        if data.len() != expected {
            return Err(ImageError::Size(format!(
                "expected {expected} bytes for {width} × {height}, got {}",
                data.len()
            )));
        }
        Ok(Self {
            width,
            height,
            data,
            alpha: None,
        })
    }

    /// A picture from 4 bytes a pixel. The colours are those below the
    /// transparency, as in Pillow's `convert("RGB")`; [`Rgb8::on_white`] lays
    /// them on white.
    ///
    /// # Errors
    /// As [`Rgb8::new`].
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<Self, ImageError> {
        let pixels = rgba.as_chunks::<4>().0;
        let data = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
        let mut picture = Self::new(width, height, data)?;
        if pixels.iter().any(|pixel| pixel[3] < u8::MAX) {
            picture.alpha = Some(pixels.iter().map(|pixel| pixel[3]).collect());
        }
        Ok(picture)
    }

    /// The picture on a white ground, rounded as Pillow's `alpha_composite`
    /// rounds (`AlphaComposite.c`).
    #[must_use]
    pub fn on_white(&self) -> Cow<'_, Self> {
        let Some(alpha) = &self.alpha else {
            return Cow::Borrowed(self);
        };
        const BITS: u32 = 6;
        const WHITE: u32 = 255;
        let laid = |byte: u8, alpha: u8| {
            let share = u32::from(alpha) << BITS;
            let sum = u32::from(byte) * share + WHITE * ((WHITE << BITS) - share);
            let sum = sum + (0x80 << BITS);
            ((((sum >> 8) + sum) >> 8) >> BITS) as u8
        };
        let pixels = self.data.as_chunks::<3>().0.iter().zip(alpha);
        let data = pixels.flat_map(|(pixel, &alpha)| pixel.map(|byte| laid(byte, alpha)));
        Cow::Owned(Self {
            data: data.collect(),
            alpha: None,
            ..*self
        })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Turns the picture as its EXIF orientation (1 to 8) says; other values
    /// leave it as it is.
    #[must_use]
    pub fn oriented(self, orientation: u8) -> Self {
        if !(2..=8).contains(&orientation) {
            return self;
        }
        let (w, h) = (self.width as usize, self.height as usize);
        let turned = orientation >= 5;
        let (width, height) = if turned { (h, w) } else { (w, h) };
        let mut data = Vec::with_capacity(self.data.len());
        let mut alpha = self.alpha.as_ref().map(|_| Vec::with_capacity(w * h));
        for y in 0..height {
            for x in 0..width {
                let (sx, sy) = match orientation {
                    2 => (w - 1 - x, y),
                    3 => (w - 1 - x, h - 1 - y),
                    4 => (x, h - 1 - y),
                    5 => (y, x),
                    6 => (y, h - 1 - x),
                    7 => (w - 1 - y, h - 1 - x),
                    _ => (w - 1 - y, x),
                };
                let at = (sy * w + sx) * 3;
                data.extend_from_slice(&self.data[at..at + 3]);
                if let (Some(alpha), Some(from)) = (&mut alpha, &self.alpha) {
                    alpha.push(from[sy * w + sx]);
                }
            }
        }
        Self {
            width: width as u32,
            height: height as u32,
            data,
            alpha,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the pixel numbered 0..6 of a 2 × 3 picture goes, by Pillow's
    /// `ImageOps.exif_transpose`.
    #[test]
    fn orientation_turns_as_exif_says() {
        let picture = |width, height, order: [u8; 6]| {
            let data = order.iter().flat_map(|&i| [i, i, i]).collect();
            Rgb8::new(width, height, data).unwrap()
        };
        let upright = picture(2, 3, [0, 1, 2, 3, 4, 5]);
        let expected = [
            (1, picture(2, 3, [0, 1, 2, 3, 4, 5])),
            (2, picture(2, 3, [1, 0, 3, 2, 5, 4])),
            (3, picture(2, 3, [5, 4, 3, 2, 1, 0])),
            (4, picture(2, 3, [4, 5, 2, 3, 0, 1])),
            (5, picture(3, 2, [0, 2, 4, 1, 3, 5])),
            (6, picture(3, 2, [4, 2, 0, 5, 3, 1])),
            (7, picture(3, 2, [5, 3, 1, 4, 2, 0])),
            (8, picture(3, 2, [1, 3, 5, 0, 2, 4])),
        ];
        for (orientation, expected) in expected {
            assert_eq!(
                upright.clone().oriented(orientation),
                expected,
                "{orientation}"
            );
        }
    }

    #[test]
    fn pictures_without_pixels_or_with_too_many_are_refused() {
        assert!(check_size(0, 5).is_err());
        assert!(check_size(40_000, 1).is_err());
        assert!(check_size(20_000, 20_000).is_err());
        assert!(check_size(4000, 3000).is_ok());
        assert!(Rgb8::new(2, 2, vec![0; 11]).is_err());
    }
}
