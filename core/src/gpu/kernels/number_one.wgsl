// A row whose length four does not divide is read one number at a time.
alias Number = f32;
const EACH: f32 = 1.0;
fn total_of(x: Number) -> f32 { return x; }
