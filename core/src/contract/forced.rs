//! Cases for backends that have several ways to compute the same: run once for
//! each way. Sizes straddle tiles of 4, 16, 32 and 64; results of earlier cases
//! and what is no number lie in the buffers that results are written to.

use half::f16;

use super::{Outcome, Suite, activated, numbers, wide};
use crate::Result;
use crate::backend::{Activation, AttentionDims, Backend, Mask, Padding, WeightData};
use crate::quant::Quantization;
use crate::tensor::{self, After, NormOf, Tensor, Weight};

const SIZES: &[usize] = &[1, 3, 4, 5, 31, 32, 33, 50, 63, 64, 65, 77, 130, 197, 257];
const FEW: &[usize] = &[1, 4, 33, 65];
/// Inner lengths that vectors divide, beside the others.
const WHOLE: &[usize] = &[4, 32, 36, 64, 96, 132, 260, 320];
/// Inner lengths of quantised weights.
const BLOCKS: &[usize] = &[32, 64, 96, 160, 288, 320];

/// How the weights of a case are stored.
#[derive(Clone, Copy, Debug)]
enum Stored {
    F32,
    F16,
    Blocks(Quantization),
}

const STORED: [Stored; 4] = [
    Stored::F32,
    Stored::F16,
    Stored::Blocks(Quantization::Q8_0),
    Stored::Blocks(Quantization::Q4_0),
];

const ACTIVATIONS: [Option<Activation>; 4] = [
    None,
    Some(Activation::Gelu),
    Some(Activation::QuickGelu),
    Some(Activation::Relu),
];

/// A convolution over `[n, height, width, channels]`.
struct Window {
    n: usize,
    height: usize,
    width: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
    out: usize,
    groups: usize,
}

const fn window(
    [n, height, width, channels]: [usize; 4],
    [kernel, stride, padding]: [usize; 3],
    out: usize,
) -> Window {
    Window {
        n,
        height,
        width,
        channels,
        kernel,
        stride,
        padding: Padding::Every(padding),
        out,
        groups: 1,
    }
}

/// As NFNets have them.
const fn grouped(size: [usize; 4], stride: usize, out: usize, groups: usize) -> Window {
    Window {
        padding: Padding::Same,
        groups,
        ..window(size, [3, stride, 0], out)
    }
}

/// The stem of a ResNet, its 3 × 3 and 1 × 1, with steps; patches of 8 and 14;
/// odd pictures.
const WINDOWS: &[Window] = &[
    window([1, 15, 14, 3], [3, 2, 1], 32),
    window([2, 9, 8, 32], [3, 1, 1], 36),
    window([1, 8, 8, 64], [1, 1, 0], 65),
    window([1, 9, 9, 32], [1, 2, 0], 12),
    window([2, 16, 24, 3], [8, 8, 0], 20),
    window([1, 28, 28, 3], [14, 14, 0], 9),
    window([3, 7, 11, 2], [3, 2, 1], 5),
    window([1, 5, 6, 4], [5, 1, 2], 33),
    // Zeros on one side more than on the other; columns of a group that fill
    // tiles and vectors, and that do not.
    grouped([1, 16, 12, 3], 2, 16, 1),
    grouped([1, 7, 9, 256], 1, 256, 2),
    grouped([2, 10, 8, 64], 2, 40, 2),
    grouped([1, 7, 5, 6], 2, 9, 3),
    grouped([1, 6, 6, 8], 1, 132, 2),
];

impl<'a, B: Backend> Suite<'a, B> {
    /// As for the other quantised cases, and a little more: gates make the
    /// largest number smaller that an error is measured by, norms and products
    /// of halves make some numbers larger than the rest.
    fn tolerance(&self, stored: Stored) -> f64 {
        match stored {
            Stored::Blocks(_) if self.backend.rounds_activations() => 1e-2,
            _ => 2e-6,
        }
    }

    fn forced(backend: &'a B, thin: bool) -> Self {
        Self {
            backend,
            sizes: if thin { FEW } else { SIZES },
            outcomes: Vec::new(),
        }
    }

    /// Leaves what is no number in buffers of every size.
    fn poison(&self) -> Result<()> {
        let sizes = (6..17).flat_map(|power| (4..8).map(move |step| step << power >> 2));
        for len in sizes {
            let nothing = vec![f32::NAN; len];
            let held: Vec<_> = (0..3)
                .map(|_| Tensor::upload(self.backend, &nothing, &[len]))
                .collect::<Result<_>>()?;
            drop(held);
        }
        Ok(())
    }

    fn stored(&self, rows: usize, cols: usize, stored: Stored) -> Result<(Weight<B>, Vec<f64>)> {
        let plain = numbers(rows * cols, 7);
        let data = match stored {
            Stored::F32 => WeightData::F32(plain),
            Stored::F16 => WeightData::F16(plain.into_iter().map(f16::from_f32).collect()),
            Stored::Blocks(kind) => WeightData::Quantized(kind, kind.quantize(&plain)),
        };
        let exact = wide(&data.clone().into_f32());
        let inner = self.backend.weight("contract", data, rows, cols)?;
        Ok((Weight::new(inner, rows, cols), exact))
    }

    /// `product` `[rows, cols]` followed by what number `i` asks for.
    fn after(
        i: usize,
        product: &[f64],
        cols: usize,
        (bias, residual, gate): (&[f64], &[f64], &[f64]),
    ) -> Vec<f64> {
        let activation = ACTIVATIONS[i % 4];
        let full = !i.is_multiple_of(3);
        let values = product.iter().enumerate().map(|(at, &product)| {
            let (b, r) = if full {
                (bias[at % cols], residual[at])
            } else {
                (0.0, 0.0)
            };
            if i.is_multiple_of(2) {
                activated(product + b + r, activation)
            } else {
                let open = gate[at % cols % gate.len()].tanh();
                activated(product + b, activation) * open + r
            }
        });
        values.collect()
    }

    async fn product_case(
        &mut self,
        i: usize,
        (rows, cols, inner): (usize, usize, usize),
        stored: Stored,
    ) -> Result<()> {
        let (x, x64) = self.tensor(&[rows, inner], 1)?;
        let (w, w64) = self.stored(cols, inner, stored)?;
        let (bias, b64) = self.tensor(&[cols], 3)?;
        let (residual, r64) = self.tensor(&[rows, cols], 4)?;
        let full = !i.is_multiple_of(3);
        let (gate, g64) = self.tensor(&[if i % 4 == 1 { 1 } else { cols }], 5)?;
        let after = After {
            bias: full.then_some(&bias),
            activation: ACTIVATIONS[i % 4],
            gate: (i % 2 == 1).then_some(&gate),
            residual: full.then_some(&residual),
            residual_first: i.is_multiple_of(2),
        };
        let got = x.linear(&w, &after)?;
        let product = products_of(&x64, &w64, inner);
        let want = Self::after(i, &product, cols, (&b64, &r64, &g64));
        let name = format!("linear {rows}×{inner}→{cols} {stored:?}");
        self.check(name, &got, &want, self.tolerance(stored)).await
    }

    /// `linear` after a norm: that of root mean squares where `i` is even.
    async fn norm_case(
        &mut self,
        i: usize,
        (rows, cols, inner): (usize, usize, usize),
        stored: Stored,
    ) -> Result<()> {
        let offset = (i % 3) as f32;
        let data: Vec<f32> = numbers(rows * inner, 1)
            .iter()
            .map(|x| x + offset)
            .collect();
        let x = Tensor::upload(self.backend, &data, &[rows, inner])?;
        let (weight, g64) = self.tensor(&[inner], 5)?;
        let (shift, s64) = self.tensor(&[inner], 6)?;
        let (w, w64) = self.stored(cols, inner, stored)?;
        let (bias, b64) = self.tensor(&[cols], 3)?;
        let (n, plain) = (inner as f64, i.is_multiple_of(2));
        let normal: Vec<f64> = wide(&data)
            .chunks(inner)
            .flat_map(|row| {
                let mean = if plain {
                    0.0
                } else {
                    row.iter().sum::<f64>() / n
                };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let scale = (variance + f64::from(1e-5f32)).sqrt().recip();
                let all = row.iter().zip(&g64).zip(&s64);
                all.map(|((x, g), s)| (x - mean) * scale * g + if plain { 0.0 } else { *s })
                    .collect::<Vec<_>>()
            })
            .collect();
        let product = products_of(&normal, &w64, inner);
        let want: Vec<f64> = product
            .iter()
            .enumerate()
            .map(|(at, product)| activated(product + b64[at % cols], ACTIVATIONS[i % 4]))
            .collect();
        let norm = NormOf {
            weight: &weight,
            bias: (!plain).then_some(&shift),
            eps: 1e-5,
        };
        let after = After {
            bias: Some(&bias),
            activation: ACTIVATIONS[i % 4],
            ..After::default()
        };
        let got = x.norm_linear(&norm, &w, &after)?;
        let name = format!("norm_linear {rows}×{inner}→{cols} {stored:?}");
        self.check(name, &got, &want, self.tolerance(stored).max(5e-6))
            .await
    }

    /// `linear` of an activation of one half times the other.
    async fn glu_case(
        &mut self,
        i: usize,
        (rows, cols, inner): (usize, usize, usize),
        stored: Stored,
    ) -> Result<()> {
        let (x, x64) = self.tensor(&[rows, 2 * inner], 1)?;
        let (w, w64) = self.stored(cols, inner, stored)?;
        let (bias, b64) = self.tensor(&[cols], 3)?;
        let (residual, r64) = self.tensor(&[rows, cols], 4)?;
        let (gate, g64) = self.tensor(&[if i.is_multiple_of(2) { 1 } else { cols }], 5)?;
        let activation = [Activation::Silu, Activation::Gelu][i % 2];
        let both: Vec<f64> = x64
            .chunks(2 * inner)
            .flat_map(|row| {
                let (gate, up) = row.split_at(inner);
                let pairs = gate.iter().zip(up);
                pairs.map(move |(gate, up)| activated(*gate, Some(activation)) * up)
            })
            .collect();
        let product = products_of(&both, &w64, inner);
        let want: Vec<f64> = product
            .iter()
            .enumerate()
            .map(|(at, product)| {
                let open = g64[at % cols % g64.len()].tanh();
                (product + b64[at % cols]) * open + r64[at]
            })
            .collect();
        let after = After {
            bias: Some(&bias),
            gate: Some(&gate),
            residual: Some(&residual),
            ..After::default()
        };
        let got = x.glu_linear(activation, &w, &after)?;
        let name = format!("glu_linear {rows}×{inner}→{cols} {stored:?}");
        self.check(name, &got, &want, self.tolerance(stored)).await
    }

    async fn window_case(&mut self, i: usize, d: &Window, stored: Stored) -> Result<()> {
        let (x, x64) = self.tensor(&[d.n, d.height, d.width, d.channels], 1)?;
        let (part, outs) = (d.channels / d.groups, d.out / d.groups);
        let inner = d.kernel * d.kernel * part;
        let (w, w64) = self.stored(d.out, inner, stored)?;
        // Windows, and zeros before the first.
        let side = |length: usize| match d.padding {
            Padding::Every(zeros) => ((length + 2 * zeros - d.kernel) / d.stride + 1, zeros),
            Padding::Same => {
                let count = length.div_ceil(d.stride);
                let needed = (count - 1) * d.stride + d.kernel;
                (count, needed.saturating_sub(length) / 2)
            }
        };
        let ((oh, above), (ow, before)) = (side(d.height), side(d.width));
        let mut product = Vec::with_capacity(d.n * oh * ow * d.out);
        for (b, oy, ox) in (0..d.n * oh * ow).map(|i| (i / (oh * ow), i / ow % oh, i % ow)) {
            for (group, w) in w64.chunks_exact(outs * inner).enumerate() {
                let mut window = Vec::with_capacity(inner);
                for (ky, kx) in (0..d.kernel * d.kernel).map(|i| (i / d.kernel, i % d.kernel)) {
                    let y = (oy * d.stride + ky).checked_sub(above);
                    let x = (ox * d.stride + kx).checked_sub(before);
                    for c in group * part..(group + 1) * part {
                        window.push(match (y, x) {
                            (Some(y), Some(x)) if y < d.height && x < d.width => {
                                x64[((b * d.height + y) * d.width + x) * d.channels + c]
                            }
                            _ => 0.0,
                        });
                    }
                }
                product.extend(products_of(&window, w, inner));
            }
        }
        let (bias, b64) = self.tensor(&[d.out], 3)?;
        let (residual, r64) = self.tensor(&[d.n, oh, ow, d.out], 4)?;
        let full = !i.is_multiple_of(3);
        let (gate, g64) = self.tensor(&[if i % 4 == 1 { 1 } else { d.out }], 5)?;
        let after = After {
            bias: full.then_some(&bias),
            activation: ACTIVATIONS[i % 4],
            gate: (i % 2 == 1).then_some(&gate),
            residual: full.then_some(&residual),
            residual_first: i.is_multiple_of(2),
        };
        let window = tensor::Window {
            kernel: d.kernel,
            stride: d.stride,
            padding: d.padding,
            groups: d.groups,
        };
        let got = x.conv2d(&w, window, &after)?;
        let want = Self::after(i, &product, d.out, (&b64, &r64, &g64));
        let name = format!(
            "conv2d {}×{}×{}×{} by {} step {} {:?} → {} in {} {stored:?}",
            d.n, d.height, d.width, d.channels, d.kernel, d.stride, d.padding, d.out, d.groups
        );
        self.check(name, &got, &want, self.tolerance(stored)).await
    }
}

/// `[rows, inner]` and `[cols, inner]` → `[rows, cols]`.
fn products_of(x: &[f64], w: &[f64], inner: usize) -> Vec<f64> {
    let dot = |row: &[f64], w: &[f64]| row.iter().zip(w).map(|(a, b)| a * b).sum();
    let rows = x.chunks_exact(inner);
    rows.flat_map(|row| w.chunks_exact(inner).map(move |w| dot(row, w)))
        .collect()
}

/// `linear` and `conv2d` with weights in every storage.
///
/// # Errors
/// Where an operation cannot be run at all.
pub async fn products<B: Backend>(backend: &B, thin: bool) -> Result<Vec<Outcome>> {
    let mut suite = Suite::forced(backend, thin);
    suite.poison()?;
    let sizes = suite.sizes;
    let other = |i: usize, from: &[usize]| from[i % from.len()];
    for round in 0..2 {
        for (i, &rows) in sizes.iter().enumerate() {
            let cols = other(i * 4 + 1, sizes);
            let stored = STORED[(i + round) % 4];
            let inner = match stored {
                Stored::Blocks(_) => other(i, BLOCKS),
                _ if round == 0 => other(i * 7 + 2, sizes),
                _ => other(i, WHOLE),
            };
            suite.product_case(i, (rows, cols, inner), stored).await?;
        }
    }
    for (i, stored) in STORED.into_iter().enumerate() {
        let rows = if thin { i + 1..i + 2 } else { 1..5 };
        for rows in rows {
            // One lane too few or too many, and columns beside whole vectors.
            let size = (rows, 30 + rows, 1056 + 32 * i);
            suite.product_case(i, size, stored).await?;
            suite.norm_case(i + rows, size, stored).await?;
            suite.glu_case(i + rows, size, stored).await?;
        }
        let inner = if i < 2 { 33 } else { 64 };
        suite.norm_case(i, (2 + 2 * i, 65, inner), stored).await?;
        suite.glu_case(i, (2 + 2 * i, 65, inner), stored).await?;
    }
    for (i, window) in WINDOWS.iter().enumerate() {
        let inner = window.kernel * window.kernel * window.channels / window.groups;
        // Quantised weights are whole blocks.
        let stored = STORED[i % if inner.is_multiple_of(32) { 4 } else { 2 }];
        suite.window_case(i, window, stored).await?;
    }
    Ok(suite.outcomes)
}

/// Weights that a binding of half a MiB does not hold, in every storage: their
/// rows, and products with them.
///
/// # Errors
/// Where an operation cannot be run at all.
pub async fn large_weights<B: Backend>(backend: &B) -> Result<Vec<Outcome>> {
    let mut suite = Suite::forced(backend, true);
    suite.poison()?;
    let (rows, cols) = (6001, 288);
    // Out of order, the first and the last among them.
    let ids: Vec<u32> = (0..130)
        .map(|i| (rows - 1) as u32 - (i * 7919) % rows as u32)
        .chain([0])
        .collect();
    for (i, stored) in STORED.into_iter().enumerate() {
        let (table, t64) = suite.stored(rows, cols, stored)?;
        let row = |id: u32| t64[id as usize * cols..(id as usize + 1) * cols].to_vec();
        let want: Vec<f64> = ids.iter().flat_map(|&id| row(id)).collect();
        let got = table.embed(backend, &ids)?;
        let name = format!("embed of {rows}×{cols} {stored:?}");
        suite.check(name, &got, &want, 0.0).await?;
        // Columns in whole vectors, and not; few rows, and more.
        for (rows, cols) in [(3, 6000), (3, 6001), (17, 6000), (17, 6001)] {
            suite.product_case(i + 1, (rows, cols, 288), stored).await?;
        }
    }
    // The second buffer begins in the middle of a group.
    let window = grouped([1, 5, 4, 64], 1, 600, 2);
    suite.window_case(1, &window, Stored::F32).await?;
    Ok(suite.outcomes)
}

/// `attention` with heads of every length, and few queries and many.
///
/// # Errors
/// Where an operation cannot be run at all.
pub async fn attentions<B: Backend>(backend: &B, thin: bool) -> Result<Vec<Outcome>> {
    let mut suite = Suite::forced(backend, thin);
    suite.poison()?;
    let causal = |offset: usize| Mask::Causal { offset };
    let cases = [
        (2, 1, 64, 50, 50, Mask::None),
        (1, 2, 64, 1, 257, causal(256)),
        (1, 1, 80, 33, 33, Mask::None),
        (1, 1, 88, 17, 65, causal(48)),
        (1, 1, 128, 31, 130, Mask::None),
        (2, 2, 5, 5, 5, causal(0)),
        (1, 3, 20, 16, 63, Mask::None),
        (1, 2, 64, 77, 77, causal(0)),
        (1, 1, 96, 4, 197, Mask::None),
        (1, 2, 32, 130, 130, causal(0)),
        (1, 1, 130, 3, 65, Mask::None),
        (1, 1, 256, 5, 70, causal(65)),
        (2, 2, 8, 1, 1, Mask::None),
        (1, 1, 66, 32, 257, causal(3)),
        (1, 1, 124, 3, 31, Mask::None),
    ];
    for (batch, heads, head_dim, queries, keys, mask) in
        cases.into_iter().take(if thin { 7 } else { 15 })
    {
        let dims = AttentionDims {
            batch,
            heads,
            head_dim,
            queries,
            keys,
            key_rows: keys,
            mask,
            alibi: None,
        };
        suite.attention_case(dims).await?;
    }
    suite.rules().await?;
    suite.turned_queries().await?;
    Ok(suite.outcomes)
}
