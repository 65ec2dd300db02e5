//! What a run foresees of what it is shown.

use std::collections::BTreeMap;

use super::documents::Form;
use crate::world::{Sort, Subject};

/// What the answer to a token says of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// Nothing is counted.
    None,
    /// The first token of a name whose kind has been shown, and what stands for
    /// the picture.
    Name(Sort, Form),
    /// A word of a caption.
    Caption,
    /// The first token of an answer.
    Answer(Subject),
}

/// Right answers and all answers, by what was asked.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<(Tag, Form), (usize, usize)>);

impl Tally {
    /// Counts an answer.
    pub fn count(&mut self, form: Form, tag: Tag, right: bool) {
        let form = match tag {
            Tag::Name(_, own) => own,
            _ => form,
        };
        let (hits, all) = self.0.entry((tag, form)).or_default();
        *hits += usize::from(right);
        *all += 1;
    }

    /// Shares of right answers, in words.
    pub fn words(&self) -> String {
        let parts = self.0.iter().map(|(&(tag, form), (hits, all))| {
            let what = match tag {
                Tag::None => "",
                Tag::Name(Sort::ThingAndColour, _) => "both",
                Tag::Name(Sort::Thing, _) => "thing",
                Tag::Name(Sort::Colour, _) => "colour",
                Tag::Caption => "caption",
                Tag::Answer(Subject::Colour) => "q.colour",
                Tag::Answer(Subject::Thing) => "q.thing",
                Tag::Answer(Subject::Size) => "q.size",
                Tag::Answer(Subject::Count) => "q.count",
                Tag::Answer(Subject::Relation) => "q.relation",
                Tag::Answer(Subject::YesNo) => "q.yes",
                Tag::Answer(Subject::Comparison) => "q.compare",
            };
            let share = 100.0 * *hits as f64 / (*all).max(1) as f64;
            format!("{form:?}.{what} {share:.0} ({all})")
        });
        parts.collect::<Vec<_>>().join(" ")
    }
}
