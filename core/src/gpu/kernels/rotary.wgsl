struct Parameters {
  n: u32, width: u32, head_dim: u32, rotary_dims: u32, interleaved: u32,
  x_start: u32, x_stride: u32, queries: u32, start: u32, step: u32, stride: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.n {
    return;
  }
  let row = i / p.width;
  let column = i % p.width;
  let at = row * p.x_stride + p.x_start + column;
  let own = column % p.head_dim;
  if own >= p.rotary_dims {
    out[i] = x[at];
    return;
  }
  let a = angle(own, p.start + row % p.queries * p.step);
  out[i] = x[at] * a.cosine + x[u32(i32(at) + a.partner)] * a.sine;
}
