//! The forty things, as line art in a box of 100 × 100.
//!
//! A part is a letter and a path. `B` is a body: it takes the thing's colour
//! and pattern. `D` is a detail on or beside a body, `S` a line on a body:
//! both stand out from it. `L` is a line in the thing's colour. Paths are as in
//! SVG (absolute `M L Q C Z`), with `O cx cy rx ry` for an ellipse and
//! `R x y w h` for a rectangle; overlapping loops of one path leave a hole.

macro_rules! things {
    ($($variant:ident $name:literal $plural:literal $turn:literal [$($part:literal),* $(,)?])*) => {
        /// A thing that can be drawn.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each variant is the thing it names")]
        pub enum Thing { $($variant),* }

        impl Thing {
            /// All things, in a fixed order.
            pub const ALL: &[Thing] = &[$(Thing::$variant),*];

            /// The singular noun: `cat`.
            pub fn name(self) -> &'static str {
                match self { $(Thing::$variant => $name),* }
            }

            /// The plural noun: `cats`.
            pub fn plural(self) -> &'static str {
                match self { $(Thing::$variant => $plural),* }
            }

            /// Largest turn to either side, in degrees, with which it is still itself.
            pub(super) fn max_turn(self) -> f32 {
                match self { $(Thing::$variant => $turn),* }
            }

            /// Its parts, in drawing order.
            pub(super) fn parts(self) -> &'static [&'static str] {
                match self { $(Thing::$variant => &[$($part),*]),* }
            }
        }
    };
}

things! {
    Circle "circle" "circles" 180.0 ["B O 50 50 45 45"]
    Square "square" "squares" 10.0 ["B R 8 8 84 84"]
    Triangle "triangle" "triangles" 14.0 ["B M 50 6 L 95 90 L 5 90 Z"]
    Star "star" "stars" 36.0
        ["B M 50 3 L 61 36 L 96 37 L 68 58 L 79 92 L 50 72 L 21 92 L 32 58 L 4 37 L 39 36 Z"]
    Heart "heart" "hearts" 14.0
        ["B M 50 92 C 10 60 2 40 5 26 C 9 4 40 2 50 26 C 60 2 91 4 95 26 C 98 40 90 60 50 92 Z"]
    Cross "cross" "crosses" 14.0
        ["B M 36 5 L 64 5 L 64 36 L 95 36 L 95 64 L 64 64 L 64 95 L 36 95 L 36 64 L 5 64 L 5 36 L 36 36 Z"]
    Ring "ring" "rings" 180.0 ["B O 50 50 46 46 O 50 50 25 25"]
    Moon "moon" "moons" 30.0
        ["B M 66 5 C 20 0 0 40 12 68 C 24 96 66 104 88 76 C 52 84 28 46 66 5 Z"]
    Diamond "diamond" "diamonds" 10.0 ["B M 50 3 L 86 50 L 50 97 L 14 50 Z"]
    Arrow "arrow" "arrows" 180.0
        ["B M 4 39 L 54 39 L 54 14 L 97 50 L 54 86 L 54 61 L 4 61 Z"]
    Spiral "spiral" "spirals" 180.0
        ["L M 50 50 C 56 44 64 52 58 60 C 48 72 32 60 36 46 C 42 26 70 26 76 48 C 82 76 50 92 28 78 C 2 60 12 14 46 8 C 70 6 88 20 95 40"]
    House "house" "houses" 8.0
        ["B R 16 46 68 48", "B M 6 48 L 50 8 L 94 48 Z", "D R 52 64 17 30", "D R 25 58 15 14"]
    Tree "tree" "trees" 8.0
        ["L M 44 60 L 44 97 L 57 97 L 57 60", "B M 30 66 C 4 66 2 40 18 36 C 16 14 40 2 54 8 C 76 4 88 22 82 36 C 100 44 94 68 70 66 Z"]
    Fish "fish" "fish" 20.0
        ["B M 4 50 C 18 20 56 18 72 46 L 97 24 L 90 50 L 97 78 L 72 56 C 56 82 18 80 4 50 Z", "D O 23 44 4 4", "S M 38 32 Q 47 50 38 68"]
    Boat "boat" "boats" 14.0
        ["L M 48 66 L 48 6", "B M 6 66 L 94 66 L 78 92 L 22 92 Z", "B M 54 8 L 54 58 L 88 58 Z", "B M 42 20 L 42 58 L 18 58 Z"]
    Cup "cup" "cups" 14.0
        ["B M 12 18 L 70 18 L 64 90 L 18 90 Z", "L M 69 32 C 100 28 98 72 66 68"]
    Cat "cat" "cats" 14.0
        ["B M 12 6 L 34 24 Q 50 20 66 24 L 88 6 L 90 56 Q 84 92 50 94 Q 16 92 10 56 Z",
         "D O 34 48 5 7", "D O 66 48 5 7", "D M 44 64 L 56 64 L 50 72 Z",
         "L M 0 58 L 12 61 M 0 74 L 12 71 M 100 58 L 88 61 M 100 74 L 88 71"]
    Sun "sun" "suns" 180.0
        ["B O 50 50 24 24",
         "L M 50 4 L 50 18 M 50 82 L 50 96 M 4 50 L 18 50 M 82 50 L 96 50 M 17 17 L 27 27 M 73 73 L 83 83 M 83 17 L 73 27 M 27 73 L 17 83"]
    Flower "flower" "flowers" 14.0
        ["L M 50 50 L 50 98 M 50 86 Q 66 66 78 74 Q 70 90 50 86 Z",
         "B O 50 15 12 14", "B O 71 30 14 12", "B O 63 53 13 12", "B O 37 53 13 12", "B O 29 30 14 12", "D O 50 36 11 11"]
    Car "car" "cars" 10.0
        ["B M 3 74 L 3 54 L 20 48 L 36 26 L 70 26 L 84 48 L 97 54 L 97 74 Z", "D O 25 75 11 11", "D O 75 75 11 11",
         "D M 40 32 L 51 32 L 51 47 L 30 47 Z", "D M 56 32 L 68 32 L 77 47 L 56 47 Z"]
    Bird "bird" "birds" 14.0
        ["B M 2 40 L 14 34 Q 18 22 32 26 Q 60 32 74 56 L 98 48 L 88 72 Q 60 90 36 74 Q 18 60 16 44 Z", "D O 25 37 3 3",
         "S M 40 50 Q 54 74 74 60", "L M 46 80 L 44 97 M 58 80 L 58 97"]
    Apple "apple" "apples" 14.0
        ["B M 50 30 C 30 14 4 24 8 54 C 12 86 36 100 50 90 C 64 100 88 86 92 54 C 96 24 70 14 50 30 Z",
         "L M 50 30 Q 48 14 56 3 M 55 18 Q 66 3 82 9 Q 72 23 55 18 Z"]
    Key "key" "keys" 180.0
        ["B O 24 50 22 22 O 24 50 10 10", "B M 45 45 L 97 45 L 97 74 L 87 74 L 87 55 L 77 55 L 77 70 L 67 70 L 67 55 L 45 55 Z"]
    Umbrella "umbrella" "umbrellas" 14.0
        ["B M 3 52 C 8 4 92 4 97 52 Q 84 42 73 52 Q 62 42 50 52 Q 38 42 27 52 Q 16 42 3 52 Z", "L M 50 48 L 50 84 Q 50 97 62 97 Q 72 95 70 84"]
    Cloud "cloud" "clouds" 8.0
        ["B M 22 80 C 0 80 0 52 20 50 C 16 22 50 16 58 38 C 74 28 92 42 83 54 C 102 56 100 80 80 80 Z"]
    Mushroom "mushroom" "mushrooms" 14.0
        ["L M 38 54 L 35 93 Q 50 98 65 93 L 62 54", "B M 4 55 C 8 4 92 4 96 55 Z", "D O 34 34 7 6", "D O 62 26 7 6", "D O 72 44 5 4"]
    Butterfly "butterfly" "butterflies" 25.0
        ["B M 50 46 C 40 4 0 4 6 34 C 10 52 30 56 50 52 Z", "B M 50 46 C 60 4 100 4 94 34 C 90 52 70 56 50 52 Z",
         "B M 50 52 C 24 54 10 70 22 86 C 36 98 48 76 50 58 Z", "B M 50 52 C 76 54 90 70 78 86 C 64 98 52 76 50 58 Z",
         "D O 50 54 4 24", "L M 50 32 Q 44 14 36 10 M 50 32 Q 56 14 64 10"]
    Snowman "snowman" "snowmen" 10.0
        ["B O 50 71 27 26", "B O 50 30 18 17", "D O 44 27 3 3", "D O 56 27 3 3", "D O 50 62 3 3", "D O 50 76 3 3", "D R 38 0 24 14", "L M 30 14 L 70 14 M 25 62 L 4 46 M 75 62 L 96 46"]
    Ladder "ladder" "ladders" 20.0
        ["L M 30 3 L 30 97 M 70 3 L 70 97 M 30 16 L 70 16 M 30 33 L 70 33 M 30 50 L 70 50 M 30 67 L 70 67 M 30 84 L 70 84"]
    Clock "clock" "clocks" 14.0
        ["B O 50 50 46 46", "S M 50 20 L 50 50 L 70 60", "S M 50 8 L 50 14 M 92 50 L 86 50 M 50 92 L 50 86 M 8 50 L 14 50"]
    Bell "bell" "bells" 14.0
        ["D O 50 84 10 10", "B M 50 6 C 80 10 72 52 92 78 L 8 78 C 28 52 20 10 50 6 Z"]
    Lamp "lamp" "lamps" 10.0
        ["L M 50 50 L 50 88", "B M 32 6 L 68 6 L 90 50 L 10 50 Z", "B R 26 86 48 9"]
    Chair "chair" "chairs" 8.0
        ["B R 20 4 10 92", "B R 20 50 60 11", "B R 70 50 10 46"]
    Book "book" "books" 12.0
        ["B M 50 20 Q 30 8 4 14 L 4 82 Q 30 76 50 90 Q 70 76 96 82 L 96 14 Q 70 8 50 20 Z", "S M 50 20 L 50 90",
         "S M 14 32 L 40 36 M 14 48 L 40 52 M 14 64 L 40 68 M 60 36 L 86 32 M 60 52 L 86 48 M 60 68 L 86 64"]
    Leaf "leaf" "leaves" 180.0
        ["B M 10 90 C 2 40 40 4 94 6 C 96 60 60 98 10 90 Z", "S M 10 90 L 76 24 M 36 64 L 34 42 M 36 64 L 60 66 M 54 46 L 54 28 M 54 46 L 74 48"]
    Balloon "balloon" "balloons" 14.0
        ["B M 50 3 C 86 3 90 44 50 68 C 10 44 14 3 50 3 Z", "L M 50 68 L 45 74 L 55 74 L 50 68 M 50 74 Q 38 84 52 98"]
    Rocket "rocket" "rockets" 40.0
        ["B M 32 54 L 10 88 L 32 78 Z", "B M 68 54 L 90 88 L 68 78 Z", "B M 50 2 C 74 22 72 52 68 78 L 32 78 C 28 52 26 22 50 2 Z", "D O 50 38 9 9", "D M 40 82 L 50 99 L 60 82 Z"]
    Crown "crown" "crowns" 14.0
        ["B M 8 84 L 3 22 L 28 50 L 50 10 L 72 50 L 97 22 L 92 84 Z", "S M 10 72 L 90 72"]
    Envelope "envelope" "envelopes" 12.0
        ["B R 4 20 92 62", "S M 4 20 L 50 58 L 96 20"]
    Anchor "anchor" "anchors" 14.0
        ["L M 50 22 L 50 94 M 30 38 L 70 38 M 8 60 Q 14 92 50 94 Q 86 92 92 60 M 0 72 L 8 58 L 20 67 M 100 72 L 92 58 L 80 67", "L O 50 13 9 9"]
}

impl Thing {
    /// `a` or `an`, as the name asks.
    pub fn article(self) -> &'static str {
        article(self.name())
    }

    /// Whether it is all line, with no area for a pattern.
    pub(super) fn is_line(self) -> bool {
        self.parts().iter().all(|part| part.starts_with('L'))
    }
}

/// `a` or `an` before a word.
pub(super) fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
