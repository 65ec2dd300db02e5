struct Parameters { len: u32, each: u32, cols: u32, scale: f32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i < p.len {
    let g = gate[i / p.each * p.cols + i % p.cols];
    out[i] = residual[i] + p.scale / (1.0 + exp(-g)) * x[i];
  }
}
