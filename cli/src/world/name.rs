//! Made-up names for kinds of things.

use rand::Rng as _;
use rand::seq::IndexedRandom;

use super::{Rng, Split};

/// What names are made of.
pub const SYLLABLES: [&str; 64] = [
    "ba", "be", "bi", "bo", "da", "de", "di", "do", "fa", "fe", "fi", "fo", "ga", "ge", "gi", "go",
    "ja", "je", "ji", "jo", "ka", "ke", "ki", "ko", "la", "le", "li", "lo", "ma", "me", "mi", "mo",
    "na", "ne", "ni", "no", "pa", "pe", "pi", "po", "ra", "re", "ri", "ro", "sa", "se", "si", "so",
    "ta", "te", "ti", "to", "va", "ve", "vi", "vo", "wa", "we", "wi", "wo", "za", "ze", "zi", "zo",
];

/// Words that a person may sort pictures by.
pub const COMMON: [&str; 40] = [
    "good", "bad", "yes", "no", "animal", "plant", "fruit", "toy", "tool", "shape", "nice", "ugly",
    "warm", "cold", "mine", "yours", "keep", "throw", "alive", "dead", "inside", "outside", "day",
    "night", "happy", "sad", "old", "new", "left", "right", "a", "b", "c", "x", "y", "z", "first",
    "second", "third", "other",
];

/// A name of the split: of two syllables, of which a quarter of the pairs is
/// held out; in training sometimes another word, or letters in any order, so
/// that what a person makes up can be learned as well.
pub fn name(split: Split, rng: &mut Rng) -> String {
    let draw = |rng: &mut Rng| rng.random_range(0..SYLLABLES.len());
    if split == Split::Train {
        match rng.random_range(0..20) {
            0..2 => return COMMON.choose(rng).copied().unwrap_or("a").to_owned(),
            2..4 => {
                let mut word = SYLLABLES[draw(rng)].to_owned();
                for _ in 0..rng.random_range(1..=2) {
                    word.push(char::from(rng.random_range(b'a'..=b'z')));
                }
                return word;
            }
            _ => {}
        }
    }
    loop {
        let (a, b) = (draw(rng), draw(rng));
        let held = (a * 7 + b * 13).is_multiple_of(4);
        if held == (split == Split::HeldOut) {
            return format!("{}{}", SYLLABLES[a], SYLLABLES[b]);
        }
    }
}
