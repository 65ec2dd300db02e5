// out = residual + act(x · wᵀ + bias): x [rows, inner], w [cols, inner].
//
// A workgroup makes a tile of 64 × 64, each of its 256 invocations 4 × 4 of it,
// from slices of 16 along the inner axis that are staged transposed, so that an
// invocation reads its four rows and four columns as vectors.
override HALF: u32 = 0u;
override ACTIVATION: u32 = 0u;

struct Parameters { rows: u32, cols: u32, inner: u32, bias: u32, residual: u32, row_groups: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const TILE: u32 = 64u;
const SLICE: u32 = 16u;
// One more than the tile, so that the transposing writes fall on many banks.
const PITCH: u32 = 68u;
var<workgroup> xs: array<f32, 1088>;
var<workgroup> ws: array<f32, 1088>;

fn weight(i: u32) -> f32 {
  if HALF == 1u {
    let pair = unpack2x16float(w[i >> 1u]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
  }
  return bitcast<f32>(w[i]);
}

fn quad_x(i: u32) -> vec4<f32> { return vec4(xs[i], xs[i + 1u], xs[i + 2u], xs[i + 3u]); }
fn quad_w(i: u32) -> vec4<f32> { return vec4(ws[i], ws[i + 1u], ws[i + 2u], ws[i + 3u]); }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row_0 = (group.z * p.row_groups + group.y) * TILE;
  let col_0 = group.x * TILE;
  let line = lane / 4u;
  let place = (lane % 4u) * 4u;
  let ty = (lane / 16u) * 4u;
  let tx = (lane % 16u) * 4u;
  var sums: array<vec4<f32>, 4>;

  for (var k_0 = 0u; k_0 < p.inner; k_0 += SLICE) {
    for (var j = 0u; j < 4u; j++) {
      let k = k_0 + place + j;
      var a = 0.0;
      var b = 0.0;
      if k < p.inner {
        if row_0 + line < p.rows { a = x[(row_0 + line) * p.inner + k]; }
        if col_0 + line < p.cols { b = weight((col_0 + line) * p.inner + k); }
      }
      xs[(place + j) * PITCH + line] = a;
      ws[(place + j) * PITCH + line] = b;
    }
    workgroupBarrier();
    for (var k = 0u; k < SLICE; k++) {
      let a = quad_x(k * PITCH + ty);
      let b = quad_w(k * PITCH + tx);
      sums[0] += a.x * b;
      sums[1] += a.y * b;
      sums[2] += a.z * b;
      sums[3] += a.w * b;
    }
    workgroupBarrier();
  }

  for (var i = 0u; i < 4u; i++) {
    let row = row_0 + ty + i;
    for (var j = 0u; j < 4u; j++) {
      let col = col_0 + tx + j;
      if row < p.rows && col < p.cols {
        var value = sums[i][j];
        if p.bias == 1u { value += bias[col]; }
        if p.residual == 1u { value += residual[row * p.cols + col]; }
        value = activate(value, ACTIVATION);
        if p.residual == 2u { value += residual[row * p.cols + col]; }
        out[row * p.cols + col] = value;
      }
    }
  }
}
