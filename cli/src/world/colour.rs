//! The ten colours, with room for variation inside each but none between them.

use rand::Rng;

/// Red, green and blue, each 0–255 (sRGB).
pub(super) type Rgb = [u8; 3];

/// A basic colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each variant is the colour it names")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Brown,
    Black,
    Gray,
}

impl Colour {
    /// All colours, in a fixed order.
    pub const ALL: &[Colour] = &[
        Colour::Red,
        Colour::Orange,
        Colour::Yellow,
        Colour::Green,
        Colour::Blue,
        Colour::Purple,
        Colour::Pink,
        Colour::Brown,
        Colour::Black,
        Colour::Gray,
    ];

    /// Its English name.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Yellow => "yellow",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Purple => "purple",
            Colour::Pink => "pink",
            Colour::Brown => "brown",
            Colour::Black => "black",
            Colour::Gray => "gray",
        }
    }

    /// A shade that everybody would call by this colour's name.
    pub fn shade(self, rng: &mut impl Rng) -> Rgb {
        // Hue in degrees, saturation and lightness of HSL.
        let (hue, saturation, lightness) = match self {
            Colour::Red => ((-7.0, 5.0), (0.75, 0.95), (0.42, 0.53)),
            Colour::Orange => ((24.0, 33.0), (0.88, 1.0), (0.50, 0.56)),
            Colour::Yellow => ((47.0, 55.0), (0.88, 1.0), (0.48, 0.58)),
            Colour::Green => ((105.0, 150.0), (0.50, 0.85), (0.28, 0.44)),
            Colour::Blue => ((205.0, 232.0), (0.65, 0.95), (0.40, 0.58)),
            Colour::Purple => ((268.0, 287.0), (0.50, 0.80), (0.36, 0.50)),
            Colour::Pink => ((324.0, 345.0), (0.80, 1.0), (0.68, 0.77)),
            Colour::Brown => ((18.0, 29.0), (0.45, 0.65), (0.23, 0.33)),
            Colour::Black => ((0.0, 360.0), (0.0, 0.10), (0.03, 0.13)),
            Colour::Gray => ((0.0, 360.0), (0.0, 0.06), (0.50, 0.60)),
        };
        let mut pick = |(low, high): (f32, f32)| rng.random_range(low..=high);
        rgb_from_hsl(pick(hue), pick(saturation), pick(lightness))
    }
}

/// sRGB from hue (degrees), saturation and lightness (0–1).
pub(super) fn rgb_from_hsl(hue: f32, saturation: f32, lightness: f32) -> Rgb {
    let chroma = (1.0 - (2.0 * lightness - 1.0).abs()) * saturation;
    let channel = |turn: f32| {
        let at = (hue / 60.0 + turn).rem_euclid(6.0);
        let value = lightness + chroma * ((at - 3.0).abs() - 1.5).clamp(-0.5, 0.5);
        (value * 255.0).round() as u8
    };
    [channel(0.0), channel(4.0), channel(2.0)]
}

/// `amount` of the way from `from` to `to`.
pub(super) fn mix(from: Rgb, to: Rgb, amount: f32) -> Rgb {
    std::array::from_fn(|i| {
        let (a, b) = (f32::from(from[i]), f32::from(to[i]));
        (a + (b - a) * amount).round() as u8
    })
}

/// Perceived difference of two colours: the distance in Oklab, where black and white are 1
/// apart (B. Ottosson, "A perceptual color space for image processing").
pub(super) fn difference(a: Rgb, b: Rgb) -> f32 {
    let (a, b) = (oklab(a), oklab(b));
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f32>()
        .sqrt()
}

fn oklab(rgb: Rgb) -> [f32; 3] {
    let [r, g, b] = rgb.map(|c| {
        let c = f32::from(c) / 255.0;
        if c <= 0.04045 {
            c / 12.92
        } else {
            ((c + 0.055) / 1.055).powf(2.4)
        }
    });
    let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}
