// Rows of a table, which holds f32, or two f16 to a word.
override HALF: u32 = 0u;

struct Parameters { len: u32, cols: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.len {
    return;
  }
  let at = ids[i / p.cols] * p.cols + i % p.cols;
  if HALF == 1u {
    let pair = unpack2x16float(table[at >> 1u]);
    out[i] = select(pair.x, pair.y, (at & 1u) == 1u);
  } else {
    out[i] = bitcast<f32>(table[at]);
  }
}
