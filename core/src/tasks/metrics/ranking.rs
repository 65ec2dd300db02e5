//! Metrics of scores: which is higher.

use std::collections::BTreeMap;

/// The part of the cases in which the right one has the highest score; of equal
/// scores the first counts. 0 without cases.
pub fn top_1<'a>(cases: impl IntoIterator<Item = (&'a [f64], usize)>) -> f64 {
    mean(cases.into_iter().map(|(scores, right)| {
        let best =
            (0..scores.len()).reduce(|best, i| if scores[i] > scores[best] { i } else { best });
        best == Some(right)
    }))
}

/// The area under the curve of true against false positives: how often a
/// positive case has a higher score than a negative one, ties half (Mann and
/// Whitney 1947). `None` where all cases are of one kind or a score is none.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut cases: Vec<(f64, bool)> = scores
        .iter()
        .copied()
        .zip(positive.iter().copied())
        .collect();
    if cases.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    cases.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    // −0 and 0 are one score, though not to `total_cmp`.
    for tied in cases.chunk_by(|a, b| a.0 == b.0) {
        let positives = tied.iter().filter(|case| case.1).count() as f64;
        let negatives = tied.len() as f64 - positives;
        wins += positives * (below + negatives / 2.0);
        below += negatives;
    }
    let pairs = below * (cases.len() as f64 - below);
    (pairs > 0.0).then(|| wins / pairs)
}

/// The scores of Winoground (Thrush et al. 2022), as parts of the cases; chance
/// has a quarter, a quarter and a sixth.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Winoground {
    /// For each picture its own caption is the likelier.
    pub text: f64,
    /// For each caption its own picture is.
    pub image: f64,
    /// Both.
    pub group: f64,
}

/// Cases of two captions and two pictures, `case[caption][picture]`; a caption
/// and a picture of one number belong together. A tie is no success.
pub fn winoground(cases: &[[[f64; 2]; 2]]) -> Winoground {
    let text = |s: &[[f64; 2]; 2]| s[0][0] > s[1][0] && s[1][1] > s[0][1];
    let image = |s: &[[f64; 2]; 2]| s[0][0] > s[0][1] && s[1][1] > s[1][0];
    Winoground {
        text: mean(cases.iter().map(text)),
        image: mean(cases.iter().map(image)),
        group: mean(cases.iter().map(|case| text(case) && image(case))),
    }
}

/// The mean over kinds of each kind's part of successes, as ARO reports it for
/// relations and attributes (Yuksekgonul et al. 2023). Kinds of fewer than
/// `least` cases do not count. 0 without kinds.
pub fn macro_mean<K: Ord>(cases: impl IntoIterator<Item = (K, bool)>, least: usize) -> f64 {
    let mut kinds: BTreeMap<K, (usize, usize)> = BTreeMap::new();
    for (kind, success) in cases {
        let (successes, all) = kinds.entry(kind).or_default();
        *successes += usize::from(success);
        *all += 1;
    }
    let counted = kinds.values().filter(|(_, all)| *all >= least.max(1));
    let parts: Vec<f64> = counted
        .map(|(successes, all)| *successes as f64 / *all as f64)
        .collect();
    parts.iter().sum::<f64>() / parts.len().max(1) as f64
}

/// The part that is true.
fn mean(cases: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut all) = (0, 0);
    for case in cases {
        yes += usize::from(case);
        all += 1;
    }
    f64::from(yes as u32) / f64::from(all.max(1) as u32)
}

#[cfg(test)]
mod tests {
    use super::{macro_mean, roc_auc, top_1, winoground};

    #[test]
    fn ties_are_no_success() {
        let tied = winoground(&[[[1.0, 0.0], [1.0, 2.0]]]);
        assert_eq!((tied.text, tied.image, tied.group), (0.0, 1.0, 0.0));
        assert_eq!(top_1([(&[0.5, 0.5][..], 1), (&[0.5, 0.5][..], 0)]), 0.5);
        assert_eq!(roc_auc(&[0.0, -0.0], &[true, false]), Some(0.5));
    }

    #[test]
    fn what_cannot_be_measured_is_not() {
        assert_eq!(roc_auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(roc_auc(&[1.0, f64::NAN], &[true, false]), None);
        assert_eq!(macro_mean([("rare", true)], 2), 0.0);
        assert_eq!(top_1([]), 0.0);
    }
}
