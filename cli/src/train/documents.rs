//! What the small language model and the Flamingo on it are shown: documents
//! of pictures in turn with words, and the same with words for pictures.

use anyhow::Result;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use serde::{Deserialize, Serialize};

use super::datasets::{Dataset, choose};
use super::tally::Tag;
use super::words::Words;
use crate::world::{Asked, Pool, Rng, Sort, Subject, Trial, ask, described, told};

/// What stands where a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The word by which kinds are told apart, and then the name at once.
    Bare,
    /// That word, and then the prompt.
    Asked,
    /// That word after the mark of a picture, and then the prompt.
    Marked,
    /// The caption, likewise.
    Caption,
    /// A description in varied words, likewise.
    Described,
    /// Colour and thing, laid over the marks: their words' vectors are added to
    /// those of the marks, as the layers between will add what they see.
    Laid,
    /// The picture.
    Picture,
}

/// Tokens, each with the weight of its loss.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token how much it counts that it was foreseen.
    pub weights: Vec<f32>,
    /// For each token what is counted of it.
    pub tags: Vec<Option<Tag>>,
    /// Pictures of the pool, one for each mark.
    pub pictures: Vec<usize>,
    /// Words that are laid over tokens: the token's place, and the word's.
    pub laid: Vec<(usize, u32)>,
    /// Words see the next picture, instead of the last (App. A.3.2).
    pub next: bool,
}

impl Document {
    /// For each of the tokens, and of as many more as fill it up to `longest`,
    /// the number of the picture that it sees, from 1: that of the last mark up
    /// to and with itself, or of the next from itself on; 0 where there is none.
    pub fn seen(&self, image: u32, longest: usize) -> Vec<u32> {
        let (mut before, all) = (0, self.pictures.len() as u32);
        let number = |at: usize| {
            let mark = u32::from(self.ids.get(at) == Some(&image));
            let seen = match self.next {
                false => before + mark,
                true if before < all => before + 1,
                true => 0,
            };
            before += mark;
            seen
        };
        (0..longest).map(number).collect()
    }
}

/// How much the parts of a document count.
const DESCRIPTION: f32 = 0.1;
const QUESTION: f32 = 0.02;
const END: f32 = 0.3;
const NEW_NAME: f32 = 0.02;

/// Puts documents together.
pub struct Writer<'a> {
    /// The tokenizer.
    pub words: &'a Words,
    /// The pictures.
    pub pool: &'a Pool,
}

impl Writer<'_> {
    fn begin(&self) -> Document {
        Document {
            ids: vec![self.words.start],
            weights: vec![0.0],
            tags: vec![None],
            ..Document::default()
        }
    }

    fn add(&self, document: &mut Document, text: &str, weight: f32, tag: Tag) -> Result<()> {
        for (i, id) in self.words.encode(text)?.into_iter().enumerate() {
            document.ids.push(id);
            document.weights.push(weight);
            let counted = match tag {
                Tag::None => false,
                Tag::Caption => true,
                Tag::Name(..) | Tag::Answer(_) => i == 0,
            };
            document.tags.push(counted.then_some(tag));
        }
        Ok(())
    }

    fn mark(&self, document: &mut Document) {
        document.ids.push(self.words.image);
        document.weights.push(0.0);
        document.tags.push(None);
    }

    fn end(&self, document: &mut Document) {
        document.ids.push(self.words.end_of_chunk);
        document.weights.push(END);
        document.tags.push(None);
    }

    /// Lays colour and thing over the token that came last.
    fn lay(&self, document: &mut Document, picture: usize) -> Result<()> {
        let item = &self.pool.scene(picture).items[0];
        for word in [item.colour.name(), item.thing.name()] {
            let last = document.ids.len() - 1;
            let id = self.words.encode(word)?;
            document.laid.extend(id.first().map(|&id| (last, id)));
        }
        Ok(())
    }

    /// What stands where the picture is; `key` says by what kinds differ.
    fn show(
        &self,
        document: &mut Document,
        picture: usize,
        (form, key): (Form, Option<Sort>),
        rng: &mut Rng,
    ) -> Result<()> {
        let scene = self.pool.scene(picture);
        let item = &scene.items[0];
        if form > Form::Asked {
            self.mark(document);
        }
        let text = match (form, key) {
            (Form::Picture, _) => {
                document.pictures.push(picture);
                return Ok(());
            }
            (Form::Laid, _) => {
                self.lay(document, picture)?;
                return Ok(());
            }
            (Form::Described, _) => described(scene, rng),
            (Form::Caption, _) | (_, None) => told(scene),
            (_, Some(Sort::Thing)) => item.thing.name().to_owned(),
            (_, Some(Sort::Colour)) => item.colour.name().to_owned(),
            (_, Some(Sort::ThingAndColour)) => {
                format!("{} {}", item.colour.name(), item.thing.name())
            }
        };
        self.add(document, &text, DESCRIPTION, Tag::None)
    }

    /// Pictures and the names of their kinds, the last picture's too.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn named(
        &self,
        trial: &Trial,
        form: impl Fn(&mut Rng) -> Form,
        rng: &mut Rng,
    ) -> Result<Document> {
        let mut document = self.begin();
        let mut shown = vec![false; trial.names.len()];
        for &(picture, kind) in &trial.pictures {
            let form = form(rng);
            self.show(&mut document, picture, (form, Some(trial.sort)), rng)?;
            if form != Form::Bare {
                self.add(&mut document, "Output:", 0.0, Tag::None)?;
            }
            if form == Form::Laid {
                self.lay(&mut document, picture)?;
            }
            let (weight, tag) = if shown[kind] {
                (1.0, Tag::Name(trial.sort, form))
            } else {
                (NEW_NAME, Tag::None)
            };
            self.add(&mut document, &trial.names[kind], weight, tag)?;
            self.end(&mut document);
            shown[kind] = true;
        }
        Ok(document)
    }

    /// Pictures and the names of their kinds, up to where the last is asked.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn asked(&self, trial: &Trial, form: Form, rng: &mut Rng) -> Result<Document> {
        let mut document = self.begin();
        let last = trial.pictures.len() - 1;
        for (i, &(picture, kind)) in trial.pictures.iter().enumerate() {
            self.show(&mut document, picture, (form, Some(trial.sort)), rng)?;
            self.add(&mut document, "Output:", 0.0, Tag::None)?;
            if form == Form::Laid {
                self.lay(&mut document, picture)?;
            }
            if i < last {
                self.add(&mut document, &trial.names[kind], 1.0, Tag::None)?;
                self.end(&mut document);
            }
        }
        Ok(document)
    }

    /// A picture, up to where its caption or the answer to the question begins.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn question(&self, picture: usize, question: Option<&str>) -> Result<Document> {
        let mut document = self.begin();
        self.mark(&mut document);
        document.pictures.push(picture);
        match question {
            None => self.add(&mut document, "Output:", 0.0, Tag::None)?,
            Some(question) => {
                self.add(&mut document, "Question:", 0.0, Tag::None)?;
                self.add(&mut document, question, 0.0, Tag::None)?;
                self.add(&mut document, "Short answer:", 0.0, Tag::None)?;
            }
        }
        Ok(document)
    }

    /// A scene, and a question on a subject, or that it is to be told. The scene
    /// is one of `shown` with the probability `again`, if one can be asked so.
    fn drawn(
        &self,
        subject: Option<Subject>,
        (shown, again): (&[usize], f64),
        rng: &mut Rng,
    ) -> (usize, Option<Asked>) {
        let ask = |picture: usize, rng: &mut Rng| match subject {
            None => Some(None),
            Some(subject) => ask(self.pool.scene(picture), subject, rng).map(Some),
        };
        if rng.random_bool(again) {
            for _ in 0..8 {
                let Some(&picture) = shown.choose(rng) else {
                    break;
                };
                if let Some(asked) = ask(picture, rng) {
                    return (picture, asked);
                }
            }
        }
        match subject {
            None => (self.pool.to_be_told(rng), None),
            Some(subject) => {
                let (picture, asked) = self.pool.asked(subject, rng);
                (picture, Some(asked))
            }
        }
    }

    /// So many pictures with captions, or with questions and their answers, as
    /// often as a set says; new ones are added to those that a batch has shown.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn told(
        &self,
        set: &Dataset,
        (pictures, form): (usize, Form),
        shown: &mut Vec<usize>,
        rng: &mut Rng,
    ) -> Result<Document> {
        let mut document = self.begin();
        for _ in 0..pictures {
            let subject = choose(&set.subjects, rng);
            let (picture, asked) = self.drawn(subject, (shown, set.again), rng);
            let scene = self.pool.scene(picture);
            if !shown.contains(&picture) {
                shown.push(picture);
            }
            self.show(&mut document, picture, (form, None), rng)?;
            match subject.zip(asked) {
                None => {
                    self.add(&mut document, "Output:", 0.0, Tag::None)?;
                    self.add(&mut document, &told(scene), 1.0, Tag::Caption)?;
                }
                Some((subject, asked)) => {
                    self.add(&mut document, "Question:", 0.0, Tag::None)?;
                    self.add(&mut document, &asked.question, QUESTION, Tag::None)?;
                    self.add(&mut document, "Short answer:", 0.0, Tag::None)?;
                    self.add(&mut document, &asked.answer, 1.0, Tag::Answer(subject))?;
                }
            }
            self.end(&mut document);
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<s> a <image> b <image> c`, filled up by one.
    #[test]
    fn words_see_the_last_picture_or_the_next() {
        let mut document = Document {
            ids: vec![1, 7, 2, 8, 2, 9],
            pictures: vec![0, 1],
            ..Document::default()
        };
        assert_eq!(document.seen(2, 7), [0, 0, 1, 1, 2, 2, 2]);
        document.next = true;
        assert_eq!(document.seen(2, 7), [1, 1, 1, 2, 2, 0, 0]);
    }
}
