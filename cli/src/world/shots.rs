//! The ready-made examples of the chat: few pictures, with what is asked of
//! them and answered.

use serde::Serialize;

use super::{Colour, Relation, Sampler, Scene, Split, Thing};

/// Examples of one task, and a picture to try them on.
#[derive(Serialize)]
pub struct ShotSet {
    /// For a person.
    pub name: &'static str,
    /// In the page's words.
    pub task: &'static str,
    /// The examples.
    pub shots: Vec<ShotOf>,
    /// What to ask after them; its answer is left out.
    #[serde(rename = "try")]
    pub ask: ShotOf,
}

/// A drawing, a question and its answer.
#[derive(Serialize)]
pub struct ShotOf {
    /// Its file below the demo's folder.
    pub picture: String,
    /// What is drawn.
    #[serde(skip)]
    pub scene: Scene,
    /// What is asked.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub question: &'static str,
    /// What is right.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub answer: &'static str,
}

/// Draws the sets, one picture after the other.
struct Draw {
    sampler: Sampler,
    count: usize,
}

impl Draw {
    fn shot(&mut self, scene: Scene, question: &'static str, answer: &'static str) -> ShotOf {
        self.count += 1;
        ShotOf {
            picture: format!("shots/{:02}.png", self.count),
            scene,
            question,
            answer,
        }
    }

    /// One thing, large enough to be told.
    fn one(&mut self, thing: Thing, colour: Colour) -> Scene {
        loop {
            let mut scene = self.sampler.one(None);
            let item = &mut scene.items[0];
            if item.extent > 0.5 {
                (item.thing, item.colour) = (thing, colour);
                return scene;
            }
        }
    }

    /// Two to four of one kind.
    fn several(&mut self, count: usize, thing: Thing, colour: Colour) -> Scene {
        loop {
            let mut scene = self.sampler.several();
            if scene.items.len() == count {
                for item in &mut scene.items {
                    (item.thing, item.colour) = (thing, colour);
                }
                return scene;
            }
        }
    }

    /// The first to the left of the second, or above it.
    fn pair(&mut self, relation: Relation, of: [(Thing, Colour); 2]) -> Scene {
        loop {
            let mut scene = self.sampler.pair();
            if scene.relation == Some(relation) {
                for (item, (thing, colour)) in scene.items.iter_mut().zip(of) {
                    (item.thing, item.colour) = (thing, colour);
                }
                return scene;
            }
        }
    }
}

/// The sets.
pub fn shot_sets() -> Vec<ShotSet> {
    use Colour as C;
    use Relation::{Above, LeftOf};
    use Thing as T;
    let mut draw = Draw {
        sampler: Sampler::new(Split::Train, 11),
        count: 0,
    };
    let d = &mut draw;

    let (house, fish) = (d.one(T::House, C::Red), d.several(3, T::Fish, C::Blue));
    let (pair, cup) = (
        d.pair(LeftOf, [(T::Star, C::Green), (T::Moon, C::Yellow)]),
        d.one(T::Cup, C::Pink),
    );
    let boat = d.one(T::Boat, C::Orange);
    let describe = ShotSet {
        name: "Describe",
        task: "describe",
        shots: vec![
            d.shot(house, "", "a red house"),
            d.shot(fish, "", "three blue fish"),
            d.shot(pair, "", "a green star left of a yellow moon"),
            d.shot(cup, "", "a pink cup"),
        ],
        ask: d.shot(boat, "", ""),
    };

    let (tree, sun) = (d.one(T::Tree, C::Green), d.one(T::Sun, C::Yellow));
    let (car, pair) = (
        d.one(T::Car, C::Purple),
        d.pair(Above, [(T::Bird, C::Blue), (T::House, C::Red)]),
    );
    let umbrella = d.one(T::Umbrella, C::Orange);
    let questions = ShotSet {
        name: "Questions",
        task: "ask",
        shots: vec![
            d.shot(tree, "what color is the tree?", "green"),
            d.shot(sun, "what is this?", "sun"),
            d.shot(car, "is the car purple?", "yes"),
            d.shot(pair, "where is the bird?", "above"),
        ],
        ask: d.shot(umbrella, "what color is the umbrella?", ""),
    };

    let hearts = [
        d.one(T::Heart, C::Red),
        d.several(2, T::Key, C::Yellow),
        d.several(3, T::Apple, C::Green),
        d.several(4, T::Star, C::Orange),
        d.several(3, T::Flower, C::Pink),
    ];
    let [one, two, three, four, ask] = hearts;
    let counting = ShotSet {
        name: "Counting",
        task: "ask",
        shots: vec![
            d.shot(three, "how many apples are there?", "three"),
            d.shot(one, "how many hearts are there?", "one"),
            d.shot(four, "how many stars are there?", "four"),
            d.shot(two, "how many keys are there?", "two"),
        ],
        ask: d.shot(ask, "how many flowers are there?", ""),
    };

    // Kinds by thing and colour, and by the thing alone.
    let kinds = |d: &mut Draw, name, of: [[(Thing, Colour); 5]; 2], names: [&'static str; 2]| {
        let mut shots = Vec::new();
        for i in [0, 1, 2, 3] {
            for kind in [i % 2, 1 - i % 2] {
                let (thing, colour) = of[kind][i];
                let scene = d.one(thing, colour);
                shots.push(d.shot(scene, "", names[kind]));
            }
        }
        let (thing, colour) = of[1][4];
        let scene = d.one(thing, colour);
        ShotSet {
            name,
            task: "classify",
            shots,
            ask: d.shot(scene, "", ""),
        }
    };
    let made_up = kinds(
        d,
        "Made-up kinds",
        [[(T::Star, C::Red); 5], [(T::Fish, C::Blue); 5]],
        ["dako", "wefi"],
    );
    let things = kinds(
        d,
        "Made-up, any colour",
        [
            [C::Orange, C::Blue, C::Black, C::Pink, C::Green].map(|colour| (T::Cat, colour)),
            [C::Green, C::Red, C::Purple, C::Brown, C::Blue].map(|colour| (T::Tree, colour)),
        ],
        ["molo", "zeti"],
    );
    vec![describe, questions, counting, made_up, things]
}
