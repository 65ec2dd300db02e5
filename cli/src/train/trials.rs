//! What a Flamingo of the world can do, on combinations and words that training
//! never showed: naming by examples, captions, questions.

use anyhow::{Context, Result};
use plume_core::prompts::rices;
use plume_core::tasks::metrics::{caption_words, cider_d};
use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::documents::{Form, Writer};
use super::learner::{Gallery, Learner, best};
use crate::world::{Pool, Rng, Sort, Subject, Trial, told};

/// Right answers among trials.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// Right answers.
    pub right: usize,
    /// All.
    pub trials: usize,
}

impl Count {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.trials += 1;
    }

    /// The share of right answers.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.trials.max(1) as f64
    }

    /// The interval that holds the true share with 95 % (Wilson 1927).
    pub fn interval(&self) -> (f64, f64) {
        let (n, p, z) = (self.trials.max(1) as f64, self.share(), 1.96);
        let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    /// `93.5 (91–95)`, in percent.
    pub fn words(&self) -> String {
        let (low, high) = self.interval();
        format!(
            "{:.1} ({:.0}–{:.0})",
            100.0 * self.share(),
            100.0 * low,
            100.0 * high
        )
    }
}

/// How shots are chosen from the pictures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// By chance, each kind as often.
    Random,
    /// Those that are most like the query, the most similar last.
    Rices,
}

/// Naming by examples.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Named {
    /// How shots are chosen.
    pub choice: Choice,
    /// What kinds are told apart by.
    pub sort: Sort,
    /// Kinds.
    pub ways: usize,
    /// Examples, of all kinds together.
    pub shots: usize,
    /// Of the names of the kinds, the right one is the likeliest.
    pub chosen: Count,
    /// Of all words, the right one is the likeliest.
    pub said: Count,
}

/// Captions of one kind of picture.
#[derive(Clone, Debug, Serialize)]
pub struct Captions {
    /// What the pictures show.
    pub of: &'static str,
    /// Every word is right.
    pub exact: Count,
    /// Mean CIDEr-D beside the one right caption, times 10 as papers have it. How
    /// rare a word is follows from all captions that are measured, so a figure
    /// goes only with others of as many trials.
    pub cider: f64,
}

/// Questions of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Answers {
    /// What is asked about.
    pub subject: Subject,
    /// The answer is right.
    pub right: Count,
}

/// Everything that is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Naming by examples.
    pub named: Vec<Named>,
    /// Captions without an example.
    pub captions: Vec<Captions>,
    /// Questions without an example.
    pub answers: Vec<Answers>,
}

const BATCH: usize = 20;

/// The share of trials in which the right name is the likeliest of those
/// shown.
pub(super) fn named(
    learner: &Learner,
    gallery: &Gallery,
    (sort, ways, shots): (Sort, usize, usize),
    form: Form,
    trials: usize,
) -> Result<Count> {
    let mut rng = Rng::seed_from_u64(99);
    let drawn = (0..trials).map(|_| gallery.pool.trial(sort, (ways, shots + 1), true, &mut rng));
    let drawn: Vec<Trial> = drawn.collect();
    Ok(judged(learner, gallery, &drawn, form)?.0)
}

/// How often the right name is the likeliest of the names, and of all words.
fn judged(
    learner: &Learner,
    gallery: &Gallery,
    trials: &[Trial],
    form: Form,
) -> Result<(Count, Count)> {
    let mut rng = Rng::seed_from_u64(98);
    let writer = Writer {
        words: &learner.words,
        pool: &gallery.pool,
    };
    let (mut chosen, mut said) = (Count::default(), Count::default());
    for batch in trials.chunks(BATCH) {
        let documents = batch
            .iter()
            .map(|trial| writer.asked(trial, form, &mut rng));
        let documents = documents.collect::<Result<Vec<_>>>()?;
        for (logits, trial) in learner.next(&documents, gallery)?.iter().zip(batch) {
            // Names differ in their first token.
            let firsts = trial.names.iter().map(|name| {
                let ids = learner.words.encode(name)?;
                let first = ids.first().context("a name without tokens")?;
                Ok(*first as usize)
            });
            let firsts: Vec<usize> = firsts.collect::<Result<_>>()?;
            let truth = trial.pictures.last().map(|&(_, kind)| firsts[kind]);
            chosen.add(Some(best(logits, firsts)) == truth);
            said.add(Some(best(logits, 0..logits.len())) == truth);
        }
    }
    Ok((chosen, said))
}

/// The same query with shots that are most like it, of a support that has each
/// kind as often.
fn similar(trial: Trial, shots: usize, likeness: &dyn Fn(usize) -> Vec<f32>) -> Trial {
    let (query, support) = match trial.pictures.split_last() {
        Some((query, support)) => (*query, support.to_vec()),
        None => return trial,
    };
    let embeddings: Vec<Vec<f32>> = support.iter().map(|&(i, _)| likeness(i)).collect();
    let chosen = rices(&likeness(query.0), &embeddings, shots);
    let mut pictures: Vec<(usize, usize)> = chosen.into_iter().map(|i| support[i]).collect();
    pictures.push(query);
    Trial { pictures, ..trial }
}

/// Pictures that RICES chooses from.
const SUPPORT: usize = 64;

/// What is measured.
pub struct Plan {
    trials: usize,
    /// How shots are chosen, and kinds.
    kinds: Vec<(Choice, usize)>,
    shots: Vec<usize>,
}

impl Plan {
    /// Everything, on so many trials of each kind.
    pub fn whole(trials: usize) -> Self {
        Self {
            trials,
            kinds: vec![
                (Choice::Random, 2),
                (Choice::Random, 4),
                (Choice::Random, 8),
                (Choice::Rices, 4),
            ],
            shots: vec![0, 1, 2, 4, 8, 16, 32],
        }
    }

    /// Four kinds with eight shots by chance, captions and answers.
    pub fn short(trials: usize) -> Self {
        Self {
            trials,
            kinds: vec![(Choice::Random, 4)],
            shots: vec![8],
        }
    }

    /// Measures it. `likeness` gives the embedding, of length one, of a picture
    /// of the pool; without it shots are chosen by chance alone.
    ///
    /// # Errors
    /// Where the model cannot be run.
    pub fn report(
        &self,
        learner: &Learner,
        gallery: &Gallery,
        likeness: Option<&dyn Fn(usize) -> Vec<f32>>,
    ) -> Result<Report> {
        let mut all = Vec::new();
        let mut rng = Rng::seed_from_u64(97);
        for &(choice, ways) in &self.kinds {
            for sort in Sort::ALL {
                for &shots in &self.shots {
                    if choice == Choice::Rices && (likeness.is_none() || shots == 0) {
                        continue;
                    }
                    let draw = |rng: &mut Rng| match (choice, likeness) {
                        (Choice::Rices, Some(likeness)) => {
                            let trial = gallery.pool.trial(sort, (ways, SUPPORT + 1), true, rng);
                            similar(trial, shots, likeness)
                        }
                        _ => gallery.pool.trial(sort, (ways, shots + 1), true, rng),
                    };
                    let drawn: Vec<Trial> = (0..self.trials).map(|_| draw(&mut rng)).collect();
                    let (chosen, said) = judged(learner, gallery, &drawn, Form::Picture)?;
                    all.push(Named {
                        choice,
                        sort,
                        ways,
                        shots,
                        chosen,
                        said,
                    });
                }
            }
        }
        Ok(Report {
            named: all,
            captions: captions(learner, gallery, self.trials, &mut rng)?,
            answers: answers(learner, gallery, self.trials, &mut rng)?,
        })
    }
}

fn captions(
    learner: &Learner,
    gallery: &Gallery,
    trials: usize,
    rng: &mut Rng,
) -> Result<Vec<Captions>> {
    type Draw = fn(&Pool, &mut Rng) -> usize;
    let kinds: [(&'static str, Draw); 3] = [
        ("one thing", |pool, rng| pool.single(rng)),
        ("two things and how they lie", |pool, rng| pool.pair(rng)),
        ("two to four of a kind", |pool, rng| pool.several(rng)),
    ];
    let writer = Writer {
        words: &learner.words,
        pool: &gallery.pool,
    };
    let mut all = Vec::new();
    let mut texts = Vec::new();
    for (of, draw) in kinds {
        let mut exact = Count::default();
        let pictures: Vec<usize> = (0..trials).map(|_| draw(&gallery.pool, rng)).collect();
        for batch in pictures.chunks(BATCH) {
            let documents = batch.iter().map(|&picture| writer.question(picture, None));
            let documents = documents.collect::<Result<Vec<_>>>()?;
            for (written, &picture) in learner.write(&documents, gallery)?.iter().zip(batch) {
                let right = told(gallery.pool.scene(picture));
                exact.add(*written == right);
                let words = |caption: &str| caption_words(caption).join(" ");
                texts.push((words(written), vec![words(&right)]));
            }
        }
        all.push(Captions {
            of,
            exact,
            cider: 0.0,
        });
    }
    let scores = cider_d(&texts);
    for (captions, scores) in all.iter_mut().zip(scores.chunks(trials.max(1))) {
        captions.cider = 10.0 * scores.iter().sum::<f64>() / scores.len() as f64;
    }
    Ok(all)
}

fn answers(
    learner: &Learner,
    gallery: &Gallery,
    trials: usize,
    rng: &mut Rng,
) -> Result<Vec<Answers>> {
    let writer = Writer {
        words: &learner.words,
        pool: &gallery.pool,
    };
    let mut all = Vec::new();
    for subject in Subject::ALL {
        let asked = (0..trials).map(|_| gallery.pool.asked(subject, rng));
        let asked: Vec<_> = asked.collect();
        let mut right = Count::default();
        for batch in asked.chunks(BATCH) {
            let documents = batch
                .iter()
                .map(|(picture, asked)| writer.question(*picture, Some(&asked.question)));
            let documents = documents.collect::<Result<Vec<_>>>()?;
            for (written, (_, asked)) in learner.write(&documents, gallery)?.iter().zip(batch) {
                right.add(*written == asked.answer);
            }
        }
        all.push(Answers { subject, right });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::Count;

    /// As `statsmodels.stats.proportion.proportion_confint` has it, method
    /// "wilson".
    #[test]
    fn intervals_are_wilsons() {
        let near = |count: Count, low: f64, high: f64| {
            let (a, b) = count.interval();
            assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{a} {b}");
        };
        let count = |right, trials| Count { right, trials };
        near(count(45, 50), 0.7864, 0.9565);
        near(count(100, 100), 0.9630, 1.0);
        near(count(0, 20), 0.0, 0.1611);
    }
}
