//! What can be asked of a scene, and what is right.

use rand::Rng as _;
use rand::seq::IndexedRandom;

use super::thing::article;
use super::{Colour, Fill, Item, Relation, Rng, Scene, Telling, Thing, caption};

/// What a question is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the subject it names")]
pub enum Subject {
    Colour,
    Thing,
    Size,
    Count,
    Relation,
    YesNo,
    Comparison,
}

impl Subject {
    /// All of them, in a fixed order.
    pub const ALL: [Subject; 7] = [
        Subject::Colour,
        Subject::Thing,
        Subject::Size,
        Subject::Count,
        Subject::Relation,
        Subject::YesNo,
        Subject::Comparison,
    ];

    /// In words, for a table.
    pub fn words(self) -> &'static str {
        match self {
            Subject::Colour => "colour",
            Subject::Thing => "thing",
            Subject::Size => "size",
            Subject::Count => "count",
            Subject::Relation => "relation, of four",
            Subject::YesNo => "yes or no",
            Subject::Comparison => "comparison, of two",
        }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// With its mark.
    pub question: String,
    /// One word, as a rule.
    pub answer: String,
}

/// Below it a thing is small, above the second it is big; between them neither
/// is asked nor told.
const SIZES: (f32, f32) = (0.45, 0.72);

/// Of two things one is the bigger if it is by this factor.
const BIGGER: f32 = 1.2;

const NUMBERS: [&str; 4] = ["one", "two", "three", "four"];

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    // Every list here is a constant with members.
    *of.choose(rng).unwrap_or(&of[0])
}

/// `small` or `big`, of a thing alone that is clearly so.
fn size(scene: &Scene) -> Option<&'static str> {
    let [item] = scene.items.as_slice() else {
        return None;
    };
    match item.extent {
        e if e < SIZES.0 => Some("small"),
        e if e > SIZES.1 => Some("big"),
        _ => None,
    }
}

/// Where the one thing of a scene lies, if it lies to one side.
fn side(scene: &Scene) -> Option<&'static str> {
    if scene.items.len() != 1 {
        return None;
    }
    Some(match scene.relation? {
        Relation::LeftOf => "left",
        Relation::RightOf => "right",
        Relation::Above => "above",
        Relation::Below => "below",
    })
}

/// The bigger and the smaller of two things that differ clearly.
fn by_size(scene: &Scene) -> Option<(&Item, &Item)> {
    // Several of a kind are told by their number.
    scene.relation?;
    match scene.items.as_slice() {
        [a, b] if a.extent > BIGGER * b.extent => Some((a, b)),
        [a, b] if b.extent > BIGGER * a.extent => Some((b, a)),
        _ => None,
    }
}

/// `red house`.
fn noun(item: &Item) -> String {
    format!("{} {}", item.colour.name(), item.thing.name())
}

fn with_article(noun: &str) -> String {
    format!("{} {noun}", article(noun))
}

/// The two of a scene from the left or from the top, and how the first lies to
/// the second.
fn in_order(scene: &Scene) -> Option<(&Item, &'static str, &Item)> {
    let [a, b] = scene.items.as_slice() else {
        return None;
    };
    Some(match scene.relation? {
        Relation::LeftOf => (a, "left of", b),
        Relation::RightOf => (b, "left of", a),
        Relation::Above => (a, "above", b),
        Relation::Below => (b, "above", a),
    })
}

/// The one caption that a captioner is measured by: `a red house`, `three blue
/// fish`, `a red star left of a blue fish`.
pub fn told(scene: &Scene) -> String {
    if let Some((a, how, b)) = in_order(scene) {
        return format!(
            "{} {how} {}",
            with_article(&noun(a)),
            with_article(&noun(b))
        );
    }
    let Some(item) = scene.items.first() else {
        return "nothing".into();
    };
    match scene.items.len() {
        1 => with_article(&noun(item)),
        n => format!(
            "{} {} {}",
            NUMBERS[n.min(4) - 1],
            item.colour.name(),
            item.thing.plural()
        ),
    }
}

/// A description from which every question can be answered, in varied words.
pub fn described(scene: &Scene, rng: &mut Rng) -> String {
    if scene.items.len() == 1 {
        let mut words = Vec::new();
        words.extend(size(scene));
        if rng.random_bool(0.3) {
            match scene.style.fill {
                Fill::Outlined => words.push("outlined"),
                Fill::Striped => words.push("striped"),
                Fill::Dotted => words.push("dotted"),
                Fill::Hatched => words.push("hatched"),
                Fill::Plain => {}
            }
        }
        let noun = noun(&scene.items[0]);
        words.push(&noun);
        let phrase = with_article(&words.join(" "));
        if let Some(side) = side(scene) {
            let place = match side {
                "left" | "right" => format!("on the {side}"),
                _ => side.to_owned(),
            };
            return format!("{phrase} {place}");
        }
        return match rng.random_range(0..8) {
            0 => format!("this is {phrase}"),
            1 => format!("a drawing of {phrase}"),
            2 => format!("{phrase} on the page"),
            _ => phrase,
        };
    }
    match (in_order(scene), by_size(scene)) {
        _ if rng.random_bool(0.3) => caption(scene, true, Telling::Varied, rng),
        (Some((a, how, b)), Some((bigger, _))) => {
            let noun = |item: &Item| {
                let size = if std::ptr::eq(item, bigger) {
                    "big"
                } else {
                    "small"
                };
                format!("a {size} {}", noun(item))
            };
            format!("{} {how} {}", noun(a), noun(b))
        }
        _ => told(scene),
    }
}

/// A question on this subject, if it can be asked of the scene.
pub fn ask(scene: &Scene, subject: Subject, rng: &mut Rng) -> Option<Asked> {
    let item = scene.items.first()?;
    let pair = in_order(scene);
    let one = |rng: &mut Rng| match pair {
        Some((a, _, b)) => pick(rng, &[a, b]),
        None => item,
    };
    let many = scene.items.len() > 1 && pair.is_none();
    let (be, name) = if many {
        ("are", item.thing.plural())
    } else {
        ("is", item.thing.name())
    };
    let (question, answer) = match subject {
        Subject::Colour => {
            let item = one(rng);
            let colour = pick(rng, &["color", "color", "color", "colour"]);
            let question = if pair.is_some() {
                format!("what {colour} is the {}?", item.thing.name())
            } else {
                match rng.random_range(0..4) {
                    0 if !many => format!("what {colour} is it?"),
                    0 => format!("what {colour} are they?"),
                    1 if !many => format!("what {colour} is this?"),
                    _ => format!("what {colour} {be} the {name}?"),
                }
            };
            (question, item.colour.name().to_owned())
        }
        Subject::Thing => {
            if let Some((a, how, b)) = pair {
                // Which of the two is told by where it lies to the other.
                let (this, how, other) = if rng.random_bool(0.5) {
                    (a, how, b)
                } else {
                    (b, opposite(how), a)
                };
                let question = format!("what is {how} the {}?", other.thing.name());
                return Some(Asked {
                    question,
                    answer: this.thing.name().to_owned(),
                });
            }
            let ask = if many {
                ["what are they?", "what are these?", "what do you see?"]
            } else {
                ["what is it?", "what is this?", "what do you see?"]
            };
            (pick(rng, &ask).to_owned(), name.to_owned())
        }
        Subject::Size => {
            let size = size(scene)?;
            let question = match rng.random_range(0..3) {
                0 => format!("how big is the {name}?"),
                1 => format!("is the {name} big or small?"),
                _ => "is it big or small?".to_owned(),
            };
            (question, size.to_owned())
        }
        Subject::Count => {
            if pair.is_some() {
                return None;
            }
            let question = match rng.random_range(0..3) {
                0 => "how many are there?".to_owned(),
                1 => "how many things are there?".to_owned(),
                _ => format!("how many {} are there?", item.thing.plural()),
            };
            (question, NUMBERS[scene.items.len().min(4) - 1].to_owned())
        }
        Subject::Relation => {
            if let Some(side) = side(scene) {
                let question = match rng.random_range(0..3) {
                    0 => "where is it?".to_owned(),
                    _ => format!("where is the {}?", item.thing.name()),
                };
                return Some(Asked {
                    question,
                    answer: side.to_owned(),
                });
            }
            let (a, how, b) = pair?;
            let (this, how, other) = if rng.random_bool(0.5) {
                (a, how, b)
            } else {
                (b, opposite(how), a)
            };
            let answer = how.trim_end_matches(" of");
            let (this, other) = (this.thing.name(), other.thing.name());
            let question = match rng.random_range(0..3) {
                0 => format!("where is the {this}?"),
                1 => format!("where is the {this} to the {other}?"),
                _ if matches!(answer, "left" | "right") => {
                    format!("is the {this} left or right of the {other}?")
                }
                _ => format!("is the {this} above or below the {other}?"),
            };
            (question, answer.to_owned())
        }
        Subject::YesNo => return Some(yes_no(scene, rng)),
        Subject::Comparison => return comparison(scene, rng),
    };
    Some(Asked { question, answer })
}

fn opposite(how: &str) -> &'static str {
    match how {
        "left of" => "right of",
        "right of" => "left of",
        "above" => "below",
        _ => "above",
    }
}

/// Another of a list than this one.
fn other<T: Copy + PartialEq>(rng: &mut Rng, of: &[T], than: &[T]) -> T {
    loop {
        let candidate = pick(rng, of);
        if !than.contains(&candidate) {
            return candidate;
        }
    }
}

/// A question that is answered by yes or no, each as often.
fn yes_no(scene: &Scene, rng: &mut Rng) -> Asked {
    let yes = rng.random_bool(0.5);
    let things: Vec<Thing> = scene.items.iter().map(|item| item.thing).collect();
    let question = if let Some((a, how, b)) = in_order(scene) {
        let (this, that) = if rng.random_bool(0.5) { (a, b) } else { (b, a) };
        match rng.random_range(0..4) {
            0 => {
                // The other of the two has the wrong colour, where they differ.
                let colour = match (yes, this.colour == that.colour) {
                    (true, _) => this.colour,
                    (false, false) => that.colour,
                    (false, true) => other(rng, Colour::ALL, &[this.colour]),
                };
                format!("is the {} {}?", this.thing.name(), colour.name())
            }
            1 => {
                let thing = if yes {
                    this.thing
                } else {
                    other(rng, Thing::ALL, &things)
                };
                format!("is there {}?", with_article(thing.name()))
            }
            _ => {
                let truth = if std::ptr::eq(this, a) {
                    how
                } else {
                    opposite(how)
                };
                let how = if yes { truth } else { opposite(truth) };
                let (this, that) = (this.thing.name(), that.thing.name());
                format!("is the {this} {how} the {that}?")
            }
        }
    } else {
        let item = &scene.items[0];
        let many = scene.items.len() > 1;
        let colour = if yes {
            item.colour
        } else {
            other(rng, Colour::ALL, &[item.colour])
        };
        let thing = if yes {
            item.thing
        } else {
            other(rng, Thing::ALL, &things)
        };
        let count = if yes {
            scene.items.len().min(4)
        } else {
            other(rng, &[1, 2, 3, 4], &[scene.items.len().min(4)])
        };
        match (many, rng.random_range(0..3)) {
            (false, 0) => format!("is it {}?", colour.name()),
            (false, 1) => format!("is the {} {}?", item.thing.name(), colour.name()),
            (false, _) => format!("is it {}?", with_article(thing.name())),
            (true, 0) => format!("are the {} {}?", item.thing.plural(), colour.name()),
            (true, 1) => format!("are there {}?", NUMBERS[count - 1]),
            (true, _) => format!("are they {}?", thing.plural()),
        }
    };
    Asked {
        question,
        answer: if yes { "yes" } else { "no" }.into(),
    }
}

/// Which of two is the bigger, or whether several are more than so many: of
/// each question both answers are as often right.
fn comparison(scene: &Scene, rng: &mut Rng) -> Option<Asked> {
    let asked = |question: String, answer: &str| {
        Some(Asked {
            question,
            answer: answer.to_owned(),
        })
    };
    let yes = rng.random_bool(0.5);
    let word = if yes { "yes" } else { "no" };
    if let Some((bigger, smaller)) = by_size(scene) {
        let (how, right, wrong) = if rng.random_bool(0.5) {
            ("bigger", bigger.thing.name(), smaller.thing.name())
        } else {
            ("smaller", smaller.thing.name(), bigger.thing.name())
        };
        let (first, second) = if yes { (right, wrong) } else { (wrong, right) };
        return match rng.random_range(0..3) {
            0 => asked(format!("which is {how}?"), right),
            1 => asked(
                format!("which is {how}, the {first} or the {second}?"),
                right,
            ),
            _ => asked(format!("is the {first} {how} than the {second}?"), word),
        };
    }
    let n = scene.items.len();
    if n < 2 || scene.relation.is_some() {
        return None;
    }
    // Of two, three or four: a bound that lies next to the number is drawn so
    // often that yes is about as often right as no.
    let bounds: &[(&str, usize)] = match n {
        2 => &[
            ("more", 2),
            ("more", 2),
            ("more", 3),
            ("fewer", 3),
            ("fewer", 3),
            ("fewer", 4),
        ],
        3 => &[("more", 2), ("more", 3), ("fewer", 3), ("fewer", 4)],
        _ => &[
            ("more", 2),
            ("more", 3),
            ("more", 3),
            ("fewer", 3),
            ("fewer", 4),
            ("fewer", 4),
        ],
    };
    let (how, bound) = pick(rng, bounds);
    let right = if how == "more" { n > bound } else { n < bound };
    asked(
        format!("are there {how} than {}?", NUMBERS[bound - 1]),
        if right { "yes" } else { "no" },
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Sampler, Split};
    use super::*;

    #[test]
    fn answers_are_in_the_captions() {
        let mut sampler = Sampler::new(Split::Train, 4);
        for i in 0..300 {
            let scene = match i % 3 {
                0 => sampler.one(None),
                1 => sampler.pair(),
                _ => sampler.several(),
            };
            let caption = told(&scene);
            for subject in [Subject::Colour, Subject::Thing] {
                let asked = ask(&scene, subject, sampler.rng()).expect("a question");
                assert!(caption.contains(&asked.answer), "{caption}: {asked:?}");
            }
            let relation = ask(&scene, Subject::Relation, sampler.rng());
            assert_eq!(relation.is_some(), i % 3 == 1);
            let described = described(&scene, sampler.rng());
            for item in &scene.items {
                assert!(described.contains(item.colour.name()), "{described}");
            }
        }
    }

    #[test]
    fn comparisons_are_true_and_the_question_does_not_tell() {
        let mut sampler = Sampler::new(Split::Train, 6);
        let (mut yes, mut no, mut named) = (0, 0, 0);
        for i in 0..3000 {
            let scene = if i % 2 == 0 {
                sampler.pair()
            } else {
                sampler.several()
            };
            let Some(Asked { question, answer }) = ask(&scene, Subject::Comparison, sampler.rng())
            else {
                let [a, b] = scene.items.as_slice() else {
                    panic!("several can be compared with a number");
                };
                assert!(a.extent.max(b.extent) <= BIGGER * a.extent.min(b.extent));
                continue;
            };
            match answer.as_str() {
                "yes" => yes += 1,
                "no" => no += 1,
                thing => {
                    named += 1;
                    let item = scene.items.iter().find(|item| item.thing.name() == thing);
                    let least = scene.items.iter().map(|item| item.extent).reduce(f32::min);
                    let small = item.expect("one of the two").extent == least.expect("two");
                    assert_eq!(small, question.contains("smaller"), "{question} {answer}");
                }
            }
            let words: Vec<&str> = question.trim_end_matches('?').split(' ').collect();
            let right = match words.as_slice() {
                ["are", "there", how, "than", bound] => {
                    let bound = NUMBERS.iter().position(|n| n == bound).expect("a number") + 1;
                    match *how {
                        "more" => scene.items.len() > bound,
                        _ => scene.items.len() < bound,
                    }
                }
                ["is", "the", this, how, "than", "the", _] => {
                    let (this, other): (Vec<_>, Vec<_>) = scene
                        .items
                        .iter()
                        .partition(|item| item.thing.name() == *this);
                    (this[0].extent > other[0].extent) == (*how == "bigger")
                }
                _ => continue,
            };
            assert_eq!(right, answer == "yes", "{question}");
        }
        assert!(named > 200, "{named}");
        let share = f64::from(yes) / f64::from(yes + no);
        assert!((0.45..0.55).contains(&share), "{yes} {no}");
    }

    #[test]
    fn yes_is_as_often_right_as_no() {
        let mut sampler = Sampler::new(Split::Train, 5);
        let mut yes = 0;
        for i in 0..600 {
            let scene = if i % 2 == 0 {
                sampler.one(None)
            } else {
                sampler.pair()
            };
            yes += usize::from(yes_no(&scene, sampler.rng()).answer == "yes");
        }
        assert!((250..350).contains(&yes), "{yes}");
    }
}
