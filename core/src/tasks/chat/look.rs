//! Where the words of an answer looked: the attention of the layers between,
//! each as far as its gate is open, to the visual tokens, and through the
//! resampler to the places of the picture.

use super::{Chat, Prompt, Read, reading};
use crate::backend::Backend;
use crate::image::Rgb8;
use crate::models::gaze;
use crate::prompts::Segment;
use crate::{Error, Result};

/// What a word saw of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The name of the picture.
    pub picture: String,
    /// How much of the attention was for this picture; these sum to one.
    pub share: f32,
    /// How much of that each cell of the picture had, row by row, frame by
    /// frame; sums to one.
    pub cells: Vec<f32>,
}

/// Where a word looked.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The word, with the blank before it.
    pub word: String,
    /// The pictures that it may see.
    pub seen: Vec<Seen>,
}

impl<B: Backend> Chat<B> {
    /// Works out what the visual tokens of a picture are made of, for
    /// [`Chat::look`].
    ///
    /// # Errors
    /// As [`Chat::see`].
    pub async fn trace(&mut self, name: &str, frames: &[Rgb8]) -> Result<()> {
        let (flamingo, preprocess) = self.writer.seeing()?;
        let pixels: Vec<f32> = frames.iter().flat_map(|f| preprocess.apply(f)).collect();
        let origins = flamingo.origins(&pixels, frames.len()).await?;
        let config = flamingo.config();
        let features = config.features_per_image();
        // A class token stands nowhere in the picture.
        let nowhere = usize::from(config.vision.class_token() && config.features.class_token);
        let places = origins.chunks_exact(features);
        let mut cells: Vec<f32> = places
            .flat_map(|frame| &frame[nowhere..])
            .copied()
            .collect();
        gaze::normalize(&mut cells, frames.len() * (features - nowhere));
        self.origins.insert(name.to_owned(), cells);
        Ok(())
    }

    /// Whether a picture was traced.
    pub fn has_traced(&self, name: &str) -> bool {
        self.origins.contains_key(name)
    }

    /// Cells on a side of a picture, which has as many rows as columns.
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn side(&self) -> Result<usize> {
        let vision = &self.flamingo()?.config().vision;
        Ok((vision.tokens() - usize::from(vision.class_token())).isqrt())
    }

    /// The part of a picture of these sides that the model sees: see
    /// [`Preprocess::shown`](crate::image::Preprocess::shown).
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn area(&self, width: usize, height: usize) -> Result<[f32; 4]> {
        Ok(self.writer.seeing()?.1.shown(width, height))
    }

    /// Where each word of an answer looked, in some of the layers between, or in
    /// all where none are named. A word is chosen by what the token before it
    /// saw. Its pictures have been traced.
    ///
    /// # Errors
    /// As [`Chat::write`], and where a picture was not traced.
    pub async fn look(
        &mut self,
        segments: &[Segment],
        answer: &str,
        layers: &[usize],
    ) -> Result<Vec<Look>> {
        let written = self.tokens_of(answer)?;
        let Prompt { mut ids, names } = self.prompt(segments)?;
        if let Some(name) = names.iter().find(|name| !self.has_traced(name)) {
            return Err(Error::Unseen(name.clone()));
        }
        let (prompt, needed) = (ids.len(), ids.len() + written.len());
        if needed > self.context() {
            return Err(Error::CacheFull {
                capacity: self.context(),
                needed,
            });
        }
        let Some((_, fed)) = written.split_last() else {
            return Ok(Vec::new());
        };
        ids.extend(fed);
        let mut cache = self.remembered(&ids, &names, prompt - 1)?;
        self.writer.lm().reserve(&mut cache, ids.len())?;
        let decoder = reading(
            &self.writer,
            &self.pictures,
            &mut self.shown,
            &names,
            &ids[..prompt],
        )?;
        let unread = &ids[cache.len()..];
        let gazes = decoder.gaze(unread, written.len(), &mut cache).await?;
        let chosen = gazes
            .iter()
            .filter(|(layer, _)| layers.is_empty() || layers.contains(layer));
        let open = |layer: usize| {
            let gate = self.gates.iter().find(|(other, _, _)| *other == layer);
            gate.map_or(0.0, |(_, attention, _)| attention.abs())
        };
        // Before anything was learned all gates are shut.
        let shut = chosen.clone().all(|(layer, _)| open(*layer) == 0.0);
        let mut whole = vec![0.0; gazes.first().map_or(0, |(_, weights)| weights.len())];
        for (layer, weights) in chosen {
            let weight = if shut { 1.0 } else { open(*layer) };
            gaze::mix(&[weight], weights, &mut whole);
        }
        let all_previous = self.flamingo()?.config().xattn.all_previous;
        let first = if all_previous {
            0
        } else {
            names.len().saturating_sub(1)
        };
        let mut looks = Vec::new();
        let columns = whole.len() / written.len();
        for (word, tokens) in self.words(&written)? {
            let rows = &whole[tokens.start * columns..tokens.end * columns];
            let mut mean = vec![0.0; columns];
            gaze::mix(&vec![1.0; tokens.len()], rows, &mut mean);
            gaze::normalize(&mut mean, columns);
            let per_image = columns / names.len().max(1);
            let pictures = names.iter().zip(mean.chunks_exact(per_image.max(1)));
            let seen = pictures.skip(first).map(|(name, weights)| {
                let origins = &self.origins[name];
                let mut cells = vec![0.0; origins.len() / per_image];
                gaze::mix(weights, origins, &mut cells);
                let count = cells.len();
                gaze::normalize(&mut cells, count);
                Seen {
                    picture: name.clone(),
                    share: weights.iter().sum(),
                    cells,
                }
            });
            looks.push(Look {
                word,
                seen: seen.collect(),
            });
        }
        self.read = Some(Read {
            ids,
            names,
            cache,
            written,
        });
        Ok(looks)
    }

    /// The tokens of an answer: those that were written, where it is the last.
    fn tokens_of(&self, answer: &str) -> Result<Vec<u32>> {
        let tokenizer = self.writer.tokenizer();
        let last = self.read.as_ref().map_or(&[][..], |read| &read.written);
        for count in 1..=last.len() {
            let text = tokenizer.decode(&last[..count])?;
            if text.starts_with(answer) {
                return Ok(last[..count].to_vec());
            }
            if !answer.starts_with(text.trim_end_matches('\u{fffd}')) {
                break;
            }
        }
        Ok(tokenizer.encode(answer, false)?)
    }

    /// The words of tokens, each with the blank before it, and which tokens they
    /// are.
    fn words(&self, ids: &[u32]) -> Result<Vec<(String, std::ops::Range<usize>)>> {
        let mut words: Vec<(String, std::ops::Range<usize>)> = Vec::new();
        let mut told = 0;
        for end in 1..=ids.len() {
            let text = self.writer.tokenizer().decode(&ids[..end])?;
            let whole = if end == ids.len() {
                &text
            } else {
                text.trim_end_matches('\u{fffd}')
            };
            let new = whole.get(told..).unwrap_or_default();
            told = told.max(whole.len());
            match words.last_mut() {
                Some((word, tokens)) if !new.starts_with(char::is_whitespace) => {
                    word.push_str(new);
                    tokens.end = end;
                }
                _ => words.push((new.to_owned(), end - 1..end)),
            }
        }
        Ok(words)
    }
}
