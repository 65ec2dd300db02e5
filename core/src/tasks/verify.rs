//! Whether a model gives here what it should: against what its publisher
//! says, and against embeddings recorded where it was known to be right.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::checkpoint::Checkpoint;
use crate::config::ClipConfig;
use crate::image::Rgb8;
use crate::tasks::classify::Classifier;
use crate::{Error, Result};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// What it should be.
    pub expected: f32,
    /// What it is.
    pub found: f32,
    /// Largest difference of a number behind the two; infinite where one side
    /// has none.
    pub difference: f32,
    /// How far it may be off.
    pub tolerance: f32,
}

impl Finding {
    /// Whether it is right. A number that is none is wrong.
    pub fn passed(&self) -> bool {
        (self.found - self.expected).abs() <= self.tolerance
    }
}

/// How far from 1 a cosine may be, by how the coarsest weights are stored:
/// what their rounding costs.
pub fn tolerance(checkpoint: &Checkpoint) -> f32 {
    let file = checkpoint.file();
    let stored = file.names().filter_map(|name| file.stored(name));
    stored.fold(1e-5, |most, stored| match stored.dtype.as_str() {
        "Q4_0" => most.max(2e-2),
        "Q8_0" => most.max(1e-3),
        "F16" | "BF16" => most.max(1e-4),
        _ => most,
    })
}

/// What is published about a checkpoint: probabilities for one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The checkpoint.
    pub model: String,
    /// The picture, which the person points to.
    pub picture: String,
    /// The name of its file.
    pub file: String,
    /// The labels, taken as they are.
    pub texts: Vec<String>,
    /// Their probabilities.
    pub probabilities: Vec<f32>,
}

/// Published numbers were computed in f16, on another decoder's pixels: three
/// digits are to be expected.
const PUBLISHED_TOLERANCE: f32 = 2e-3;

impl Published {
    /// What `published.json` beside the weights says, or else what is known of
    /// models of these sizes. Others' weights may have the same sizes: the
    /// person knows whose theirs are.
    ///
    /// # Errors
    /// Where the text says nothing of the kind.
    pub fn about(json: Option<&str>, config: &ClipConfig) -> Result<Option<Self>> {
        let Some(json) = json else {
            return Ok((*config == ClipConfig::vit_b_32()).then(Self::diagram));
        };
        let published: Self = serde_json::from_str(json)
            .map_err(|error| Error::Config(format!("published.json cannot be read: {error}")))?;
        if published.texts.is_empty() || published.texts.len() != published.probabilities.len() {
            return Err(Error::Config(format!(
                "published.json has {} texts and {} probabilities; expected one for each",
                published.texts.len(),
                published.probabilities.len()
            )));
        }
        Ok(Some(published))
    }

    /// The example of OpenAI's README.
    fn diagram() -> Self {
        Self {
            model: "OpenAI's ViT-B/32".into(),
            picture: "CLIP.png of the repository openai/CLIP".into(),
            file: "CLIP.png".into(),
            texts: ["a diagram", "a dog", "a cat"].map(str::to_owned).into(),
            probabilities: vec![0.992_793_7, 0.004_210_68, 0.002_995_72],
        }
    }

    /// Holds a model against it.
    ///
    /// # Errors
    /// Where the device fails.
    pub async fn check<B: Backend>(
        &self,
        classifier: &mut Classifier<B>,
        picture: &Rgb8,
    ) -> Result<Vec<Finding>> {
        let pixels = classifier.preprocess()?.apply(picture);
        let images = classifier.embed_images(&pixels).await?;
        let labels = classifier.labels(&self.texts, &[]).await?;
        let image = images.first().map_or(&[][..], Vec::as_slice);
        let scores = classifier.scores(image, &labels);
        let pairs = self.probabilities.iter().zip(scores.probability);
        let all = self.texts.iter().zip(pairs);
        Ok(all
            .map(|(text, (&expected, found))| Finding {
                what: format!("probability of \"{text}\""),
                expected,
                found,
                difference: (found - expected).abs(),
                tolerance: PUBLISHED_TOLERANCE,
            })
            .collect())
    }
}

/// Embeddings of pictures and texts of our own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// By the picture's name.
    pub pictures: BTreeMap<String, Vec<f32>>,
    /// By the text.
    pub texts: BTreeMap<String, Vec<f32>>,
}

/// The texts of a [`Golden`].
const TEXTS: [&str; 3] = [
    "a photo of a cat",
    "three red houses beside a tree",
    "it is raining on the harbour at night",
];

/// The pictures of a [`Golden`], made by whole numbers alone so that they are
/// the same everywhere: colour ramps, squares, and rings.
fn pictures() -> Result<Vec<(&'static str, Rgb8)>> {
    let (width, height) = (320u32, 240u32);
    let draw = |pixel: &dyn Fn(u32, u32) -> [u8; 3]| {
        let places = (0..width * height).map(|i| (i % width, i / width));
        let bytes = places.flat_map(|(x, y)| pixel(x, y)).collect();
        Rgb8::new(width, height, bytes)
    };
    let ramps = |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, 96];
    let squares = |x: u32, y: u32| {
        if (x / 40 + y / 40).is_multiple_of(2) {
            [230, 220, 40]
        } else {
            [20, 60, 170]
        }
    };
    let rings = |x: u32, y: u32| {
        let (dx, dy) = (x.abs_diff(width / 2), y.abs_diff(height / 2));
        match (dx * dx + dy * dy) / 1500 % 3 {
            0 => [200, 30, 40],
            1 => [250, 250, 245],
            _ => [40, 140, 70],
        }
    };
    Ok(vec![
        ("ramps", draw(&ramps)?),
        ("squares", draw(&squares)?),
        ("rings", draw(&rings)?),
    ])
}

impl Golden {
    /// What a model gives here, by the towers that it has.
    ///
    /// # Errors
    /// Where the device fails.
    pub async fn record<B: Backend>(classifier: &mut Classifier<B>) -> Result<Self> {
        let mut golden = Self::default();
        let config = classifier.clip().config().clone();
        if config.vision.is_some() {
            for (name, picture) in pictures()? {
                let pixels = classifier.preprocess()?.apply(&picture);
                let embeddings = classifier.embed_images(&pixels).await?;
                let named = embeddings.into_iter().map(|row| (name.to_owned(), row));
                golden.pictures.extend(named);
            }
        }
        if config.text.is_some() {
            let texts = TEXTS.map(str::to_owned);
            let embeddings = classifier.embed_texts(&texts).await?;
            golden.texts.extend(texts.into_iter().zip(embeddings));
        }
        Ok(golden)
    }

    /// The cosine to what was recorded, of each picture and text. Whatever is
    /// missing on one side has the cosine 0.
    pub fn compare(&self, found: &Self, tolerance: f32) -> Vec<Finding> {
        let cosine = |a: &[f32], b: &[f32]| -> f32 {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                let pairs = a.iter().zip(b);
                pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
        };
        let difference = |a: &[f32], b: &[f32]| -> f32 {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let sides = [
            ("picture", &self.pictures, &found.pictures),
            ("text", &self.texts, &found.texts),
        ];
        let mut findings = Vec::new();
        for (kind, expected, found) in sides {
            for (name, expected) in expected {
                let found = found.get(name).filter(|row| row.len() == expected.len());
                findings.push(Finding {
                    what: format!("cosine of the {kind} \"{name}\""),
                    expected: 1.0,
                    found: found.map_or(0.0, |found| cosine(expected, found)),
                    difference: found.map_or(f32::INFINITY, |found| difference(expected, found)),
                    tolerance,
                });
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Family, Preprocess};

    #[test]
    fn what_was_recorded_is_held_against_what_is_found() {
        let golden = |x: f32| Golden {
            pictures: [("ramps".to_owned(), vec![1.0, x])].into(),
            texts: [("a cat".to_owned(), vec![0.0, 1.0])].into(),
        };
        let passed = |found: &Golden| -> Vec<bool> {
            let findings = golden(0.0).compare(found, 1e-3);
            findings.iter().map(Finding::passed).collect()
        };
        assert_eq!(passed(&golden(0.01)), [true, true]);
        assert_eq!(passed(&golden(0.1)), [false, true]);
        assert_eq!(passed(&golden(f32::NAN)), [false, true]);
        assert_eq!(passed(&Golden::default()), [false, false]);
        let differences = |found: &Golden| -> Vec<f32> {
            let findings = golden(0.0).compare(found, 1e-3);
            findings.iter().map(|finding| finding.difference).collect()
        };
        assert_eq!(differences(&golden(-0.1)), [0.1, 0.0]);
        assert_eq!(differences(&Golden::default()), [f32::INFINITY; 2]);
    }

    #[test]
    fn what_is_published_is_found_by_the_sizes_or_beside_the_weights() {
        let about = |json, name| Published::about(json, &ClipConfig::preset(name).unwrap());
        let diagram = about(None, "ViT-B/32").unwrap().unwrap();
        assert_eq!(diagram.file, "CLIP.png");
        // The same sizes with another activation are another's.
        assert_eq!(about(None, "ViT-B-32").unwrap(), None);
        assert_eq!(about(None, "RN50").unwrap(), None);
        let mut other = diagram.clone();
        other.model = "another".into();
        let json = serde_json::to_string(&other).unwrap();
        assert_eq!(about(Some(&json), "RN50").unwrap().as_ref(), Some(&other));
        other.texts.clear();
        let json = serde_json::to_string(&other).unwrap();
        for wrong in [&json, "{}"] {
            let error = about(Some(wrong), "RN50").unwrap_err().to_string();
            assert!(error.contains("published.json"), "{error}");
        }
    }

    #[test]
    fn the_pictures_are_the_same_everywhere() {
        // Of this size nothing is resampled: the middle is taken.
        let preprocess = Preprocess::clip(240, Family::Transformers);
        let sum = |picture: &Rgb8| -> u64 {
            let bytes = preprocess.crop(picture).into_iter().zip(1u64..);
            bytes.map(|(byte, i)| u64::from(byte) * (i % 251)).sum()
        };
        let sums: Vec<u64> = pictures().unwrap().iter().map(|(_, p)| sum(p)).collect();
        assert_eq!(sums, [2_512_731_960, 2_666_880_790, 3_024_664_370]);
    }
}
