//! Zero-shot classification (CLIP §3.1): each label becomes a sentence, each
//! sentence a point, and a picture belongs to the label whose point is nearest.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::config::{Scoring, VisionConfig};
use crate::image::Preprocess;
use crate::models::clip::Clip;
use crate::tokens::{Tokenizer, Tokens};
use crate::{Error, Result};

/// Texts that go through the text tower at once.
const TEXT_BATCH: usize = 32;

/// How well each label fits one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Cosine of the angle between picture and label, −1 to 1.
    pub cosine: Vec<f32>,
    /// As [`Classifier::scoring`] says: of these labels, which sums to 1
    /// (CLIP), or of each label alone, which does not (SigLIP).
    pub probability: Vec<f32>,
}

/// Label embeddings, `[labels, embed_dim]`, each of length one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    rows: Vec<Vec<f32>>,
}

/// A model with what belongs to it.
pub struct Classifier<B: Backend> {
    clip: Clip<B>,
    tokenizer: Option<Tokenizer>,
    preprocess: Option<Preprocess>,
    /// Embedding of each prompt so far, of length one.
    prompts: HashMap<String, Vec<f32>>,
}

/// Puts a label into a template. A template without a place is put before the
/// label.
pub fn fill(template: &str, label: &str) -> String {
    if template.contains("{}") {
        template.replace("{}", label)
    } else {
        format!("{template} {label}")
    }
}

/// Divides by the Euclidean length; zeros stay zeros.
fn normalize(mut x: Vec<f32>) -> Vec<f32> {
    let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        x.iter_mut().for_each(|x| *x /= length);
    }
    x
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn rows(flat: &[f32], width: usize) -> impl Iterator<Item = Vec<f32>> {
    flat.chunks_exact(width).map(<[f32]>::to_vec)
}

impl Labels {
    /// Number of labels.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl<B: Backend> Classifier<B> {
    /// Puts a model together with its tokenizer and preprocessing; what goes
    /// with a tower that is not there is not needed.
    ///
    /// # Errors
    /// Where they do not belong together.
    pub fn new(
        clip: Clip<B>,
        tokenizer: impl Into<Option<Tokenizer>>,
        preprocess: impl Into<Option<Preprocess>>,
    ) -> Result<Self> {
        let (tokenizer, preprocess) = (tokenizer.into(), preprocess.into());
        let config = clip.config();
        if let (Some(text), Some(tokenizer)) = (&config.text, &tokenizer)
            && tokenizer.vocab_size() > text.vocab_size
        {
            return Err(Error::Config(format!(
                "tokenizer.json has {} tokens and the model {}; do the files belong together?",
                tokenizer.vocab_size(),
                text.vocab_size
            )));
        }
        let side = config.vision.as_ref().map(VisionConfig::image_size);
        if let (Some(side), Some(preprocess)) = (side, &preprocess)
            && preprocess.size() != side
        {
            return Err(Error::Config(format!(
                "preprocessing makes pictures of {} pixels and the model takes {side}; do the \
                 files belong together?",
                preprocess.size()
            )));
        }
        Ok(Self {
            clip,
            tokenizer,
            preprocess,
            prompts: HashMap::new(),
        })
    }

    /// The model.
    pub fn clip(&self) -> &Clip<B> {
        &self.clip
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// Where there is no text tower.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or(Error::NoTower("text"))
    }

    /// Its preprocessing.
    ///
    /// # Errors
    /// Where there is no image tower.
    pub fn preprocess(&self) -> Result<&Preprocess> {
        self.preprocess.as_ref().ok_or(Error::NoTower("image"))
    }

    /// Prepared pictures, one after the other → their embeddings, each of
    /// length one.
    ///
    /// # Errors
    /// Where `pixels` are not whole pictures or the device fails.
    pub async fn embed_images(&self, pixels: &[f32]) -> Result<Vec<Vec<f32>>> {
        let embeddings = self.clip.embed_images(pixels)?.read().await?;
        Ok(rows(&embeddings, self.clip.config().embed_dim).collect())
    }

    /// Texts → their embeddings, each of length one. Texts seen before cost
    /// nothing.
    ///
    /// # Errors
    /// Where a text cannot be encoded or the device fails.
    pub async fn embed_texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut new: Vec<&String> = Vec::new();
        for text in texts {
            if !self.prompts.contains_key(text) && !new.contains(&text) {
                new.push(text);
            }
        }
        let tokenizer = self.tokenizer()?;
        let mut new = new
            .into_iter()
            .map(|text| Ok((text, tokenizer.encode(text)?)))
            .collect::<Result<Vec<_>>>()?;
        // Texts of like length together: a batch is as wide as its longest.
        new.sort_by_key(|(_, tokens)| tokens.ids.len());
        // A tower that is not causal sees what shorter texts are filled up
        // with: there only texts of one length go together, so that no text's
        // embedding depends on the others'.
        let causal = self.clip.config().text()?.causal;
        let alike = |a: &(_, Tokens), b: &(_, Tokens)| causal || a.1.ids.len() == b.1.ids.len();
        let batches = new
            .chunk_by(alike)
            .flat_map(|group| group.chunks(TEXT_BATCH));
        for batch in batches {
            let tokens: Vec<_> = batch.iter().map(|(_, tokens)| tokens.clone()).collect();
            let embeddings = self.clip.embed_texts(&tokens)?.read().await?;
            let embeddings = rows(&embeddings, self.clip.config().embed_dim);
            for ((text, _), embedding) in batch.iter().zip(embeddings) {
                self.prompts.insert((*text).clone(), embedding);
            }
        }
        Ok(texts
            .iter()
            .map(|text| self.prompts[text.as_str()].clone())
            .collect())
    }

    /// Labels → one embedding each: every template is filled, encoded and
    /// normalised; the mean over the templates is normalised again (CLIP
    /// §3.1.4). No template means the label alone.
    ///
    /// # Errors
    /// As [`Classifier::embed_texts`].
    pub async fn labels(&mut self, labels: &[String], templates: &[String]) -> Result<Labels> {
        let alone = ["{}".to_owned()];
        let templates = if templates.is_empty() {
            &alone
        } else {
            templates
        };
        let prompts: Vec<String> = labels
            .iter()
            .flat_map(|label| templates.iter().map(move |template| fill(template, label)))
            .collect();
        let embeddings = self.embed_texts(&prompts).await?;
        let rows = embeddings
            .chunks_exact(templates.len())
            .map(|members| {
                let mut mean = vec![0f32; self.clip.config().embed_dim];
                for member in members {
                    mean.iter_mut().zip(member).for_each(|(m, x)| *m += x);
                }
                normalize(mean)
            })
            .collect();
        Ok(Labels { rows })
    }

    /// What the probabilities mean.
    pub fn scoring(&self) -> Scoring {
        self.clip.config().scoring
    }

    /// How well each label fits the picture with this embedding.
    pub fn scores(&self, image: &[f32], labels: &Labels) -> Scores {
        let cosine: Vec<f32> = labels.rows.iter().map(|row| dot(image, row)).collect();
        let (scale, bias) = (self.clip.scale(), self.clip.bias());
        Scores {
            probability: match self.scoring() {
                Scoring::Softmax => softmax(&cosine, scale),
                Scoring::Sigmoid => sigmoid(&cosine, scale, bias),
            },
            cosine,
        }
    }
}

/// `softmax(scale · cosine)`.
fn softmax(cosine: &[f32], scale: f32) -> Vec<f32> {
    let top = cosine.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut probability: Vec<f32> = cosine.iter().map(|c| ((c - top) * scale).exp()).collect();
    let sum: f32 = probability.iter().sum();
    probability.iter_mut().for_each(|p| *p /= sum);
    probability
}

/// `sigmoid(scale · cosine + bias)`.
fn sigmoid(cosine: &[f32], scale: f32, bias: f32) -> Vec<f32> {
    let logits = cosine.iter().map(|c| c * scale + bias);
    logits.map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_clip_are_a_softmax_of_scaled_cosines() {
        let probability = softmax(&[0.6, 0.8], 10.0);
        // 1 / (1 + e^2)
        assert!((probability[0] - 0.119_202_92).abs() < 1e-6);
        assert!((probability[1] - 0.880_797_1).abs() < 1e-6);
    }

    #[test]
    fn probabilities_of_siglip_are_each_labels_own() {
        let probability = sigmoid(&[0.1, 0.12, -1.0], 100.0, -10.0);
        assert_eq!(probability[0], 0.5);
        // 1 / (1 + e^-2)
        assert!((probability[1] - 0.880_797_1).abs() < 1e-6);
        assert_eq!(probability[2], 0.0);
    }

    #[test]
    fn a_label_takes_its_place_in_the_template() {
        assert_eq!(fill("a photo of a {}.", "cat"), "a photo of a cat.");
        assert_eq!(fill("a photo of", "cat"), "a photo of cat");
    }
}
