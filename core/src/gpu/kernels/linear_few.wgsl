// One to four rows: the weights are read once, 16 bytes at a time by
// neighbouring invocations, and everything else is cheap beside that.
//
// Of 64 invocations, 32 share four columns: each takes every 32nd vector of the
// four rows of w.
override ROWS: u32 = 1u;
// 1: the rows of x are normalised first, to mean 0 and variance 1; 2: by the
// root of their mean squares; 3: they are twice as long, and the activation of
// the first half is multiplied with the second.
override BEFORE: u32 = 0u;

const LANES: u32 = 32u;
const GROUPS: u32 = 2u;
var<workgroup> sums: array<vec4<f32>, 256>;

// The products of four numbers of a row of x with as many of four rows of w.
fn dots(x_4: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
  return vec4(dot(x_4, a), dot(x_4, b), dot(x_4, c), dot(x_4, d));
}

var<private> s0: vec4<f32>;
var<private> s1: vec4<f32>;
var<private> s2: vec4<f32>;
var<private> s3: vec4<f32>;

// What the norm takes from each row, and multiplies it by.
var<private> means: vec4<f32>;
var<private> factors: vec4<f32>;

// Four numbers of a row less its mean, 0 where there are none.
fn centred(row: u32, place: Place, mean: f32) -> vec4<f32> {
  let there = vec4(place.k) + vec4(0u, 1u, 2u, 3u) < vec4(p.inner);
  return select(vec4<f32>(0.0), x_quad(row_of(row), place) - mean, there);
}

fn input(row: u32, place: Place, mean: f32, factor: f32) -> vec4<f32> {
  if BEFORE == 0u {
    return x_quad(row_of(row), place);
  }
  if BEFORE == 3u {
    let start = min(row, p.rows - 1u) * 2u * p.inner;
    let gate = x_quad(Row(start, 0u, 0u), place);
    let up = x_quad(Row(start + p.inner, 0u, 0u), place);
    return up * vec4(
      activate(gate.x, p.glu),
      activate(gate.y, p.glu),
      activate(gate.z, p.glu),
      activate(gate.w, p.glu),
    );
  }
  var normal = centred(row, place, mean) * factor * gains[place.k / 4u];
  if BEFORE == 1u { normal += shifts[place.k / 4u]; }
  let there = vec4(place.k) + vec4(0u, 1u, 2u, 3u) < vec4(p.inner);
  return select(vec4<f32>(0.0), normal, there);
}

// The sum over the workgroup.
fn total(lane: u32, own: vec4<f32>) -> vec4<f32> {
  sums[lane] = own;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if lane < half {
      sums[lane] += sums[lane + half];
    }
    workgroupBarrier();
  }
  let all = sums[0];
  workgroupBarrier();
  return all;
}

// The mean of the squares of each row less `mean`.
fn squares(lane: u32, mean: vec4<f32>) -> vec4<f32> {
  var own = vec4<f32>(0.0);
  for (var k = lane * 4u; k < p.inner; k += 256u) {
    let place = place_of(k);
    let a = centred(0u, place, mean.x);
    let b = centred(1u, place, mean.y);
    let c = centred(2u, place, mean.z);
    let d = centred(3u, place, mean.w);
    own += vec4(dot(a, a), dot(b, b), dot(c, c), dot(d, d));
  }
  return total(lane, own) / f32(p.inner);
}

fn normalize_rows(lane: u32) {
  if BEFORE == 1u {
    let one = vec4<f32>(1.0);
    var own = vec4<f32>(0.0);
    for (var k = lane * 4u; k < p.inner; k += 256u) {
      let place = place_of(k);
      own += vec4(
        dot(centred(0u, place, 0.0), one),
        dot(centred(1u, place, 0.0), one),
        dot(centred(2u, place, 0.0), one),
        dot(centred(3u, place, 0.0), one),
      );
    }
    means = total(lane, own) / f32(p.inner);
  }
  factors = inverseSqrt(squares(lane, means) + p.eps);
}

fn take(k: u32, scale: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
  let place = place_of(k);
  s0 += scale * dots(input(0u, place, means.x, factors.x), a, b, c, d);
  if ROWS > 1u { s1 += scale * dots(input(1u, place, means.y, factors.y), a, b, c, d); }
  if ROWS > 2u { s2 += scale * dots(input(2u, place, means.z, factors.z), a, b, c, d); }
  if ROWS > 3u { s3 += scale * dots(input(3u, place, means.w, factors.w), a, b, c, d); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let col = ((group.y * p.row_tiles + group.x) * GROUPS + lane / LANES) * 4u;
  let last = p.cols - 1u;
  col_end = p.cols;
  if BEFORE == 1u || BEFORE == 2u {
    normalize_rows(lane);
  }
  var vectors = p.blocks * 8u;
  if WEIGHT == F16 { vectors = p.blocks * 4u; }
  if WEIGHT == Q8_0 { vectors = p.blocks * 2u; }
  if WEIGHT == Q4_0 { vectors = p.blocks; }
  let row_a = min(col, last);
  let row_b = min(col + 1u, last);
  let row_c = min(col + 2u, last);
  let row_d = min(col + 3u, last);

  for (var i = lane % LANES; i < vectors; i += LANES) {
    let a = w[row_a * vectors + i];
    let b = w[row_b * vectors + i];
    let c = w[row_c * vectors + i];
    let d = w[row_d * vectors + i];
    if WEIGHT == F32 {
      take(i * 4u, vec4(1.0), bitcast<vec4<f32>>(a), bitcast<vec4<f32>>(b), bitcast<vec4<f32>>(c), bitcast<vec4<f32>>(d));
    }
    if WEIGHT == F16 {
      let one = vec4(1.0);
      take(i * 8u, one, halves(a.x, a.y), halves(b.x, b.y), halves(c.x, c.y), halves(d.x, d.y));
      take(i * 8u + 4u, one, halves(a.z, a.w), halves(b.z, b.w), halves(c.z, c.w), halves(d.z, d.w));
    }
    if WEIGHT == Q8_0 || WEIGHT == Q4_0 {
      let per_block = vectors / p.blocks;
      let block = i / per_block;
      let scale = vec4(
        scale_of(row_a * p.blocks + block),
        scale_of(row_b * p.blocks + block),
        scale_of(row_c * p.blocks + block),
        scale_of(row_d * p.blocks + block),
      );
      if WEIGHT == Q8_0 {
        take(i * 16u, scale, bytes_of(a.x), bytes_of(b.x), bytes_of(c.x), bytes_of(d.x));
        take(i * 16u + 4u, scale, bytes_of(a.y), bytes_of(b.y), bytes_of(c.y), bytes_of(d.y));
        take(i * 16u + 8u, scale, bytes_of(a.z), bytes_of(b.z), bytes_of(c.z), bytes_of(d.z));
        take(i * 16u + 12u, scale, bytes_of(a.w), bytes_of(b.w), bytes_of(c.w), bytes_of(d.w));
      } else {
        take(i * 32u, scale, nibbles_of(a.x), nibbles_of(b.x), nibbles_of(c.x), nibbles_of(d.x));
        take(i * 32u + 4u, scale, nibbles_of(a.y), nibbles_of(b.y), nibbles_of(c.y), nibbles_of(d.y));
        take(i * 32u + 8u, scale, nibbles_of(a.z), nibbles_of(b.z), nibbles_of(c.z), nibbles_of(d.z));
        take(i * 32u + 12u, scale, nibbles_of(a.w), nibbles_of(b.w), nibbles_of(c.w), nibbles_of(d.w));
        let high = vec4(4u);
        let e = a >> high;
        let f = b >> high;
        let g = c >> high;
        let h = d >> high;
        take(i * 32u + 16u, scale, nibbles_of(e.x), nibbles_of(f.x), nibbles_of(g.x), nibbles_of(h.x));
        take(i * 32u + 20u, scale, nibbles_of(e.y), nibbles_of(f.y), nibbles_of(g.y), nibbles_of(h.y));
        take(i * 32u + 24u, scale, nibbles_of(e.z), nibbles_of(f.z), nibbles_of(g.z), nibbles_of(h.z));
        take(i * 32u + 28u, scale, nibbles_of(e.w), nibbles_of(f.w), nibbles_of(g.w), nibbles_of(h.w));
      }
    }
  }

  sums[lane] = s0;
  if ROWS > 1u { sums[64u + lane] = s1; }
  if ROWS > 2u { sums[128u + lane] = s2; }
  if ROWS > 3u { sums[192u + lane] = s3; }
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if lane % LANES < half {
      for (var row = 0u; row < ROWS; row++) {
        sums[row * 64u + lane] += sums[row * 64u + lane + half];
      }
    }
    workgroupBarrier();
  }
  if lane % LANES == 0u {
    for (var row = 0u; row < ROWS; row++) {
      finish(0u, row, col, sums[row * 64u + lane]);
    }
  }
}
