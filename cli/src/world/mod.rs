//! The world of drawings that the embedded models are trained on: forty things
//! in ten colours, in every hand from exact to a mouse on the drawing pad.
//! A seed decides everything.

mod ask;
mod caption;
mod colour;
mod draw;
mod name;
mod pool;
mod sample;
mod shots;
mod thing;

pub use ask::{Asked, Subject, ask, described, told};
pub use caption::{Telling, attributes_swapped, caption, swapped_caption};
pub use colour::Colour;
pub use draw::{png, render};
pub use name::{COMMON, SYLLABLES, name};
pub use pool::{Pool, Sizes, Sort, Trial};
pub use sample::{Sampler, Split, samples};
pub use shots::{ShotOf, ShotSet, shot_sets};
pub use thing::Thing;

/// The random numbers of the world: the same on every machine.
pub type Rng = rand_pcg::Pcg32;

/// What a picture shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// What is drawn, in drawing order.
    pub items: Vec<Item>,
    /// How the first of two items lies to the second.
    pub relation: Option<Relation>,
    /// How it is drawn.
    pub style: Style,
    /// Seed of the ground and of every line.
    pub seed: u64,
}

/// A thing in the picture. Lengths are shares of the picture's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it is.
    pub thing: Thing,
    /// The colour one would name.
    pub colour: Colour,
    /// Centre, from the left and from the top.
    pub centre: (f32, f32),
    /// Side of its box.
    pub extent: f32,
}

/// How the areas of a picture's things are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// In the thing's colour throughout.
    Plain,
    /// Not at all.
    Outlined,
    /// With stripes.
    Striped,
    /// With dots.
    Dotted,
    /// With crossed thin lines.
    Hatched,
}

/// Whose hand the lines show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Exact lines.
    Clean,
    /// A person with a pen.
    Loose,
    /// A person with a mouse on the drawing pad, on white.
    Mouse,
}

/// The style of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// How areas are filled.
    pub fill: Fill,
    /// How lines run.
    pub hand: Hand,
    /// Width of lines, as a share of the picture's side.
    pub line: f32,
}

/// How one thing lies to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the relation it names")]
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    /// All relations, in a fixed order.
    pub const ALL: [Relation; 4] = [
        Relation::LeftOf,
        Relation::RightOf,
        Relation::Above,
        Relation::Below,
    ];

    /// The same relation told from the other thing.
    pub fn opposite(self) -> Self {
        match self {
            Relation::LeftOf => Relation::RightOf,
            Relation::RightOf => Relation::LeftOf,
            Relation::Above => Relation::Below,
            Relation::Below => Relation::Above,
        }
    }
}
