// Tiles of 32 × 32 where tiles of 64 would be too few to fill a GPU; along the
// inner axis a product may be split into parts that `linear_sum` adds up.
//
// Each of 64 invocations makes 4 × 4 of a tile from slices of 32 along the
// inner axis, and fetches 4 × 4 of x and of w for the next.
const TILE: u32 = 32u;
const SLICE: u32 = 32u;
const PITCH: u32 = 9u;
const SIDE: u32 = 288u;
var<workgroup> sides: array<vec4<f32>, 576>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let part = select(0u, group.z, SPLIT == 1u);
  let fold = select(group.z, 0u, SPLIT == 1u);
  let row_0 = (fold * p.row_tiles + group.y) * TILE;
  let col_0 = first_col(group.x, TILE);
  let line = lane / 8u;
  let quad = lane % 8u * 4u;
  let home = quad * PITCH + line;
  let row_a = row_of(row_0 + line * 4u);
  let row_b = row_of(row_0 + line * 4u + 1u);
  let row_c = row_of(row_0 + line * 4u + 2u);
  let row_d = row_of(row_0 + line * 4u + 3u);
  let last = p.cols - 1u;
  let col = col_0 + line * 4u;
  let ty = lane / 8u;
  let tx = lane % 8u;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);

  let start = part * p.split;
  let end = min(start + p.split, p.inner);
  var a: vec4<f32>;
  var b: vec4<f32>;
  var c: vec4<f32>;
  var d: vec4<f32>;
  var e: vec4<f32>;
  var f: vec4<f32>;
  var g: vec4<f32>;
  var h: vec4<f32>;
  // Once more than there are slices: the first round only fetches.
  for (var k_0 = start; k_0 < end + SLICE; k_0 += SLICE) {
    if k_0 > start {
      sides[home] = vec4(a.x, b.x, c.x, d.x);
      sides[home + PITCH] = vec4(a.y, b.y, c.y, d.y);
      sides[home + 2u * PITCH] = vec4(a.z, b.z, c.z, d.z);
      sides[home + 3u * PITCH] = vec4(a.w, b.w, c.w, d.w);
      sides[SIDE + home] = vec4(e.x, f.x, g.x, h.x);
      sides[SIDE + home + PITCH] = vec4(e.y, f.y, g.y, h.y);
      sides[SIDE + home + 2u * PITCH] = vec4(e.z, f.z, g.z, h.z);
      sides[SIDE + home + 3u * PITCH] = vec4(e.w, f.w, g.w, h.w);
    }
    workgroupBarrier();
    if k_0 < end {
      let place = place_of(k_0 + quad);
      a = x_quad(row_a, place);
      b = x_quad(row_b, place);
      c = x_quad(row_c, place);
      d = x_quad(row_d, place);
      e = w_quad(min(col, last), k_0 + quad);
      f = w_quad(min(col + 1u, last), k_0 + quad);
      g = w_quad(min(col + 2u, last), k_0 + quad);
      h = w_quad(min(col + 3u, last), k_0 + quad);
    }
    if k_0 > start {
      for (var k = 0u; k < SLICE; k++) {
        let u = sides[k * PITCH + ty];
        let t = sides[SIDE + k * PITCH + tx];
        s0 += u.x * t;
        s1 += u.y * t;
        s2 += u.z * t;
        s3 += u.w * t;
      }
    }
    workgroupBarrier();
  }

  let row = row_0 + ty * 4u;
  let out_col = col_0 + tx * 4u;
  finish(part, row, out_col, s0);
  finish(part, row + 1u, out_col, s1);
  finish(part, row + 2u, out_col, s2);
  finish(part, row + 3u, out_col, s3);
}
