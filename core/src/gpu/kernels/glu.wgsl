struct Parameters { n: u32, width: u32, activation: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i < p.n {
    let gate = i / p.width * 2u * p.width + i % p.width;
    out[i] = activate(x[gate], p.activation) * x[gate + p.width];
  }
}
