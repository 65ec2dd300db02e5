// One workgroup a part of a row; mean and variance in two passes. Lengths and
// places count Numbers.
struct Parameters {
  rows: u32, cols: u32, eps: f32, stride: u32,
  // Parts of a row of x, the first of which begins at `x_start`; from the gains
  // of one part to those of the next.
  parts: u32, x_start: u32, x_stride: u32, gains: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<Number>;
@group(0) @binding(2) var<storage, read> weight: array<Number>;
@group(0) @binding(3) var<storage, read> bias: array<Number>;
@group(0) @binding(4) var<storage, read_write> out: array<Number>;

const WIDTH: u32 = 64u;
var<workgroup> partial: array<f32, WIDTH>;

fn total(lane: u32, value: f32) -> f32 {
  partial[lane] = value;
  workgroupBarrier();
  for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
    if lane < half {
      partial[lane] += partial[lane + half];
    }
    workgroupBarrier();
  }
  let sum = partial[0];
  workgroupBarrier();
  return sum;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * p.stride + group.x;
  // A row too many is computed from the last one and not written: barriers
  // must be met by all.
  let there = min(row, p.rows - 1u);
  let part = there % p.parts;
  let start = there / p.parts * p.x_stride + p.x_start + part * p.cols;
  let gain = part * p.gains;
  let count = f32(p.cols) * EACH;
  var sum = 0.0;
  for (var i = lane; i < p.cols; i += WIDTH) {
    sum += total_of(x[start + i]);
  }
  let mean = total(lane, sum) / count;
  var squares = 0.0;
  for (var i = lane; i < p.cols; i += WIDTH) {
    let d = x[start + i] - mean;
    squares += total_of(d * d);
  }
  let scale = inverseSqrt(total(lane, squares) / count + p.eps);
  if row < p.rows {
    for (var i = lane; i < p.cols; i += WIDTH) {
      let normal = (x[start + i] - mean) * scale;
      out[row * p.cols + i] = normal * weight[gain + i] + bias[gain + i];
    }
  }
}
