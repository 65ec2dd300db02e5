//! Gradients against finite differences, of every operation and block that
//! training goes through.
//!
//! The loss is a fixed random combination of the outputs, summed in f64. Along
//! a direction of random signs its derivative comes from four points (the error
//! is of the fourth order in the step), which leaves little but the rounding of
//! f32. Signs make every element of an input count alike, so that one that is
//! wrong shows.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod models;
mod operations;

use candle_core::{Device, Tensor as Array, Var};
use rand::Rng;
use rand::rngs::SmallRng;

/// Largest difference between the two derivatives, as a part of the gradient's
/// length.
const TOLERANCE: f64 = 2e-3;
/// Directions tried for each input.
const DIRECTIONS: usize = 3;

/// A tensor of −1 to 1, away from zero, where `Relu` has its corner.
fn numbers(shape: &[usize], rng: &mut SmallRng) -> Array {
    let len = shape.iter().product::<usize>();
    let numbers: Vec<f32> = (0..len)
        .map(|_| rng.random_range(0.4f32..1.0) * if rng.random() { 1.0 } else { -1.0 })
        .collect();
    Array::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

fn wide(x: &Array) -> Vec<f64> {
    let numbers: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    numbers.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Holds the gradient of `loss` at `var` against finite differences with this
/// step; the difference may be `TOLERANCE` of the gradient's length, or of
/// `least` where that is more.
fn agree(
    name: &str,
    var: &Var,
    gradient: &Array,
    (step, least): (f64, f64),
    rng: &mut SmallRng,
    loss: impl Fn() -> f64,
) {
    assert_eq!(gradient.dims(), var.dims(), "{name}");
    let gradient = wide(gradient);
    let here = var.as_tensor().copy().unwrap();
    let length = dot(&gradient, &gradient).sqrt().max(least);
    for _ in 0..DIRECTIONS {
        let signs: Vec<f32> = (0..gradient.len())
            .map(|_| if rng.random() { 1.0 } else { -1.0 })
            .collect();
        let direction = Array::from_slice(&signs, var.dims(), &Device::Cpu).unwrap();
        let at = |steps: f64| {
            let moved = (&here + (&direction * (steps * step)).unwrap()).unwrap();
            var.set(&moved).unwrap();
            loss()
        };
        let (near, far) = (at(1.0) - at(-1.0), at(2.0) - at(-2.0));
        var.set(&here).unwrap();
        let found = (8.0 * near - far) / (12.0 * step);
        let signs: Vec<f64> = signs.into_iter().map(f64::from).collect();
        let claimed = dot(&gradient, &signs);
        assert!(
            (found - claimed).abs() <= TOLERANCE * length,
            "{name}: the derivative is {found}, the gradient says {claimed} (its length is {length})"
        );
    }
}
