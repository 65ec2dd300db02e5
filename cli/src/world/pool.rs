//! A store of scenes, from which documents and trials are put together.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Asked, Colour, Rng, Sampler, Scene, Split, Subject, Thing, ask, name};

/// What kinds of pictures are told apart by.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Red houses are a kind.
    ThingAndColour,
    /// Houses are a kind.
    Thing,
    /// Red things are a kind.
    Colour,
}

impl Sort {
    /// All of them, in a fixed order.
    pub const ALL: [Sort; 3] = [Sort::ThingAndColour, Sort::Thing, Sort::Colour];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Sort::ThingAndColour => "thing and colour",
            Sort::Thing => "thing",
            Sort::Colour => "colour",
        }
    }
}

/// Pictures of several kinds, which have names: the last is to be named.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Pictures of the pool, and the kind that each belongs to.
    pub pictures: Vec<(usize, usize)>,
    /// The name of each kind; their first two letters differ.
    pub names: Vec<String>,
    /// What kinds are told apart by.
    pub sort: Sort,
}

/// How many pictures of each kind there are.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// One thing.
    pub singles: usize,
    /// Two things.
    pub pairs: usize,
    /// Two to four of a kind.
    pub several: usize,
    /// One thing to one side.
    pub placed: usize,
}

/// Scenes of a split.
pub struct Pool {
    split: Split,
    scenes: Vec<Scene>,
    /// Single things.
    singles: BTreeMap<(Thing, Colour), Vec<usize>>,
    pairs: Vec<usize>,
    several: Vec<usize>,
    placed: Vec<usize>,
}

impl Pool {
    /// So many pictures of each kind.
    pub fn new(split: Split, seed: u64, sizes: Sizes) -> Self {
        let Sizes {
            singles,
            pairs,
            several,
            placed,
        } = sizes;
        let mut sampler = Sampler::new(split, seed);
        let mut scenes: Vec<Scene> = (0..singles).map(|_| sampler.one(None)).collect();
        let mut by_kind: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, scene) in scenes.iter().enumerate() {
            let item = &scene.items[0];
            by_kind
                .entry((item.thing, item.colour))
                .or_default()
                .push(i);
        }
        scenes.extend((0..pairs).map(|_| sampler.pair()));
        scenes.extend((0..several).map(|_| sampler.several()));
        scenes.extend((0..placed).map(|_| sampler.placed()));
        let others = singles + pairs + several;
        Self {
            split,
            scenes,
            singles: by_kind,
            pairs: (singles..singles + pairs).collect(),
            several: (singles + pairs..others).collect(),
            placed: (others..others + placed).collect(),
        }
    }

    /// The scenes, in a fixed order.
    pub fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// A scene by its number.
    pub fn scene(&self, i: usize) -> &Scene {
        &self.scenes[i]
    }

    /// Any scene: one thing as often as all others.
    pub fn any(&self, rng: &mut Rng) -> usize {
        match rng.random_range(0..10) {
            0..5 => self.single(rng),
            5..8 => self.pair(rng),
            _ => pick(rng, &self.several),
        }
    }

    /// Any scene, for a caption: pairs as often as single things, for their
    /// captions take longest to learn.
    pub fn to_be_told(&self, rng: &mut Rng) -> usize {
        match rng.random_range(0..10) {
            0..4 => self.single(rng),
            4..8 => self.pair(rng),
            _ => self.several(rng),
        }
    }

    /// A scene, and a question on this subject.
    pub fn asked(&self, subject: Subject, rng: &mut Rng) -> (usize, Asked) {
        loop {
            let scene = self.asked_of(subject, rng);
            if let Some(asked) = ask(self.scene(scene), subject, rng) {
                return (scene, asked);
            }
        }
    }

    /// A scene that may be asked about this.
    fn asked_of(&self, subject: Subject, rng: &mut Rng) -> usize {
        match subject {
            Subject::Size => self.single(rng),
            Subject::Count if rng.random_bool(0.3) => self.single(rng),
            Subject::Count => self.several(rng),
            Subject::Relation if rng.random_bool(0.35) => pick(rng, &self.placed),
            Subject::Relation => self.pair(rng),
            Subject::Colour | Subject::Thing | Subject::YesNo => self.any(rng),
            Subject::Comparison if rng.random_bool(0.35) => self.several(rng),
            Subject::Comparison => self.pair(rng),
        }
    }

    /// A scene of one thing.
    pub fn single(&self, rng: &mut Rng) -> usize {
        let keys: Vec<_> = self.singles.keys().copied().collect();
        let key = pick(rng, &keys);
        pick(rng, &self.singles[&key])
    }

    /// A scene of two things.
    pub fn pair(&self, rng: &mut Rng) -> usize {
        pick(rng, &self.pairs)
    }

    /// A scene of two to four of a kind.
    pub fn several(&self, rng: &mut Rng) -> usize {
        pick(rng, &self.several)
    }

    /// So many kinds, each the combinations that belong to it.
    fn kinds(&self, sort: Sort, ways: usize, rng: &mut Rng) -> Vec<Vec<(Thing, Colour)>> {
        let keys: Vec<(Thing, Colour)> = self.singles.keys().copied().collect();
        let of = |belongs: &dyn Fn(&(Thing, Colour)) -> bool| -> Vec<(Thing, Colour)> {
            keys.iter().copied().filter(|key| belongs(key)).collect()
        };
        match sort {
            Sort::Thing => {
                let things = Thing::ALL.choose_multiple(rng, ways);
                things.map(|thing| of(&|key| key.0 == *thing)).collect()
            }
            Sort::Colour => {
                let colours = Colour::ALL.choose_multiple(rng, ways);
                colours.map(|colour| of(&|key| key.1 == *colour)).collect()
            }
            Sort::ThingAndColour => {
                // Now and then kinds that share things and colours, so that
                // neither alone is enough.
                let near = rng.random_bool(0.3);
                let side = if ways <= 4 { 2 } else { 4 };
                let things: Vec<_> = Thing::ALL.choose_multiple(rng, side).collect();
                let colours: Vec<_> = Colour::ALL.choose_multiple(rng, side).collect();
                let shared = of(&|key| things.contains(&&key.0) && colours.contains(&&key.1));
                let from = if near && shared.len() >= ways {
                    &shared
                } else {
                    &keys
                };
                let chosen = from.choose_multiple(rng, ways);
                chosen.map(|&key| vec![key]).collect()
            }
        }
    }

    /// So many names, which differ in their first two letters.
    fn names(&self, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(count);
        while names.len() < count {
            let name = name(self.split, rng);
            let start = |name: &str| name.chars().take(2).collect::<String>();
            if names.iter().all(|other| start(other) != start(&name)) {
                names.push(name);
            }
        }
        names
    }

    /// The same pictures in another order, their kinds with other names.
    pub fn again(&self, trial: Trial, rng: &mut Rng) -> Trial {
        let mut pictures = trial.pictures;
        pictures.shuffle(rng);
        Trial {
            pictures,
            names: self.names(trial.names.len(), rng),
            ..trial
        }
    }

    /// So many pictures, of so many kinds at most, the kinds of all but the
    /// last as often as one another where `balanced`.
    pub fn trial(
        &self,
        sort: Sort,
        (ways, pictures): (usize, usize),
        balanced: bool,
        rng: &mut Rng,
    ) -> Trial {
        let kinds = self.kinds(sort, ways, rng);
        let names = self.names(kinds.len(), rng);
        let mut order: Vec<usize> = if balanced {
            (0..pictures).map(|i| i % kinds.len()).collect()
        } else {
            let any = (0..pictures).map(|_| rng.random_range(0..kinds.len()));
            any.collect()
        };
        if balanced {
            let last = pictures - 1;
            order[..last].shuffle(rng);
            order[last] = rng.random_range(0..kinds.len());
        }
        let mut used = Vec::with_capacity(pictures);
        for kind in order {
            // No picture twice, as long as there are others.
            let mut picture = 0;
            for _ in 0..20 {
                let key = pick(rng, &kinds[kind]);
                picture = pick(rng, &self.singles[&key]);
                if used.iter().all(|&(other, _)| other != picture) {
                    break;
                }
            }
            used.push((picture, kind));
        }
        Trial {
            pictures: used,
            names,
            sort,
        }
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    // A pool has scenes of every kind, and kinds have members.
    *of.choose(rng).unwrap_or(&of[0])
}
