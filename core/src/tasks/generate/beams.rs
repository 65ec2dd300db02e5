//! Beam search.

use std::ops::ControlFlow;

use super::choice::{best, log_softmax, penalize};
use super::{End, Options, Written, next_row};
use crate::backend::Backend;
use crate::models::lm::{Cache, Decoder, Pass};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A text that a beam search goes on with.
#[derive(Clone)]
struct Beam {
    ids: Vec<u32>,
    /// Log-likelihood.
    score: f32,
    /// For each step the beam that held its token then.
    ancestry: Vec<u32>,
}

/// A beam search, as `GenerationMixin._beam_search` of transformers has it. All
/// beams are queries of one sequence: they share the prompt's cache, and what
/// each has written is told apart by [`crate::backend::Mask::Beams`].
pub(super) struct Search<'a> {
    pub(super) width: usize,
    pub(super) length_penalty: f32,
    pub(super) options: &'a Options,
}

impl Search<'_> {
    pub(super) async fn run<B: Backend, D: Decoder<B>>(
        &self,
        decoder: &D,
        cache: &mut Cache<B>,
        prompt: &[u32],
        mut each: impl AsyncFnMut(Option<u32>) -> ControlFlow<()>,
    ) -> Result<Written> {
        let lm = decoder.lm();
        let most = self.options.max_new_tokens;
        let (stops, vocab) = (self.options.stop_tokens.len(), lm.config().vocab_size);
        if self.width + stops > vocab {
            return Err(Error::Config(format!(
                "{} beams need more tokens than the {vocab} that the model has",
                self.width
            )));
        }
        let start = Beam {
            ids: Vec::new(),
            score: 0.0,
            ancestry: Vec::new(),
        };
        let mut beams = vec![start];
        let mut finished: Vec<(f32, Written)> = Vec::new();
        let mut told = false;
        for length in 1..=most {
            let logits = if length == 1 {
                next_row(decoder, prompt, cache, &mut each).await?
            } else if each(None).await.is_break() {
                None
            } else {
                let ancestry: Vec<_> = beams.iter().map(|beam| beam.ancestry.clone()).collect();
                let pass = Pass::beams(lm.backend(), cache, prompt.len(), &ancestry)?;
                let ids: Vec<u32> = beams.iter().filter_map(|b| b.ids.last().copied()).collect();
                let x = decoder.forward(&ids, &pass, Some(cache))?;
                Some(lm.logits(&x)?)
            };
            let Some(logits) = logits else {
                told = true;
                break;
            };
            let candidates = self.candidates(prompt, &beams, &logits).await?;
            beams = self.step(&beams, candidates, length, &mut finished);
            let worst = finished.iter().map(|f| f.0).fold(f32::INFINITY, f32::min);
            let hope = beams.first().map(|beam| self.rated(beam.score, length));
            if finished.len() == self.width && hope.is_none_or(|hope| hope <= worst) {
                break;
            }
        }
        cache.truncate(prompt.len());
        if told {
            // What is unfinished counts like what is finished.
            let so_far = beams.into_iter().map(|Beam { ids, score, .. }| {
                let rated = self.rated(score, ids.len().max(1));
                let end = End::Told;
                (rated, Written { ids, end })
            });
            finished.extend(so_far);
            finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        }
        let Some((_, best)) = finished.into_iter().next() else {
            return Ok(Written {
                ids: Vec::new(),
                end: End::Length,
            });
        };
        for &id in &best.ids {
            // All of it is there already: there is nothing more to stop.
            let _ = each(Some(id)).await;
        }
        Ok(best)
    }

    fn rated(&self, score: f32, length: usize) -> f32 {
        score / (length as f32).powf(self.length_penalty)
    }

    /// What may follow each beam: the score with it, the beam, the token.
    async fn candidates<B: Backend>(
        &self,
        prompt: &[u32],
        beams: &[Beam],
        logits: &Tensor<B>,
    ) -> Result<Vec<(f32, usize, u32)>> {
        let mut candidates = Vec::new();
        if let Some(count) = self.options.deciding() {
            let rows = best(logits, count).await?;
            for (i, (beam, row)) in beams.iter().zip(rows).enumerate() {
                let scored = row
                    .tokens
                    .iter()
                    .map(|&(id, logit)| (beam.score + (logit - row.log_sum), i, id));
                candidates.extend(scored);
            }
            return Ok(candidates);
        }
        let logits = logits.read().await?;
        let rows = logits.chunks_exact(logits.len() / beams.len());
        for (i, (beam, logits)) in beams.iter().zip(rows).enumerate() {
            let mut scores = log_softmax(logits);
            let text = [prompt, &beam.ids].concat();
            penalize(&mut scores, &text, self.options.repetition_penalty);
            let scored = (0..).zip(scores);
            candidates.extend(scored.map(|(id, score)| (beam.score + score, i, id)));
        }
        Ok(candidates)
    }

    /// Goes on with the best; what has ended is put among the finished, which
    /// are kept sorted, best first, as many as there are beams.
    fn step(
        &self,
        beams: &[Beam],
        mut candidates: Vec<(f32, usize, u32)>,
        length: usize,
        finished: &mut Vec<(f32, Written)>,
    ) -> Vec<Beam> {
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let kept = self.width * (1 + self.options.stop_tokens.len()).max(2);
        candidates.truncate(kept);
        let mut next = Vec::with_capacity(self.width);
        for (rank, &(score, parent, id)) in candidates.iter().enumerate() {
            let stops = self.options.stop_tokens.contains(&id);
            let mut ids = beams[parent].ids.clone();
            if !stops {
                ids.push(id);
            }
            let over = stops || length == self.options.max_new_tokens;
            if over && rank < self.width {
                let end = if stops { End::Token } else { End::Length };
                let written = Written {
                    ids: ids.clone(),
                    end,
                };
                finished.push((self.rated(score, length), written));
            }
            if !stops && next.len() < self.width {
                let mut ancestry = beams[parent].ancestry.clone();
                ancestry.push(next.len() as u32);
                next.push(Beam {
                    ids,
                    score,
                    ancestry,
                });
            }
        }
        finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        finished.truncate(self.width);
        next
    }
}
