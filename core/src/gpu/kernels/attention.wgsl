// A workgroup takes 16 queries of one head, four invocations each. Keys, then
// the values that belong to them, are staged block by block in the same memory,
// with the softmax kept running: any number of keys fits.
override BLOCK: u32 = 32u;

const ROWS: u32 = 16u;
// Queries and a block: 48 rows of 17 vectors, 32 of 25 or 24 of 33.
var<workgroup> staged: array<vec4<f32>, 816>;
var<workgroup> shares: array<f32, 512>;
var<workgroup> tops: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let query_0 = group.x * ROWS;
  let head = group.y;
  let sequence = group.z;
  // Odd, so that neighbouring rows fall on other banks.
  let pitch = QUADS | 1u;
  let last = p.queries - 1u;
  for (var i = lane; i < ROWS * QUADS; i += 64u) {
    let row = i / QUADS;
    let quad = i % QUADS;
    let query = min(query_0 + row, last);
    staged[row * pitch + quad] = q_quad(query, sequence, head, quad) * p.scale;
  }

  let row = lane / 4u;
  let part = lane % 4u;
  let query = query_0 + row;
  // This invocation's first key of a block, and its first vector of a value.
  let key_home = (ROWS + part) * pitch;
  let end = reach(min(query_0 + ROWS - 1u, last));
  var top = LOWEST;
  var sum = 0.0;
  var o0 = vec4<f32>(0.0);
  var o1 = vec4<f32>(0.0);
  var o2 = vec4<f32>(0.0);
  var o3 = vec4<f32>(0.0);
  var o4 = vec4<f32>(0.0);
  var o5 = vec4<f32>(0.0);
  var o6 = vec4<f32>(0.0);
  var o7 = vec4<f32>(0.0);
  for (var block = 0u; block < end; block += BLOCK) {
    workgroupBarrier();
    for (var i = lane; i < BLOCK * QUADS; i += 64u) {
      let key = i / QUADS;
      let quad = i % QUADS;
      // What lies beyond the keys may be no number at all.
      var four = vec4<f32>(0.0);
      if block + key < p.keys {
        four = k_quad(block + key, sequence, head, quad);
      }
      staged[(ROWS + key) * pitch + quad] = four;
    }
    workgroupBarrier();

    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    for (var quad = 0u; quad < QUADS; quad++) {
      let ours = staged[row * pitch + quad];
      let at = key_home + quad;
      a.x += dot(ours, staged[at]);
      a.y += dot(ours, staged[at + 4u * pitch]);
      if BLOCK > 8u {
        a.z += dot(ours, staged[at + 8u * pitch]);
        a.w += dot(ours, staged[at + 12u * pitch]);
      }
      if BLOCK > 16u {
        b.x += dot(ours, staged[at + 16u * pitch]);
        b.y += dot(ours, staged[at + 20u * pitch]);
        b.z += dot(ours, staged[at + 24u * pitch]);
        b.w += dot(ours, staged[at + 28u * pitch]);
      }
    }
    let key = block + part;
    a.x = ruled(a.x, query, key, sequence, head);
    a.y = ruled(a.y, query, key + 4u, sequence, head);
    if BLOCK > 8u {
      a.z = ruled(a.z, query, key + 8u, sequence, head);
      a.w = ruled(a.w, query, key + 12u, sequence, head);
    } else {
      a.z = LOWEST;
      a.w = LOWEST;
    }
    if BLOCK > 16u {
      b.x = ruled(b.x, query, key + 16u, sequence, head);
      b.y = ruled(b.y, query, key + 20u, sequence, head);
      b.z = ruled(b.z, query, key + 24u, sequence, head);
      b.w = ruled(b.w, query, key + 28u, sequence, head);
    } else {
      b = vec4(LOWEST);
    }
    let both = max(a, b);
    tops[lane] = max(max(both.x, both.y), max(both.z, both.w));
    workgroupBarrier();

    let t = row * 4u;
    let new_top = max(max(top, max(tops[t], tops[t + 1u])), max(tops[t + 2u], tops[t + 3u]));
    let shrink = shrunk(top, new_top);
    top = new_top;
    let e = vec4(share_of(a.x, top), share_of(a.y, top), share_of(a.z, top), share_of(a.w, top));
    let f = vec4(share_of(b.x, top), share_of(b.y, top), share_of(b.z, top), share_of(b.w, top));
    let both_shares = e + f;
    sum = sum * shrink + both_shares.x + both_shares.y + both_shares.z + both_shares.w;
    let share_home = row * 32u + part;
    shares[share_home] = e.x;
    shares[share_home + 4u] = e.y;
    shares[share_home + 8u] = e.z;
    shares[share_home + 12u] = e.w;
    shares[share_home + 16u] = f.x;
    shares[share_home + 20u] = f.y;
    shares[share_home + 24u] = f.z;
    shares[share_home + 28u] = f.w;
    o0 *= shrink;
    o1 *= shrink;
    o2 *= shrink;
    o3 *= shrink;
    o4 *= shrink;
    o5 *= shrink;
    o6 *= shrink;
    o7 *= shrink;
    // The keys have been used by all since the last barrier.
    for (var i = lane; i < BLOCK * QUADS; i += 64u) {
      let key = i / QUADS;
      let quad = i % QUADS;
      var four = vec4<f32>(0.0);
      if block + key < p.keys {
        four = v_quad(block + key, sequence, head, quad);
      }
      staged[(ROWS + key) * pitch + quad] = four;
    }
    workgroupBarrier();

    // A vector beyond the head's is computed from its neighbours and not
    // stored.
    for (var key = 0u; key < min(BLOCK, end - block); key++) {
      let share = shares[row * 32u + key];
      let at = (ROWS + key) * pitch + part;
      o0 += share * staged[at];
      if QUADS > 4u { o1 += share * staged[at + 4u]; }
      if QUADS > 8u { o2 += share * staged[at + 8u]; }
      if QUADS > 12u { o3 += share * staged[at + 12u]; }
      if QUADS > 16u { o4 += share * staged[at + 16u]; }
      if QUADS > 20u { o5 += share * staged[at + 20u]; }
      if QUADS > 24u { o6 += share * staged[at + 24u]; }
      if QUADS > 28u { o7 += share * staged[at + 28u]; }
    }
  }

  workgroupBarrier();
  tops[lane] = sum;
  workgroupBarrier();
  let t = row * 4u;
  let whole = tops[t] + tops[t + 1u] + tops[t + 2u] + tops[t + 3u];
  // Nothing seen gives nothing.
  let scale = select(0.0, 1.0 / whole, whole > 0.0);
  if query > last {
    return;
  }
  let at = ((sequence * p.queries + query) * p.heads + head) * p.head_dim;
  if part < QUADS { put(at, part, o0 * scale); }
  if part + 4u < QUADS { put(at, part + 4u, o1 * scale); }
  if part + 8u < QUADS { put(at, part + 8u, o2 * scale); }
  if part + 12u < QUADS { put(at, part + 12u, o3 * scale); }
  if part + 16u < QUADS { put(at, part + 16u, o4 * scale); }
  if part + 20u < QUADS { put(at, part + 20u, o5 * scale); }
  if part + 24u < QUADS { put(at, part + 24u, o6 * scale); }
  if part + 28u < QUADS { put(at, part + 28u, o7 * scale); }
}
