//! From a scene to pixels.

use std::f32::consts::TAU;

use rand::{Rng as _, SeedableRng};
use tiny_skia::{
    Color, FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Stroke,
    Transform,
};

use super::colour::{Rgb, difference, mix};
use super::{Fill, Hand, Item, Rng, Scene, Style};

/// A polyline; the flag says that it is closed.
type Line = (Vec<(f32, f32)>, bool);

/// Splits a part into its letter and its outlines.
fn outlines(part: &str) -> (char, Vec<Line>) {
    let mut words = part.split_whitespace();
    let kind = words
        .next()
        .and_then(|word| word.chars().next())
        .unwrap_or('B');
    let mut lines: Vec<Line> = Vec::new();
    let mut command = "";
    let words: Vec<&str> = words.collect();
    let mut at = 0;
    while at < words.len() {
        if words[at].starts_with(char::is_alphabetic) {
            command = words[at];
            at += 1;
        }
        let count = match command {
            "Z" => 0,
            "M" | "L" => 2,
            "Q" | "O" | "R" => 4,
            _ => 6,
        };
        let n: Vec<f32> = words[at..at + count]
            .iter()
            .filter_map(|w| w.parse().ok())
            .collect();
        at += count;
        extend(&mut lines, command, &n);
    }
    (kind, lines)
}

fn extend(lines: &mut Vec<Line>, command: &str, n: &[f32]) {
    const STEPS: usize = 10;
    let start = lines.last().and_then(|(points, _)| points.last().copied());
    let (x0, y0) = start.unwrap_or((50.0, 50.0));
    let along = |i: usize| i as f32 / STEPS as f32;
    let curve: Vec<(f32, f32)> = match (command, n) {
        ("M", &[x, y]) => {
            lines.push((vec![(x, y)], false));
            return;
        }
        ("Z", _) => {
            if let Some(line) = lines.last_mut() {
                line.1 = true;
            }
            return;
        }
        ("L", &[x, y]) => (1..=4)
            .map(|i| i as f32 / 4.0)
            .map(|t| (x0 + (x - x0) * t, y0 + (y - y0) * t))
            .collect(),
        ("Q", &[x1, y1, x, y]) => (1..=STEPS)
            .map(along)
            .map(|t| {
                let b = |p0: f32, p1: f32, p2: f32| {
                    (1.0 - t) * (1.0 - t) * p0 + 2.0 * t * (1.0 - t) * p1 + t * t * p2
                };
                (b(x0, x1, x), b(y0, y1, y))
            })
            .collect(),
        ("C", &[x1, y1, x2, y2, x, y]) => (1..=STEPS)
            .map(along)
            .map(|t| {
                let s = 1.0 - t;
                let b = |p: [f32; 4]| {
                    s * s * s * p[0]
                        + 3.0 * s * s * t * p[1]
                        + 3.0 * s * t * t * p[2]
                        + t * t * t * p[3]
                };
                (b([x0, x1, x2, x]), b([y0, y1, y2, y]))
            })
            .collect(),
        ("O", &[cx, cy, rx, ry]) => {
            let points = (0..28).map(|i| TAU * i as f32 / 28.0);
            lines.push((
                points
                    .map(|a| (cx + rx * a.cos(), cy + ry * a.sin()))
                    .collect(),
                true,
            ));
            return;
        }
        ("R", &[x, y, w, h]) => {
            lines.push((vec![(x, y)], true));
            for (x, y) in [(x + w, y), (x + w, y + h), (x, y + h), (x, y)] {
                extend(lines, "L", &[x, y]);
            }
            return;
        }
        _ => return,
    };
    if let Some(line) = lines.last_mut() {
        line.0.extend(curve);
    }
}

/// How one drawing of a thing differs from the next.
struct Pose {
    scale: (f32, f32),
    shear: f32,
    turn: f32,
    bulge: (f32, f32),
    tremor: f32,
    phases: [f32; 6],
}

impl Pose {
    fn draw(item: &Item, hand: Hand, rng: &mut Rng) -> Self {
        let turn = item.thing.max_turn().to_radians();
        let turn = if turn > 3.0 && rng.random_bool(0.4) {
            0.0
        } else {
            turn
        };
        let free = match hand {
            Hand::Clean => 0.10,
            Hand::Loose => 0.14,
            Hand::Mouse => 0.2,
        };
        let mut spread = |amount: f32| rng.random_range(-amount..=amount);
        let (sx, sy) = (1.0 + spread(free), 1.0 + spread(free));
        let mirror = if spread(1.0) < 0.0 { -1.0 } else { 1.0 };
        let tremor = match hand {
            Hand::Clean => 0.0,
            Hand::Loose => 1.2 + spread(0.6),
            Hand::Mouse => 2.6 + spread(1.6),
        };
        let largest = sx.max(sy).max(1.0);
        Self {
            scale: (mirror * sx / largest, sy / largest),
            shear: spread(free * 0.6),
            turn: spread(turn.max(1e-3)),
            bulge: (spread(free * 0.5), spread(free * 0.5)),
            tremor,
            phases: std::array::from_fn(|_| spread(std::f32::consts::PI)),
        }
    }

    /// From the box of 100 to pixels.
    fn place(&self, item: &Item, size: f32, (x, y): (f32, f32)) -> (f32, f32) {
        let (mut u, mut v) = ((x - 50.0) / 50.0, (y - 50.0) / 50.0);
        // Proportions: wider here, narrower there.
        u *= 1.0 + self.bulge.0 * v;
        v *= 1.0 + self.bulge.1 * u;
        let (p, q) = (u + self.shear * v, v);
        let (p, q) = (p * self.scale.0, q * self.scale.1);
        let (sin, cos) = self.turn.sin_cos();
        let (p, q) = (p * cos - q * sin, p * sin + q * cos);
        let half = item.extent * size / 2.0;
        (
            item.centre.0 * size + p * half,
            item.centre.1 * size + q * half,
        )
    }

    /// A hand that shakes, in the box of 100.
    fn shaken(&self, (x, y): (f32, f32), stroke: f32) -> (f32, f32) {
        let [a, b, c, d, e, f] = self.phases;
        let wave = |t: f32, p: f32, q: f32| (t * 0.09 + p).sin() + 0.6 * (t * 0.23 + q).sin();
        let dx = wave(y + 0.5 * x + 31.0 * stroke, a, b) + 0.4 * (x * 0.4 + e).sin();
        let dy = wave(x - 0.4 * y + 17.0 * stroke, c, d) + 0.4 * (y * 0.4 + f).sin();
        (x + self.tremor * dx, y + self.tremor * dy)
    }
}

fn path(
    lines: &[Line],
    place: impl Fn((f32, f32), f32) -> (f32, f32),
    close: bool,
) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (stroke, (points, closed)) in lines.iter().enumerate() {
        for (i, &point) in points.iter().enumerate() {
            let (x, y) = place(point, stroke as f32);
            if i == 0 {
                builder.move_to(x, y);
            } else {
                builder.line_to(x, y);
            }
        }
        if *closed {
            if close {
                builder.close();
            } else if let Some(&first) = points.first() {
                // A hand does not quite come back to where it began.
                let (x, y) = place(first, stroke as f32 + 0.04);
                builder.line_to(x, y);
            }
        }
    }
    builder.finish()
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint.anti_alias = true;
    paint
}

struct Canvas<'a> {
    pixels: &'a mut Pixmap,
    style: Style,
    ground: Rgb,
}

impl Canvas<'_> {
    fn stroke(&mut self, path: &Path, rgb: Rgb, width: f32) {
        let stroke = Stroke {
            width: width.max(0.9),
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixels
            .stroke_path(path, &paint(rgb), &stroke, Transform::identity(), None);
    }

    fn fill(&mut self, path: &Path, rgb: Rgb) {
        let transform = Transform::identity();
        self.pixels
            .fill_path(path, &paint(rgb), FillRule::EvenOdd, transform, None);
    }

    /// Fills a body with the pattern of the style.
    fn pattern(&mut self, path: &Path, rgb: Rgb, extent: f32, angle: f32) {
        let size = self.pixels.width();
        let Some(mut mask) = Mask::new(size, size) else {
            return;
        };
        mask.fill_path(path, FillRule::EvenOdd, true, Transform::identity());
        let bounds = path.bounds();
        let (cx, cy) = (
            (bounds.left() + bounds.right()) / 2.0,
            (bounds.top() + bounds.bottom()) / 2.0,
        );
        let reach = bounds.width().max(bounds.height());
        let (step, width) = match self.style.fill {
            Fill::Striped => (extent * 0.17, extent * 0.08),
            Fill::Hatched => (extent * 0.12, extent * 0.025),
            _ => (extent * 0.17, extent * 0.1),
        };
        let (step, width) = (step.max(2.6), width.max(0.8));
        let mut builder = PathBuilder::new();
        let (sin, cos) = angle.sin_cos();
        let turned = |u: f32, v: f32| (cx + u * cos - v * sin, cy + u * sin + v * cos);
        let count = (reach / step) as i32 + 1;
        for i in -count..=count {
            let offset = i as f32 * step;
            if self.style.fill == Fill::Dotted {
                for j in -count..=count {
                    let shift = if i % 2 == 0 { 0.0 } else { step / 2.0 };
                    let (x, y) = turned(offset, j as f32 * step + shift);
                    builder.push_circle(x, y, width / 2.0);
                }
                continue;
            }
            let mut line = |a: (f32, f32), b: (f32, f32)| {
                builder.move_to(a.0, a.1);
                builder.line_to(b.0, b.1);
            };
            line(turned(offset, -reach), turned(offset, reach));
            if self.style.fill == Fill::Hatched {
                line(turned(-reach, offset), turned(reach, offset));
            }
        }
        let Some(lines) = builder.finish() else {
            return;
        };
        let transform = Transform::identity();
        if self.style.fill == Fill::Dotted {
            self.pixels.fill_path(
                &lines,
                &paint(rgb),
                FillRule::Winding,
                transform,
                Some(&mask),
            );
        } else {
            let stroke = Stroke {
                width,
                ..Stroke::default()
            };
            self.pixels
                .stroke_path(&lines, &paint(rgb), &stroke, transform, Some(&mask));
        }
    }

    fn item(&mut self, item: &Item, rng: &mut Rng) {
        let size = self.pixels.width() as f32;
        let rgb = loop {
            let rgb = item.colour.shade(rng);
            if difference(rgb, self.ground) > 0.2 || rng.random_bool(0.05) {
                break rgb;
            }
        };
        let hand = self.style.hand;
        let pose = Pose::draw(item, hand, rng);
        let width = self.style.line * size;
        let angle = rng.random_range(0.0..3.1);
        let outline = hand != Hand::Clean || rng.random_bool(0.3);
        let dark = difference(rgb, [0, 0, 0]) < 0.45;
        let contrast = if dark {
            mix(rgb, [255, 255, 255], 0.75)
        } else {
            mix(rgb, [0, 0, 0], 0.7)
        };
        let edge = if rng.random_bool(0.5) || dark {
            rgb
        } else {
            mix(rgb, [0, 0, 0], 0.4)
        };
        let pale = mix(rgb, self.ground, 0.82);
        let plain = self.style.fill == Fill::Plain;
        for part in item.thing.parts() {
            let (kind, lines) = outlines(part);
            let place = |point, stroke: f32| {
                pose.place(
                    item,
                    size,
                    pose.shaken(point, if hand == Hand::Mouse { stroke } else { 0.0 }),
                )
            };
            let Some(path) = path(&lines, place, hand != Hand::Mouse) else {
                continue;
            };
            match kind {
                'B' if plain => {
                    self.fill(&path, rgb);
                    if outline {
                        self.stroke(&path, edge, width);
                    }
                }
                'B' => {
                    // Bodies hide what lies behind them.
                    if hand != Hand::Mouse {
                        let back = if self.style.fill == Fill::Outlined {
                            self.ground
                        } else {
                            pale
                        };
                        self.fill(&path, back);
                    }
                    if self.style.fill != Fill::Outlined {
                        self.pattern(&path, rgb, item.extent * size, angle);
                    }
                    self.stroke(&path, rgb, width);
                }
                'D' if plain => self.fill(&path, contrast),
                'D' if hand == Hand::Mouse => self.stroke(&path, rgb, width),
                'D' => {
                    self.fill(&path, self.ground);
                    self.stroke(&path, rgb, width * 0.8);
                }
                'S' => self.stroke(&path, if plain { contrast } else { rgb }, width * 0.8),
                _ => self.stroke(&path, rgb, width * if plain { 1.3 } else { 1.0 }),
            }
        }
    }
}

/// The ground: its colour, and that it is not the same everywhere.
fn ground(scene: &Scene, rng: &mut Rng) -> (Rgb, Option<Rgb>) {
    if scene.style.hand == Hand::Mouse && rng.random_bool(0.85) {
        return ([255, 255, 255], None);
    }
    let base = match rng.random_range(0..100) {
        0..35 => [255, 255, 255],
        35..55 => [
            rng.random_range(240..=255),
            rng.random_range(236..=252),
            rng.random_range(222..=246),
        ],
        55..85 => std::array::from_fn(|_| rng.random_range(196..=250)),
        85..93 => std::array::from_fn(|_| rng.random_range(120..=200)),
        _ => std::array::from_fn(|_| rng.random_range(14..=60)),
    };
    let far: Option<Rgb> = rng
        .random_bool(0.25)
        .then(|| base.map(|c: u8| c.saturating_add_signed(rng.random_range(-22..=22))));
    (base, far)
}

fn drawn(scene: &Scene, size: u32) -> Option<Pixmap> {
    let mut rng = Rng::seed_from_u64(scene.seed);
    let mut pixels = Pixmap::new(size, size)?;
    // A ground on which every colour of the scene can be seen.
    let (base, far) = loop {
        let (base, far) = ground(scene, &mut rng);
        let seen = scene.items.iter().all(|item| {
            let shade = item.colour.shade(&mut rng);
            difference(shade, base) > 0.22
        });
        if seen || rng.random_bool(0.02) {
            break (base, far);
        }
    };
    pixels.fill(Color::from_rgba8(base[0], base[1], base[2], 255));
    if let Some(far) = far {
        let rows = 12;
        for i in 0..rows {
            let height = size as f32 / rows as f32;
            let rect = Rect::from_xywh(0.0, i as f32 * height, size as f32, height + 1.0)?;
            let rgb = mix(base, far, i as f32 / rows as f32);
            pixels.fill_rect(rect, &paint(rgb), Transform::identity(), None);
        }
    }
    let mut canvas = Canvas {
        pixels: &mut pixels,
        style: scene.style,
        ground: base,
    };
    for item in &scene.items {
        canvas.item(item, &mut rng);
    }
    Some(pixels)
}

/// The picture, `[size, size, 3]` bytes.
pub fn render(scene: &Scene, size: u32) -> Vec<u8> {
    let pixels = drawn(scene, size)
        .map(|pixmap| pixmap.take())
        .unwrap_or_default();
    let pixels = pixels.as_chunks::<4>().0;
    pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
}

/// The picture as a PNG file.
///
/// # Errors
/// Where the picture cannot be encoded.
pub fn png(scene: &Scene, size: u32) -> anyhow::Result<Vec<u8>> {
    let pixels = drawn(scene, size);
    let pixels = pixels.ok_or_else(|| anyhow::anyhow!("no picture of {size} pixels"))?;
    Ok(pixels.encode_png()?)
}
