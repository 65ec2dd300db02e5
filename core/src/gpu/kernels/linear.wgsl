// Tiles of 64 × 64 for products with many rows and columns.
//
// Each of 128 invocations makes 8 × 4 of a tile from slices of 16 along the
// inner axis. Half of them fetch x and half w, in blocks of 4 × 4 that are
// transposed in registers; a slice is fetched while the one before is used.
const TILE: u32 = 64u;
const SLICE: u32 = 16u;
// Vectors from one place of a slice to the next: one more than the tile has.
const PITCH: u32 = 17u;
const SIDE: u32 = 272u;
var<workgroup> sides: array<vec4<f32>, 544>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row_0 = (group.z * p.row_tiles + group.y) * TILE;
  let col_0 = first_col(group.x, TILE);
  let fetches_x = lane < 64u;
  let line = lane % 64u / 4u;
  let quad = lane % 4u * 4u;
  let home = select(SIDE, 0u, fetches_x) + quad * PITCH + line;
  let row_a = row_of(row_0 + line * 4u);
  let row_b = row_of(row_0 + line * 4u + 1u);
  let row_c = row_of(row_0 + line * 4u + 2u);
  let row_d = row_of(row_0 + line * 4u + 3u);
  let last = p.cols - 1u;
  let col = col_0 + line * 4u;
  let ty = lane / 16u * 2u;
  let tx = lane % 16u;
  var s0 = vec4<f32>(0.0);
  var s1 = vec4<f32>(0.0);
  var s2 = vec4<f32>(0.0);
  var s3 = vec4<f32>(0.0);
  var s4 = vec4<f32>(0.0);
  var s5 = vec4<f32>(0.0);
  var s6 = vec4<f32>(0.0);
  var s7 = vec4<f32>(0.0);

  var a: vec4<f32>;
  var b: vec4<f32>;
  var c: vec4<f32>;
  var d: vec4<f32>;
  // Once more than there are slices: the first round only fetches.
  for (var k_0 = 0u; k_0 < p.inner + SLICE; k_0 += SLICE) {
    if k_0 > 0u {
      sides[home] = vec4(a.x, b.x, c.x, d.x);
      sides[home + PITCH] = vec4(a.y, b.y, c.y, d.y);
      sides[home + 2u * PITCH] = vec4(a.z, b.z, c.z, d.z);
      sides[home + 3u * PITCH] = vec4(a.w, b.w, c.w, d.w);
    }
    workgroupBarrier();
    if k_0 < p.inner {
      if fetches_x {
        let place = place_of(k_0 + quad);
        a = x_quad(row_a, place);
        b = x_quad(row_b, place);
        c = x_quad(row_c, place);
        d = x_quad(row_d, place);
      } else {
        a = w_quad(min(col, last), k_0 + quad);
        b = w_quad(min(col + 1u, last), k_0 + quad);
        c = w_quad(min(col + 2u, last), k_0 + quad);
        d = w_quad(min(col + 3u, last), k_0 + quad);
      }
    }
    if k_0 > 0u {
      for (var k = 0u; k < SLICE; k++) {
        let u = sides[k * PITCH + ty];
        let v = sides[k * PITCH + ty + 1u];
        let t = sides[SIDE + k * PITCH + tx];
        s0 += u.x * t;
        s1 += u.y * t;
        s2 += u.z * t;
        s3 += u.w * t;
        s4 += v.x * t;
        s5 += v.y * t;
        s6 += v.z * t;
        s7 += v.w * t;
      }
    }
    workgroupBarrier();
  }

  let row = row_0 + ty * 4u;
  let out_col = col_0 + tx * 4u;
  finish(0u, row, out_col, s0);
  finish(0u, row + 1u, out_col, s1);
  finish(0u, row + 2u, out_col, s2);
  finish(0u, row + 3u, out_col, s3);
  finish(0u, row + 4u, out_col, s4);
  finish(0u, row + 5u, out_col, s5);
  finish(0u, row + 6u, out_col, s6);
  finish(0u, row + 7u, out_col, s7);
}
