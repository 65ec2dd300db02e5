//! The operations over pictures.

use super::Suite;
use crate::Result;
use crate::backend::{Activation, Backend};
use crate::tensor::{After, Window};

impl<B: Backend> Suite<'_, B> {
    pub(super) async fn conv2d(&mut self) -> Result<()> {
        let cases = [
            // Patches, a convolution, a convolution with stride, an odd picture.
            (2, 32, 32, 3, 8, 8, 0),
            (2, 28, 28, 3, 14, 14, 0),
            (2, 9, 9, 5, 3, 1, 1),
            (1, 16, 16, 4, 3, 2, 1),
            (3, 7, 11, 2, 3, 2, 1),
            (1, 4, 4, 1, 4, 4, 0),
        ];
        for (n, height, width, channels, kernel, stride, padding) in cases {
            let (x, x64) = self.tensor(&[n, height, width, channels], 1)?;
            let out = 9;
            let (weight, w64) = self.weight(out, kernel * kernel * channels, false)?;
            let (bias, b64) = self.tensor(&[out], 3)?;
            let after = After {
                bias: Some(&bias),
                activation: Some(Activation::Relu),
                ..After::default()
            };
            let got = x.conv2d(&weight, Window::new(kernel, stride, padding), &after)?;
            let (oh, ow) = (got.shape()[1], got.shape()[2]);
            let mut want = Vec::with_capacity(n * oh * ow * out);
            for (b, oy, ox) in (0..n * oh * ow).map(|i| (i / (oh * ow), i / ow % oh, i % ow)) {
                let pixel = |i: usize| {
                    let (c, kx, ky) = (i % channels, i / channels % kernel, i / channels / kernel);
                    let (y, x) = (oy * stride + ky, ox * stride + kx);
                    let inside = (padding..height + padding).contains(&y)
                        && (padding..width + padding).contains(&x);
                    let at = || ((b * height + y - padding) * width + x - padding) * channels + c;
                    if inside { x64[at()] } else { 0.0 }
                };
                let filters = w64.chunks(kernel * kernel * channels).zip(&b64);
                want.extend(filters.map(|(w, b)| {
                    let dot: f64 = w.iter().enumerate().map(|(i, w)| pixel(i) * w).sum();
                    (dot + b).max(0.0)
                }));
            }
            let name = format!(
                "conv2d {n}×{height}×{width}×{channels} by {kernel} step {stride} pad {padding}"
            );
            self.check(name, &got, &want, 2e-6).await?;
        }
        Ok(())
    }

    pub(super) async fn avg_pool(&mut self) -> Result<()> {
        for (n, height, width, channels, kernel) in [
            (2, 8, 8, 5, 2),
            (1, 7, 9, 3, 2),
            (3, 9, 9, 1, 3),
            (2, 4, 4, 65, 4),
            (1, 5, 5, 2, 1),
        ] {
            let (x, x64) = self.tensor(&[n, height, width, channels], 1)?;
            let got = x.avg_pool(kernel)?;
            let (oh, ow) = (height / kernel, width / kernel);
            let mut want = vec![0.0; n * oh * ow * channels];
            for (i, want) in want.iter_mut().enumerate() {
                let (c, ox, oy) = (i % channels, i / channels % ow, i / channels / ow % oh);
                let b = i / (channels * ow * oh);
                for (ky, kx) in (0..kernel * kernel).map(|k| (k / kernel, k % kernel)) {
                    let (y, x) = (oy * kernel + ky, ox * kernel + kx);
                    *want += x64[((b * height + y) * width + x) * channels + c];
                }
                *want /= (kernel * kernel) as f64;
            }
            let name = format!("avg_pool {n}×{height}×{width}×{channels} by {kernel}");
            self.check(name, &got, &want, 1e-6).await?;
        }
        Ok(())
    }
}
