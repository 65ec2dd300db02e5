// Adds up the parts of a split product, which x holds as [parts, rows, width]
// with the columns in whole vectors; `split` is their number.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let quads = (p.cols + 3u) / 4u;
  let row = id.x / quads;
  let quad = id.x % quads;
  if row >= p.rows {
    return;
  }
  col_end = p.cols;
  var sums = vec4<f32>(0.0);
  for (var part = 0u; part < p.split; part++) {
    sums += x[(part * p.rows + row) * quads + quad];
  }
  finish(0u, row, quad * 4u, sums);
}
