//! A turn, and the versions of its answer: answered once more, it keeps what
//! was written before.

use std::iter::once;

use serde::{Deserialize, Serialize};

use super::store::{Id, fresh};
use crate::protocol::chat::{Ended, Likely, Pace, Piece, Task};

/// How a turn came to its answer.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// It waits, or is being answered.
    #[default]
    Busy,
    /// It was written.
    Written { ended: Ended, pace: Pace },
    /// Given answers were compared.
    Scored {
        likely: Vec<(String, Likely)>,
        orders: usize,
        /// How long it took; 0 where that was not kept.
        #[serde(default)]
        milliseconds: f64,
    },
    /// The person wrote the answer.
    Edited,
    /// Why it ended, and what to do; what was written before stays.
    Failed(String),
}

/// What wrote an answer, and how, in words for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct By {
    pub(super) model: String,
    pub(super) device: String,
    /// The settings that decided.
    pub(super) settings: String,
}

/// An example that was chosen, as it was then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Example {
    pub(super) parts: Vec<Piece>,
    pub(super) answer: String,
    /// Cosine of the angle to what was asked about.
    pub(super) cosine: f32,
}

/// The examples that were chosen by similarity, the most similar last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Similar {
    /// The CLIP that chose.
    pub(super) by: String,
    pub(super) examples: Vec<Example>,
}

/// How much of the beginning of a prompt did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct LeftOut {
    pub(super) examples: usize,
    pub(super) turns: usize,
}

/// One answer of a turn, and how it came about.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Version {
    /// As it was written, with its blanks.
    #[serde(rename = "answer")]
    pub(super) text: String,
    pub(super) outcome: Outcome,
    /// The prompt that was answered.
    pub(super) prompt: Vec<Piece>,
    /// The same as the model read it: its own marks for pictures included.
    #[serde(default)]
    pub(super) exact: String,
    #[serde(default)]
    pub(super) by: Option<By>,
    #[serde(default)]
    pub(super) similar: Option<Similar>,
    #[serde(default)]
    pub(super) left_out: LeftOut,
}

impl Version {
    /// There is something to read.
    pub(super) fn says_something(&self) -> bool {
        !self.text.trim().is_empty()
    }

    fn parts(&self) -> impl Iterator<Item = &Vec<Piece>> {
        let examples = self.similar.iter().flat_map(|similar| &similar.examples);
        once(&self.prompt).chain(examples.map(|example| &example.parts))
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Vec<Piece>> {
        let similar = self.similar.iter_mut();
        let examples = similar.flat_map(|similar| &mut similar.examples);
        once(&mut self.prompt).chain(examples.map(|example| &mut example.parts))
    }
}

/// What the person gave, and the model's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) id: Id,
    pub(super) task: Task,
    pub(super) parts: Vec<Piece>,
    /// The version that is shown and that the conversation goes on from. It lies
    /// flat, as turns were kept when they had one alone.
    #[serde(flatten)]
    pub(super) version: Version,
    /// The versions before it, the nearest last.
    #[serde(default)]
    earlier: Vec<Version>,
    /// The versions behind it, the nearest last.
    #[serde(default)]
    later: Vec<Version>,
    /// Why answering it once more came to nothing.
    #[serde(default)]
    pub(super) trouble: Option<String>,
}

impl Turn {
    pub(super) fn new(task: Task, parts: Vec<Piece>) -> Self {
        Self {
            id: fresh(),
            task,
            parts,
            version: Version::default(),
            earlier: Vec::new(),
            later: Vec::new(),
            trouble: None,
        }
    }

    /// Which version is shown, from one, and how many there are.
    pub(super) fn place(&self) -> (usize, usize) {
        let at = self.earlier.len() + 1;
        (at, at + self.later.len())
    }

    /// Shows the version before or behind; tells whether there was one.
    pub(super) fn step(&mut self, back: bool) -> bool {
        let (from, to) = if back {
            (&mut self.earlier, &mut self.later)
        } else {
            (&mut self.later, &mut self.earlier)
        };
        let Some(version) = from.pop() else {
            return false;
        };
        to.push(std::mem::replace(&mut self.version, version));
        true
    }

    /// Shows a version that is new, behind all others. An answer without words
    /// makes room for it.
    pub(super) fn add(&mut self, version: Version) {
        while self.step(false) {}
        let before = std::mem::replace(&mut self.version, version);
        if before.says_something() {
            self.earlier.push(before);
        }
        self.trouble = None;
    }

    /// Takes what came of answering it, or of going on with its answer. Where
    /// there are no words more than before, an answer that is there stays.
    pub(super) fn take(&mut self, version: Version, anew: bool, more: bool) {
        match &version.outcome {
            Outcome::Busy if !more => {}
            Outcome::Failed(why) if !more && self.version.says_something() => {
                self.trouble = Some(why.clone());
            }
            _ if anew => self.add(version),
            _ => {
                self.version = version;
                self.trouble = None;
            }
        }
    }

    /// Found again after the page was left: nobody writes on.
    pub(super) fn wake(&mut self) {
        if self.version.outcome == Outcome::Busy {
            self.version.outcome = if self.version.says_something() {
                let (ended, pace) = (Ended::Stopped, Pace::default());
                Outcome::Written { ended, pace }
            } else {
                Outcome::Failed("The page was left before the answer was done.".to_owned())
            };
        }
    }

    pub(super) fn versions_mut(&mut self) -> impl Iterator<Item = &mut Version> {
        let shown = once(&mut self.version);
        self.earlier.iter_mut().chain(shown).chain(&mut self.later)
    }

    /// All that may show pictures.
    pub(super) fn all_parts(&self) -> impl Iterator<Item = &Vec<Piece>> {
        let shown = once(&self.version);
        let versions = self.earlier.iter().chain(shown).chain(&self.later);
        once(&self.parts).chain(versions.flat_map(Version::parts))
    }

    /// The same, to give pictures other numbers.
    pub(super) fn all_parts_mut(&mut self) -> impl Iterator<Item = &mut Vec<Piece>> {
        let shown = once(&mut self.version);
        let versions = self.earlier.iter_mut().chain(shown).chain(&mut self.later);
        once(&mut self.parts).chain(versions.flat_map(Version::parts_mut))
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Example, LeftOut, Outcome, Piece, Similar, Task, Turn, Version};
    use crate::protocol::chat::{Ended, Pace};

    fn version(text: &str, outcome: Outcome) -> Version {
        Version {
            text: text.to_owned(),
            outcome,
            ..Version::default()
        }
    }

    fn written(text: &str) -> Version {
        let (ended, pace) = (Ended::Itself, Pace::default());
        version(text, Outcome::Written { ended, pace })
    }

    fn failed(text: &str) -> Version {
        version(text, Outcome::Failed("no room".to_owned()))
    }

    #[wasm_bindgen_test]
    fn answered_once_more_a_turn_keeps_what_was_written() {
        let mut turn = Turn::new(Task::Free, Vec::new());
        turn.take(failed(""), true, false);
        assert_eq!((turn.place(), &turn.trouble), ((1, 1), &None));
        turn.take(written("one"), true, true);
        turn.take(written("two"), true, true);
        assert_eq!(turn.place(), (2, 2));
        assert!(turn.step(true) && !turn.step(true));
        assert_eq!((turn.place(), turn.version.text.as_str()), ((1, 2), "one"));
        // It fails before a word: what was shown is shown.
        turn.take(failed(""), true, false);
        assert_eq!((turn.place(), turn.version.text.as_str()), ((1, 2), "one"));
        assert_eq!(turn.trouble.as_deref(), Some("no room"));
        // It fails after words: they are a version, behind all others.
        turn.take(failed("three"), true, true);
        assert_eq!((turn.place(), &turn.trouble), ((3, 3), &None));
        // Gone on with, it is the same version.
        turn.take(written("three and more"), false, true);
        assert_eq!(turn.place(), (3, 3));
        assert_eq!(turn.version.text, "three and more");
    }

    #[wasm_bindgen_test]
    fn turns_of_before_there_were_versions_are_read() {
        let kept = r#"{"id":7,"task":"Free","parts":[{"Text":"w1"},{"Media":3}],
            "answer":" w2 w3","prompt":[{"Media":3},{"Text":"w1"}],
            "outcome":{"Scored":{"likely":[["w2",{"sum":-1.5,"mean":-0.5}]],"orders":2}}}"#;
        let kept = kept.replace("\"Free\"", &serde_json::to_string(&Task::Free).unwrap());
        let mut turn: Turn = serde_json::from_str(&kept).unwrap();
        assert_eq!(
            (turn.place(), turn.version.text.as_str()),
            ((1, 1), " w2 w3")
        );
        assert!(matches!(
            turn.version.outcome,
            Outcome::Scored { orders: 2, .. }
        ));
        assert_eq!(turn.version.left_out, LeftOut::default());
        turn.version.left_out.examples = 3;
        assert_eq!(turn.all_parts().count(), 2);
        turn.version.similar = Some(Similar {
            by: "CLIP".to_owned(),
            examples: vec![Example {
                parts: vec![Piece::Media(9)],
                answer: "w9".to_owned(),
                cosine: 0.5,
            }],
        });
        turn.add(written("more"));
        let again: Turn = serde_json::from_str(&serde_json::to_string(&turn).unwrap()).unwrap();
        assert_eq!(again, turn);
        assert!(again.all_parts().any(|parts| *parts == [Piece::Media(9)]));
    }

    #[wasm_bindgen_test]
    fn what_was_half_written_can_be_gone_on_with() {
        let mut turn = Turn::new(Task::Free, Vec::new());
        turn.take(version("half", Outcome::Busy), true, true);
        turn.wake();
        let Outcome::Written { ended, .. } = turn.version.outcome else {
            panic!("{turn:?}");
        };
        assert_eq!(
            (ended, turn.version.text.as_str()),
            (Ended::Stopped, "half")
        );
        let mut turn = Turn::new(Task::Free, Vec::new());
        turn.wake();
        assert!(matches!(turn.version.outcome, Outcome::Failed(_)));
    }
}
