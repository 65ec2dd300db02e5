//! From a picture to what an image tower takes, as the checkpoint's own
//! configuration says.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::resize::{Window, resize};
use super::{Filter, ImageError, Rgb8};
use crate::config::{ClipConfig, Scoring};

/// Whose arithmetic a checkpoint was published with: they round the margin of
/// the centre crop differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// transformers: rounded down.
    Transformers,
    /// OpenAI and open_clip (torchvision): half to even.
    OpenClip,
}

/// How the picture is brought to size before the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resize {
    /// The shorter side becomes this long, the longer in proportion.
    Shortest(usize),
    /// The longer side becomes this long, the shorter in proportion.
    Longest(usize),
    /// Both sides, width and height, whatever the proportion.
    Squash(usize, usize),
    /// Not at all.
    Keep,
}

/// The colour of a margin: of all channels, or of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Fill {
    Gray(u8),
    Colour([u8; 3]),
}

impl Fill {
    fn pixel(self) -> [u8; 3] {
        match self {
            Self::Gray(byte) => [byte; 3],
            Self::Colour(pixel) => pixel,
        }
    }
}

/// The preparation of pictures for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    size: usize,
    resize: Resize,
    filter: Filter,
    family: Family,
    /// The margin where the crop is larger than the picture.
    fill: Fill,
    /// Whether transparent pictures are laid on white; else their colours are
    /// taken as if they were opaque.
    on_white: bool,
    table: Table,
}

/// From bytes to prepared numbers.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    factor: f64,
    mean: [f64; 3],
    std: [f64; 3],
    /// `[byte][channel]` → prepared number.
    numbers: Vec<[f32; 3]>,
}

/// A [`Preprocess`] with every choice written down: what packed models carry.
#[derive(Serialize, Deserialize)]
struct Explicit {
    size: usize,
    resize: Resize,
    filter: Filter,
    family: Family,
    fill: Fill,
    #[serde(default)]
    on_white: bool,
    factor: f64,
    mean: [f64; 3],
    std: [f64; 3],
}

/// CLIP's own (OpenAI's `clip.py`).
const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// ImageNet's, which timm gives NFNets.
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];
/// SigLIP's mean and deviation.
const HALF: [f64; 3] = [0.5; 3];

impl Preprocess {
    /// CLIP's preparation for pictures of `size` × `size`: for checkpoints
    /// that come without a configuration of it.
    pub fn clip(size: usize, family: Family) -> Self {
        Self {
            size,
            resize: Resize::Shortest(size),
            filter: Filter::Bicubic,
            family,
            fill: Fill::Gray(0),
            on_white: false,
            table: table(1.0 / 255.0, CLIP_MEAN, CLIP_STD),
        }
    }

    /// The preparation that goes with a model: what is written down beside the
    /// weights, or where nothing is, what its family does.
    ///
    /// # Errors
    /// As [`Preprocess::from_json`], and where the model takes no pictures.
    pub fn of_model(
        json: Option<&str>,
        config: &ClipConfig,
        family: Family,
    ) -> Result<Self, crate::Error> {
        let size = config.vision()?.image_size();
        Ok(match (json, config.scoring) {
            (Some(json), _) => Self::from_json(json, size)?,
            (None, Scoring::Softmax) => Self::clip(size, family),
            (None, Scoring::Sigmoid) => Self::siglip(size, family),
        })
    }

    /// IDEFICS's preparation for pictures of `size` × `size`: CLIP's numbers,
    /// whatever the proportion, on white (`image_processing_idefics.py`).
    pub fn idefics(size: usize) -> Self {
        Self {
            resize: Resize::Squash(size, size),
            on_white: true,
            ..Self::clip(size, Family::Transformers)
        }
    }

    /// The paper's preparation for Flamingo: the proportion is kept, and the mean
    /// colour fills the square (App. B.1.2). What numbers it makes of them is not
    /// said; here those of timm's NFNets.
    pub fn flamingo(size: usize) -> Self {
        Self {
            resize: Resize::Longest(size),
            fill: Fill::Colour(IMAGENET_MEAN.map(|mean| (255.0 * mean).round() as u8)),
            table: table(1.0 / 255.0, IMAGENET_MEAN, IMAGENET_STD),
            ..Self::clip(size, Family::OpenClip)
        }
    }

    /// SigLIP's preparation for pictures of `size` × `size`.
    pub fn siglip(size: usize, family: Family) -> Self {
        Self {
            resize: Resize::Squash(size, size),
            table: table(1.0 / 255.0, HALF, HALF),
            ..Self::clip(size, family)
        }
    }

    /// Reads what [`Preprocess::to_json`] wrote, a `preprocessor_config.json`
    /// (transformers), the `pretrained_cfg` of timm's `config.json` or the
    /// `preprocess_cfg` of an `open_clip_config.json`. `image_size` is the
    /// model's, for configurations that leave it out.
    ///
    /// # Errors
    /// Where it is not JSON or asks for what is not computed here.
    pub fn from_json(json: &str, image_size: usize) -> Result<Self, ImageError> {
        let value: Value = serde_json::from_str(json)
            .map_err(|error| ImageError::Config(format!("it is not JSON: {error}")))?;
        if value.get("family").is_some() {
            let explicit = serde_json::from_value(value);
            let explicit: Explicit =
                explicit.map_err(|error| ImageError::Config(error.to_string()))?;
            checked(Self {
                size: explicit.size,
                resize: explicit.resize,
                filter: explicit.filter,
                family: explicit.family,
                fill: explicit.fill,
                on_white: explicit.on_white,
                table: table(explicit.factor, explicit.mean, explicit.std),
            })
        } else if value.get("model_cfg").is_some() {
            let empty = Value::Null;
            open_clip(value.get("preprocess_cfg").unwrap_or(&empty), image_size)
        } else if let Some(pretrained) = value.get("pretrained_cfg") {
            timm(pretrained, image_size)
        } else {
            transformers(&value, image_size)
        }
    }

    /// Every choice written down, for [`Preprocess::from_json`] to read.
    pub fn to_json(&self) -> Value {
        serde_json::json!(Explicit {
            size: self.size,
            resize: self.resize,
            filter: self.filter,
            family: self.family,
            fill: self.fill,
            on_white: self.on_white,
            factor: self.table.factor,
            mean: self.table.mean,
            std: self.table.std,
        })
    }

    /// Side of the prepared picture in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Sides of the whole picture after resizing, before the crop.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        let keep = |side: usize, to: usize, other: usize| (to * other / side).max(1);
        match self.resize {
            Resize::Keep => (width, height),
            Resize::Squash(width, height) => (width, height),
            Resize::Shortest(to) if width <= height => (to, keep(width, to, height)),
            Resize::Shortest(to) => (keep(height, to, width), to),
            Resize::Longest(to) if width >= height => (to, keep(width, to, height)),
            Resize::Longest(to) => (keep(height, to, width), to),
        }
    }

    /// First pixel of the crop along a side; negative where a margin is added.
    fn offset(&self, side: usize) -> isize {
        let excess = side as isize - self.size as isize;
        match self.family {
            Family::Transformers => excess.div_euclid(2),
            Family::OpenClip if excess < 0 => -(-excess / 2),
            // Half to even: …, 1/2 → 0, 3/2 → 2, 5/2 → 2, ….
            Family::OpenClip if excess % 4 == 3 => excess / 2 + 1,
            Family::OpenClip => excess / 2,
        }
    }

    /// The part of a picture of these sides that the prepared one shows, as
    /// parts of its sides: left, top, width and height. Where a margin is added
    /// it reaches beyond the picture.
    pub fn shown(&self, width: usize, height: usize) -> [f32; 4] {
        let (width, height) = self.resized(width, height);
        let part = |pixels: f32, side: usize| pixels / side as f32;
        [
            part(self.offset(width) as f32, width),
            part(self.offset(height) as f32, height),
            part(self.size as f32, width),
            part(self.size as f32, height),
        ]
    }

    /// The bytes of the resized and cropped picture, `[size, size, 3]`.
    pub fn crop(&self, picture: &Rgb8) -> Vec<u8> {
        let picture = &*match self.on_white {
            true => picture.on_white(),
            false => Cow::Borrowed(picture),
        };
        let (width, height) = self.resized(picture.width() as usize, picture.height() as usize);
        let (left, top) = (self.offset(width), self.offset(height));
        let span = |offset: isize, side: usize| {
            let start = offset.max(0) as usize;
            let end = (offset + self.size as isize).clamp(0, side as isize) as usize;
            (start, end.saturating_sub(start))
        };
        let ((x, w), (y, h)) = (span(left, width), span(top, height));
        let window = Window {
            left: x,
            top: y,
            width: w,
            height: h,
        };
        let bytes = resize(picture, (width, height), self.filter, &window);
        if (w, h) == (self.size, self.size) {
            return bytes;
        }
        let mut out = self.fill.pixel().repeat(self.size * self.size);
        let (dx, dy) = ((-left).max(0) as usize, (-top).max(0) as usize);
        for (row, bytes) in bytes.chunks_exact(w * 3).enumerate() {
            let at = ((dy + row) * self.size + dx) * 3;
            out[at..at + w * 3].copy_from_slice(bytes);
        }
        out
    }

    /// The prepared picture, `[size, size, 3]`.
    pub fn apply(&self, picture: &Rgb8) -> Vec<f32> {
        let pixels = self.crop(picture);
        let mut out = Vec::with_capacity(pixels.len());
        for pixel in pixels.as_chunks::<3>().0 {
            let channels = pixel.iter().enumerate();
            out.extend(
                channels.map(|(channel, &byte)| self.table.numbers[usize::from(byte)][channel]),
            );
        }
        out
    }
}

/// `(byte · factor − mean) / std` in the precision of the references.
fn table(factor: f64, mean: [f64; 3], std: [f64; 3]) -> Table {
    let number = |byte: u32, channel: usize| {
        let value = (f64::from(byte) * factor) as f32;
        (value - mean[channel] as f32) / std[channel] as f32
    };
    Table {
        factor,
        mean,
        std,
        numbers: (0..256)
            .map(|byte| [0, 1, 2].map(|channel| number(byte, channel)))
            .collect(),
    }
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(true)
}

fn triple(value: &Value, key: &str, default: [f64; 3]) -> Result<[f64; 3], ImageError> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(found) => serde_json::from_value(found.clone()).map_err(|_| {
            ImageError::Config(format!("expected three numbers in `{key}`, got {found}"))
        }),
    }
}

/// A side that is a number, `[height, width]` or `{height, width}`, and square.
fn square(value: &Value) -> Option<(usize, usize)> {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).map(|n| n as usize);
    let one = number(Some(value)).map(|side| (side, side));
    let pair = || Some((number(value.get(1))?, number(value.get(0))?));
    let named = || Some((number(value.get("width"))?, number(value.get("height"))?));
    one.or_else(pair).or_else(named)
}

fn checked(preprocess: Preprocess) -> Result<Preprocess, ImageError> {
    let sides = match preprocess.resize {
        Resize::Keep => [1, 1],
        Resize::Shortest(side) | Resize::Longest(side) => [side, side],
        Resize::Squash(width, height) => [width, height],
    };
    for side in sides.into_iter().chain([preprocess.size]) {
        if side == 0 || side > 4096 {
            return Err(ImageError::Config(format!(
                "expected sizes of 1 to 4096 pixels, got {side}"
            )));
        }
    }
    Ok(preprocess)
}

/// `CLIPImageProcessor` (`image_processing_clip.py`) and
/// `SiglipImageProcessor`, which never crops.
fn transformers(value: &Value, image_size: usize) -> Result<Preprocess, ImageError> {
    let wrong = |key: &str, found: &Value| {
        ImageError::Config(format!("`{key}` is {found}, which is not understood"))
    };
    let missing = Value::from(image_size);
    let size = value.get("size").unwrap_or(&missing);
    let resize = if !flag(value, "do_resize") {
        Resize::Keep
    } else if let Some(edge) = size.get("shortest_edge").or(size.is_u64().then_some(size)) {
        let edge = edge.as_u64().ok_or_else(|| wrong("size", size))?;
        Resize::Shortest(edge as usize)
    } else {
        let (width, height) = square(size).ok_or_else(|| wrong("size", size))?;
        Resize::Squash(width, height)
    };
    let kind = value.get("image_processor_type").and_then(Value::as_str);
    let siglip = kind.is_some_and(|kind| kind.starts_with("Siglip"));
    let side = if flag(value, "do_center_crop") && !siglip {
        let crop = value.get("crop_size").unwrap_or(&missing);
        match square(crop) {
            Some((width, height)) if width == height => width,
            _ => return Err(wrong("crop_size", crop)),
        }
    } else {
        match resize {
            Resize::Squash(width, height) if width == height => width,
            _ => {
                return Err(ImageError::Config(
                    "without do_center_crop a square `size` is needed".into(),
                ));
            }
        }
    };
    let filter = match value.get("resample") {
        None => Filter::Bicubic,
        Some(id) => id
            .as_u64()
            .and_then(Filter::from_id)
            .ok_or_else(|| wrong("resample", id))?,
    };
    let (mean, std) = if siglip {
        (HALF, HALF)
    } else {
        (CLIP_MEAN, CLIP_STD)
    };
    let (mean, std) = if flag(value, "do_normalize") {
        (
            triple(value, "image_mean", mean)?,
            triple(value, "image_std", std)?,
        )
    } else {
        ([0.0; 3], [1.0; 3])
    };
    let factor = value.get("rescale_factor").and_then(Value::as_f64);
    let factor = if flag(value, "do_rescale") {
        factor.unwrap_or(1.0 / 255.0)
    } else {
        1.0
    };
    checked(Preprocess {
        size: side,
        resize,
        filter,
        family: Family::Transformers,
        fill: Fill::Gray(0),
        on_white: false,
        table: table(factor, mean, std),
    })
}

/// `PreprocessCfg` (`transform.py`).
fn open_clip(value: &Value, image_size: usize) -> Result<Preprocess, ImageError> {
    let (width, height) = value
        .get("size")
        .and_then(square)
        .unwrap_or((image_size, image_size));
    if width != height {
        return Err(ImageError::Config(format!(
            "expected a square `size`, got {width} × {height}"
        )));
    }
    let text = |key: &str, default| value.get(key).and_then(Value::as_str).unwrap_or(default);
    let resize = match text("resize_mode", "shortest") {
        "shortest" => Resize::Shortest(width),
        "longest" => Resize::Longest(width),
        "squash" => Resize::Squash(width, width),
        other => {
            return Err(ImageError::Config(format!(
                "`resize_mode` is `{other}`; expected shortest, longest or squash"
            )));
        }
    };
    let filter = filter(text("interpolation", "bicubic"))?;
    let fill = value.get("fill_color").and_then(Value::as_u64).unwrap_or(0);
    checked(Preprocess {
        size: width,
        resize,
        filter,
        family: Family::OpenClip,
        fill: Fill::Gray(fill.min(255) as u8),
        on_white: false,
        table: table(
            1.0 / 255.0,
            triple(value, "mean", CLIP_MEAN)?,
            triple(value, "std", CLIP_STD)?,
        ),
    })
}

/// The filter by its name in torchvision.
fn filter(name: &str) -> Result<Filter, ImageError> {
    match name {
        "bicubic" => Ok(Filter::Bicubic),
        "bilinear" => Ok(Filter::Bilinear),
        other => Err(ImageError::Config(format!(
            "`interpolation` is `{other}`; expected bicubic or bilinear"
        ))),
    }
}

/// timm's `pretrained_cfg` (`create_transform` for evaluation): the shorter
/// side becomes `input_size / crop_pct`, or both sides do.
fn timm(value: &Value, image_size: usize) -> Result<Preprocess, ImageError> {
    let text = |key: &str, default| value.get(key).and_then(Value::as_str).unwrap_or(default);
    let size = value.get("input_size").and_then(|size| size.get(1));
    let size = size
        .and_then(Value::as_u64)
        .map_or(image_size, |n| n as usize);
    let crop = value.get("crop_pct").and_then(Value::as_f64).unwrap_or(1.0);
    let resized = (size as f64 / crop) as usize;
    let resize = match text("crop_mode", "center") {
        "center" => Resize::Shortest(resized),
        "squash" => Resize::Squash(resized, resized),
        other => {
            return Err(ImageError::Config(format!(
                "`crop_mode` is `{other}`; expected center or squash"
            )));
        }
    };
    checked(Preprocess {
        size,
        resize,
        filter: filter(text("interpolation", "bicubic"))?,
        family: Family::OpenClip,
        fill: Fill::Gray(0),
        on_white: false,
        table: table(
            1.0 / 255.0,
            triple(value, "mean", CLIP_MEAN)?,
            triple(value, "std", CLIP_STD)?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crop offsets for an excess of 0, 1, … pixels, by the references' own
    /// arithmetic: `(excess) // 2` and Python's `int(round(excess / 2))`.
    #[test]
    fn each_family_rounds_its_margin_as_it_does() {
        let offsets = |family| {
            let preprocess = Preprocess::clip(224, family);
            [0, 1, 2, 3, 4, 5, 6, 7, 11].map(|excess| preprocess.offset(224 + excess))
        };
        assert_eq!(offsets(Family::Transformers), [0, 0, 1, 1, 2, 2, 3, 3, 5]);
        assert_eq!(offsets(Family::OpenClip), [0, 0, 1, 2, 2, 2, 3, 4, 6]);
    }

    #[test]
    fn the_longer_side_is_rounded_down() {
        let preprocess = Preprocess::clip(224, Family::Transformers);
        assert_eq!(preprocess.resized(640, 427), (335, 224));
        assert_eq!(preprocess.resized(427, 640), (224, 335));
    }

    /// What black and white become.
    fn ends(preprocess: &Preprocess) -> [[f32; 3]; 2] {
        [preprocess.table.numbers[0], preprocess.table.numbers[255]]
    }

    #[test]
    fn siglip_squashes_and_has_its_own_mean() {
        let json = r#"{"image_processor_type": "SiglipImageProcessor", "resample": 3,
                       "size": {"height": 224, "width": 224}}"#;
        let stated = Preprocess::from_json(json, 224).unwrap();
        assert_eq!(stated.resized(640, 427), (224, 224));
        assert_eq!(ends(&stated), [[-1.0; 3], [1.0; 3]]);
        let siglip = crate::config::ClipConfig::preset("ViT-B-16-SigLIP").unwrap();
        let unstated = Preprocess::of_model(None, &siglip, Family::Transformers).unwrap();
        assert_eq!(unstated, stated);
        let clip = crate::config::ClipConfig::preset("ViT-B/32").unwrap();
        let clip = Preprocess::of_model(None, &clip, Family::OpenClip).unwrap();
        assert_eq!(clip, Preprocess::clip(224, Family::OpenClip));
    }

    /// A wide picture keeps its proportion between margins that say nothing, and
    /// a packed file carries that.
    #[test]
    fn flamingos_pictures_are_whole_on_the_mean_colour() {
        let preprocess = Preprocess::flamingo(32);
        let json = preprocess.to_json().to_string();
        assert_eq!(Preprocess::from_json(&json, 1).unwrap(), preprocess);
        let white = Rgb8::new(8, 4, vec![255; 8 * 4 * 3]).unwrap();
        let numbers = preprocess.apply(&white);
        let (row, white) = (32 * 3, ends(&preprocess)[1]);
        for (y, numbers) in numbers.chunks_exact(row).enumerate() {
            for pixel in numbers.chunks_exact(3) {
                if (8..24).contains(&y) {
                    assert_eq!(pixel, white);
                } else {
                    // Half a step of a byte.
                    assert!(pixel.iter().all(|x| x.abs() < 0.5 / 255.0 / 0.224));
                }
            }
        }
    }

    #[test]
    fn open_clip_and_timm_say_mean_mode_and_filter() {
        let open_clip = r#"{"model_cfg": {}, "preprocess_cfg": {"size": [224, 224],
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear",
            "resize_mode": "squash"}}"#;
        let timm = r#"{"pretrained_cfg": {"input_size": [3, 224, 224], "crop_mode": "squash",
            "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
        for json in [open_clip, timm] {
            let preprocess = Preprocess::from_json(json, 224).unwrap();
            assert_eq!(preprocess.resized(640, 427), (224, 224));
            assert_eq!(preprocess.filter, Filter::Bilinear);
            assert_eq!(ends(&preprocess), [[-1.0; 3], [1.0; 3]]);
        }
        let cropped = r#"{"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.875}}"#;
        let cropped = Preprocess::from_json(cropped, 224).unwrap();
        assert_eq!(cropped.resized(512, 512), (256, 256));
        assert_eq!(cropped.size(), 224);
    }
}
