//! Where the words of a turn looked: its answer's, and those of its prompt.

use leptos::prelude::*;

use super::client;
use super::parts::joined;
use super::store::{Chat, Id, media_of};
use super::version::{Outcome, Turn, Version};
use crate::protocol::PictureId;
use crate::protocol::chat::{Gaze, Piece};

/// Words of a prompt that no picture interrupts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stretch<T> {
    /// The pictures that stand right before them.
    pub(super) pictures: Vec<PictureId>,
    pub(super) words: T,
}

/// Where the words of a turn looked, as far as was asked.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Looks {
    pub(super) answer: Vec<Gaze>,
    pub(super) prompt: Vec<Stretch<Vec<Gaze>>>,
}

/// A word of a turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Answer(usize),
    /// In which stretch, and which of its words.
    Prompt(usize, usize),
}

impl Looks {
    pub(super) fn at(&self, place: Place) -> Option<&Gaze> {
        match place {
            Place::Answer(word) => self.answer.get(word),
            Place::Prompt(stretch, word) => self.prompt.get(stretch)?.words.get(word),
        }
    }
}

/// The stretches of a prompt, each with all that stands before it.
fn stretches(prompt: &[Piece]) -> Vec<(Vec<Piece>, Stretch<String>)> {
    let parts = joined(prompt.iter().cloned());
    let mut pictures = Vec::new();
    let mut found = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        match part {
            Piece::Media(id) => pictures.push(*id),
            Piece::Text(text) => {
                let pictures = std::mem::take(&mut pictures);
                let words = text.clone();
                found.push((parts[..at].to_vec(), Stretch { pictures, words }));
            }
        }
    }
    found
}

/// Words that no picture stands before, each with the blank before it; the last
/// with what blanks come behind.
fn blind(text: &str) -> Vec<Gaze> {
    let mut words = Vec::<String>::new();
    let mut blank = true;
    for letter in text.chars() {
        let begins = words.is_empty() || (letter.is_whitespace() && !blank);
        blank = letter.is_whitespace();
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    if blank
        && words.len() > 1
        && let Some(end) = words.pop()
        && let Some(last) = words.last_mut()
    {
        last.push_str(&end);
    }
    let seen = Vec::new;
    let gazes = words.into_iter().map(|word| Gaze { word, seen: seen() });
    gazes.collect()
}

/// An answer as it stands behind its prompt. What the model did not write has the
/// blank before it by which it is compared: without it a tokenizer that minds
/// blanks makes other tokens of it.
fn behind(version: &Version) -> String {
    match version.outcome {
        Outcome::Scored { .. } | Outcome::Edited => format!(" {}", version.text.trim()),
        _ => version.text.clone(),
    }
}

/// Has an answer looked into, and its prompt where that is wanted, one stretch
/// after the other: words of a stretch are read as an answer to all before them.
pub(super) async fn look(
    chat: Chat,
    id: Id,
    version: Version,
    layers: Vec<usize>,
    prompt_too: impl Fn() -> bool,
) -> Result<(), String> {
    let known = |looks: &Looks| looks.prompt.len();
    let known = chat.looks.with_untracked(|all| all.get(&id).map(known));
    if known.is_none() {
        let (prompt, text) = (version.prompt.clone(), behind(&version));
        let answer = client::looked(prompt, text, layers.clone()).await?;
        if !shown(chat, id, &version) {
            return Ok(());
        }
        chat.looks.update(|all| {
            let prompt = Vec::new();
            all.insert(id, Looks { answer, prompt });
        });
    }
    let stretches = stretches(&version.prompt).into_iter().enumerate();
    for (at, (before, stretch)) in stretches.skip(known.unwrap_or(0)) {
        if !prompt_too() || !untrack(|| chat.idle()) {
            break;
        }
        let Stretch { pictures, words } = stretch;
        let words = if media_of(&before).is_empty() {
            blind(&words)
        } else {
            client::looked(before, words, layers.clone()).await?
        };
        if !shown(chat, id, &version) {
            break;
        }
        let added = chat.looks.try_update(|all| {
            let looks = all.get_mut(&id).filter(|looks| looks.prompt.len() == at)?;
            looks.prompt.push(Stretch { pictures, words });
            Some(())
        });
        // Another model has come since, or another layer is looked into.
        if added.flatten().is_none() {
            break;
        }
    }
    Ok(())
}

/// Whether a turn shows this version still.
fn shown(chat: Chat, id: Id, version: &Version) -> bool {
    let is = |turn: &Turn| turn.id == id && turn.version == *version;
    chat.turns.with_untracked(|turns| turns.iter().any(is))
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{PictureId, Piece, blind, stretches};

    #[wasm_bindgen_test]
    fn a_prompt_is_read_by_what_stands_between_its_pictures() {
        let text = |words: &str| Piece::Text(words.to_owned());
        let prompt = [
            text("look: "),
            Piece::Media(1),
            text("a cat"),
            text(" here"),
            Piece::Media(2),
            Piece::Media(3),
            text("what?"),
        ];
        let found = stretches(&prompt);
        let found: Vec<(usize, Vec<PictureId>, &str)> = found
            .iter()
            .map(|(before, stretch)| {
                let pictures = stretch.pictures.clone();
                (before.len(), pictures, stretch.words.as_str())
            })
            .collect();
        let expected = [
            (0, Vec::new(), "look: "),
            (2, vec![1], "a cat here"),
            (5, vec![2, 3], "what?"),
        ];
        assert_eq!(found, expected);
    }

    #[wasm_bindgen_test]
    fn words_keep_the_blank_before_them() {
        let words = |text: &str| -> Vec<String> {
            let gazes = blind(text).into_iter();
            gazes.map(|gaze| gaze.word).collect()
        };
        assert_eq!(words(" see  this\nnow"), [" see", "  this", "\nnow"]);
        assert_eq!(words("w1 w2 "), ["w1", " w2 "]);
        assert!(words("").is_empty());
    }
}
