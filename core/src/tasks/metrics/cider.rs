//! CIDEr-D (Vedantam et al. 2015), as `cider_scorer.py` of coco-caption
//! computes it.

use std::collections::{BTreeMap, BTreeSet};

/// Words to a group at most.
const LONGEST: usize = 4;
/// How fast a caption loses that is longer or shorter than a reference.
const SIGMA: f64 = 6.0;

/// How often each group of words stands in a text, by the length of the group.
struct Groups<'a> {
    counts: [BTreeMap<Vec<&'a str>, f64>; LONGEST],
}

impl<'a> Groups<'a> {
    fn of(text: &'a str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let counts = std::array::from_fn(|i| {
            let mut counts = BTreeMap::new();
            for group in words.windows(i + 1) {
                *counts.entry(group.to_vec()).or_insert(0.0) += 1.0;
            }
            counts
        });
        Self { counts }
    }

    /// The length of the text as it is compared: its pairs of words.
    fn pairs(&self) -> f64 {
        self.counts[1].values().sum()
    }
}

/// How much a group of words says: the rarer it is, the more.
struct Rarity<'a> {
    /// In how many pictures' references each group stands.
    pictures: BTreeMap<Vec<&'a str>, f64>,
    /// The logarithm of how many pictures there are.
    all: f64,
}

impl Rarity<'_> {
    fn weight(&self, group: &[&str]) -> f64 {
        let pictures = self.pictures.get(group).copied().unwrap_or(1.0);
        self.all - pictures.ln()
    }

    /// Similarity of two texts by groups of one length.
    fn cosine(&self, said: &BTreeMap<Vec<&str>, f64>, reference: &BTreeMap<Vec<&str>, f64>) -> f64 {
        let length = |counts: &BTreeMap<Vec<&str>, f64>| {
            let squares = counts
                .iter()
                .map(|(group, count)| (count * self.weight(group)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let lengths = length(said) * length(reference);
        let common = said.iter().filter_map(|(group, &count)| {
            let there = *reference.get(group)?;
            // What is said more often than in the reference gains nothing.
            Some(count.min(there) * there * self.weight(group).powi(2))
        });
        if lengths == 0.0 {
            0.0
        } else {
            common.sum::<f64>() / lengths
        }
    }
}

/// The score of each caption against the references of its picture, 0 to 10;
/// papers report the mean times 10. Words are what stands between blanks: see
/// [`caption_words`].
///
/// How rare a group of words is follows from the references given, so scores of
/// different sets of pictures do not compare. A single picture has no score but
/// 0.
pub fn cider_d<S: AsRef<str>>(cases: &[(S, Vec<S>)]) -> Vec<f64> {
    let references: Vec<Vec<Groups<'_>>> = cases
        .iter()
        .map(|(_, references)| references.iter().map(|r| Groups::of(r.as_ref())).collect())
        .collect();
    let mut rarity = Rarity {
        pictures: BTreeMap::new(),
        all: (cases.len().max(1) as f64).ln(),
    };
    for picture in &references {
        let groups = picture.iter().flat_map(|text| &text.counts);
        let groups: BTreeSet<_> = groups.flat_map(BTreeMap::keys).collect();
        for group in groups {
            *rarity.pictures.entry(group.clone()).or_insert(0.0) += 1.0;
        }
    }
    let score = |(case, references): (&(S, Vec<S>), &Vec<Groups<'_>>)| {
        let said = Groups::of(case.0.as_ref());
        let each = references.iter().map(|reference| {
            let longer = said.pairs() - reference.pairs();
            let penalty = (-longer.powi(2) / (2.0 * SIGMA * SIGMA)).exp();
            let pairs = said.counts.iter().zip(&reference.counts);
            pairs.map(|(a, b)| rarity.cosine(a, b)).sum::<f64>() * penalty
        });
        10.0 * each.sum::<f64>() / (LONGEST * references.len().max(1)) as f64
    };
    cases.iter().zip(&references).map(score).collect()
}

/// The caption in what a model wrote: up to where it goes on with one for
/// another picture, without quotation marks (`evaluate_captioning` of
/// OpenFlamingo).
pub fn said_caption(text: &str) -> String {
    let caption = text.split("Output").next().unwrap_or_default();
    caption.replace('"', "")
}

/// What stands by itself wherever it is, and what it is called.
const SIGNS: [(char, &str); 13] = [
    ('(', "-lrb-"),
    (')', "-rrb-"),
    ('[', "-lsb-"),
    (']', "-rsb-"),
    ('{', "-lcb-"),
    ('}', "-rcb-"),
    ('$', "$"),
    ('#', "#"),
    ('%', "%"),
    // Left out afterwards.
    ('"', ""),
    ('`', ""),
    (';', ""),
    ('…', ""),
];
/// Words that keep their full stop.
const ABBREVIATIONS: [&str; 16] = [
    "mr.", "mrs.", "ms.", "dr.", "st.", "jr.", "sr.", "vs.", "ave.", "inc.", "co.", "corp.",
    "gen.", "sgt.", "prof.", "etc.",
];
/// What is cut off the end of a word.
const ENDINGS: [&str; 7] = ["n't", "'s", "'ll", "'re", "'m", "'ve", "'d"];
/// Words that are two.
const PAIRS: [(&str, &str); 8] = [
    ("can", "not"),
    ("gon", "na"),
    ("wan", "na"),
    ("got", "ta"),
    ("gim", "me"),
    ("lem", "me"),
    ("'t", "is"),
    ("'t", "was"),
];

/// The words of a caption as coco-caption compares them: those of Stanford's
/// `PTBTokenizer`, lower case, without punctuation (brackets stay, as they do
/// there). Of abbreviations with full stops only the usual ones are known.
pub fn caption_words(caption: &str) -> Vec<String> {
    let text = caption.to_lowercase();
    let text = text.replace(['’', '‘'], "'").replace(['“', '”'], "\"");
    let mut words = Vec::new();
    for run in text.split_whitespace() {
        let run: Vec<char> = run.chars().collect();
        let (mut word, mut marks) = (String::new(), String::new());
        for (i, &c) in run.iter().enumerate() {
            if matches!(c, '?' | '!') {
                finish(&std::mem::take(&mut word), &mut words);
                marks.push(c);
                continue;
            }
            several(&mut marks, &mut words);
            let around = [
                i.checked_sub(1).map(|before| run[before]),
                run.get(i + 1).copied(),
            ];
            let digits = around.iter().all(|c| c.is_some_and(|c| c.is_ascii_digit()));
            let doubled = matches!(c, '.' | '-') && around.contains(&Some(c));
            let sign = match SIGNS.iter().find(|(sign, _)| *sign == c) {
                Some((_, name)) => Some(*name),
                None if doubled || (matches!(c, ',' | ':') && !digits) => Some(""),
                None => None,
            };
            match sign {
                None => word.push(c),
                Some(name) => {
                    finish(&std::mem::take(&mut word), &mut words);
                    words.extend((!name.is_empty()).then(|| name.to_owned()));
                }
            }
        }
        finish(&word, &mut words);
        several(&mut marks, &mut words);
    }
    words
}

/// One `!` or `?` is left out; a row of them is a word.
fn several(marks: &mut String, words: &mut Vec<String>) {
    let row = std::mem::take(marks);
    words.extend((row.len() > 1).then_some(row));
}

/// Takes the full stop and quotation marks off a word, and it apart.
fn finish(word: &str, words: &mut Vec<String>) {
    let mut rest = word;
    if let Some((a, b)) = PAIRS.iter().find(|(a, b)| format!("{a}{b}") == rest) {
        return words.extend([(*a).to_owned(), (*b).to_owned()]);
    }
    if !ENDINGS.contains(&rest) {
        rest = rest.trim_start_matches('\'');
    }
    loop {
        let shorter = match rest.strip_suffix('.') {
            // Letters between full stops are an abbreviation: u.s., a.m.
            Some(stem) if stem.contains('.') || ABBREVIATIONS.contains(&rest) => rest,
            Some(stem) => stem,
            None => rest.strip_suffix('\'').unwrap_or(rest),
        };
        if shorter == rest {
            break;
        }
        rest = shorter;
    }
    if rest.is_empty() || rest == "-" {
        return;
    }
    if rest != word
        && let Some((a, b)) = PAIRS.iter().find(|(a, b)| format!("{a}{b}") == rest)
    {
        return words.extend([(*a).to_owned(), (*b).to_owned()]);
    }
    let cut = ENDINGS
        .iter()
        .find_map(|ending| Some((rest.strip_suffix(ending)?, *ending)));
    match cut {
        Some((stem, ending)) if !stem.is_empty() => {
            words.extend([stem.to_owned(), ending.to_owned()]);
        }
        _ => words.push(rest.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::cider_d;

    #[test]
    fn nothing_to_compare_is_no_likeness() {
        assert!(cider_d::<&str>(&[]).is_empty());
        assert_eq!(cider_d(&[("a cat", vec!["a cat"])]), [0.0]);
        let cases = [("", vec!["a cat"]), ("a dog", vec!["a dog"]), ("a", vec![])];
        let scores = cider_d(&cases);
        assert_eq!((scores[0], scores[2]), (0.0, 0.0));
        assert!(scores[1] > 0.0);
    }
}
