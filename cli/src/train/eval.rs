//! How much of the world a model knows, by zero-shot classification.

use anyhow::Result;
use plume_core::cpu::Candle;
use plume_core::image::Rgb8;
use plume_core::tasks::classify::{Classifier, Labels};
use serde::Serialize;

use crate::world::{
    Colour, Relation, Sampler, Scene, Split, Telling, Thing, caption, render, swapped_caption,
};

/// Shares of right answers, 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The thing, of all forty.
    pub things: f32,
    /// The thing, where it is drawn as with a mouse.
    pub things_by_mouse: f32,
    /// The colour, of all ten.
    pub colours: f32,
    /// One, two, three or four of it.
    pub counts: f32,
    /// The true caption of a relation against the swapped one; chance is ½.
    pub relations: f32,
    /// The true relation of the four, both things named; chance is ¼.
    pub relation_of_four: f32,
    /// The cosine that best tells the true thing from the best of the others
    /// where the true one is not among the labels: what lies below is "none of
    /// these".
    pub threshold: f32,
    /// How often that is right, the mean of both cases; chance is ½.
    pub none_of_these: f32,
}

const SIDE: u32 = 160;

fn embed(classifier: &Classifier<Candle>, scenes: &[Scene]) -> Result<Vec<Vec<f32>>> {
    let mut out = Vec::with_capacity(scenes.len());
    for batch in scenes.chunks(50) {
        let mut pixels = Vec::new();
        for scene in batch {
            let picture = Rgb8::new(SIDE, SIDE, render(scene, SIDE))?;
            pixels.extend(classifier.preprocess()?.apply(&picture));
        }
        out.extend(pollster::block_on(classifier.embed_images(&pixels))?);
    }
    Ok(out)
}

fn labels(
    classifier: &mut Classifier<Candle>,
    names: &[String],
    templates: &[&str],
) -> Result<Labels> {
    let templates: Vec<String> = templates.iter().map(|&t| t.to_owned()).collect();
    Ok(pollster::block_on(classifier.labels(names, &templates))?)
}

fn best(scores: &[f32]) -> usize {
    let pairs = scores.iter().enumerate();
    pairs
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(i, _)| i)
}

fn share(hits: impl Iterator<Item = bool>) -> f32 {
    let (right, all) = hits.fold((0, 0), |(r, n), hit| (r + usize::from(hit), n + 1));
    right as f32 / all.max(1) as f32
}

/// The threshold between two kinds of cosines, and the mean share of each kind
/// on its side of it.
fn threshold(above: &[f32], below: &[f32]) -> (f32, f32) {
    let of = |t: f32| {
        let high = share(above.iter().map(|&c| c >= t));
        let low = share(below.iter().map(|&c| c < t));
        (t, (high + low) / 2.0)
    };
    let steps = (-100..=100).map(|i| of(i as f32 / 100.0));
    steps.fold(
        (0.0, 0.0),
        |best, now| if now.1 > best.1 { now } else { best },
    )
}

/// Measures a model on `n` pictures of each kind.
///
/// # Errors
/// Where the model cannot be run.
pub fn figures(classifier: &mut Classifier<Candle>, split: Split, n: usize) -> Result<Figures> {
    let mut sampler = Sampler::new(split, 20_261_124);
    let singles: Vec<Scene> = (0..n).map(|_| sampler.one(None)).collect();
    let points = embed(classifier, &singles)?;

    let names: Vec<String> = Thing::ALL
        .iter()
        .map(|t| format!("{} {}", t.article(), t.name()))
        .collect();
    let things = labels(classifier, &names, &["{}", "a drawing of {}"])?;
    let (mut right, mut truths, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (point, scene) in points.iter().zip(&singles) {
        let cosines = classifier.scores(point, &things).cosine;
        right.push(Thing::ALL[best(&cosines)] == scene.items[0].thing);
        let named = Thing::ALL.iter().zip(cosines);
        let (truth, other): (Vec<_>, Vec<_>) =
            named.partition(|(thing, _)| **thing == scene.items[0].thing);
        truths.extend(truth.into_iter().map(|(_, cosine)| cosine));
        others.push(other.into_iter().map(|(_, c)| c).fold(-1.0, f32::max));
    }
    let (threshold, none_of_these) = threshold(&truths, &others);
    let mouse = right.iter().zip(&singles);
    let mouse = mouse.filter(|(_, s)| s.style.hand == crate::world::Hand::Mouse);
    let things_by_mouse = share(mouse.map(|(r, _)| *r));

    // Asked with the thing's name, as a person would: "a red cat".
    let mut colours = Vec::with_capacity(n);
    for (p, s) in points.iter().zip(&singles) {
        let names: Vec<String> = Colour::ALL
            .iter()
            .map(|c| format!("a {} {}", c.name(), s.items[0].thing.name()))
            .collect();
        let labels = labels(classifier, &names, &[])?;
        colours.push(Colour::ALL[best(&classifier.scores(p, &labels).cosine)] == s.items[0].colour);
    }

    let mut counts = Vec::with_capacity(n);
    let several: Vec<Scene> = (0..n)
        .map(|i| {
            if i % 4 == 0 {
                sampler.one(None)
            } else {
                sampler.several()
            }
        })
        .collect();
    for (p, s) in embed(classifier, &several)?.iter().zip(&several) {
        let item = &s.items[0];
        let names = ["one", "two", "three", "four"].map(|number| {
            let noun = if number == "one" {
                item.thing.name()
            } else {
                item.thing.plural()
            };
            format!("{number} {} {noun}", item.colour.name())
        });
        let labels = labels(classifier, &names, &[])?;
        counts.push(best(&classifier.scores(p, &labels).cosine) + 1 == s.items.len());
    }

    let pairs: Vec<Scene> = (0..n).map(|_| sampler.pair()).collect();
    let (mut relations, mut of_four) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for (p, s) in embed(classifier, &pairs)?.iter().zip(&pairs) {
        // Both captions in the same words: only the places differ.
        let mut words = sampler.rng().clone();
        let captions = [
            caption(s, true, Telling::Varied, &mut words.clone()),
            swapped_caption(s, true, Telling::Varied, &mut words),
        ];
        let two = labels(classifier, &captions, &[])?;
        relations.push(best(&classifier.scores(p, &two).cosine) == 0);
        let noun = |i: usize| format!("a {} {}", s.items[i].colour.name(), s.items[i].thing.name());
        let four = ["to the left of", "to the right of", "above", "below"]
            .map(|how| format!("{} {how} {}", noun(0), noun(1)));
        let four = labels(classifier, &four, &[])?;
        let told = Relation::ALL[best(&classifier.scores(p, &four).cosine)];
        of_four.push(Some(told) == s.relation);
        let _: u64 = rand::Rng::random(sampler.rng());
    }
    Ok(Figures {
        things: share(right.into_iter()),
        things_by_mouse,
        colours: share(colours.into_iter()),
        counts: share(counts.into_iter()),
        relations: share(relations.into_iter()),
        relation_of_four: share(of_four.into_iter()),
        threshold,
        none_of_these,
    })
}
