//! Point-wise functions written so that the compiler vectorises them.

use crate::backend::Activation;

/// `e^x`, relative error below 2e-7. Below −87 it is 0 for every purpose.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that n · ln 2 is exact to the last bit of x.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    // Minimax on ±ln 2 / 2 (Cephes expf).
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    let power = t.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

/// The Gaussian distribution function `Φ(x)`, error below 1e-7: Abramowitz and
/// Stegun 7.1.26 for the error function. Returns `e^(−x²/2)` beside it.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4 * t - 1.453_152_1;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let density = exp(-z * z);
    let tail = 0.5 * p * t * density;
    (if x < 0.0 { tail } else { 1.0 - tail }, density)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// A point-wise function and its derivative.
pub(super) trait Pointwise {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

pub(super) struct Identity;
impl Pointwise for Identity {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn slope(_: f32) -> f32 {
        1.0
    }
}

struct Gelu;
impl Pointwise for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x).0
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        const INV_SQRT_TAU: f32 = 0.398_942_3;
        let (cdf, density) = normal(x);
        cdf + x * density * INV_SQRT_TAU
    }
}

/// Hendrycks and Gimpel 2016: `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`,
/// which is `x · sigmoid(2 √(2/π) (x + 0.044715 x³))`.
struct GeluTanh;
impl GeluTanh {
    const SCALE: f32 = 2.0 * 0.797_884_6;
    const CUBE: f32 = 0.044_715;

    #[inline(always)]
    fn gate(x: f32) -> f32 {
        sigmoid(Self::SCALE * (x + Self::CUBE * x * x * x))
    }
}
impl Pointwise for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * Self::gate(x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = Self::gate(x);
        let inner = Self::SCALE * (1.0 + 3.0 * Self::CUBE * x * x);
        s + x * s * (1.0 - s) * inner
    }
}

struct QuickGelu;
impl Pointwise for QuickGelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(1.702 * x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(1.702 * x);
        s + 1.702 * x * s * (1.0 - s)
    }
}

struct Relu;
impl Pointwise for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x.max(0.0)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

struct Silu;
impl Pointwise for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(x);
        s + x * s * (1.0 - s)
    }
}

struct SquaredRelu;
impl Pointwise for SquaredRelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        let x = x.max(0.0);
        x * x
    }
    #[inline(always)]
    fn slope(x: f32) -> f32 {
        2.0 * x.max(0.0)
    }
}

/// Rows of `x` plus `bias`, through the function, into `out`.
fn value_rows<P: Pointwise>(x: &[f32], bias: Option<&[f32]>, out: &mut Vec<f32>) {
    match bias {
        None => out.extend(x.iter().map(|&x| P::value(x))),
        Some(bias) => {
            for row in x.chunks_exact(bias.len()) {
                out.extend(row.iter().zip(bias).map(|(&x, &b)| P::value(x + b)));
            }
        }
    }
}

/// `grad · slope(x + bias)` into `out`.
fn slope_rows<P: Pointwise>(x: &[f32], bias: Option<&[f32]>, grad: &[f32], out: &mut Vec<f32>) {
    match bias {
        None => out.extend(x.iter().zip(grad).map(|(&x, &g)| g * P::slope(x))),
        Some(bias) => {
            let rows = x
                .chunks_exact(bias.len())
                .zip(grad.chunks_exact(bias.len()));
            for (x, g) in rows {
                let row = x.iter().zip(bias).zip(g);
                out.extend(row.map(|((&x, &b), &g)| g * P::slope(x + b)));
            }
        }
    }
}

/// `act(x + bias)`, `bias` repeating.
pub(super) fn value(activation: Option<Activation>, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    match activation {
        None => value_rows::<Identity>(x, bias, &mut out),
        Some(Activation::Gelu) => value_rows::<Gelu>(x, bias, &mut out),
        Some(Activation::GeluTanh) => value_rows::<GeluTanh>(x, bias, &mut out),
        Some(Activation::QuickGelu) => value_rows::<QuickGelu>(x, bias, &mut out),
        Some(Activation::Relu) => value_rows::<Relu>(x, bias, &mut out),
        Some(Activation::Silu) => value_rows::<Silu>(x, bias, &mut out),
        Some(Activation::SquaredRelu) => value_rows::<SquaredRelu>(x, bias, &mut out),
    }
    out
}

/// `grad · act'(x + bias)`.
pub(super) fn slope(
    activation: Activation,
    x: &[f32],
    bias: Option<&[f32]>,
    grad: &[f32],
) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    match activation {
        Activation::Gelu => slope_rows::<Gelu>(x, bias, grad, &mut out),
        Activation::GeluTanh => slope_rows::<GeluTanh>(x, bias, grad, &mut out),
        Activation::QuickGelu => slope_rows::<QuickGelu>(x, bias, grad, &mut out),
        Activation::Relu => slope_rows::<Relu>(x, bias, grad, &mut out),
        Activation::Silu => slope_rows::<Silu>(x, bias, grad, &mut out),
        Activation::SquaredRelu => slope_rows::<SquaredRelu>(x, bias, grad, &mut out),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_is_close_to_the_library_everywhere() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(relative < 2e-7, "exp({x}) is off by {relative:e}");
        }
    }
}
