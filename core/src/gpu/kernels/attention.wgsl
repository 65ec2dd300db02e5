// One workgroup for each query of each head of each sequence. Keys are taken in
// blocks of 64, with the softmax kept running: any number of keys fits.
struct Parameters {
  heads: u32, head_dim: u32, queries: u32, keys: u32,
  causal: u32, offset: u32, scale: f32,
  q_start: u32, q_stride: u32, k_start: u32, k_stride: u32, v_start: u32, v_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const WIDTH: u32 = 64u;
const MAX_HEAD_DIM: u32 = 256u;
const LOWEST: f32 = -3.0e38;
var<workgroup> query: array<f32, MAX_HEAD_DIM>;
var<workgroup> share: array<f32, WIDTH>;
var<workgroup> reduced: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x;
  let head = group.y;
  let sequence = group.z;
  let column = head * p.head_dim;
  let q_row = (sequence * p.queries + i) * p.q_stride + p.q_start + column;
  for (var d = lane; d < p.head_dim; d += WIDTH) {
    query[d] = q[q_row + d] * p.scale;
  }
  workgroupBarrier();

  var seen = p.keys;
  if p.causal == 1u {
    seen = min(p.keys, i + p.offset + 1u);
  }
  var top = LOWEST;
  var sum = 0.0;
  var mixed = vec4<f32>(0.0);
  for (var block = 0u; block < seen; block += WIDTH) {
    let count = min(WIDTH, seen - block);
    var score = LOWEST;
    if lane < count {
      let k_row = (sequence * p.keys + block + lane) * p.k_stride + p.k_start + column;
      score = 0.0;
      for (var d = 0u; d < p.head_dim; d++) {
        score += query[d] * k[k_row + d];
      }
    }
    reduced[lane] = score;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
      if lane < half {
        reduced[lane] = max(reduced[lane], reduced[lane + half]);
      }
      workgroupBarrier();
    }
    let new_top = max(top, reduced[0]);
    workgroupBarrier();
    var part = 0.0;
    if lane < count {
      part = exp(score - new_top);
    }
    share[lane] = part;
    reduced[lane] = part;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
      if lane < half {
        reduced[lane] += reduced[lane + half];
      }
      workgroupBarrier();
    }
    let shrink = exp(max(top - new_top, -80.0)) * select(0.0, 1.0, block > 0u);
    sum = sum * shrink + reduced[0];
    top = new_top;
    for (var j = 0u; j < 4u; j++) {
      let d = lane + j * WIDTH;
      if d < p.head_dim {
        var value = mixed[j] * shrink;
        for (var key = 0u; key < count; key++) {
          let v_row = (sequence * p.keys + block + key) * p.v_stride + p.v_start + column;
          value += share[key] * v[v_row + d];
        }
        mixed[j] = value;
      }
    }
    workgroupBarrier();
  }

  let out_row = ((sequence * p.queries + i) * p.heads + head) * p.head_dim;
  for (var j = 0u; j < 4u; j++) {
    let d = lane + j * WIDTH;
    if d < p.head_dim {
      out[out_row + d] = select(0.0, mixed[j] / sum, seen > 0u);
    }
  }
}
