//! The contract of a [`Backend`]: every operation against a plain f64
//! reference, at sizes that straddle tiles. Library code, so that the same
//! cases run natively and in the browser.

use half::f16;

use crate::backend::{Activation, AttentionDims, Backend, Mask, WeightData};
use crate::quant::Quantization;
use crate::tensor::{After, Tensor, Weight, attention};
use crate::{Error, Result};

mod forced;
mod language;
mod pictures;
mod rows;

pub use forced::{attentions, large_weights, products};

/// What one case gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Operation and sizes.
    pub name: String,
    /// Largest difference from the reference, relative to its largest value
    /// (or to 1 where that is smaller).
    pub error: f64,
    /// Largest difference that is right.
    pub tolerance: f64,
}

impl Outcome {
    /// Whether the case is right. A number that is none is wrong.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Sizes beside the kernels' tiles of 16, 64 and 256.
const SIZES: &[usize] = &[1, 3, 16, 17, 50, 63, 64, 65, 77, 130, 257];
const FEW: &[usize] = &[1, 17, 64, 65];

/// Numbers that look random and are the same everywhere: −1 to 1.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32)
        .map(|i| {
            let mut x = i.wrapping_mul(0x9e37_79b1) ^ seed.wrapping_mul(0x85eb_ca6b);
            x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d);
            x = (x ^ (x >> 12)).wrapping_mul(0x297a_2d39);
            ((x ^ (x >> 15)) >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// `erf` to 1e-15: its series, and beyond 3 a continued fraction.
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (z + f));
        1.0 - (-z * z).exp() / ((z + fraction) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

fn activated(x: f64, activation: Option<Activation>) -> f64 {
    match activation {
        None => x,
        Some(Activation::Gelu) => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Some(Activation::GeluTanh) => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Some(Activation::QuickGelu) => x / (1.0 + (-1.702 * x).exp()),
        Some(Activation::Relu) => x.max(0.0),
        Some(Activation::Silu) => x / (1.0 + (-x).exp()),
        Some(Activation::SquaredRelu) => x.max(0.0).powi(2),
    }
}

struct Suite<'a, B: Backend> {
    backend: &'a B,
    sizes: &'a [usize],
    outcomes: Vec<Outcome>,
}

/// Runs every case; `thin` takes fewer sizes.
///
/// # Errors
/// Where an operation cannot be run at all.
pub async fn run<B: Backend>(backend: &B, thin: bool) -> Result<Vec<Outcome>> {
    let mut suite = Suite {
        backend,
        sizes: if thin { FEW } else { SIZES },
        outcomes: Vec::new(),
    };
    suite.dirty().await?;
    suite.linear().await?;
    suite.quantized().await?;
    suite.norms().await?;
    suite.pointwise().await?;
    suite.attention().await?;
    suite.conv2d().await?;
    suite.avg_pool().await?;
    suite.moves().await?;
    suite.language().await?;
    suite.rules().await?;
    suite.large().await?;
    Ok(suite.outcomes)
}

impl<B: Backend> Suite<'_, B> {
    fn tensor(&self, shape: &[usize], seed: u32) -> Result<(Tensor<B>, Vec<f64>)> {
        let data = numbers(shape.iter().product(), seed);
        Ok((Tensor::upload(self.backend, &data, shape)?, wide(&data)))
    }

    async fn check(
        &mut self,
        name: String,
        got: &Tensor<B>,
        want: &[f64],
        tolerance: f64,
    ) -> Result<()> {
        let got = got.read().await?;
        if got.len() != want.len() {
            return Err(Error::Shape {
                operation: "contract",
                expected: want.len().to_string(),
                found: got.len().to_string(),
            });
        }
        let scale = want.iter().fold(1.0f64, |top, x| top.max(x.abs()));
        let error = got.iter().zip(want).fold(0.0f64, |worst, (&got, want)| {
            let error = (f64::from(got) - want).abs() / scale;
            if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            }
        });
        self.outcomes.push(Outcome {
            name,
            error,
            tolerance,
        });
        Ok(())
    }

    /// Leaves buffers full of what is no number where a backend keeps them for
    /// later: whatever reads more than it wrote will show.
    async fn dirty(&mut self) -> Result<()> {
        for power in 0..20 {
            let nothing = vec![f32::NAN; 1 << power];
            let tensor = Tensor::upload(self.backend, &nothing, &[nothing.len()])?;
            tensor.activate(Activation::Relu)?.read().await?;
        }
        Ok(())
    }

    fn weight(&self, rows: usize, cols: usize, half: bool) -> Result<(Weight<B>, Vec<f64>)> {
        let data = numbers(rows * cols, 7);
        let (data, exact) = if half {
            let halves: Vec<f16> = data.into_iter().map(f16::from_f32).collect();
            let exact = halves.iter().map(|x| x.to_f64()).collect();
            (WeightData::F16(halves), exact)
        } else {
            let exact = wide(&data);
            (WeightData::F32(data), exact)
        };
        let inner = self.backend.weight("contract", data, rows, cols)?;
        Ok((Weight::new(inner, rows, cols), exact))
    }

    async fn linear(&mut self) -> Result<()> {
        let activations = [
            None,
            Some(Activation::Gelu),
            Some(Activation::QuickGelu),
            Some(Activation::Relu),
            Some(Activation::GeluTanh),
        ];
        for (i, &rows) in self.sizes.iter().enumerate() {
            // Every size meets others as columns and as inner length.
            let cols = self.sizes[(i * 3 + 1) % self.sizes.len()];
            let inner = self.sizes[(i * 5 + 2) % self.sizes.len()];
            for half in [false, true] {
                let (x, x64) = self.tensor(&[rows, inner], 1)?;
                let (w, w64) = self.weight(cols, inner, half)?;
                let (bias, b64) = self.tensor(&[cols], 3)?;
                let (residual, r64) = self.tensor(&[rows, cols], 4)?;
                let activation = activations[i % activations.len()];
                let full = i % 3 != 0;
                let after = After {
                    bias: full.then_some(&bias),
                    activation,
                    residual: full.then_some(&residual),
                    residual_first: half,
                    ..After::default()
                };
                let got = x.linear(&w, &after)?;
                let mut want = Vec::with_capacity(rows * cols);
                for r in 0..rows {
                    for c in 0..cols {
                        let row = &x64[r * inner..(r + 1) * inner];
                        let column = &w64[c * inner..(c + 1) * inner];
                        let dot: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                        let at = r * cols + c;
                        let (b, r) = if full { (b64[c], r64[at]) } else { (0.0, 0.0) };
                        want.push(if half {
                            activated(dot + b + r, activation)
                        } else {
                            activated(dot + b, activation) + r
                        });
                    }
                }
                let name = format!("linear {rows}×{inner}→{cols} half {half} {activation:?}");
                self.check(name, &got, &want, 2e-6).await?;
            }
        }
        Ok(())
    }

    /// `linear` and `embed` with weights in blocks, against the same weights
    /// taken out of their blocks.
    async fn quantized(&mut self) -> Result<()> {
        // Steps of 1/127 in the activations, against weights as large as they
        // are: what integer products cost.
        let tolerance = if self.backend.rounds_activations() {
            6e-3
        } else {
            2e-6
        };
        for kind in [Quantization::Q8_0, Quantization::Q4_0] {
            for (i, &inner) in [32, 64, 96, 256, 288].iter().enumerate() {
                for (j, &rows) in [1, 3, 17, 65].iter().enumerate() {
                    let out = [65, 16, 1, 130][(i + j) % 4];
                    let blocks = kind.quantize(&numbers(out * inner, 2));
                    let w64 = wide(&kind.dequantize(&blocks));
                    let data = WeightData::Quantized(kind, blocks);
                    let weight = self.backend.weight("contract", data, out, inner)?;
                    let w = Weight::new(weight, out, inner);

                    let (x, x64) = self.tensor(&[rows, inner], 1)?;
                    let (bias, b64) = self.tensor(&[out], 3)?;
                    let after = After {
                        bias: Some(&bias),
                        ..After::default()
                    };
                    let want: Vec<f64> = x64
                        .chunks(inner)
                        .flat_map(|x| {
                            let columns = w64.chunks(inner).zip(&b64);
                            columns.map(move |(w, b)| {
                                let dot: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                                dot + b
                            })
                        })
                        .collect();
                    let name = format!("linear {rows}×{inner}→{out} {kind:?}");
                    self.check(name, &x.linear(&w, &after)?, &want, tolerance)
                        .await?;

                    let ids: Vec<u32> = (0..rows as u32).map(|i| i * 7 % out as u32).collect();
                    let row = |&id: &u32| &w64[id as usize * inner..(id as usize + 1) * inner];
                    let want: Vec<f64> = ids.iter().flat_map(row).copied().collect();
                    let got = w.embed(self.backend, &ids)?;
                    let name = format!("embed {rows} of {out}×{inner} {kind:?}");
                    self.check(name, &got, &want, 0.0).await?;
                }
            }
        }
        Ok(())
    }

    async fn attention(&mut self) -> Result<()> {
        // Heads of 80 are those of ViT-H/14.
        let heads = [(1, 64), (2, 16), (3, 20), (4, 8), (1, 130), (2, 80)];
        for (i, &keys) in self.sizes.iter().enumerate() {
            let (heads, head_dim) = heads[i % heads.len()];
            let few = self.sizes[(i + 3) % self.sizes.len()].min(keys);
            // Everything sees everything; a prompt; a prompt that goes on.
            let cases = [
                (keys, Mask::None),
                (keys, Mask::Causal { offset: 0 }),
                (few, Mask::Causal { offset: keys - few }),
            ];
            for (queries, mask) in cases {
                let dims = AttentionDims {
                    batch: 2,
                    heads,
                    head_dim,
                    queries,
                    keys,
                    key_rows: keys,
                    mask,
                    alibi: None,
                };
                self.attention_case(dims).await?;
            }
        }
        Ok(())
    }

    async fn attention_case(&mut self, dims: AttentionDims) -> Result<()> {
        let AttentionDims {
            batch,
            heads,
            head_dim,
            queries,
            keys,
            mask,
            ..
        } = dims;
        let width = heads * head_dim;
        let (q, q64) = self.tensor(&[batch, queries, width], 1)?;
        let (kv, kv64) = self.tensor(&[batch, keys, 2 * width], 2)?;
        // Strong scores: a softmax without the maximum would overflow.
        let loud: Vec<f32> = q64.iter().map(|&x| x as f32 * 40.0).collect();
        let q = Tensor::upload(self.backend, &loud, q.shape())?;
        let q64 = wide(&loud);
        let got = attention(
            &q.band(0, width)?,
            &kv.band(0, width)?,
            &kv.band(width, width)?,
            heads,
            mask,
        )?;
        let mut want = vec![0.0; batch * queries * width];
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let seen = match mask {
                        Mask::Causal { offset } => keys.min(i + offset + 1),
                        // The other rules have cases of their own.
                        _ => keys,
                    };
                    let at = (b * queries + i) * width + h * head_dim;
                    let key = |j: usize| (b * keys + j) * 2 * width + h * head_dim;
                    let scores: Vec<f64> = (0..seen)
                        .map(|j| {
                            let pairs = (0..head_dim).map(|d| q64[at + d] * kv64[key(j) + d]);
                            pairs.sum::<f64>() / (head_dim as f64).sqrt()
                        })
                        .collect();
                    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let parts: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                    let sum: f64 = parts.iter().sum();
                    for d in 0..head_dim {
                        let mixed = (0..seen).map(|j| parts[j] * kv64[key(j) + width + d]);
                        want[at + d] = mixed.sum::<f64>() / sum;
                    }
                }
            }
        }
        let name = format!("attention {heads}×{head_dim}, {queries} of {keys}, {mask:?}");
        self.check(name, &got, &want, 3e-5).await
    }

    async fn moves(&mut self) -> Result<()> {
        for &rows in self.sizes {
            let (n, d) = (3, 7);
            let (a, a64) = self.tensor(&[n, rows, d], 1)?;
            let (class, c64) = self.tensor(&[1, d], 2)?;
            let got = Tensor::concat(&class, &a)?;
            let want: Vec<f64> = a64
                .chunks(rows * d)
                .flat_map(|item| [c64.as_slice(), item].concat())
                .collect();
            self.check(format!("concat 1 + {rows}"), &got, &want, 0.0)
                .await?;

            let (start, count) = (rows / 3, rows - rows / 3);
            let want: Vec<f64> = a64
                .chunks(rows * d)
                .flat_map(|item| item[start * d..].to_vec())
                .collect();
            self.check(
                format!("narrow {count} of {rows}"),
                &a.narrow(start, count)?,
                &want,
                0.0,
            )
            .await?;

            let ids: Vec<u32> = (0..rows as u32 + 2)
                .map(|i| (i * 5 + 1) % (n * rows) as u32)
                .collect();
            let row =
                |table: &[f64], id: u32| table[id as usize * d..(id as usize + 1) * d].to_vec();
            let want: Vec<f64> = ids.iter().flat_map(|&id| row(&a64, id)).collect();
            self.check(format!("gather of {rows}"), &a.gather(&ids)?, &want, 0.0)
                .await?;
            for half in [false, true] {
                let (table, t64) = self.weight(n * rows, d, half)?;
                let want: Vec<f64> = ids.iter().flat_map(|&id| row(&t64, id)).collect();
                let got = table.embed(self.backend, &ids)?;
                self.check(format!("embed of {rows} half {half}"), &got, &want, 0.0)
                    .await?;
            }
        }
        Ok(())
    }

    /// More workgroups than one axis holds, and a long chain that is read once.
    async fn large(&mut self) -> Result<()> {
        let n = 65_535 * 256 + 300;
        if self.sizes.len() == SIZES.len() {
            let data = numbers(n, 1);
            let x = Tensor::upload(self.backend, &data, &[n])?;
            let want: Vec<f64> = data.iter().map(|&x| f64::from(x).max(0.0)).collect();
            self.check(
                format!("activate {n}"),
                &x.activate(Activation::Relu)?,
                &want,
                0.0,
            )
            .await?;
        }
        let (one, o64) = self.tensor(&[40], 3)?;
        let (mut x, mut want) = self.tensor(&[5, 40], 4)?;
        for _ in 0..1500 {
            x = x.add(&one)?;
        }
        for (i, x) in want.iter_mut().enumerate() {
            *x += 1500.0 * o64[i % 40];
        }
        self.check("a chain of 1500".into(), &x, &want, 1e-4).await
    }
}
