// Rows of a cache: a key, turned where it is to be, and its
// value.
struct Parameters {
  n: u32, width: u32, rows: u32, capacity: u32, first: u32,
  k_start: u32, k_stride: u32, v_start: u32, v_stride: u32,
  head_dim: u32, rotary_dims: u32, interleaved: u32, start: u32, step: u32, stride: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

fn key(row: u32, column: u32) -> f32 {
  let at = row * p.k_stride + p.k_start + column;
  let own = column % p.head_dim;
  if own >= p.rotary_dims {
    return k[at];
  }
  let a = angle(own, p.start + row % p.rows * p.step);
  return k[at] * a.cosine + k[u32(i32(at) + a.partner)] * a.sine;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.n {
    return;
  }
  let both = 2u * p.width;
  let row = i / both;
  let column = i % both;
  let place = row / p.rows * p.capacity + p.first + row % p.rows;
  if column < p.width {
    out[place * both + column] = key(row, column);
  } else {
    out[place * both + column] = v[row * p.v_stride + p.v_start + column - p.width];
  }
}
