// Puts together what workgroups have made of parts of the keys: one invocation
// for each number of the result. See `attention_few`.
struct Parameters { len: u32, head_dim: u32, parts: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.len {
    return;
  }
  let width = p.head_dim + 2u;
  let start = i / p.head_dim * p.parts * width;
  let d = i % p.head_dim;
  var top = x[start + p.head_dim];
  for (var part = 1u; part < p.parts; part++) {
    top = max(top, x[start + part * width + p.head_dim]);
  }
  var sum = 0.0;
  var mix = 0.0;
  for (var part = 0u; part < p.parts; part++) {
    let at = start + part * width;
    let weight = exp(max(x[at + p.head_dim] - top, -80.0));
    sum += weight * x[at + p.head_dim + 1u];
    mix += weight * x[at + d];
  }
  out[i] = select(0.0, mix / sum, sum > 0.0);
}
