//! One step of contrastive training (CLIP Figure 3), its gradient and its
//! optimiser.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ops::log_softmax;
use plume_core::cpu::Candle;
use plume_core::models::clip::Clip;

use super::batch::Batch;

/// Symmetric cross-entropy over the cosines of `n` pictures with `n` true
/// captions, and with false ones that only pictures choose against.
///
/// images `[n, d]`, texts `[n + false, d]`, both of length one; `scale` `[1]`
/// is the logarithm of the inverse temperature; `excused` as in [`Batch`].
///
/// # Errors
/// Where shapes do not go together.
pub fn contrastive_loss(
    images: &Tensor,
    texts: &Tensor,
    scale: &Tensor,
    excused: &[Option<usize>],
) -> candle_core::Result<Tensor> {
    let n = images.dim(0)?;
    let logits = images.matmul(&texts.t()?)?.broadcast_mul(&scale.exp()?)?;
    let by_text = logits.narrow(1, 0, n)?.t()?.contiguous()?;
    let mut mask = vec![0f32; n * (n + excused.len())];
    for (column, picture) in excused.iter().enumerate() {
        if let Some(picture) = picture {
            mask[picture * (n + excused.len()) + n + column] = -1e4;
        }
    }
    let mask = Tensor::from_vec(mask, logits.shape(), &Device::Cpu)?;
    let by_image = (logits + mask)?;
    let diagonal = Tensor::arange(0u32, n as u32, &Device::Cpu)?.unsqueeze(1)?;
    let cross_entropy = |logits: &Tensor| -> candle_core::Result<Tensor> {
        log_softmax(logits, 1)?
            .gather(&diagonal, 1)?
            .mean_all()?
            .neg()
    };
    (cross_entropy(&by_image)? + cross_entropy(&by_text)?)? * 0.5
}

/// Gradients by parameter name.
pub type Gradients = BTreeMap<String, Tensor>;

/// Runs forward and backward over a batch with two threads.
///
/// Each half of the pictures has its own graph; only the embeddings meet, in
/// the loss. The chain rule is applied by hand at that seam, which changes no
/// number and lets both halves run at once.
///
/// # Errors
/// Where the computation fails.
pub fn gradients(
    clip: &Clip<Candle>,
    parameters: &[(String, Var)],
    batch: &Batch,
) -> Result<(f32, Gradients)> {
    let picture = batch.pixels.len() / batch.n;
    let half = batch.n / 2;
    let (front, back) = batch.pixels.split_at(half * picture);
    let images = |pixels: &[f32]| -> Result<Tensor> {
        let shape = (pixels.len() / picture, ());
        Ok(clip.embed_images(pixels)?.buffer().reshape(shape)?)
    };
    let (first, second, texts) = std::thread::scope(|scope| {
        let other = scope.spawn(|| images(back));
        let first = images(front);
        let texts = clip.embed_texts(&batch.texts).map(|t| t.buffer().clone());
        (first, other.join(), texts)
    });
    let second = second.map_err(|_| anyhow::anyhow!("a training thread panicked"))??;
    let (first, texts) = (first?, texts?);

    // The embeddings as leaves of a small graph of their own.
    let both = Var::from_tensor(&Tensor::cat(&[&first, &second], 0)?.detach())?;
    let words = Var::from_tensor(&texts.detach())?;
    let scale = clip.logit_scale.as_ref();
    let scale = scale.context("the model has no logit_scale")?.buffer();
    let loss = contrastive_loss(both.as_tensor(), words.as_tensor(), scale, &batch.excused)?;
    let top = loss.backward()?;
    let seam = top
        .get(&both)
        .context("the loss does not depend on the pictures")?;
    let words = top
        .get(&words)
        .context("the loss does not depend on the texts")?;
    let pull = |output: &Tensor, grad: &Tensor| -> Result<GradStore> {
        Ok((output * grad)?.sum_all()?.backward()?)
    };
    let (a, b, c) = std::thread::scope(|scope| -> Result<_> {
        let grad = seam.narrow(0, half, batch.n - half)?.contiguous()?;
        let other = scope.spawn(move || pull(&second, &grad));
        let a = pull(&first, &seam.narrow(0, 0, half)?.contiguous()?)?;
        let c = pull(&texts, words)?;
        let b = other.join();
        Ok((
            a,
            b.map_err(|_| anyhow::anyhow!("a training thread panicked"))??,
            c,
        ))
    })?;

    let mut sum = Gradients::new();
    for (name, var) in parameters {
        let parts = [&top, &a, &b, &c]
            .into_iter()
            .filter_map(|store| store.get(var));
        let total = parts.cloned().try_fold(None, |sum: Option<Tensor>, part| {
            candle_core::Result::Ok(Some(match sum {
                None => part,
                Some(sum) => (sum + part)?,
            }))
        })?;
        let total = total.with_context(|| format!("{name} has no gradient"))?;
        sum.insert(name.clone(), total);
    }
    Ok((loss.to_dtype(DType::F32)?.to_scalar()?, sum))
}

/// AdamW (Loshchilov and Hutter 2019) with clipping of the global norm. Decay
/// touches matrices only: neither gains nor biases, as CLIP §2.5 says, and
/// nothing of a resampler (Flamingo, App. B.1.2).
pub struct AdamW {
    /// Steps taken.
    pub step: usize,
    moments: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
}

/// The constants of the optimiser.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct AdamWConfig {
    /// Peak learning rate.
    pub rate: f64,
    /// Of the first moment.
    pub beta_1: f64,
    /// Of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// Largest norm of the whole gradient.
    pub clip: f64,
}

/// CLIP §2.5: logits are never scaled by more than 100.
const MAX_LOGIT_SCALE: f32 = 4.605_17;

fn decays(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && !name.ends_with("embedding") && !name.starts_with("resampler.")
}

impl AdamW {
    /// No step taken.
    pub fn new() -> Self {
        Self {
            step: 0,
            moments: BTreeMap::new(),
        }
    }

    /// The moments, as tensors to keep.
    ///
    /// # Errors
    /// Where they cannot be copied.
    pub fn save(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for (name, (m, v)) in &self.moments {
            for (kind, x) in [("m", m), ("v", v)] {
                let tensor = Tensor::from_slice(x, x.len(), &Device::Cpu)?;
                out.insert(format!("{kind}.{name}"), tensor);
            }
        }
        Ok(out)
    }

    /// The state after `step` steps.
    ///
    /// # Errors
    /// Where a moment is missing.
    pub fn restore(
        step: usize,
        tensors: &std::collections::HashMap<String, Tensor>,
    ) -> Result<Self> {
        let mut moments = BTreeMap::new();
        for (key, m) in tensors {
            let Some(name) = key.strip_prefix("m.") else {
                continue;
            };
            let v = tensors.get(&format!("v.{name}"));
            let v = v.with_context(|| format!("the state lacks v.{name}"))?;
            moments.insert(name.to_owned(), (m.to_vec1()?, v.to_vec1()?));
        }
        Ok(Self { step, moments })
    }

    /// Takes a step with learning rate `rate`; returns the gradient's norm.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn update(
        &mut self,
        parameters: &[(String, Var)],
        gradients: &Gradients,
        config: &AdamWConfig,
        rate: f64,
    ) -> Result<f64> {
        self.update_each(parameters, gradients, config, &|_| rate)
    }

    /// The same with a learning rate for each parameter, by its name.
    ///
    /// # Errors
    /// As [`AdamW::update`].
    pub fn update_each(
        &mut self,
        parameters: &[(String, Var)],
        gradients: &Gradients,
        config: &AdamWConfig,
        rate: &dyn Fn(&str) -> f64,
    ) -> Result<f64> {
        self.step += 1;
        let flat: BTreeMap<&String, Vec<f32>> = gradients
            .iter()
            .map(|(name, grad)| Ok((name, grad.flatten_all()?.to_vec1::<f32>()?)))
            .collect::<Result<_>>()?;
        let squares = flat
            .values()
            .flatten()
            .map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt();
        let shrink = (config.clip / norm.max(1e-12)).min(1.0) as f32;
        let (b1, b2) = (config.beta_1 as f32, config.beta_2 as f32);
        let correct = |beta: f64| (1.0 - beta.powi(self.step as i32)) as f32;
        let (c1, c2) = (correct(config.beta_1), correct(config.beta_2));
        for (name, var) in parameters {
            let Some(grad) = flat.get(name) else {
                continue;
            };
            let mut x: Vec<f32> = var.flatten_all()?.to_vec1()?;
            let rate = rate(name);
            let decay = if decays(name, var.dims()) {
                (rate * config.decay) as f32
            } else {
                0.0
            };
            let (m, v) = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| (vec![0.0; x.len()], vec![0.0; x.len()]));
            for i in 0..x.len() {
                let g = grad[i] * shrink;
                m[i] = b1 * m[i] + (1.0 - b1) * g;
                v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                let step = (m[i] / c1) / ((v[i] / c2).sqrt() + config.epsilon as f32);
                x[i] -= decay * x[i] + rate as f32 * step;
            }
            if name == "logit_scale" {
                x[0] = x[0].min(MAX_LOGIT_SCALE);
            }
            var.set(&Tensor::from_vec(x, var.shape(), &Device::Cpu)?)?;
        }
        Ok(norm)
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self::new()
    }
}

/// How the learning rate goes after the warm-up.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Down to zero by half a cosine.
    #[default]
    Cosine,
    /// It stays, as in Flamingo (App. B.1.2).
    Constant,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(self, step: usize, steps: usize, warm_up: usize, peak: f64) -> f64 {
        match self {
            Self::Constant if step >= warm_up => peak,
            Self::Cosine | Self::Constant => schedule(step, steps, warm_up, peak),
        }
    }
}

/// Warm-up from zero, then half a cosine to zero (CLIP §2.5).
pub fn schedule(step: usize, steps: usize, warm_up: usize, peak: f64) -> f64 {
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let done = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    peak * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}
