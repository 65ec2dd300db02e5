//! Scenes at random, with some combinations kept for testing.

use rand::seq::IndexedRandom;
use rand::{Rng as _, SeedableRng};

use super::{Colour, Fill, Hand, Item, Relation, Rng, Scene, Style, Thing};

/// Which combinations may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Those that are trained on.
    Train,
    /// Those that training never shows: for each thing one colour, and a
    /// seventh of the pairs of things.
    HeldOut,
}

impl Split {
    fn allows(self, thing: Thing, colour: Colour) -> bool {
        let held = colour as usize == (thing as usize * 7 + 3) % Colour::ALL.len();
        held == (self == Split::HeldOut)
    }

    /// Whether two things may lie beside each other, in whatever order: a
    /// scene and the one with the places exchanged belong to the same split.
    fn allows_pair(self, a: Thing, b: Thing) -> bool {
        let (a, b) = (a as usize, b as usize);
        let held = (a.min(b) * 13 + a.max(b) * 5).is_multiple_of(7);
        held == (self == Split::HeldOut)
    }
}

/// A source of scenes.
pub struct Sampler {
    split: Split,
    rng: Rng,
}

impl Sampler {
    /// Scenes of a split, decided by the seed.
    pub fn new(split: Split, seed: u64) -> Self {
        Self {
            split,
            rng: Rng::seed_from_u64(seed),
        }
    }

    /// The random numbers, for captions.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        // Every list here is a constant with members.
        *of.choose(&mut self.rng).unwrap_or(&of[0])
    }

    /// A thing of this colour, or of any.
    fn thing(&mut self, colour: Option<Colour>) -> (Thing, Colour) {
        loop {
            let thing = self.pick(Thing::ALL);
            let colour = colour.unwrap_or_else(|| self.pick(Colour::ALL));
            if self.split.allows(thing, colour) {
                return (thing, colour);
            }
        }
    }

    fn style(&mut self) -> Style {
        let hand = match self.rng.random_range(0..100) {
            0..35 => Hand::Mouse,
            35..62 => Hand::Loose,
            _ => Hand::Clean,
        };
        let fill = match (hand, self.rng.random_range(0..100)) {
            (Hand::Mouse, 0..68) => Fill::Outlined,
            (Hand::Mouse, 68..84) => Fill::Hatched,
            (Hand::Mouse, _) => Fill::Plain,
            (_, 0..50) => Fill::Plain,
            (_, 50..68) => Fill::Outlined,
            (_, 68..80) => Fill::Striped,
            (_, 80..92) => Fill::Dotted,
            _ => Fill::Hatched,
        };
        let line = match hand {
            Hand::Mouse => self.rng.random_range(0.01..0.04),
            _ => self.rng.random_range(0.012..0.045),
        };
        Style { fill, hand, line }
    }

    fn scene(&mut self, items: Vec<Item>, relation: Option<Relation>) -> Scene {
        let mut style = self.style();
        // Lines of a small thing must not close it up.
        let smallest = items.iter().map(|item| item.extent).fold(1.0, f32::min);
        style.line = style.line.min(0.07 * smallest);
        let lines = items.iter().any(|item| item.thing.is_line());
        if lines && matches!(style.fill, Fill::Striped | Fill::Dotted | Fill::Hatched) {
            style.fill = Fill::Plain;
        }
        Scene {
            items,
            relation,
            style,
            seed: self.rng.random(),
        }
    }

    /// One thing, of this colour or of any.
    pub fn one(&mut self, colour: Option<Colour>) -> Scene {
        let (thing, colour) = self.thing(colour);
        let extent: f32 = self.rng.random_range(0.36..0.92);
        let room = (1.0 - extent) / 2.0;
        let mut centre = || 0.5 + self.rng.random_range(-room..=room);
        let item = Item {
            thing,
            colour,
            centre: (centre(), centre()),
            extent,
        };
        self.scene(vec![item], None)
    }

    /// One small thing to one side of the picture: what a place is called is
    /// learned from these before two things are told apart by it.
    pub fn placed(&mut self) -> Scene {
        let side = self.pick(&Relation::ALL);
        let (thing, colour) = self.thing(None);
        let (extent, along, across) = self.half(-1.0);
        let along = match side {
            Relation::LeftOf | Relation::Above => along,
            Relation::RightOf | Relation::Below => 1.0 - along,
        };
        let horizontal = matches!(side, Relation::LeftOf | Relation::RightOf);
        let item = Item {
            thing,
            colour,
            centre: if horizontal {
                (along, across)
            } else {
                (across, along)
            },
            extent,
        };
        self.scene(vec![item], Some(side))
    }

    /// Extent and place of a thing in one half of the picture.
    fn half(&mut self, forward: f32) -> (f32, f32, f32) {
        let extent: f32 = self.rng.random_range(0.30..0.46);
        let along = 0.5 + forward * self.rng.random_range(0.23..0.28);
        let across = 0.5 + self.rng.random_range(-0.16..=0.16);
        (extent, along, across)
    }

    /// Two different things, one beside or above the other.
    pub fn pair(&mut self) -> Scene {
        let relation = self.pick(&Relation::ALL);
        let (a, b) = loop {
            let (a, b) = (self.thing(None), self.thing(None));
            if a.0 != b.0 && self.split.allows_pair(a.0, b.0) {
                break (a, b);
            }
        };
        let forward = match relation {
            Relation::LeftOf | Relation::Above => -1.0,
            Relation::RightOf | Relation::Below => 1.0,
        };
        let horizontal = matches!(relation, Relation::LeftOf | Relation::RightOf);
        let sides = [(a, self.half(forward)), (b, self.half(-forward))];
        let items = sides.map(|((thing, colour), (extent, along, across))| Item {
            thing,
            colour,
            centre: if horizontal {
                (along, across)
            } else {
                (across, along)
            },
            extent,
        });
        self.scene(items.to_vec(), Some(relation))
    }

    /// The same two things in each other's place, or the one thing on the other
    /// side, drawn anew.
    pub fn exchanged(&mut self, scene: &Scene) -> Scene {
        let mut items = scene.items.clone();
        match items.as_mut_slice() {
            [a, b] => std::mem::swap(&mut a.centre, &mut b.centre),
            [a] => a.centre = (1.0 - a.centre.0, 1.0 - a.centre.1),
            _ => {}
        }
        self.scene(items, scene.relation.map(Relation::opposite))
    }

    /// Two to four of one kind, in one colour.
    pub fn several(&mut self) -> Scene {
        let (thing, colour) = self.thing(None);
        let count = self.rng.random_range(2..=4);
        let mut items: Vec<Item> = Vec::new();
        let base = self.rng.random_range(0.26..0.38);
        while items.len() < count {
            let extent = base * self.rng.random_range(0.88..1.12);
            let room = 0.5 - extent / 2.0;
            let mut centre = || 0.5 + self.rng.random_range(-room..=room);
            let centre = (centre(), centre());
            let free = items.iter().all(|other| {
                let (dx, dy) = (other.centre.0 - centre.0, other.centre.1 - centre.1);
                dx.abs().max(dy.abs()) > (extent + other.extent) * 0.5
            });
            if free {
                items.push(Item {
                    thing,
                    colour,
                    centre,
                    extent,
                });
            } else if self.rng.random_bool(0.01) {
                // No room is left in this arrangement: begin again.
                items.clear();
            }
        }
        self.scene(items, None)
    }
}

/// The sample drawings of the page: file name and scene.
pub fn samples() -> Vec<(String, Scene)> {
    use Colour as C;
    use Thing as T;
    let one = [
        (T::Cat, C::Orange, Hand::Loose, Fill::Plain),
        (T::House, C::Red, Hand::Clean, Fill::Plain),
        (T::Fish, C::Blue, Hand::Loose, Fill::Striped),
        (T::Umbrella, C::Purple, Hand::Clean, Fill::Dotted),
        (T::Butterfly, C::Pink, Hand::Clean, Fill::Dotted),
        (T::Key, C::Yellow, Hand::Clean, Fill::Plain),
        (T::Tree, C::Green, Hand::Loose, Fill::Plain),
        (T::Rocket, C::Red, Hand::Mouse, Fill::Outlined),
        (T::Bird, C::Black, Hand::Mouse, Fill::Outlined),
        (T::Mushroom, C::Brown, Hand::Loose, Fill::Hatched),
    ];
    let mut sampler = Sampler::new(Split::Train, 7);
    let mut samples = Vec::new();
    for (thing, colour, hand, fill) in one {
        let mut scene = sampler.one(None);
        scene.items[0] = Item {
            thing,
            colour,
            centre: (0.5, 0.5),
            extent: 0.78,
        };
        let line = 0.022;
        scene.style = Style { fill, hand, line };
        samples.push((format!("{}-{}", colour.name(), thing.name()), scene));
    }
    for i in 0..3 {
        let mut pair = sampler.pair();
        pair.style.hand = [Hand::Clean, Hand::Loose, Hand::Mouse][i];
        let names = [0, 1].map(|i| pair.items[i].thing.name());
        samples.push((names.join("-and-"), pair));
        let mut several = sampler.several();
        several.style.hand = [Hand::Loose, Hand::Mouse, Hand::Clean][i];
        let (item, count) = (&several.items[0], several.items.len());
        let name = format!("{count}-{}-{}", item.colour.name(), item.thing.plural());
        samples.push((name, several));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::super::{Telling, caption, render, swapped_caption};
    use super::*;

    #[test]
    fn the_splits_share_no_combination() {
        let mut train = Sampler::new(Split::Train, 1);
        let mut held = Sampler::new(Split::HeldOut, 2);
        let combination = |scene: &Scene| (scene.items[0].thing, scene.items[0].colour);
        let seen: std::collections::BTreeSet<_> =
            (0..5000).map(|_| combination(&train.one(None))).collect();
        for _ in 0..500 {
            assert!(!seen.contains(&combination(&held.one(None))));
        }
        assert_eq!(seen.len(), 40 * 9);
    }

    #[test]
    fn a_seed_decides_the_picture() {
        let scenes = |seed| {
            let mut sampler = Sampler::new(Split::Train, seed);
            [sampler.one(None), sampler.pair(), sampler.several()]
        };
        for (a, b) in scenes(3).iter().zip(&scenes(3)) {
            assert_eq!(render(a, 64), render(b, 64));
            assert_eq!(render(a, 64).len(), 64 * 64 * 3);
        }
        assert_ne!(render(&scenes(3)[0], 64), render(&scenes(4)[0], 64));
    }

    #[test]
    fn every_thing_can_be_seen_in_every_hand() {
        let mut sampler = Sampler::new(Split::Train, 5);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let scene = sampler.one(None);
            let pixels = render(&scene, 64);
            let corner = [pixels[0], pixels[1], pixels[2]];
            let far = pixels.as_chunks::<3>().0.iter().filter(|pixel| {
                let step = |i: usize| pixel[i].abs_diff(corner[i]) > 50;
                step(0) || step(1) || step(2)
            });
            let share = far.count() as f32 / (64.0 * 64.0);
            assert!(share > 0.006, "{scene:?} shows on {share} of its pixels");
            seen.insert(scene.items[0].thing);
        }
        assert_eq!(seen.len(), 40);
    }

    #[test]
    fn the_swapped_caption_tells_of_the_other_order() {
        let mut sampler = Sampler::new(Split::Train, 6);
        for _ in 0..200 {
            let scene = sampler.pair();
            // The same words are chosen from the same state of the generator.
            let (mut a, mut b) = (sampler.rng().clone(), sampler.rng().clone());
            let told = caption(&scene, true, Telling::Varied, &mut a);
            let swapped = swapped_caption(&scene, true, Telling::Varied, &mut b);
            assert_ne!(told, swapped);
            sampler.rng().random::<u64>();
        }
    }
}
