// One workgroup a row.
struct Parameters { rows: u32, cols: u32, eps: f32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const WIDTH: u32 = 64u;
var<workgroup> partial: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * p.stride + group.x;
  // A row too many is computed from the last one and not written: barriers
  // must be met by all.
  let start = min(row, p.rows - 1u) * p.cols;
  var squares = 0.0;
  for (var i = lane; i < p.cols; i += WIDTH) {
    squares += x[start + i] * x[start + i];
  }
  partial[lane] = squares;
  workgroupBarrier();
  for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
    if lane < half {
      partial[lane] += partial[lane + half];
    }
    workgroupBarrier();
  }
  let scale = inverseSqrt(partial[0] / f32(p.cols) + p.eps);
  if row < p.rows {
    for (var i = lane; i < p.cols; i += WIDTH) {
      out[start + i] = x[start + i] * scale * weight[i];
    }
  }
}
