// The end of a matrix kernel for any number of columns.
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;

fn finish_one(row: u32, col: u32, sum: f32) {
  if row >= p.rows || col >= col_end {
    return;
  }
  let at = row * p.width + p.first + col;
  var value = sum;
  if p.bias == 1u { value += bias[p.first + col]; }
  if p.residual == 1u { value += residual[at]; }
  value = activate(value, p.activation);
  if p.gate > 0u {
    let place = select(0u, p.first + col, p.gate == 2u);
    value *= tanh(gains[place / 4u][place % 4u]);
  }
  if p.residual == 2u { value += residual[at]; }
  out[at] = value;
}

// Columns col .. col + 4 of a row. Parts are always stored as vectors.
fn finish(part: u32, row: u32, col: u32, sums: vec4<f32>) {
  finish_one(row, col, sums.x);
  finish_one(row, col + 1u, sums.y);
  finish_one(row, col + 2u, sums.z);
  finish_one(row, col + 3u, sums.w);
}
