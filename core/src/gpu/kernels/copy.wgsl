// From each outer item of x, `len` elements at `from`, to `to` of each outer
// item of out. A step of 0 reads the same item again and again.
struct Parameters { n: u32, len: u32, x_step: u32, x_from: u32, out_step: u32, out_from: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i < p.n {
    let item = i / p.len;
    let at = i % p.len;
    out[item * p.out_step + p.out_from + at] = x[item * p.x_step + p.x_from + at];
  }
}
