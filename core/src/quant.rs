//! Weights in blocks of 32, as GGML stores them (`ggml-quants.c`): `q8_0` is an
//! f16 scale and 32 signed bytes, `q4_0` an f16 scale and 32 halves of a byte.

use half::f16;

/// Weights in a block.
pub const BLOCK: usize = 32;

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    /// 34 bytes: `x = d · q`, q from −127 to 127.
    Q8_0,
    /// 18 bytes: `x = d · (q − 8)`, q from 0 to 15; the first 16 weights in the
    /// low halves of the bytes, the others in the high ones.
    Q4_0,
}

impl Quantization {
    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
        }
    }

    /// Bytes of a `[rows, cols]` matrix, where its rows are whole blocks.
    pub fn bytes_of(self, rows: usize, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(BLOCK) {
            return None;
        }
        rows.checked_mul(cols / BLOCK)?
            .checked_mul(self.block_bytes())
    }

    /// Whole blocks → their weights.
    pub fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::with_capacity(bytes.len() / self.block_bytes() * BLOCK);
        for block in bytes.chunks_exact(self.block_bytes()) {
            let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let codes = &block[2..];
            match self {
                Self::Q8_0 => out.extend(codes.iter().map(|&q| d * f32::from(q as i8))),
                Self::Q4_0 => {
                    let half = |q: u8| d * (f32::from(q) - 8.0);
                    out.extend(codes.iter().map(|&q| half(q & 15)));
                    out.extend(codes.iter().map(|&q| half(q >> 4)));
                }
            }
        }
        out
    }

    /// Blocks of `q4_0` → the same numbers in blocks of `q8_0`: a code is a small
    /// whole number in both.
    pub fn widened(halves: &[u8]) -> Vec<u8> {
        let (from, to) = (Self::Q4_0.block_bytes(), Self::Q8_0.block_bytes());
        let mut out = vec![0; halves.len() / from * to];
        for (block, wide) in halves.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            let (scale, codes) = wide.split_at_mut(2);
            scale.copy_from_slice(&block[..2]);
            let (low, high) = codes.split_at_mut(BLOCK / 2);
            for ((&pair, low), high) in block[2..].iter().zip(low).zip(high) {
                *low = (pair & 15).wrapping_sub(8);
                *high = (pair >> 4).wrapping_sub(8);
            }
        }
        out
    }

    /// Weights → blocks. What fills no whole block is left out.
    pub fn quantize(self, weights: &[f32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(weights.len() / BLOCK * self.block_bytes());
        for block in weights.as_chunks::<BLOCK>().0 {
            let d = f16::from_f32(match self {
                Self::Q8_0 => extreme(block).abs() / 127.0,
                Self::Q4_0 => fitted_scale(block),
            });
            let inverse = if d == f16::ZERO {
                0.0
            } else {
                1.0 / d.to_f32()
            };
            out.extend(d.to_le_bytes());
            match self {
                Self::Q8_0 => {
                    out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
                }
                Self::Q4_0 => {
                    let code = |x: f32| (half_code(x * inverse) + 8.0) as u8;
                    let (low, high) = block.split_at(BLOCK / 2);
                    let pairs = low.iter().zip(high);
                    out.extend(pairs.map(|(&a, &b)| code(a) | code(b) << 4));
                }
            }
        }
        out
    }
}

/// The weight farthest from zero.
fn extreme(block: &[f32; BLOCK]) -> f32 {
    let far = |a: f32, &b: &f32| if b.abs() > a.abs() { b } else { a };
    block.iter().fold(0.0, far)
}

/// The code of half a byte nearest to a scaled weight, before 8 is added. What
/// is added to a number of no fractions loses its own: this rounds without the
/// call that `round` is, so that compilers take several at once.
fn half_code(x: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0;
    (x.clamp(-8.0, 7.0) + WHOLE) - WHOLE
}

/// Sums that are taken side by side.
const LANES: usize = 8;

/// The scale of a block whose codes are halves of a byte. Mapping the extreme
/// to −8, as the format's first writer does, spends the codes on one weight:
/// scales near that one are tried, each replaced by the one that fits its codes
/// best in squares, and the closest is taken.
fn fitted_scale(block: &[f32; BLOCK]) -> f32 {
    let extreme = extreme(block);
    if extreme == 0.0 {
        return 0.0;
    }
    let mut best = (0.0, 0.0);
    for tenths in -9..=9 {
        let inverse = (-8.0 + tenths as f32 * 0.1) / extreme;
        let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
        for part in block.as_chunks::<LANES>().0 {
            for i in 0..LANES {
                let code = half_code(part[i] * inverse);
                products[i] += part[i] * code;
                squares[i] += code * code;
            }
        }
        let products: f32 = products.iter().sum();
        let squares: f32 = squares.iter().sum();
        // With the scale `products / squares` the squared error is what the
        // weights have less this.
        if squares > 0.0 && products * products / squares > best.0 {
            best = (products * products / squares, products / squares);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_weights_to_half_a_step() {
        let weights: Vec<f32> = (0..64)
            .map(|i| ((i * 37 % 64) as f32 - 30.0) * 0.01)
            .collect();
        for (kind, step) in [
            (Quantization::Q8_0, 0.34 / 127.0),
            (Quantization::Q4_0, 0.34 / 8.0),
        ] {
            let bytes = kind.quantize(&weights);
            assert_eq!(bytes.len(), 2 * kind.block_bytes());
            let back = kind.dequantize(&bytes);
            for (a, b) in weights.iter().zip(&back) {
                // Codes of half a byte have no place for the far end opposite
                // to the extreme, and may trade it for the others.
                assert!((a - b).abs() <= step * 1.01, "{kind:?}: {a} became {b}");
            }
        }
    }

    #[test]
    fn widened_blocks_hold_the_same_numbers() {
        let weights: Vec<f32> = (0..96)
            .map(|i| ((i * 29 % 96) as f32 - 51.0) * 0.02)
            .collect();
        let halves = Quantization::Q4_0.quantize(&weights);
        let bytes = Quantization::widened(&halves);
        let same = Quantization::Q4_0.dequantize(&halves);
        assert_eq!(Quantization::Q8_0.dequantize(&bytes), same);
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for kind in [Quantization::Q8_0, Quantization::Q4_0] {
            let back = kind.dequantize(&kind.quantize(&[0.0; 32]));
            assert_eq!(back, [0.0; 32]);
        }
    }
}
