//! Which token comes next.

use super::Method;
use crate::Result;
use crate::backend::Backend;
use crate::tensor::Tensor;

/// See [`super::Options::repetition_penalty`].
pub(super) fn penalize(logits: &mut [f32], text: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = text.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
}

/// The likeliest tokens of a row of logits, likeliest first.
pub(super) struct Best {
    pub(super) tokens: Vec<(u32, f32)>,
    /// The logarithm of the sum of the exponentials of all.
    pub(super) log_sum: f32,
}

/// The `count` likeliest of each row, found on the device: little is read.
pub(super) async fn best<B: Backend>(logits: &Tensor<B>, count: usize) -> Result<Vec<Best>> {
    let count = count.min(logits.shape().last().copied().unwrap_or(1));
    let numbers = logits.top_k(count)?.read().await?;
    let rows = numbers.chunks_exact(2 * count + 1).map(|row| {
        let places = row[count..2 * count].iter().map(|&place| place as u32);
        Best {
            tokens: places.zip(row.iter().copied()).collect(),
            log_sum: row[2 * count],
        }
    });
    Ok(rows.collect())
}

/// All tokens, likeliest first; of equal ones the first first.
pub(super) fn rank(logits: &[f32]) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// One of the tokens, which are given likeliest first.
pub(super) fn choose(ranked: &[(u32, f32)], method: Method, random: &mut Random) -> u32 {
    let first = ranked.first().map_or(0, |first| first.0);
    let Method::Sample {
        temperature,
        top_k,
        top_p,
        ..
    } = method
    else {
        return first;
    };
    let most = if top_k > 0 { top_k } else { ranked.len() };
    let ranked = &ranked[..most.min(ranked.len())];
    let top = ranked.first().map_or(0.0, |first| first.1);
    let weights: Vec<f64> = ranked
        .iter()
        .map(|(_, logit)| f64::from((logit - top) / temperature).exp())
        .collect();
    let whole: f64 = weights.iter().sum();
    // As many as make up top_p, the one that passes it included.
    let mut kept = 0.0;
    let mut count = 0;
    while count < weights.len() && kept < f64::from(top_p) * whole {
        kept += weights[count];
        count += 1;
    }
    let mut left = random.uniform() * kept;
    for ((id, _), weight) in ranked.iter().zip(&weights).take(count) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    first
}

/// SplitMix64.
pub(in crate::tasks) struct Random(pub(in crate::tasks) u64);

impl Random {
    pub(in crate::tasks) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1, without 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Logits → logarithms of probabilities.
pub(in crate::tasks) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - top).exp()).sum();
    let log = f64::from(top) + sum.ln();
    logits
        .iter()
        .map(|x| (f64::from(*x) - log) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Method, Random, choose, penalize, rank};

    #[test]
    fn repeated_tokens_are_penalized_once() {
        let mut logits = [2.0, -2.0, 1.0];
        penalize(&mut logits, &[0, 1, 1, 0], 2.0);
        assert_eq!(logits, [1.0, -4.0, 1.0]);
        let ids: Vec<u32> = rank(&logits).iter().map(|token| token.0).collect();
        assert_eq!(ids, [0, 2, 1]);
    }

    #[test]
    fn chance_keeps_to_its_bounds_and_to_the_probabilities() {
        let logits = [0.0f32, 2.0f32.ln(), 1.0f32.ln(), 4.0f32.ln()];
        let draw = |top_k, top_p, n: u32| {
            let method = Method::Sample {
                temperature: 1.0,
                top_k,
                top_p,
                seed: 0,
            };
            let mut random = Random(5);
            let mut counts = [0u32; 4];
            (0..n).for_each(|_| counts[choose(&rank(&logits), method, &mut random) as usize] += 1);
            counts
        };
        assert_eq!(draw(1, 1.0, 100), [0, 0, 0, 100]);
        // Half and a quarter of the probability: the second passes 0.6.
        let [a, b, c, d] = draw(0, 0.6, 3000);
        assert_eq!((a, c), (0, 0));
        assert!((1850..2150).contains(&d), "{d} of {}", b + d);
        let [a, b, c, d] = draw(0, 1.0, 8000);
        let expected = [(a, 1000), (b, 2000), (c, 1000), (d, 4000)];
        assert!(expected.iter().all(|&(n, mean)| n.abs_diff(mean) < 150));
    }
}
