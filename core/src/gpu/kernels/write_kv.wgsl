// Rows of a cache: a key, smeared and turned where it is to be, and its value;
// behind them, where keys are smeared, the key as it was given.
struct Parameters {
  n: u32, parts: u32, width: u32, rows: u32, capacity: u32, first: u32,
  k_start: u32, k_stride: u32, v_start: u32, v_stride: u32, head_dim: u32,
  rotary_dims: u32, interleaved: u32, start: u32, step: u32, stride: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read> gate: array<f32>;
@group(0) @binding(5) var<storage, read> previous: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

fn given(row: u32, column: u32) -> f32 {
  return k[row * p.k_stride + p.k_start + column];
}

// With a part of the key before it: one of this pass, or one that the cache
// had. Nothing is written to the latter meanwhile.
fn smeared(row: u32, column: u32) -> f32 {
  let own = given(row, column);
  if p.parts == 2u || previous[row] == 0u {
    return own;
  }
  let sequence = row / p.rows;
  let place = previous[row] - 1u;
  var before = 0.0;
  if place >= p.first {
    before = given(sequence * p.rows + place - p.first, column);
  } else {
    before = out[((sequence * p.capacity + place) * 3u + 2u) * p.width + column];
  }
  return own + tanh(gate[column]) * before;
}

fn key(row: u32, column: u32) -> f32 {
  let own = column % p.head_dim;
  if own >= p.rotary_dims {
    return smeared(row, column);
  }
  let a = angle(own, p.start + row % p.rows * p.step);
  let partner = u32(i32(column) + a.partner);
  return smeared(row, column) * a.cosine + smeared(row, partner) * a.sine;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.n {
    return;
  }
  let whole = p.parts * p.width;
  let row = i / whole;
  let part = i % whole / p.width;
  let column = i % p.width;
  let place = row / p.rows * p.capacity + p.first + row % p.rows;
  let at = place * whole + i % whole;
  if part == 0u {
    out[at] = key(row, column);
  } else if part == 1u {
    out[at] = v[row * p.v_stride + p.v_start + column];
  } else {
    out[at] = given(row, column);
  }
}
