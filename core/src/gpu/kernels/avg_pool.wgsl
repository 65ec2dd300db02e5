struct Parameters {
  len: u32, height: u32, width: u32, channels: u32, kernel: u32,
  out_height: u32, out_width: u32, stride: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.y * p.stride + id.x;
  if i >= p.len {
    return;
  }
  let channel = i % p.channels;
  var rest = i / p.channels;
  let ox = rest % p.out_width;
  rest /= p.out_width;
  let oy = rest % p.out_height;
  let n = rest / p.out_height;
  var sum = 0.0;
  for (var ky = 0u; ky < p.kernel; ky++) {
    let row = (n * p.height + oy * p.kernel + ky) * p.width + ox * p.kernel;
    for (var kx = 0u; kx < p.kernel; kx++) {
      sum += x[(row + kx) * p.channels + channel];
    }
  }
  out[i] = sum / f32(p.kernel * p.kernel);
}
