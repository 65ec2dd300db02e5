// One workgroup a row: the largest numbers, largest first, of equal ones that
// with the lowest place first; and the logarithm of the sum of exponentials.
//
// Each round finds the next after the one before; k is small beside the row.
struct Parameters { rows: u32, cols: u32, k: u32, stride: u32 }

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// [rows, 2 · k + 1]: the numbers, their places, the logarithm.
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const WIDTH: u32 = 256u;
const LOWEST: f32 = -3.4028234e38;
var<workgroup> tops: array<f32, WIDTH>;
var<workgroup> places: array<u32, WIDTH>;

fn before(a: f32, i: u32, b: f32, j: u32) -> bool {
  return a > b || (a == b && i < j);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * p.stride + group.x;
  // A row too many is computed from the last one and not written: barriers
  // must be met by all.
  let start = min(row, p.rows - 1u) * p.cols;
  let to = row * (2u * p.k + 1u);
  var last = 0.0;
  var last_place = 0u;
  var first = 0.0;
  for (var round = 0u; round < p.k; round++) {
    var top = LOWEST;
    var place = p.cols;
    for (var i = lane; i < p.cols; i += WIDTH) {
      let value = x[start + i];
      let fresh = round == 0u || before(last, last_place, value, i);
      if fresh && before(value, i, top, place) {
        top = value;
        place = i;
      }
    }
    tops[lane] = top;
    places[lane] = place;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
      if lane < half {
        let other = lane + half;
        if before(tops[other], places[other], tops[lane], places[lane]) {
          tops[lane] = tops[other];
          places[lane] = places[other];
        }
      }
      workgroupBarrier();
    }
    last = tops[0];
    last_place = places[0];
    if round == 0u { first = last; }
    if lane == 0u && row < p.rows {
      out[to + round] = last;
      out[to + p.k + round] = f32(last_place);
    }
    workgroupBarrier();
  }

  var sum = 0.0;
  for (var i = lane; i < p.cols; i += WIDTH) {
    sum += exp(x[start + i] - first);
  }
  tops[lane] = sum;
  workgroupBarrier();
  for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
    if lane < half {
      tops[lane] += tops[lane + half];
    }
    workgroupBarrier();
  }
  if lane == 0u && row < p.rows {
    out[to + 2u * p.k] = first + log(tops[0]);
  }
}
