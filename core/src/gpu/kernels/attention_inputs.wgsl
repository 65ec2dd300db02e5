// What the attention kernels share: the numbers of q, k and v, and who sees
// whom.
override VECTOR: u32 = 0u;
// Vectors of one head, the last one perhaps not full.
override QUADS: u32 = 1u;

const CAUSAL: u32 = 1u;
// The score of a key that is not seen.
const LOWEST: f32 = -3.0e38;

struct Parameters {
  heads: u32, head_dim: u32, queries: u32, keys: u32,
  scale: f32, mask: u32, offset: u32,
  q_start: u32, q_stride: u32, k_start: u32, k_stride: u32, v_start: u32, v_stride: u32,
  // Keys that one workgroup takes, and how many workgroups share a query.
  chunk: u32, parts: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// How many keys from the first on a query may see at most.
fn reach(query: u32) -> u32 {
  if p.mask == CAUSAL {
    return min(p.keys, query + p.offset + 1u);
  }
  return p.keys;
}

// The score of a key for a query, by the mask's rule.
fn ruled(score: f32, query: u32, key: u32) -> f32 {
  return select(LOWEST, score, key < reach(query));
}

// e^(score − top); what is not seen has no part.
fn share_of(score: f32, top: f32) -> f32 {
  return select(exp(score - top), 0.0, score == LOWEST);
}

// What is left of sums that were made with another top.
fn shrunk(old_top: f32, top: f32) -> f32 {
  return exp(max(old_top - top, -80.0));
}

// Four numbers of a head; 0 where it has ended.
fn q_quad(query: u32, sequence: u32, head: u32, quad: u32) -> vec4<f32> {
  let at = (sequence * p.queries + query) * p.q_stride + p.q_start + head * p.head_dim + quad * 4u;
  if VECTOR == 1u {
    return q[at / 4u];
  }
  var four = vec4<f32>(0.0);
  let left = p.head_dim - quad * 4u;
  four.x = q[at / 4u][at % 4u];
  if left > 1u { four.y = q[(at + 1u) / 4u][(at + 1u) % 4u]; }
  if left > 2u { four.z = q[(at + 2u) / 4u][(at + 2u) % 4u]; }
  if left > 3u { four.w = q[(at + 3u) / 4u][(at + 3u) % 4u]; }
  return four;
}

fn k_quad(key: u32, sequence: u32, head: u32, quad: u32) -> vec4<f32> {
  let at = (sequence * p.keys + key) * p.k_stride + p.k_start + head * p.head_dim + quad * 4u;
  if VECTOR == 1u {
    return k[at / 4u];
  }
  var four = vec4<f32>(0.0);
  let left = p.head_dim - quad * 4u;
  four.x = k[at / 4u][at % 4u];
  if left > 1u { four.y = k[(at + 1u) / 4u][(at + 1u) % 4u]; }
  if left > 2u { four.z = k[(at + 2u) / 4u][(at + 2u) % 4u]; }
  if left > 3u { four.w = k[(at + 3u) / 4u][(at + 3u) % 4u]; }
  return four;
}

fn v_quad(key: u32, sequence: u32, head: u32, quad: u32) -> vec4<f32> {
  let at = (sequence * p.keys + key) * p.v_stride + p.v_start + head * p.head_dim + quad * 4u;
  if VECTOR == 1u {
    return v[at / 4u];
  }
  var four = vec4<f32>(0.0);
  let left = p.head_dim - quad * 4u;
  four.x = v[at / 4u][at % 4u];
  if left > 1u { four.y = v[(at + 1u) / 4u][(at + 1u) % 4u]; }
  if left > 2u { four.z = v[(at + 2u) / 4u][(at + 2u) % 4u]; }
  if left > 3u { four.w = v[(at + 3u) / 4u][(at + 3u) % 4u]; }
  return four;
}

// Stores four numbers of a head, as far as it goes.
fn put(at: u32, quad: u32, four: vec4<f32>) {
  let left = p.head_dim - quad * 4u;
  let first = at + quad * 4u;
  out[first] = four.x;
  if left > 1u { out[first + 1u] = four.y; }
  if left > 2u { out[first + 2u] = four.z; }
  if left > 3u { out[first + 3u] = four.w; }
}
