//! The operations of the language models.

use super::{Suite, activated, numbers, wide};
use crate::Result;
use crate::backend::{Activation, Backend, Mask, alibi_slope};
use crate::tensor::{Attend, NormOf, Tensor, Turn, attend};

/// One way of attending: what a query `i` of a sequence sees, as a function.
struct Rule<'a> {
    name: &'a str,
    queries: usize,
    mask: Mask,
    numbers: Option<Vec<u32>>,
    alibi: Option<u32>,
    sees: &'a dyn Fn(usize, usize, usize) -> bool,
    position: &'a dyn Fn(usize) -> usize,
}

/// Heads, their columns and how many are turned, whether neighbours are pairs;
/// queries, the position of the first, and from one to the next.
const TURNS: [(usize, usize, usize, bool, usize, usize, usize); 5] = [
    (2, 8, 8, false, 5, 0, 1),
    (3, 20, 10, false, 17, 3, 1),
    (3, 16, 16, true, 4, 9, 1),
    (1, 64, 32, true, 65, 0, 1),
    (2, 8, 4, false, 3, 7, 0),
];

impl<B: Backend> Suite<'_, B> {
    pub(super) async fn language(&mut self) -> Result<()> {
        for (i, &cols) in self.sizes.iter().enumerate() {
            let rows = self.sizes[(i + 2) % self.sizes.len()];
            let name = |operation: &str| format!("{operation} {rows}×{cols}");
            let (x, x64) = self.tensor(&[rows, cols], 1)?;
            let (y, y64) = self.tensor(&[rows, cols], 2)?;
            let (weight, w64) = self.tensor(&[cols], 3)?;

            let want: Vec<f64> = x64
                .chunks(cols)
                .flat_map(|row| {
                    let mean = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
                    let scale = (mean + f64::from(1e-6f32)).sqrt().recip();
                    row.iter().zip(&w64).map(move |(x, w)| x * scale * w)
                })
                .collect();
            let got = x.rms_norm(&weight, 1e-6)?;
            self.check(name("rms_norm"), &got, &want, 2e-6).await?;

            for gate_len in [1, cols] {
                let (gate, g64) = self.tensor(&[gate_len], 4)?;
                let pairs = x64.iter().zip(&y64).enumerate();
                let want: Vec<f64> = pairs
                    .map(|(i, (x, y))| x + g64[i % gate_len].tanh() * y)
                    .collect();
                let got = x.gated_add(&y, &gate)?;
                self.check(name("gated_add"), &got, &want, 1e-6).await?;
            }

            for activation in [Activation::Silu, Activation::Gelu] {
                let (both, b64) = self.tensor(&[rows, 2 * cols], 5)?;
                let want: Vec<f64> = b64
                    .chunks(2 * cols)
                    .flat_map(|row| {
                        let (gate, up) = row.split_at(cols);
                        let pairs = gate.iter().zip(up);
                        pairs.map(move |(gate, up)| activated(*gate, Some(activation)) * up)
                    })
                    .collect();
                let got = both.glu(activation)?;
                self.check(name("glu"), &got, &want, 1e-6).await?;
            }

            self.norm_parts(rows, cols).await?;
            self.top_k(rows.min(5), cols).await?;
        }
        self.rotary().await?;
        self.turned_queries().await
    }

    /// The largest, some of which are equal.
    async fn top_k(&mut self, rows: usize, cols: usize) -> Result<()> {
        // Not −0, which is less than 0 to some and equal to others.
        let step = |x: &f32| (x * 20.0).round() + 0.0;
        let data: Vec<f32> = numbers(rows * cols, 9).iter().map(step).collect();
        let x = Tensor::upload(self.backend, &data, &[rows, cols])?;
        for k in [1, cols.min(7), cols] {
            let mut want = Vec::with_capacity(rows * (2 * k + 1));
            for row in wide(&data).chunks(cols) {
                let mut places: Vec<usize> = (0..cols).collect();
                places.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                want.extend(places[..k].iter().map(|&place| row[place]));
                want.extend(places[..k].iter().map(|&place| place as f64));
                want.push(row.iter().map(|x| x.exp()).sum::<f64>().ln());
            }
            let name = format!("top_k {k} of {rows}×{cols}");
            self.check(name, &x.top_k(k)?, &want, 1e-6).await?;
        }
        Ok(())
    }

    /// Parts of a band, with gains of their own and between them.
    async fn norm_parts(&mut self, rows: usize, cols: usize) -> Result<()> {
        let parts = 3;
        let (width, stride) = (parts * cols, parts * cols + 4);
        let (x, x64) = self.tensor(&[rows, stride], 1)?;
        for (shared, with_bias) in [(true, false), (false, true)] {
            let gains = if shared { cols } else { width };
            let (weight, w64) = self.tensor(&[gains], 2)?;
            let (bias, b64) = self.tensor(&[gains], 3)?;
            let mut want = Vec::with_capacity(rows * width);
            for row in x64.chunks(stride) {
                for (part, row) in row[4..].chunks(cols).enumerate() {
                    let n = cols as f64;
                    let mean = if with_bias {
                        row.iter().sum::<f64>() / n
                    } else {
                        0.0
                    };
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                    let scale = (variance + f64::from(1e-5f32)).sqrt().recip();
                    let gain = if shared { 0 } else { part * cols };
                    want.extend(row.iter().enumerate().map(|(i, x)| {
                        let shift = if with_bias { b64[gain + i] } else { 0.0 };
                        (x - mean) * scale * w64[gain + i] + shift
                    }));
                }
            }
            let norm = NormOf {
                weight: &weight,
                bias: with_bias.then_some(&bias),
                eps: 1e-5,
            };
            let got = x.band(4, width)?.norm(&norm, parts)?;
            let name = format!("norm {rows}×{parts}×{cols}, shared {shared}");
            self.check(name, &got, &want, 2e-6).await?;
        }
        Ok(())
    }

    /// A cache of keys, smeared and turned or not, and values.
    async fn write_kv(
        &mut self,
        (heads, head_dim): (usize, usize),
        table: Option<(&Tensor<B>, Turn)>,
        queries: usize,
        with_smear: bool,
    ) -> Result<()> {
        let (batch, width, capacity, start) = (2, heads * head_dim, queries + 3, 2);
        let whole = if with_smear { 3 * width } else { 2 * width };
        let (cache, mut want) = self.tensor(&[batch, capacity, whole], 7)?;
        let (x, x64) = self.tensor(&[batch, queries, 3 * width], 8)?;
        let (gate, g64) = self.tensor(&[width], 9)?;
        // No token, those of the cache and those of this pass.
        let previous = |row: usize| (row * 7 + row / 3) % (start + queries + 1);
        let ids: Vec<u32> = (0..batch * queries)
            .map(|row| previous(row) as u32)
            .collect();
        let ids = self.backend.upload_ids(&ids)?;

        let mut keys = Vec::with_capacity(batch * queries * width);
        for (row, own) in x64.chunks(3 * width).enumerate() {
            let sequence = row / queries;
            let before = match previous(row) {
                _ if !with_smear => None,
                0 => None,
                place if place > start => {
                    let row = sequence * queries + place - 1 - start;
                    Some(&x64[row * 3 * width + width..])
                }
                place => Some(&want[(sequence * capacity + place - 1) * whole + 2 * width..]),
            };
            keys.extend((0..width).map(|i| {
                let before = before.map_or(0.0, |before| before[i]);
                (own[width + i] + g64[i].tanh() * before) as f32
            }));
        }
        if let Some((table, turn)) = table {
            // Held against a reference below.
            let smeared = Tensor::upload(self.backend, &keys, &[batch, queries, width])?;
            let turned = smeared.band(0, width)?.rotary(table, heads, turn)?;
            keys = turned.read().await?;
        }
        for (i, row) in x64.chunks(3 * width).enumerate() {
            let at = (i / queries * capacity + start + i % queries) * whole;
            let row = [
                &wide(&keys[i * width..][..width]),
                &row[2 * width..],
                &row[width..2 * width],
            ];
            want[at..at + whole].copy_from_slice(&row.concat()[..whole]);
        }
        let (keys, values) = (x.band(width, width)?, x.band(2 * width, width)?);
        let turn = table.map(|(table, turn)| (table, heads, turn));
        let smear = with_smear.then_some((&gate, &ids));
        cache.write_kv(&keys, &values, start, smear, turn)?;
        let name = format!(
            "write_kv {queries}×{width}, smeared {with_smear}, turned {}",
            turn.is_some()
        );
        self.check(name, &cache, &want, 1e-6).await
    }

    /// Queries that attention turns, as the operations apart make them.
    pub(super) async fn turned_queries(&mut self) -> Result<()> {
        for (heads, head_dim, dims, interleaved, queries, start, step) in TURNS {
            let (batch, width, keys) = (2, heads * head_dim, queries + start);
            let (x, _) = self.tensor(&[batch, queries, 2 * width], 1)?;
            let (kv, _) = self.tensor(&[batch, keys, 2 * width], 2)?;
            let (table, _) = self.tensor(&[start + queries, dims], 3)?;
            let turn = Turn {
                start,
                step,
                interleaved,
            };
            let (k, v) = (kv.band(0, width)?, kv.band(width, width)?);
            let plain = Attend::new(heads, Mask::Causal { offset: start }, keys);
            let turned = x.band(width, width)?.rotary(&table, heads, turn)?;
            let want = attend(&turned.band(0, width)?, &k, &v, &plain)?;
            let how = Attend {
                turn: Some((&table, turn)),
                ..plain
            };
            let got = attend(&x.band(width, width)?, &k, &v, &how)?;
            let name = format!("attention {heads}×{head_dim}, {queries} turned by {dims}");
            self.check(name, &got, &wide(&want.read().await?), 1e-5)
                .await?;
        }
        Ok(())
    }

    async fn rotary(&mut self) -> Result<()> {
        for (heads, head_dim, dims, interleaved, queries, start, step) in TURNS {
            let (batch, width) = (2, heads * head_dim);
            let (x, x64) = self.tensor(&[batch, queries, 2 * width], 1)?;
            let (table, t64) = self.tensor(&[start + queries, dims], 2)?;
            let turn = Turn {
                start,
                step,
                interleaved,
            };
            let got = x.band(width, width)?.rotary(&table, heads, turn)?;
            let half = dims / 2;
            let mut want = Vec::new();
            for row in 0..batch * queries {
                let position = start + row % queries * step;
                for column in 0..width {
                    let at = row * 2 * width + width + column;
                    let own = column % head_dim;
                    let (pair, second, distance) = if interleaved {
                        (own / 2, own % 2 == 1, 1)
                    } else {
                        (own % half, own >= half, half)
                    };
                    want.push(if own >= dims {
                        x64[at]
                    } else {
                        let (cos, sin) = (
                            t64[position * dims + pair],
                            t64[position * dims + pair + half],
                        );
                        if second {
                            x64[at] * cos + x64[at - distance] * sin
                        } else {
                            x64[at] * cos - x64[at + distance] * sin
                        }
                    });
                }
            }
            let name =
                format!("rotary {heads}×{head_dim}, {dims} of it, interleaved {interleaved}");
            self.check(name, &got, &want, 1e-6).await?;
            let size = (heads, head_dim);
            for smear in [false, true] {
                self.write_kv(size, None, queries, smear).await?;
                self.write_kv(size, Some((&table, turn)), queries, smear)
                    .await?;
            }
        }
        Ok(())
    }

    /// Attention by each rule, at sizes beside the blocks of keys.
    pub(super) async fn rules(&mut self) -> Result<()> {
        for (i, &keys) in self.sizes.iter().enumerate() {
            let few = self.sizes[(i + 3) % self.sizes.len()].min(keys);
            let padding = |sequence: usize| sequence * (keys / 3);
            let offset = keys - few;
            let causal = |i: usize, j: usize| j <= i + offset;
            let own = |j: usize| j;
            let plain = Rule {
                name: "a cache with room",
                queries: few,
                mask: Mask::Causal { offset },
                numbers: None,
                alibi: None,
                sees: &|_, i, j| causal(i, j),
                position: &own,
            };
            self.rule(keys, &plain).await?;
            let alibi = Rule {
                name: "alibi",
                alibi: Some(8),
                ..plain
            };
            self.rule(keys, &alibi).await?;
            let padded = Rule {
                name: "left padding",
                numbers: Some(vec![padding(0) as u32, padding(1) as u32]),
                sees: &|sequence, i, j| causal(i, j) && j >= padding(sequence),
                ..alibi
            };
            self.rule(keys, &padded).await?;

            // Pictures of three tokens; the last one may be cut off by the end.
            let time = |sequence: usize, i: usize| (i + sequence) % (keys / 3 + 1);
            let numbers = (0..2 * few).map(|row| time(row / few, row % few) as u32);
            let media = Rule {
                name: "the last picture",
                queries: few,
                mask: Mask::Media {
                    per_image: 3,
                    all_previous: false,
                },
                numbers: Some(numbers.collect()),
                alibi: None,
                sees: &|sequence, i, j| j / 3 + 1 == time(sequence, i),
                position: &own,
            };
            self.rule(keys, &media).await?;
            let all = Rule {
                name: "all pictures before",
                mask: Mask::Media {
                    per_image: 3,
                    all_previous: true,
                },
                numbers: media.numbers.clone(),
                sees: &|sequence, i, j| j / 3 < time(sequence, i),
                ..media
            };
            self.rule(keys, &all).await?;

            // Three beams that went on from one another.
            let width = 3;
            let prompt = keys % width + keys / width / 2 * width;
            let steps = (keys - prompt) / width;
            let from = |i: usize, step: usize| (i * 5 + step * step) % width;
            let numbers = (0..width * steps).map(|at| from(at / steps, at % steps) as u32);
            let beams = Rule {
                name: "beams",
                queries: width,
                mask: Mask::Beams { prompt, width },
                numbers: Some(numbers.collect()),
                alibi: Some(8),
                sees: &|_, i, j| {
                    j < prompt || (j - prompt) % width == from(i, (j - prompt) / width)
                },
                position: &|j| {
                    if j < prompt {
                        j
                    } else {
                        prompt + (j - prompt) / width
                    }
                },
            };
            if steps > 0 {
                self.rule(keys, &beams).await?;
            }
        }
        Ok(())
    }

    async fn rule(&mut self, keys: usize, rule: &Rule<'_>) -> Result<()> {
        // Beams are one sequence.
        let batch = if matches!(rule.mask, Mask::Beams { .. }) {
            1
        } else {
            2
        };
        let (heads, head_dim, queries, key_rows) = (3, 20, rule.queries, keys + 2);
        let width = heads * head_dim;
        let (q, q64) = self.tensor(&[batch, queries, width], 1)?;
        let (mut k, k64) = self.tensor(&[batch, key_rows, width], 2)?;
        let (v, v64) = self.tensor(&[batch, key_rows, width], 3)?;
        // Rows that nothing was written to must not matter.
        let mut loud: Vec<f32> = k64.iter().map(|&x| x as f32 * 4.0).collect();
        let k64 = wide(&loud);
        for unused in loud.chunks_mut(key_rows * width) {
            unused[keys * width..].fill(f32::NAN);
        }
        k = Tensor::upload(self.backend, &loud, k.shape())?;
        let numbers = match &rule.numbers {
            Some(numbers) => Some(self.backend.upload_ids(numbers)?),
            None => None,
        };
        let how = Attend {
            heads,
            mask: rule.mask,
            rule: numbers.as_ref(),
            keys,
            alibi: rule.alibi,
            turn: None,
        };
        let got = attend(
            &q.band(0, width)?,
            &k.band(0, width)?,
            &v.band(0, width)?,
            &how,
        )?;
        let mut want = vec![0.0; batch * queries * width];
        for (b, h, i) in (0..batch * heads * queries)
            .map(|at| (at / (heads * queries), at / queries % heads, at % queries))
        {
            let at = (b * queries + i) * width + h * head_dim;
            let key = |j: usize| (b * key_rows + j) * width + h * head_dim;
            let slope = rule.alibi.map_or(0.0, |most| alibi_slope(h, heads, most));
            let seen: Vec<(usize, f64)> = (0..keys)
                .filter(|&j| (rule.sees)(b, i, j))
                .map(|j| {
                    let pairs = (0..head_dim).map(|d| q64[at + d] * k64[key(j) + d]);
                    let bias = f64::from(slope) * (rule.position)(j) as f64;
                    (j, pairs.sum::<f64>() / (head_dim as f64).sqrt() + bias)
                })
                .collect();
            let top = seen
                .iter()
                .fold(f64::NEG_INFINITY, |top, seen| top.max(seen.1));
            let sum: f64 = seen.iter().map(|seen| (seen.1 - top).exp()).sum();
            for d in 0..head_dim {
                let mixed = seen.iter().map(|&(j, s)| (s - top).exp() * v64[key(j) + d]);
                want[at + d] = if seen.is_empty() {
                    0.0
                } else {
                    mixed.sum::<f64>() / sum
                };
            }
        }
        let name = format!("attention, {}, {queries} of {keys}", rule.name);
        self.check(name, &got, &want, 1e-5).await
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::alibi_slope;

    /// `build_mpt_alibi_tensor` of transformers' `modeling_mpt.py`.
    #[test]
    fn slopes_are_those_of_mpt() {
        let slopes = |heads| -> Vec<f32> { (0..heads).map(|h| alibi_slope(h, heads, 8)).collect() };
        assert_eq!(slopes(4), [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(slopes(3), [0.0625, 0.003_906_25, 0.25]);
        let six = slopes(6);
        assert_eq!(six[..4], [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(six[4..], [0.5, 0.125]);
    }
}
