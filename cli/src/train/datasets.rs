//! Sets of documents, and the batches that a step takes of them.

use anyhow::Result;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::documents::{Document, Form, Writer};
use crate::world::{Rng, Sort, Subject, Trial};

/// What a batch is made of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Pictures and the made-up names of their kinds.
    Named,
    /// Captions, questions and answers.
    Told,
}

/// A set of documents that a step takes a batch of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dataset {
    /// What they are.
    pub kind: Kind,
    /// What stands for pictures, and how often.
    pub forms: Vec<(Form, f32)>,
    /// How often each picture of a document has a form of its own.
    pub mixed: f64,
    /// What kinds are told apart by, and how often.
    pub sorts: Vec<(Sort, f32)>,
    /// What is asked, or that it is to be told, and how often.
    pub subjects: Vec<(Option<Subject>, f32)>,
    /// Pictures of a document, and how often so many.
    pub pictures: Vec<(usize, f32)>,
    /// Pictures of a batch.
    pub batch: usize,
    /// How often one that the batch has shown is shown again: what is made of a
    /// picture is made once.
    pub again: f64,
    /// λ of the paper: what its loss counts (§2.4).
    pub weight: f32,
}

/// One of several, as often as each says.
pub(super) fn choose<T: Copy>(of: &[(T, f32)], rng: &mut Rng) -> T {
    let all: f32 = of.iter().map(|(_, share)| share).sum();
    let mut at = rng.random_range(0.0..all);
    for &(choice, share) in of {
        if at < share {
            return choice;
        }
        at -= share;
    }
    of[of.len() - 1].0
}

impl Dataset {
    /// The batch of a step, decided by the seed.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn batch(&self, writer: &Writer<'_>, seed: u64) -> Result<(Form, Vec<Document>)> {
        let mut rng = Rng::seed_from_u64(seed);
        let rng = &mut rng;
        let form = choose(&self.forms, rng);
        let pictures = choose(&self.pictures, rng);
        let documents = (self.batch / pictures).max(1);
        let mut shown = Vec::new();
        let mut before: Option<Trial> = None;
        let documents = (0..documents).map(|_| match self.kind {
            Kind::Told => writer.told(self, (pictures, form), &mut shown, rng),
            Kind::Named => {
                let sort = choose(&self.sorts, rng);
                let most = (pictures / 2).clamp(2, 8);
                let ways = match rng.random_range(0..10) {
                    0..3 => 2,
                    3..5 => 3,
                    5..8 => 4,
                    8 => 5,
                    _ => 8,
                };
                let sizes = (ways.min(most), pictures);
                let trial = match before.take() {
                    Some(before) if rng.random_bool(self.again) => writer.pool.again(before, rng),
                    _ => writer.pool.trial(sort, sizes, false, rng),
                };
                before = Some(trial.clone());
                let mixed = rng.random_bool(self.mixed);
                let own = |rng: &mut Rng| {
                    if mixed {
                        choose(&self.forms, rng)
                    } else {
                        form
                    }
                };
                writer.named(&trial, own, rng)
            }
        });
        Ok((form, documents.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::words::{Words, tokenizer_json};
    use crate::world::{Pool, Sizes, Split};

    /// Pictures that come again are told of in other words, or named anew.
    #[test]
    fn a_batch_may_show_its_pictures_again() {
        let words = Words::new(&tokenizer_json().unwrap()).unwrap();
        let pool = Pool::new(
            Split::Train,
            1,
            Sizes {
                singles: 2000,
                pairs: 300,
                several: 300,
                placed: 100,
            },
        );
        let writer = Writer {
            words: &words,
            pool: &pool,
        };
        let batch = |kind, again| {
            let set = Dataset {
                kind,
                forms: vec![(Form::Picture, 1.0)],
                mixed: 0.0,
                sorts: vec![(Sort::Thing, 1.0)],
                subjects: vec![
                    (None, 0.2),
                    (Some(Subject::YesNo), 0.4),
                    (Some(Subject::Relation), 0.4),
                ],
                pictures: vec![(4, 1.0)],
                batch: 80,
                again,
                weight: 1.0,
            };
            let (_, documents) = set.batch(&writer, 5).unwrap();
            let shown = documents.iter().flat_map(|d| d.pictures.clone());
            let different: std::collections::BTreeSet<usize> = shown.collect();
            (documents, different.len())
        };
        for (kind, once, again) in [(Kind::Told, 70, 45), (Kind::Named, 70, 55)] {
            assert!(batch(kind, 0.0).1 > once);
            let (documents, different) = batch(kind, 0.7);
            assert!(different < again, "{different} of 80 pictures");
            assert_eq!(documents.len(), 20);
            for (i, document) in documents.iter().enumerate() {
                let before = &documents[..i];
                assert!(before.iter().all(|other| other.ids != document.ids));
            }
        }
    }
}
