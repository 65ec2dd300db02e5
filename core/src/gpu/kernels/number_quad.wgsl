// A row is read four numbers at a time.
alias Number = vec4<f32>;
const EACH: f32 = 4.0;
fn total_of(x: Number) -> f32 { return x.x + x.y + x.z + x.w; }
