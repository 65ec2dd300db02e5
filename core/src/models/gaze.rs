//! Where attention goes, worked out on the host, and only when somebody asks:
//! the mean over heads of `softmax(q kᵀ / √d)`.

use std::ops::Range;

/// The sizes of one attention.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    /// Heads, side by side.
    pub(crate) count: usize,
    /// Columns of one head.
    pub(crate) dim: usize,
    /// Columns from one row of keys to the next; the keys are the first.
    pub(crate) stride: usize,
}

/// q `[rows, heads · dim]`, keys `[keys, stride]` → `[rows, keys]`: each row
/// over the keys that it sees sums to one; where it sees none it is zeros.
pub(crate) fn weights(
    q: &[f32],
    keys: &[f32],
    heads: Heads,
    sees: impl Fn(usize) -> Range<usize>,
) -> Vec<f32> {
    let inner = heads.count * heads.dim;
    let count = keys.len() / heads.stride;
    let scale = (heads.dim as f64).sqrt().recip();
    let mut out = vec![0.0; q.len() / inner * count];
    for (row, (q, out)) in q
        .chunks_exact(inner)
        .zip(out.chunks_exact_mut(count.max(1)))
        .enumerate()
    {
        let seen = sees(row);
        for head in 0..heads.count {
            let columns = head * heads.dim..(head + 1) * heads.dim;
            let score = |key: usize| {
                let key = &keys[key * heads.stride..][columns.clone()];
                let pairs = q[columns.clone()].iter().zip(key);
                scale
                    * pairs
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum::<f64>()
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exps: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
            let whole = exps.iter().sum::<f64>() * heads.count as f64;
            for (out, exp) in out[seen.clone()].iter_mut().zip(exps) {
                *out += (exp / whole) as f32;
            }
        }
    }
    out
}

/// Adds rows `[weights, cols]`, each by its weight, to `[cols]`.
pub(crate) fn mix(weights: &[f32], rows: &[f32], into: &mut [f32]) {
    for (weight, row) in weights.iter().zip(rows.chunks_exact(into.len().max(1))) {
        for (into, x) in into.iter_mut().zip(row) {
            *into += weight * x;
        }
    }
}

/// Makes each row sum to one; a row of zeros stays.
pub(crate) fn normalize(rows: &mut [f32], cols: usize) {
    for row in rows.chunks_exact_mut(cols.max(1)) {
        let sum: f32 = row.iter().sum();
        if sum > 0.0 {
            row.iter_mut().for_each(|x| *x /= sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heads, mix, normalize, weights};

    #[test]
    fn heads_are_averaged_and_rows_keep_to_what_they_see() {
        let heads = Heads {
            count: 2,
            dim: 1,
            stride: 4,
        };
        // The first head sees key 1 as three times as likely, the second both
        // alike; behind the keys lie values.
        let log3 = 3.0f32.ln();
        let keys = [0.0, 0.0, 9.0, 9.0, log3, 0.0, 9.0, 9.0, 5.0, 5.0, 9.0, 9.0];
        let q = [1.0, 1.0, 1.0, 1.0];
        let found = weights(&q, &keys, heads, |row| 0..2 * (1 - row));
        let expected = [0.375, 0.625, 0.0, 0.0, 0.0, 0.0];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn mixtures_and_shares() {
        let mut found = [1.0, 0.0, 0.0, 0.0];
        mix(&[1.0, 2.0], &[1.0, 0.0, 0.0, 3.0], &mut found[..2]);
        assert_eq!(found, [2.0, 6.0, 0.0, 0.0]);
        normalize(&mut found, 2);
        assert_eq!(found, [0.25, 0.75, 0.0, 0.0]);
    }
}
