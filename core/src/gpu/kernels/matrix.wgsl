// What the matrix kernels share: how x and w are read. Lengths and places are
// in numbers, not bytes.
//
// x is bound as vectors, and its length is a multiple of one: where four
// neighbours of a row do not begin at a vector, single components are read.
// w is [cols, 32 · blocks], zero where `inner` has ended.
override WEIGHT: u32 = 0u;
override VECTOR: u32 = 0u;
// 1: x is windows over pictures; 2: over groups of their channels.
override WINDOWS: u32 = 0u;
override SPLIT: u32 = 0u;

const F32: u32 = 0u;
const F16: u32 = 1u;
const Q8_0: u32 = 2u;
const Q4_0: u32 = 3u;

struct Parameters {
  rows: u32, cols: u32, inner: u32, blocks: u32,
  // Columns of out, and the one that the first row of w gives.
  width: u32, first: u32,
  // `gate`: 1 for one number, 2 for one of each column. `eps` is that of the
  // norm before the product, `glu` the activation of what is multiplied there.
  bias: u32, residual: u32, activation: u32, gate: u32, eps: f32, glu: u32,
  // Tiles of rows along y; what is more goes along z. Where the inner axis is
  // split, z counts parts of `split` numbers.
  row_tiles: u32, split: u32,
  // Windows over pictures of `height` lines of `line` numbers: `run` numbers in
  // each line of a window.
  height: u32, line: u32, run: u32, out_height: u32, out_width: u32,
  down: u32, across: u32, above: u32, before: u32,
  // Each group of `group_cols` columns is made of `group_channels` of the
  // `channels` of a pixel; `start` is the column that the first row of w gives.
  channels: u32, group_channels: u32, group_cols: u32, start: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// The gate; or, where x is normalised, the norm's weight. Then its bias.
@group(0) @binding(6) var<storage, read> gains: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> shifts: array<vec4<f32>>;

// One after the last column of a tile's group, and its first channel.
var<private> col_end: u32;
var<private> channel_0: u32;

// The first column of a tile. Tiles begin anew with each group; columns before
// the first row of w wrap to large numbers, out like those behind the last.
fn first_col(tile: u32, side: u32) -> u32 {
  col_end = p.cols;
  if WINDOWS < 2u {
    return tile * side;
  }
  let tiles = (p.group_cols + side - 1u) / side;
  let group = p.start / p.group_cols + tile / tiles;
  let first = group * p.group_cols - p.start;
  channel_0 = group * p.group_channels;
  col_end = min(p.cols, (group + 1u) * p.group_cols - p.start);
  return first + tile % tiles * side;
}

// Where a row of x begins: of a matrix, `start`; of windows, line `top` and
// place `left` of the picture whose first line is `start`.
struct Row { start: u32, top: u32, left: u32 }

// A place in a row: `k`, which in a window is `at` of its line `line`.
struct Place { k: u32, line: u32, at: u32 }

// A row too many is the last one; what comes of it is not stored.
fn row_of(row: u32) -> Row {
  let there = min(row, p.rows - 1u);
  if WINDOWS == 0u {
    return Row(there * p.inner, 0u, 0u);
  }
  let rest = there / p.out_width;
  // Above or left of the picture wraps to a large number, out like the others.
  return Row(
    rest / p.out_height * p.height,
    rest % p.out_height * p.down - p.above,
    there % p.out_width * p.across - p.before + channel_0,
  );
}

fn place_of(k: u32) -> Place {
  if WINDOWS == 0u {
    return Place(k, 0u, 0u);
  }
  if WINDOWS == 2u {
    let at = k % p.run;
    let pixel = at / p.group_channels;
    return Place(k, k / p.run, pixel * p.channels + at % p.group_channels);
  }
  return Place(k, k / p.run, k % p.run);
}

// Whether there is a number. Without short circuits, and with a load in any
// case below: branches would keep loads from being issued together.
fn inside(row: Row, place: Place) -> bool {
  if WINDOWS == 0u {
    return place.k < p.inner;
  }
  return (place.k < p.inner) & (row.top + place.line < p.height) & (row.left + place.at < p.line);
}

fn index_of(row: Row, place: Place) -> u32 {
  if WINDOWS == 0u {
    return row.start + place.k;
  }
  return (row.start + row.top + place.line) * p.line + row.left + place.at;
}

fn x_one(row: Row, place: Place) -> f32 {
  let there = inside(row, place);
  let i = select(0u, index_of(row, place), there);
  return select(0.0, x[i / 4u][i % 4u], there);
}

// Four numbers of a row, 0 where there are none.
fn x_quad(row: Row, place: Place) -> vec4<f32> {
  if VECTOR == 1u {
    let there = inside(row, place);
    let i = select(0u, index_of(row, place), there);
    return select(vec4<f32>(0.0), x[i / 4u], there);
  }
  return vec4(
    x_one(row, place),
    x_one(row, place_of(place.k + 1u)),
    x_one(row, place_of(place.k + 2u)),
    x_one(row, place_of(place.k + 3u)),
  );
}

fn scale_of(block: u32) -> f32 {
  let pair = unpack2x16float(scales[block / 2u]);
  return select(pair.x, pair.y, block % 2u == 1u);
}

fn halves(a: u32, b: u32) -> vec4<f32> {
  return vec4(unpack2x16float(a), unpack2x16float(b));
}

fn bytes_of(word: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

// The low halves of four bytes.
fn nibbles_of(word: u32) -> vec4<f32> {
  return vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u)) - 8.0;
}

// Four numbers of row `row` of w; four divides k.
fn w_quad(row: u32, k: u32) -> vec4<f32> {
  let start = row * p.blocks;
  if WEIGHT == F16 {
    let words = w[start * 4u + k / 8u];
    let pair = select(words.xy, words.zw, k % 8u == 4u);
    return halves(pair.x, pair.y);
  }
  if WEIGHT == Q8_0 {
    return bytes_of(w[start * 2u + k / 16u][k / 4u % 4u]) * scale_of(start + k / 32u);
  }
  if WEIGHT == Q4_0 {
    let word = w[start + k / 32u][k / 4u % 4u];
    return nibbles_of(word >> (k / 16u % 2u * 4u)) * scale_of(start + k / 32u);
  }
  return bitcast<vec4<f32>>(w[start * 8u + k / 4u]);
}
