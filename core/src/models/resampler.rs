//! From the features of a picture or a video to visual tokens (Flamingo §2.1;
//! `PerceiverResampler` of OpenFlamingo's `helpers.py`), and the two
//! alternatives that the paper compares it with.

use crate::Result;
use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::flamingo::{ResamplerConfig, ResamplerKind};
use crate::config::language::NormKind;
use crate::models::lm::Mlp;
use crate::nn::{Linear, Norm};
use crate::tensor::{Tensor, attention};

/// Attention of one thing to itself and, in a Perceiver, to features.
struct Attention<B: Backend> {
    norm_media: Option<Norm<B>>,
    norm_latents: Norm<B>,
    to_q: Linear<B>,
    to_kv: Linear<B>,
    /// Of the queries and of the keys of a head.
    qk_norm: Option<(Norm<B>, Norm<B>)>,
    to_out: Linear<B>,
    heads: usize,
    inner: usize,
}

impl<B: Backend> Attention<B> {
    fn load(scope: &Scope<'_, B>, config: &ResamplerConfig, width: usize) -> Result<Self> {
        let inner = config.heads * config.head_dim;
        let norm = |name: &str| layer_norm(&scope.child(name), width, config.norm_eps);
        let head_norm = |name: &str| {
            let scope = scope.child(name);
            layer_norm(&scope, config.head_dim, config.norm_eps)
        };
        let perceiver = matches!(config.kind, ResamplerKind::Perceiver { .. });
        Ok(Self {
            norm_media: perceiver.then(|| norm("norm_media")).transpose()?,
            norm_latents: norm("norm_latents")?,
            to_q: Linear::projection(scope, "to_q.weight", width, inner)?,
            to_kv: Linear::projection(scope, "to_kv.weight", width, 2 * inner)?,
            qk_norm: match config.qk_norm {
                true => Some((head_norm("q_norm")?, head_norm("k_norm")?)),
                false => None,
            },
            to_out: Linear::projection(scope, "to_out.weight", inner, width)?,
            heads: config.heads,
            inner,
        })
    }

    /// Features `[n, m, width]`, latents `[n, l, width]` → as latents.
    fn forward(&self, features: &Tensor<B>, latents: &Tensor<B>) -> Result<Tensor<B>> {
        let normed = self.norm_latents.forward(latents)?;
        let mut q = self.to_q.forward(&normed)?;
        let kv = match &self.norm_media {
            Some(norm) => Tensor::concat(&norm.forward(features)?, &normed)?,
            None => normed,
        };
        let kv = self.to_kv.forward(&kv)?;
        let mut keys = kv.clone();
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            q = q.band(0, self.inner)?.norm(&q_norm.of(), self.heads)?;
            keys = kv.band(0, self.inner)?.norm(&k_norm.of(), self.heads)?;
        }
        let mixed = attention(
            &q.band(0, self.inner)?,
            &keys.band(0, self.inner)?,
            &kv.band(self.inner, self.inner)?,
            self.heads,
            Mask::None,
        )?;
        self.to_out.then(&mixed, None, Some(latents))
    }
}

fn layer_norm<B: Backend>(scope: &Scope<'_, B>, width: usize, eps: f32) -> Result<Norm<B>> {
    Norm::load(scope, width, NormKind::Layer, eps)
}

/// One layer.
struct Layer<B: Backend> {
    attention: Option<Attention<B>>,
    norm: Norm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Layer<B> {
    fn load(scope: &Scope<'_, B>, config: &ResamplerConfig, width: usize) -> Result<Self> {
        let attends = config.kind != ResamplerKind::Mlp;
        let ff = scope.child("ff");
        let sizes = (width, config.mlp_width);
        Ok(Self {
            attention: attends
                .then(|| Attention::load(scope, config, width))
                .transpose()?,
            norm: layer_norm(&ff.child("norm"), width, config.norm_eps)?,
            mlp: Mlp::load(&ff, sizes, config.activation, false, false)?,
        })
    }

    fn forward(&self, features: &Tensor<B>, x: &Tensor<B>) -> Result<Tensor<B>> {
        let attended = match &self.attention {
            Some(attention) => attention.forward(features, x)?,
            None => x.clone(),
        };
        self.mlp
            .forward(&attended, Some(&self.norm), None, &attended)
    }
}

/// Learned vectors for frames.
struct Time<B: Backend> {
    /// `[frames, width]`.
    table: Tensor<B>,
    /// The same on the host: longer videos are given what lies between.
    numbers: Vec<f32>,
}

impl<B: Backend> Time<B> {
    /// `[frames, width]`; more frames than were learned are told apart by
    /// linear interpolation from the first to the last (App. B.1.2).
    fn of(&self, frames: usize) -> Result<Tensor<B>> {
        let &[learned, width] = self.table.shape() else {
            return Ok(self.table.clone());
        };
        if frames <= learned {
            return self.table.gather(&(0..frames as u32).collect::<Vec<_>>());
        }
        let numbers = interpolated(&self.numbers, width, frames);
        Tensor::upload(self.table.backend(), &numbers, &[frames, width])
    }
}

/// `[learned, width]` → `[frames, width]`, the ends kept.
fn interpolated(table: &[f32], width: usize, frames: usize) -> Vec<f32> {
    let last = table.len() / width - 1;
    let mut out = Vec::with_capacity(frames * width);
    for frame in 0..frames {
        let place = (frame * last) as f32 / (frames.max(2) - 1) as f32;
        let before = (place as usize).min(last);
        let after = (before + 1).min(last);
        let share = place - before as f32;
        let pairs = (0..width).map(|i| (table[before * width + i], table[after * width + i]));
        out.extend(pairs.map(|(a, b)| a + share * (b - a)));
    }
    out
}

/// The resampler.
pub struct Resampler<B: Backend> {
    latents: Option<Tensor<B>>,
    time: Option<Time<B>>,
    layers: Vec<Layer<B>>,
    norm: Norm<B>,
}

impl<B: Backend> Resampler<B> {
    /// Reads the weights, for features of `width`.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &ResamplerConfig, width: usize) -> Result<Self> {
        let latents = match config.kind {
            ResamplerKind::Perceiver { latents } => {
                Some(scope.parameter("latents", &[latents, width])?)
            }
            ResamplerKind::Transformer | ResamplerKind::Mlp => None,
        };
        let time = match config.time_embeddings {
            0 => None,
            frames => Some(Time {
                table: scope.parameter("time_embedding", &[frames, width])?,
                numbers: scope.numbers("time_embedding", &[frames, width])?,
            }),
        };
        let layers = (0..config.depth)
            .map(|i| Layer::load(&scope.child(&format!("layers.{i}")), config, width));
        Ok(Self {
            latents,
            time,
            layers: layers.collect::<Result<_>>()?,
            norm: layer_norm(&scope.child("norm"), width, config.norm_eps)?,
        })
    }

    /// Features `[n · frames, m, width]` of `n` pictures (of one frame) or
    /// videos → visual tokens `[n, tokens, width]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn forward(&self, features: &Tensor<B>, frames: usize) -> Result<Tensor<B>> {
        let &[rows, m, width] = features.shape() else {
            return Err(crate::Error::Shape {
                operation: "resampler",
                expected: "[n · frames, features, width]".into(),
                found: format!("{:?}", features.shape()),
            });
        };
        let n = rows / frames.max(1);
        let mut x = features.reshape(&[n, frames * m, width])?;
        if let Some(time) = &self.time {
            let each: Vec<u32> = (0..frames * m).map(|i| (i / m) as u32).collect();
            x = x.add(&time.of(frames)?.gather(&each)?)?;
        }
        let mut tokens = match &self.latents {
            Some(latents) => {
                let count = latents.shape()[0];
                let ids: Vec<u32> = (0..n * count).map(|i| (i % count) as u32).collect();
                latents.gather(&ids)?.reshape(&[n, count, width])?
            }
            None => x.clone(),
        };
        for layer in &self.layers {
            tokens = layer.forward(&x, &tokens)?;
        }
        self.norm.forward(&tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::interpolated;

    #[test]
    fn more_frames_than_were_learned_lie_between_them() {
        let table = [0.0, 10.0, 1.0, 30.0, 2.0, 20.0];
        let five = interpolated(&table, 2, 5);
        assert_eq!(
            five,
            [0.0, 10.0, 0.5, 20.0, 1.0, 30.0, 1.5, 25.0, 2.0, 20.0]
        );
        assert_eq!(interpolated(&table, 2, 3), table);
    }
}
