struct Parameters {
  len: u32, height: u32, width: u32, channels: u32, kernel: u32, step: u32,
  above: u32, before: u32, out_height: u32, out_width: u32, stride: u32,
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
  let kx = rest % p.kernel;
  rest /= p.kernel;
  let ky = rest % p.kernel;
  rest /= p.kernel;
  let ox = rest % p.out_width;
  rest /= p.out_width;
  let oy = rest % p.out_height;
  let n = rest / p.out_height;
  // Left of or above the picture wraps to a large number, out like the others.
  let ix = ox * p.step + kx - p.before;
  let iy = oy * p.step + ky - p.above;
  if ix < p.width && iy < p.height {
    out[i] = x[((n * p.height + iy) * p.width + ix) * p.channels + channel];
  } else {
    out[i] = 0.0;
  }
}
