// What the attention kernels share: the numbers of q, turned where they are to
// be, of k and v, and who sees whom.
override VECTOR: u32 = 0u;
// Vectors of one head, the last one perhaps not full.
override QUADS: u32 = 1u;

const CAUSAL: u32 = 1u;
const CAUSAL_PADDED: u32 = 2u;
const MEDIA: u32 = 3u;
const MEDIA_ALL: u32 = 4u;
const BEAMS: u32 = 5u;
// The score of a key that is not seen.
const LOWEST: f32 = -3.0e38;

struct Parameters {
  heads: u32, head_dim: u32, queries: u32, keys: u32,
  scale: f32, mask: u32, offset: u32,
  q_start: u32, q_stride: u32, k_start: u32, k_stride: u32, v_start: u32, v_stride: u32,
  // Keys that one workgroup takes, and how many workgroups share a query.
  chunk: u32, parts: u32,
  // Rows from the first key of a sequence to that of the next.
  key_rows: u32,
  // Tokens of a picture, or beams.
  several: u32,
  // The largest bias of ALiBi, 0 for none, and the power of two that is not
  // less than the heads.
  alibi: f32, alibi_heads: u32,
  // Of queries that are turned.
  rotary_dims: u32, interleaved: u32, start: u32, step: u32,
}

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> rule: array<u32>;
@group(0) @binding(5) var<storage, read> table: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// How many keys from the first on a query may see at most.
fn reach(query: u32) -> u32 {
  if p.mask == CAUSAL || p.mask == CAUSAL_PADDED {
    return min(p.keys, query + p.offset + 1u);
  }
  return p.keys;
}

// Whether a query sees a key that is within its reach.
fn sees(query: u32, key: u32, sequence: u32) -> bool {
  switch p.mask {
    case CAUSAL_PADDED: { return key >= rule[sequence]; }
    case MEDIA, MEDIA_ALL: {
      let image = rule[sequence * p.queries + query];
      let first = select(max(image, 1u) - 1u, 0u, p.mask == MEDIA_ALL);
      return key >= first * p.several && key < image * p.several;
    }
    case BEAMS: {
      if key < p.offset {
        return true;
      }
      let steps = (p.keys - p.offset + p.several - 1u) / p.several;
      let step = (key - p.offset) / p.several;
      return rule[query * steps + step] == (key - p.offset) % p.several;
    }
    default: { return true; }
  }
}

// Where a key stands in its text.
fn place(key: u32) -> u32 {
  if p.mask == BEAMS && key >= p.offset {
    return p.offset + (key - p.offset) / p.several;
  }
  return key;
}

// See `alibi_slope`.
fn alibi(query: u32, key: u32, head: u32) -> f32 {
  if p.alibi == 0.0 {
    return 0.0;
  }
  let half = p.alibi_heads / 2u;
  var rank = head + 1u;
  if p.alibi_heads != p.heads {
    rank = select(2u * (head - half) + 1u, 2u * head + 2u, head < half);
  }
  let slope = exp2(-p.alibi * f32(rank) / f32(p.alibi_heads));
  var own = place(p.keys - 1u);
  if p.mask == CAUSAL || p.mask == CAUSAL_PADDED {
    own = query + p.offset;
  }
  return slope * (f32(place(key)) - f32(own));
}

// The score of a key for a query, by the mask's rule.
fn ruled(score: f32, query: u32, key: u32, sequence: u32, head: u32) -> f32 {
  if key >= reach(query) || !sees(query, key, sequence) {
    return LOWEST;
  }
  return score + alibi(query, key, head);
}

// e^(score − top); what is not seen has no part.
fn share_of(score: f32, top: f32) -> f32 {
  return select(exp(score - top), 0.0, score == LOWEST);
}

// What is left of sums that were made with another top.
fn shrunk(old_top: f32, top: f32) -> f32 {
  return exp(max(old_top - top, -80.0));
}

// A number of a query: column `own` of its head.
fn q_number(at: u32, own: u32, query: u32) -> f32 {
  let number = q[at / 4u][at % 4u];
  if own >= p.rotary_dims {
    return number;
  }
  let a = angle(own, p.start + query * p.step);
  let partner = u32(i32(at) + a.partner);
  return number * a.cosine + q[partner / 4u][partner % 4u] * a.sine;
}

// Four numbers of a head; 0 where it has ended.
fn q_quad(query: u32, sequence: u32, head: u32, quad: u32) -> vec4<f32> {
  let own = quad * 4u;
  let at = (sequence * p.queries + query) * p.q_stride + p.q_start + head * p.head_dim + own;
  if VECTOR == 1u && p.rotary_dims == 0u {
    return q[at / 4u];
  }
  var four = vec4<f32>(0.0);
  let left = p.head_dim - own;
  four.x = q_number(at, own, query);
  if left > 1u { four.y = q_number(at + 1u, own + 1u, query); }
  if left > 2u { four.z = q_number(at + 2u, own + 2u, query); }
  if left > 3u { four.w = q_number(at + 3u, own + 3u, query); }
  return four;
}

fn k_quad(key: u32, sequence: u32, head: u32, quad: u32) -> vec4<f32> {
  let at = (sequence * p.key_rows + key) * p.k_stride + p.k_start + head * p.head_dim + quad * 4u;
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
  let at = (sequence * p.key_rows + key) * p.v_stride + p.v_start + head * p.head_dim + quad * 4u;
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
