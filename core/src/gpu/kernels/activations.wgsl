const NONE: u32 = 0u;
const GELU: u32 = 1u;
const QUICK_GELU: u32 = 2u;
const RELU: u32 = 3u;
const GELU_TANH: u32 = 4u;
const SILU: u32 = 5u;
const SQUARED_RELU: u32 = 6u;

// x · Φ(x); the error function by Abramowitz and Stegun 7.1.26, error < 1.5e-7.
fn gelu(x: f32) -> f32 {
  let z = abs(x) * 0.70710678;
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let p = ((((1.0614054 * t - 1.4531521) * t + 1.4214138) * t - 0.28449672) * t + 0.2548296) * t;
  let tail = 0.5 * p * exp(-z * z);
  return x * select(1.0 - tail, tail, x < 0.0);
}

fn activate(x: f32, activation: u32) -> f32 {
  switch activation {
    case GELU: { return gelu(x); }
    // Far below zero the exponential would overflow; the product is 0 there.
    case QUICK_GELU: { return x / (1.0 + exp(min(-1.702 * x, 80.0))); }
    // x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), written with a sigmoid.
    case GELU_TANH: {
      let inner = 1.5957691 * (x + 0.044715 * x * x * x);
      return x / (1.0 + exp(min(-inner, 80.0)));
    }
    case RELU: { return max(x, 0.0); }
    case SILU: { return x / (1.0 + exp(min(-x, 80.0))); }
    case SQUARED_RELU: { return max(x, 0.0) * max(x, 0.0); }
    default: { return x; }
  }
}
