//! How likely given answers are (Flamingo App. B.1.5): for closed questions,
//! where the likeliest answer is the model's.

use std::ops::ControlFlow;

use super::generate::{Random, check_room, log_softmax, next_logits};
use crate::backend::Backend;
use crate::models::lm::{Cache, Decoder, Pass};
use crate::{Error, Result};

/// How likely an answer is.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Likelihood {
    /// Log-likelihood of the whole answer.
    pub sum: f32,
    /// Of one token of it, on average: long answers are not at a disadvantage.
    pub mean: f32,
}

/// The log-likelihood of each answer after the prompt, which is read once.
///
/// # Errors
/// Where the prompt or an answer is empty or too long, or the device fails.
pub async fn score<B: Backend, D: Decoder<B>>(
    decoder: &D,
    prompt: &[u32],
    answers: &[Vec<u32>],
) -> Result<Vec<Likelihood>> {
    check_room(decoder, prompt.len(), longest(answers))?;
    let mut cache = decoder.lm().cache(prompt.len() + longest(answers), &[0])?;
    let go_on = async || ControlFlow::Continue(());
    let scores = score_on(decoder, &mut cache, prompt, answers, go_on).await?;
    Ok(scores.unwrap_or_default())
}

fn longest(answers: &[Vec<u32>]) -> usize {
    answers.iter().map(Vec::len).max().unwrap_or(0)
}

/// As [`score`], for a cache of one sequence that holds the beginning of the
/// prompt already, but not all of it. Afterwards it holds the prompt. `each` is
/// asked before every pass; none where it says that it is enough. It may wait, as
/// for an inbox to be looked at.
///
/// # Errors
/// As [`score`]; the cache is of no use then.
pub async fn score_on<B: Backend, D: Decoder<B>>(
    decoder: &D,
    cache: &mut Cache<B>,
    prompt: &[u32],
    answers: &[Vec<u32>],
    mut each: impl AsyncFnMut() -> ControlFlow<()>,
) -> Result<Option<Vec<Likelihood>>> {
    if answers.iter().any(Vec::is_empty) {
        return Err(Error::Shape {
            operation: "score",
            expected: "answers of one token or more".into(),
            found: "an empty one".into(),
        });
    }
    let lm = decoder.lm();
    let vocab = lm.config().vocab_size;
    check_room(decoder, prompt.len(), longest(answers))?;
    lm.reserve(cache, prompt.len() + longest(answers))?;
    let first = next_logits(decoder, prompt, cache, async |_| each().await).await?;
    let Some(first) = first else {
        return Ok(None);
    };
    let first = log_softmax(&first);
    let mut all = Vec::with_capacity(answers.len());
    for answer in answers {
        let mut sum = at(&first, answer[0])?;
        let (read, rest) = (&answer[..answer.len() - 1], &answer[1..]);
        if !read.is_empty() {
            if each().await.is_break() {
                return Ok(None);
            }
            cache.truncate(prompt.len());
            let pass = Pass::next(lm.backend(), cache, read.len())?;
            let x = decoder.forward(read, &pass, Some(cache))?;
            let logits = lm.logits(&x)?.read().await?;
            for (logits, &id) in logits.chunks_exact(vocab).zip(rest) {
                sum += at(&log_softmax(logits), id)?;
            }
        }
        all.push(Likelihood {
            sum,
            mean: sum / answer.len() as f32,
        });
    }
    cache.truncate(prompt.len());
    Ok(Some(all))
}

fn at(scores: &[f32], id: u32) -> Result<f32> {
    scores
        .get(id as usize)
        .copied()
        .ok_or_else(|| Error::Shape {
            operation: "score",
            expected: format!("tokens below {}", scores.len()),
            found: id.to_string(),
        })
}

/// The mean of several scorings of the same answers, as after permutations of
/// the shots.
pub fn ensemble(scorings: &[Vec<Likelihood>]) -> Vec<Likelihood> {
    let count = scorings.len().max(1) as f32;
    let answers = scorings.iter().map(Vec::len).min().unwrap_or(0);
    let mean = |part: &dyn Fn(&Likelihood) -> f32, answer: usize| {
        scorings.iter().map(|all| part(&all[answer])).sum::<f32>() / count
    };
    (0..answers)
        .map(|answer| Likelihood {
            sum: mean(&|likelihood| likelihood.sum, answer),
            mean: mean(&|likelihood| likelihood.mean, answer),
        })
        .collect()
}

/// `count` orders of `n` shots, drawn by chance; the paper takes 6.
pub fn orders(n: usize, count: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut random = Random(seed);
    let mut order: Vec<usize> = (0..n).collect();
    let mut shuffle = || {
        for i in (1..n).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        order.clone()
    };
    (0..count).map(|_| shuffle()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Likelihood, ensemble, orders};

    #[test]
    fn orders_are_permutations_and_differ() {
        let orders = orders(5, 6, 1);
        assert_eq!(orders.len(), 6);
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_ensemble_is_a_mean() {
        let one = |sum: f32| {
            vec![Likelihood {
                sum,
                mean: sum / 2.0,
            }]
        };
        let mean = ensemble(&[one(-4.0), one(-2.0)]);
        assert_eq!(
            mean,
            [Likelihood {
                sum: -3.0,
                mean: -1.5
            }]
        );
    }
}
