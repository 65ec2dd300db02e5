// Rows of a table of `words` words a row: f32, two f16 to a word, or blocks of
// 32 whose scales lie apart. A table in several buffers is read one buffer at a
// time, from row `first` on; the other ids are left to the others.
override WEIGHT: u32 = 0u;

const F16: u32 = 1u;
const Q8_0: u32 = 2u;
const Q4_0: u32 = 3u;

struct Parameters { len: u32, cols: u32, words: u32, blocks: u32, first: u32, rows: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

fn half_of(word: u32, high: bool) -> f32 {
  let pair = unpack2x16float(word);
  return select(pair.x, pair.y, high);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.len {
    return;
  }
  // Below the first wraps to a large number.
  let row = ids[i / p.cols] - p.first;
  let col = i % p.cols;
  if row >= p.rows {
    return;
  }
  let start = row * p.words;
  let block = row * p.blocks + col / 32u;
  if WEIGHT == F16 {
    out[i] = half_of(table[start + col / 2u], col % 2u == 1u);
  } else if WEIGHT == Q8_0 {
    let code = bitcast<i32>(table[start + col / 4u] << (24u - col % 4u * 8u)) >> 24u;
    out[i] = f32(code) * half_of(scales[block / 2u], block % 2u == 1u);
  } else if WEIGHT == Q4_0 {
    let word = table[start + col / 32u * 4u + col % 16u / 4u];
    let code = (word >> (col % 4u * 8u + col % 32u / 16u * 4u)) & 15u;
    out[i] = (f32(code) - 8.0) * half_of(scales[block / 2u], block % 2u == 1u);
  } else {
    out[i] = bitcast<f32>(table[start + col]);
  }
}
