//! The tokenizer of the small language model: whole words of the world,
//! syllables and letters for the rest, in the form of BERT's WordPiece.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use plume_core::tokens::TextTokenizer;
use rand::SeedableRng as _;
use serde_json::{Map, Value, json};

use crate::world::{
    COMMON, Rng, SYLLABLES, Sampler, Split, Subject, Telling, ask, caption, described,
};

/// What stands for a picture.
pub const IMAGE: &str = "<image>";
/// What ends the text that belongs to a picture.
pub const END_OF_CHUNK: &str = "<|endofchunk|>";
const START: &str = "<s>";
const UNKNOWN: &str = "<unk>";
/// The fixed words of prompts, each one token.
const ASKING: [&str; 3] = ["Output:", "Question:", "Short answer:"];

/// Every word that scenes are told of and asked about in.
fn words() -> BTreeSet<String> {
    let mut words: BTreeSet<String> = COMMON.iter().map(|word| (*word).to_owned()).collect();
    let mut rng = Rng::seed_from_u64(1);
    let mut add = |text: String| {
        words.extend(
            text.trim_end_matches('?')
                .split_whitespace()
                .map(str::to_owned),
        );
    };
    for split in [Split::Train, Split::HeldOut] {
        let mut sampler = Sampler::new(split, 1);
        for i in 0..6000 {
            let scene = match i % 3 {
                0 => sampler.one(None),
                1 => sampler.pair(),
                _ => sampler.several(),
            };
            add(described(&scene, &mut rng));
            add(caption(&scene, true, Telling::Varied, &mut rng));
            for subject in Subject::ALL {
                if let Some(asked) = ask(&scene, subject, &mut rng) {
                    add(asked.question);
                    add(asked.answer);
                }
            }
        }
    }
    words
}

/// The `tokenizer.json`.
///
/// # Errors
/// Where it cannot be written down.
pub fn tokenizer_json() -> Result<String> {
    let mut tokens: Vec<String> = [UNKNOWN, START, IMAGE, END_OF_CHUNK]
        .map(str::to_owned)
        .to_vec();
    tokens.extend(ASKING.map(str::to_owned));
    let added = tokens.len();
    let words = words();
    let known = |token: &String| !words.contains(token);
    tokens.extend(words.iter().cloned());
    let letters = ('a'..='z').chain('0'..='9').map(String::from);
    let pieces: Vec<String> = letters
        .chain(SYLLABLES.iter().map(|syllable| (*syllable).to_owned()))
        .collect();
    tokens.extend(pieces.iter().filter(|token| known(token)).cloned());
    tokens.extend(pieces.iter().map(|piece| format!("##{piece}")));
    tokens.extend(".,?!:;'\"()-\u{2019}".chars().map(String::from));

    let vocabulary: Map<String, Value> = (0..)
        .zip(&tokens)
        .map(|(id, token): (usize, _)| (token.clone(), id.into()))
        .collect();
    let added: Vec<Value> = tokens[..added]
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": !token.ends_with(':'),
            })
        })
        .collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": START, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {START: {"id": START, "ids": [1], "tokens": [START]}},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 32, "vocab": vocabulary,
        },
    });
    Ok(serde_json::to_string(&file)?)
}

/// The tokenizer, which remembers what it was asked.
pub struct Words {
    tokenizer: TextTokenizer,
    known: RefCell<HashMap<String, Vec<u32>>>,
    /// What every text begins with.
    pub start: u32,
    /// What stands for a picture.
    pub image: u32,
    /// What ends the text that belongs to a picture.
    pub end_of_chunk: u32,
}

impl Words {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Where it lacks one of the special tokens.
    pub fn new(json: &str) -> Result<Self> {
        let tokenizer = TextTokenizer::from_json(json.as_bytes())?;
        let id = |token: &str| {
            let id = tokenizer.id(token);
            id.with_context(|| format!("the tokenizer has no {token}"))
        };
        Ok(Self {
            start: id(START)?,
            image: id(IMAGE)?,
            end_of_chunk: id(END_OF_CHUNK)?,
            tokenizer,
            known: RefCell::new(HashMap::new()),
        })
    }

    /// The tokenizer itself.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The ids of part of a text.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(ids) = self.known.borrow().get(text) {
            return Ok(ids.clone());
        }
        let ids = self.tokenizer.encode(text, false)?;
        let mut known = self.known.borrow_mut();
        known.insert(text.to_owned(), ids.clone());
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::{Words, tokenizer_json};

    #[test]
    fn a_prompt_is_the_tokens_of_its_parts() {
        let words = Words::new(&tokenizer_json().expect("json")).expect("words");
        let parts = ["<image>", "Output:", "a red house", "<|endofchunk|>", "\n"];
        let asked = ["<image>", "Question:", "is it big?", " Short answer:", "no"];
        for parts in [parts, asked] {
            let whole = words
                .tokenizer()
                .encode(&parts.concat(), true)
                .expect("ids");
            let ids = parts
                .iter()
                .flat_map(|part| words.encode(part).expect("ids"));
            let ids: Vec<u32> = std::iter::once(words.start).chain(ids).collect();
            assert_eq!(whole, ids);
        }
        // A made-up word is syllables, or letters, and comes out as it went in.
        for name in ["bado", "blicket", "x", "zorp9"] {
            let ids = words.encode(&format!(" {name}")).expect("ids");
            assert!(!ids.contains(&0), "{name}: {ids:?}");
            assert_eq!(words.tokenizer().decode(&ids).expect("text"), name);
        }
        assert_eq!(words.encode("bado").expect("ids").len(), 2);
    }
}
