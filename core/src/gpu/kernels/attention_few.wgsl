// One workgroup for each query of each head, for few queries and for heads that
// are too wide to stage; or several, each with a part of the keys, whose
// results `attention_sum` puts together.
const WIDTH: u32 = 64u;
var<workgroup> ours: array<vec4<f32>, 64>;
var<workgroup> share: array<f32, WIDTH>;
var<workgroup> reduced: array<f32, WIDTH>;
var<workgroup> mixed: array<vec4<f32>, WIDTH>;

fn highest(lane: u32, value: f32) -> f32 {
  reduced[lane] = value;
  workgroupBarrier();
  for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
    if lane < half {
      reduced[lane] = max(reduced[lane], reduced[lane + half]);
    }
    workgroupBarrier();
  }
  let top = reduced[0];
  workgroupBarrier();
  return top;
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let query = group.x / p.parts;
  let part = group.x % p.parts;
  let head = group.y;
  let sequence = group.z;
  if lane < QUADS {
    ours[lane] = q_quad(query, sequence, head, lane) * p.scale;
  }
  workgroupBarrier();

  // Values: a vector for each invocation, and as many keys at a time as there
  // are invocations for whole heads.
  let crew = WIDTH / QUADS;
  let quad = lane % QUADS;
  let first = lane / QUADS;
  let start = part * p.chunk;
  let end = min(reach(query), start + p.chunk);
  var top = LOWEST;
  var sum = 0.0;
  var mix = vec4<f32>(0.0);
  for (var block = start; block < end; block += WIDTH) {
    let count = min(WIDTH, end - block);
    var score = LOWEST;
    if lane < count {
      score = 0.0;
      for (var i = 0u; i < QUADS; i++) {
        score += dot(ours[i], k_quad(block + lane, sequence, head, i));
      }
      score = ruled(score, query, block + lane, sequence, head);
    }
    let new_top = max(top, highest(lane, score));
    let shrink = shrunk(top, new_top);
    top = new_top;
    let mine = share_of(score, top);
    // Summed over the invocations at the end.
    sum = sum * shrink + mine;
    share[lane] = mine;
    workgroupBarrier();
    mix *= shrink;
    if first < crew {
      for (var key = first; key < count; key += crew) {
        mix += share[key] * v_quad(block + key, sequence, head, quad);
      }
    }
    workgroupBarrier();
  }

  reduced[lane] = sum;
  mixed[lane] = mix;
  workgroupBarrier();
  var whole = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    whole += reduced[i];
  }
  if lane >= QUADS {
    return;
  }
  for (var i = 1u; i < crew; i++) {
    mix += mixed[lane + i * QUADS];
  }
  let row = (sequence * p.queries + query) * p.heads + head;
  if p.parts == 1u {
    put(row * p.head_dim, lane, mix * select(0.0, 1.0 / whole, whole > 0.0));
    return;
  }
  // [rows, parts, head_dim + 2]: what was mixed, the highest score, the sum.
  let at = (row * p.parts + part) * (p.head_dim + 2u);
  put(at, lane, mix);
  if lane == 0u {
    out[at + p.head_dim] = top;
    out[at + p.head_dim + 1u] = whole;
  }
}
