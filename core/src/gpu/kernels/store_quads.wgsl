// The end of a matrix kernel, where four divides the columns.
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> out: array<vec4<f32>>;

// Columns col .. col + 4 of a row. Parts of a split product lie one after the
// other.
fn finish(part: u32, row: u32, col: u32, sums: vec4<f32>) {
  if row >= p.rows || col >= col_end {
    return;
  }
  let at = ((part * p.rows + row) * p.width + p.first + col) / 4u;
  var value = sums;
  if p.bias == 1u { value += bias[(p.first + col) / 4u]; }
  if p.residual == 1u { value += residual[at]; }
  if p.activation != NONE {
    value = vec4(
      activate(value.x, p.activation),
      activate(value.y, p.activation),
      activate(value.z, p.activation),
      activate(value.w, p.activation),
    );
  }
  if p.gate == 1u { value *= tanh(gains[0].x); }
  if p.gate == 2u { value *= tanh(gains[(p.first + col) / 4u]); }
  if p.residual == 2u { value += residual[at]; }
  out[at] = value;
}
