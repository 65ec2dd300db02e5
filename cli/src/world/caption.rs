//! True sentences about a scene, and false ones that differ in one respect.

use rand::Rng as _;
use rand::seq::IndexedRandom;

use super::thing::article;
use super::{Fill, Hand, Item, Relation, Rng, Scene};

/// How two things are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Telling {
    /// From the left or the top, always in the same words: which thing stands
    /// where then depends on the order of the words alone.
    Plain,
    /// From either side, in varied words.
    Varied,
}

/// Picks one.
fn pick(rng: &mut Rng, of: &[&'static str]) -> &'static str {
    of.choose(rng).copied().unwrap_or_default()
}

/// `big red striped star`, without an article; some of the words may be left out.
fn noun(item: &Item, scene: &Scene, colour: bool, rng: &mut Rng) -> String {
    let mut words = Vec::new();
    if scene.items.len() == 1 && rng.random_bool(0.25) {
        if item.extent < 0.45 {
            words.push(pick(rng, &["small", "little", "tiny"]));
        } else if item.extent > 0.72 {
            words.push(pick(rng, &["big", "large"]));
        }
    }
    if rng.random_bool(0.25) {
        match scene.style.fill {
            Fill::Outlined => words.push(pick(rng, &["outlined", "hollow"])),
            Fill::Striped => words.push("striped"),
            Fill::Dotted => words.push(pick(rng, &["dotted", "spotted"])),
            Fill::Hatched => words.push("hatched"),
            Fill::Plain => {}
        }
    }
    if colour {
        words.push(item.colour.name());
    }
    words.push(item.thing.name());
    words.join(" ")
}

fn with_article(noun: &str) -> String {
    format!("{} {noun}", article(noun))
}

/// Puts a noun phrase into a sentence.
fn sentence(phrase: &str, scene: &Scene, rng: &mut Rng) -> String {
    let medium = match scene.style.hand {
        Hand::Mouse => pick(rng, &["sketch", "drawing", "doodle"]),
        Hand::Loose => pick(rng, &["drawing", "sketch", "picture"]),
        Hand::Clean => pick(rng, &["picture", "drawing", "image"]),
    };
    match rng.random_range(0..12) {
        0..4 => phrase.to_owned(),
        4..7 => format!("{} of {phrase}", with_article(medium)),
        7 => format!("a photo of {phrase}"),
        8 => format!("this is {phrase}"),
        9 => format!("{phrase} on the page"),
        10 => format!("{medium} of {phrase}"),
        _ => format!("here we see {phrase}"),
    }
}

/// A true caption. `colour` says that the colour must be named; otherwise it
/// is left out now and then.
pub fn caption(scene: &Scene, colour: bool, telling: Telling, rng: &mut Rng) -> String {
    let colour = colour || rng.random_bool(0.75);
    match (scene.items.as_slice(), scene.relation) {
        ([item], Some(side)) => {
            let phrase = with_article(&noun(item, scene, colour, rng));
            placed(&phrase, side, rng)
        }
        ([item], None) => {
            let noun = noun(item, scene, colour, rng);
            match rng.random_range(0..12) {
                0 => noun,
                1 if colour => {
                    let thing = with_article(item.thing.name());
                    let phrase = format!("{thing} in {}", item.colour.name());
                    sentence(&phrase, scene, rng)
                }
                2 => sentence(&format!("one {noun}"), scene, rng),
                _ => sentence(&with_article(&noun), scene, rng),
            }
        }
        ([a, b], Some(relation)) => {
            let colours = colour || a.thing == b.thing;
            if telling == Telling::Plain {
                return plainly(a, relation, b, colours);
            }
            let a = noun(a, scene, colours, rng);
            let b = noun(b, scene, colours, rng);
            related(&a, relation, &b, rng)
        }
        (items, _) => counted(items, scene, colour, rng),
    }
}

/// `a red star on the left`.
fn placed(phrase: &str, side: Relation, rng: &mut Rng) -> String {
    let place = place(side, rng);
    match rng.random_range(0..3) {
        0 => format!("{place} {phrase}"),
        _ => format!("{phrase} {place}"),
    }
}

/// Where the first of two lies, told of it alone.
fn place(side: Relation, rng: &mut Rng) -> &'static str {
    match side {
        Relation::LeftOf => pick(rng, &["on the left", "to the left"]),
        Relation::RightOf => pick(rng, &["on the right", "to the right"]),
        Relation::Above => pick(rng, &["above", "at the top"]),
        Relation::Below => pick(rng, &["below", "at the bottom"]),
    }
}

/// `three blue fish`.
fn counted(items: &[Item], scene: &Scene, colour: bool, rng: &mut Rng) -> String {
    let Some(item) = items.first() else {
        return "nothing".to_owned();
    };
    let number = ["no", "one", "two", "three", "four", "five"][items.len().min(5)];
    let mut words = vec![number];
    if colour {
        words.push(item.colour.name());
    }
    words.push(item.thing.plural());
    let phrase = words.join(" ");
    if rng.random_bool(0.5) {
        phrase
    } else {
        sentence(&phrase, scene, rng)
    }
}

/// `a red star left of a blue fish`, told from the left or the top.
fn plainly(a: &Item, relation: Relation, b: &Item, colour: bool) -> String {
    let (first, how, second) = match relation {
        Relation::LeftOf => (a, "left of", b),
        Relation::RightOf => (b, "left of", a),
        Relation::Above => (a, "above", b),
        Relation::Below => (b, "above", a),
    };
    let [first, second] = [first, second].map(|item| match colour {
        true => with_article(&format!("{} {}", item.colour.name(), item.thing.name())),
        false => with_article(item.thing.name()),
    });
    format!("{first} {how} {second}")
}

/// `a red star to the left of a blue fish`, told from either side.
fn related(a: &str, relation: Relation, b: &str, rng: &mut Rng) -> String {
    let (a, relation, b) = if rng.random_bool(0.5) {
        (a, relation, b)
    } else {
        (b, relation.opposite(), a)
    };
    if rng.random_bool(0.3) {
        let (first, second) = (place(relation, rng), place(relation.opposite(), rng));
        let (a, b) = (with_article(a), with_article(b));
        return format!("{a} {first} and {b} {second}");
    }
    let how = match relation {
        Relation::LeftOf => pick(rng, &["left of", "to the left of", "on the left of"]),
        Relation::RightOf => pick(rng, &["right of", "to the right of", "on the right of"]),
        Relation::Above => pick(rng, &["above", "over", "on top of"]),
        Relation::Below => pick(rng, &["below", "under", "beneath"]),
    };
    let (a, b) = (with_article(a), with_article(b));
    match rng.random_range(0..5) {
        0 => format!("a drawing of {a} {how} {b}"),
        1 => format!("{a} is {how} {b}"),
        _ => format!("{a} {how} {b}"),
    }
}

/// The scene with its two things in each other's place, or its one thing on
/// the other side.
fn swapped(scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    scene.relation = scene.relation.map(Relation::opposite);
    scene
}

/// What would be true if the two things changed places: false of the picture.
pub fn swapped_caption(scene: &Scene, colour: bool, telling: Telling, rng: &mut Rng) -> String {
    caption(&swapped(scene), colour, telling, rng)
}

/// What would be true if the two things exchanged colours: false of the
/// picture where the colours differ.
pub fn attributes_swapped(scene: &Scene, telling: Telling, rng: &mut Rng) -> String {
    let mut scene = scene.clone();
    if let [a, b] = scene.items.as_mut_slice() {
        std::mem::swap(&mut a.colour, &mut b.colour);
    }
    caption(&scene, true, telling, rng)
}
