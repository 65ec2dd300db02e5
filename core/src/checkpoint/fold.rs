//! What is folded into a convolution where it is read. Batch norm: at inference
//! both are linear, `gain · (w · x − mean) / √(variance + ε) + bias`. Scaled
//! weight standardisation: the weight itself is normalised.

/// PyTorch's default, which every CLIP ResNet has, and timm's in NFNets.
const EPS: f64 = 1e-5;

/// The numbers of a batch norm, one of each for a channel.
pub(super) struct BatchNorm {
    pub(super) gain: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

impl BatchNorm {
    /// What each channel is multiplied by.
    fn scales(&self) -> impl Iterator<Item = f64> {
        let pairs = self.gain.iter().zip(&self.variance);
        pairs.map(|(&gain, &variance)| f64::from(gain) / (f64::from(variance) + EPS).sqrt())
    }

    /// Folds the scale into a weight whose rows are the channels.
    pub(super) fn fold(&self, weight: &mut [f32]) {
        let inner = weight.len() / self.gain.len().max(1);
        for (row, scale) in weight.chunks_exact_mut(inner.max(1)).zip(self.scales()) {
            row.iter_mut()
                .for_each(|w| *w = (f64::from(*w) * scale) as f32);
        }
    }

    /// The bias that is left.
    pub(super) fn bias(&self) -> Vec<f32> {
        let shift = self.bias.iter().zip(&self.mean).zip(self.scales());
        shift
            .map(|((&bias, &mean), scale)| (f64::from(bias) - f64::from(mean) * scale) as f32)
            .collect()
    }
}

/// Gives each row of a weight mean 0 and variance `gain² / inner` (Brock et al.
/// 2021a, eq. 2; `ScaledStdConv2dSame` of timm's `std_conv.py`).
pub(super) fn standardize(weight: &mut [f32], gains: &[f32]) {
    let inner = (weight.len() / gains.len().max(1)).max(1);
    let n = inner as f64;
    for (row, &gain) in weight.chunks_exact_mut(inner).zip(gains) {
        let mean = row.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
        let squares = row.iter().map(|&w| (f64::from(w) - mean).powi(2));
        let variance = squares.sum::<f64>() / n;
        let scale = f64::from(gain) / (n * (variance + EPS)).sqrt();
        row.iter_mut()
            .for_each(|w| *w = ((f64::from(*w) - mean) * scale) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::BatchNorm;

    #[test]
    fn folding_is_the_norm_of_the_product() {
        let norm = BatchNorm {
            gain: vec![2.0, -0.5],
            bias: vec![0.25, 1.0],
            mean: vec![0.5, -3.0],
            variance: vec![4.0, 0.01],
        };
        let mut weight = [1.0, -2.0, 0.5, 4.0];
        norm.fold(&mut weight);
        let (x, bias) = ([3.0f64, 0.7], norm.bias());
        for (channel, plain) in [[1.0f64, -2.0], [0.5, 4.0]].iter().enumerate() {
            let dot = plain[0] * x[0] + plain[1] * x[1];
            let at = |v: &[f32]| f64::from(v[channel]);
            let scale = at(&norm.gain) / (at(&norm.variance) + 1e-5).sqrt();
            let want = scale * (dot - at(&norm.mean)) + at(&norm.bias);
            let row = &weight[2 * channel..];
            let got = f64::from(row[0]) * x[0] + f64::from(row[1]) * x[1] + at(&bias);
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }
}
