//! Pillow's resize of 8-bit pictures (`Resample.c`): antialiased, horizontal
//! pass first, fixed-point weights, rounded to 8 bits between the passes.

use serde::{Deserialize, Serialize};

use super::Rgb8;

/// Bits after the point of a fixed-point weight: 32, less 8 of the pixel and 2
/// of head room for filters that overshoot.
const PRECISION: u32 = 22;

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Sinc, windowed by sinc; 3 pixels either side.
    Lanczos,
    /// Triangle; 1 pixel either side.
    Bilinear,
    /// Cubic with a = −0.5; 2 pixels either side.
    Bicubic,
    /// Mean of what a pixel covers.
    Box,
    /// Hamming window; 1 pixel either side.
    Hamming,
}

impl Filter {
    /// By Pillow's number.
    pub fn from_id(id: u64) -> Option<Self> {
        Some(match id {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }

    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.0,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| {
            if x == 0.0 {
                1.0
            } else {
                (x * PI).sin() / (x * PI)
            }
        };
        let a = x.abs();
        match self {
            Self::Nearest => 1.0,
            Self::Box if x > -0.5 && x <= 0.5 => 1.0,
            Self::Bilinear if a < 1.0 => 1.0 - a,
            Self::Hamming if a == 0.0 => 1.0,
            Self::Hamming if a < 1.0 => sinc(x) * (0.54 + 0.46 * (x * PI).cos()),
            Self::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Self::Bicubic if a < 2.0 => ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Which inputs an output reads, and with what weights.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of outputs `start .. start + count` when `from` pixels become `to`.
fn taps(filter: Filter, from: usize, to: usize, start: usize, count: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    (start..start + count)
        .map(|out| {
            if from == to {
                // Pillow leaves an axis that keeps its length alone.
                return Tap {
                    first: out,
                    weights: vec![1 << PRECISION],
                };
            }
            let centre = (out as f64 + 0.5) * scale;
            if filter == Filter::Nearest {
                return Tap {
                    first: (centre as usize).min(from - 1),
                    weights: vec![1 << PRECISION],
                };
            }
            let wide = scale.max(1.0);
            let support = filter.support() * wide;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let last = ((centre + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|x| filter.weight((x as f64 - centre + 0.5) / wide))
                .collect();
            let sum: f64 = weights.iter().sum();
            let sum = if sum == 0.0 { 1.0 } else { sum };
            let fixed = |w: &f64| {
                let w = w / sum * f64::from(1u32 << PRECISION);
                (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
            };
            Tap {
                first,
                weights: weights.iter().map(fixed).collect(),
            }
        })
        .collect()
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// A window of a resized picture: all that a crop needs.
pub(super) struct Window {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Resizes to `width` × `height` and returns the bytes of the window; pixels
/// outside of it are never computed.
pub(super) fn resize(
    picture: &Rgb8,
    (width, height): (usize, usize),
    filter: Filter,
    window: &Window,
) -> Vec<u8> {
    let (from_width, from_height) = (picture.width as usize, picture.height as usize);
    let columns = taps(filter, from_width, width, window.left, window.width);
    let rows = taps(filter, from_height, height, window.top, window.height);
    let first = rows.iter().map(|tap| tap.first).min().unwrap_or(0);
    let ends = rows.iter().map(|tap| tap.first + tap.weights.len());
    let last = ends.max().unwrap_or(0);

    let stride = window.width * 3;
    let mut narrow = Vec::with_capacity((last - first) * stride);
    for row in
        picture.data[first * from_width * 3..last * from_width * 3].chunks_exact(from_width * 3)
    {
        for tap in &columns {
            let mut sums = [HALF; 3];
            let pixels = row[tap.first * 3..].as_chunks::<3>().0;
            for (pixel, &weight) in pixels.iter().zip(&tap.weights) {
                for channel in 0..3 {
                    sums[channel] += i32::from(pixel[channel]) * weight;
                }
            }
            narrow.extend(sums.map(clip));
        }
    }

    let mut out = Vec::with_capacity(window.height * stride);
    let mut sums = vec![0i32; stride];
    for tap in &rows {
        sums.fill(HALF);
        let start = (tap.first - first) * stride;
        for (row, &weight) in narrow[start..].chunks_exact(stride).zip(&tap.weights) {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum += i32::from(byte) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}
