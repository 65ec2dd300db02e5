//! The operations on every row or number by itself.

use super::{Suite, activated, numbers, wide};
use crate::Result;
use crate::backend::{Activation, Backend};
use crate::tensor::Tensor;

impl<B: Backend> Suite<'_, B> {
    pub(super) async fn norms(&mut self) -> Result<()> {
        for (i, &cols) in self.sizes.iter().enumerate() {
            let rows = self.sizes[(i + 2) % self.sizes.len()];
            let (weight, w64) = self.tensor(&[cols], 2)?;
            let (bias, b64) = self.tensor(&[cols], 3)?;
            // Far from zero, where a one-pass variance would lose everything;
            // and the same number everywhere, where variance is 0.
            for (kind, offset, spread) in [
                ("plain", 0.0, 1.0),
                ("offset", 100.0, 1.0),
                ("equal", 3.0, 0.0),
            ] {
                let data: Vec<f32> = numbers(rows * cols, 1)
                    .iter()
                    .map(|x| x * spread + offset)
                    .collect();
                let x = Tensor::upload(self.backend, &data, &[rows, cols])?;
                let want = wide(&data)
                    .chunks(cols)
                    .flat_map(|row| {
                        let n = cols as f64;
                        let mean = row.iter().sum::<f64>() / n;
                        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                        let scale = (variance + f64::from(1e-5f32)).sqrt().recip();
                        let all = row.iter().zip(&w64).zip(&b64);
                        all.map(|((x, w), b)| (x - mean) * scale * w + b)
                            .collect::<Vec<_>>()
                    })
                    .collect::<Vec<_>>();
                // The mean of numbers near 100 is known to 1e-5 in f32.
                let tolerance = if kind == "offset" { 1e-4 } else { 2e-6 };
                let got = x.layer_norm(&weight, &bias, 1e-5)?;
                self.check(
                    format!("layer_norm {rows}×{cols} {kind}"),
                    &got,
                    &want,
                    tolerance,
                )
                .await?;
            }
            let mut data = numbers(rows * cols, 5);
            data[..cols].fill(0.0);
            let x = Tensor::upload(self.backend, &data, &[rows, cols])?;
            let want: Vec<f64> = wide(&data)
                .chunks(cols)
                .flat_map(|row| {
                    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let scale = if length > 0.0 { length.recip() } else { 0.0 };
                    row.iter().map(|x| x * scale).collect::<Vec<_>>()
                })
                .collect();
            let got = x.l2_normalize()?;
            self.check(format!("l2_normalize {rows}×{cols}"), &got, &want, 1e-6)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn pointwise(&mut self) -> Result<()> {
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Relu,
            Activation::Silu,
            Activation::SquaredRelu,
        ] {
            // −200 to 200, dense near 0: extremes must not overflow.
            let data: Vec<f32> = (-2000..=2000i32)
                .map(|i| (i as f32 / 2000.0).powi(3) * 200.0)
                .collect();
            let x = Tensor::upload(self.backend, &data, &[data.len()])?;
            let want: Vec<f64> = data
                .iter()
                .map(|&x| activated(f64::from(x), Some(activation)))
                .collect();
            let got = x.activate(activation)?;
            self.check(format!("activate {activation:?}"), &got, &want, 1e-6)
                .await?;
        }
        for &rows in self.sizes {
            let (n, cols) = (2, 5);
            let (x, x64) = self.tensor(&[n, rows, 1, cols], 1)?;
            let (residual, r64) = self.tensor(&[n, rows, 1, cols], 2)?;
            // −200 to 200: extremes must not overflow.
            let data: Vec<f32> = numbers(n * cols, 3)
                .iter()
                .map(|x| x.powi(3) * 200.0)
                .collect();
            let gate = Tensor::upload(self.backend, &data, &[n, cols])?;
            let want: Vec<f64> = x64
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    let gate = f64::from(data[i / (rows * cols) * cols + i % cols]);
                    r64[i] + 0.7 / (1.0 + (-gate).exp()) * x
                })
                .collect();
            let got = x.excite(&gate, &residual, 0.7)?;
            self.check(format!("excite 2×{rows}×5"), &got, &want, 1e-6)
                .await?;
        }
        for &n in self.sizes {
            let (x, x64) = self.tensor(&[3, n, 5], 1)?;
            let (y, y64) = self.tensor(&[n, 5], 2)?;
            let want: Vec<f64> = x64
                .iter()
                .enumerate()
                .map(|(i, x)| x + y64[i % (n * 5)])
                .collect();
            self.check(format!("add 3×{n}×5"), &x.add(&y)?, &want, 1e-7)
                .await?;
        }
        Ok(())
    }
}
