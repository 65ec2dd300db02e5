//! NFNets (Brock et al. 2021; DeepMind's `nfnet.py`): ResNets that do without
//! norms. The weights are standardised where the checkpoint is read.
//!
//! Each activation is multiplied by a constant γ, and what goes into a block by
//! 1 / β, the deviation that is expected there. What follows either is linear:
//! both go into its weights as they are loaded. Trained are the standardised
//! weights, without these; how much of a block is added (`skip_gain`) stays.

use crate::backend::{Activation, Backend};
use crate::checkpoint::Scope;
use crate::config::NfnetConfig;
use crate::tensor::{After, Tensor, Weight, Window};
use crate::{Error, Result};

/// A convolution over `[n, h, w, c]` with a bias.
struct Conv<B: Backend> {
    weight: Weight<B>,
    bias: Tensor<B>,
    window: Window,
}

impl<B: Backend> Conv<B> {
    /// Reads `weight` `[out, kernel² · in / groups]` and `bias` `[out]`, for an
    /// input that is to be multiplied by `gain`.
    fn load(
        scope: &Scope<'_, B>,
        (inner, out): (usize, usize),
        window: Window,
        gain: f32,
    ) -> Result<Self> {
        let cols = window.kernel * window.kernel * (inner / window.groups);
        Ok(Self {
            weight: scope.weight_times("weight", out, cols, gain)?,
            bias: scope.parameter("bias", &[out])?,
            window,
        })
    }

    /// `act(conv(x))`.
    fn then(&self, x: &Tensor<B>, activation: Option<Activation>) -> Result<Tensor<B>> {
        let after = After {
            bias: Some(&self.bias),
            activation,
            ..After::default()
        };
        if self.window.kernel == 1 {
            x.linear(&self.weight, &after)
        } else {
            x.conv2d(&self.weight, self.window, &after)
        }
    }
}

/// `[n, side, side, c]` → `[n, c]`: the mean of all places, of lines of windows
/// first where a GPU would else give one invocation the whole picture.
fn mean<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    let &[n, side, _, channels] = x.shape() else {
        return Ok(x.clone());
    };
    let step = (1..=side.isqrt()).rev().find(|step| side % step == 0);
    let x = x.avg_pool(step.unwrap_or(1))?;
    let x = x.avg_pool(x.shape()[1])?;
    x.reshape(&[n, channels])
}

/// 1 × 1, 3 × 3 twice in groups, 1 × 1, and how much of each channel counts
/// (squeeze and excitation).
struct Block<B: Backend> {
    conv1: Conv<B>,
    conv2: Conv<B>,
    conv2b: Conv<B>,
    conv3: Conv<B>,
    downsample: Option<Conv<B>>,
    fc1: Conv<B>,
    fc2: Conv<B>,
    stride: usize,
    activation: Activation,
    /// `α · 2 · skip_gain`.
    scale: f32,
}

impl<B: Backend> Block<B> {
    /// `beta` is one over the deviation of what comes in.
    fn load(
        scope: &Scope<'_, B>,
        config: &NfnetConfig,
        (inner, out): (usize, usize),
        stride: usize,
        beta: f32,
    ) -> Result<Self> {
        let gamma = config.gamma().unwrap_or(1.0);
        let mid = out / 2;
        let one = Window::new(1, 1, 0);
        let grouped = |stride| Window {
            groups: mid / config.group_width,
            ..Window::same(3, stride)
        };
        let conv =
            |name: &str, sizes, window, gain| Conv::load(&scope.child(name), sizes, window, gain);
        let transition = inner != out || stride != 1;
        Ok(Self {
            conv1: conv("conv1", (inner, mid), one, gamma * beta)?,
            conv2: conv("conv2", (mid, mid), grouped(stride), gamma)?,
            conv2b: conv("conv2b", (mid, mid), grouped(1), gamma)?,
            conv3: conv("conv3", (mid, out), one, gamma)?,
            downsample: transition
                .then(|| conv("downsample", (inner, out), one, gamma * beta))
                .transpose()?,
            fc1: conv("se.fc1", (out, out / 2), one, 1.0)?,
            fc2: conv("se.fc2", (out / 2, out), one, 1.0)?,
            stride,
            activation: config.activation,
            scale: config.alpha * 2.0 * scope.scalar("skip_gain")?,
        })
    }

    /// `[n, h, w, in]` → `[n, h / stride, w / stride, out]`.
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let act = Some(self.activation);
        let activated = x.activate(self.activation)?;
        let shortcut = match &self.downsample {
            Some(conv) if self.stride > 1 => conv.then(&activated.avg_pool(self.stride)?, None)?,
            Some(conv) => conv.then(&activated, None)?,
            None => x.clone(),
        };
        let y = self.conv1.then(&activated, act)?;
        let y = self.conv2b.then(&self.conv2.then(&y, act)?, act)?;
        let y = self.conv3.then(&y, None)?;
        let hidden = self.fc1.then(&mean(&y)?, Some(Activation::Relu))?;
        y.excite(&self.fc2.then(&hidden, None)?, &shortcut, self.scale)
    }
}

/// From features to one vector.
struct Head<B: Backend> {
    final_conv: Conv<B>,
    fc: Conv<B>,
}

/// An NFNet.
pub struct Nfnet<B: Backend> {
    stem: [Conv<B>; 4],
    stages: Vec<Vec<Block<B>>>,
    /// Absent where the tower is read for its features alone.
    head: Option<Head<B>>,
    config: NfnetConfig,
}

impl<B: Backend> Nfnet<B> {
    /// Reads the tower's weights; without `embed_dim` there is no way from its
    /// features to one vector.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(
        scope: &Scope<'_, B>,
        config: &NfnetConfig,
        embed_dim: Option<usize>,
    ) -> Result<Self> {
        let gamma = config.gamma().unwrap_or(1.0);
        let width = config.stem_width;
        let conv = |i: usize, sizes, stride, gain| {
            let scope = scope.child(&format!("stem.{i}"));
            Conv::load(&scope, sizes, Window::same(3, stride), gain)
        };
        let stem = [
            conv(0, (3, width / 8), 2, 1.0)?,
            conv(1, (width / 8, width / 4), 1, gamma)?,
            conv(2, (width / 4, width / 2), 1, gamma)?,
            conv(3, (width / 2, width), 2, gamma)?,
        ];
        let mut inner = width;
        // The variance of the shortcut: each block adds α² to it, and the first
        // of a stage begins anew.
        let mut variance = 1.0;
        let mut stages = Vec::with_capacity(config.depths.len());
        for (i, (&depth, &out)) in config.depths.iter().zip(&config.widths).enumerate() {
            let mut stage = Vec::with_capacity(depth);
            for block in 0..depth {
                let scope = scope.child(&format!("stages.{i}.{block}"));
                let stride = if block == 0 && i > 0 { 2 } else { 1 };
                let beta = 1.0 / f32::sqrt(variance);
                stage.push(Block::load(&scope, config, (inner, out), stride, beta)?);
                if block == 0 {
                    variance = 1.0;
                }
                variance += config.alpha * config.alpha;
                inner = out;
            }
            stages.push(stage);
        }
        let one = Window::new(1, 1, 0);
        let head = |embed_dim| {
            let (inner, wide) = (config.features(), config.final_width);
            Ok::<_, Error>(Head {
                final_conv: Conv::load(&scope.child("final_conv"), (inner, wide), one, 1.0)?,
                fc: Conv::load(&scope.child("fc"), (wide, embed_dim), one, gamma)?,
            })
        };
        Ok(Self {
            stem,
            stages,
            head: embed_dim.map(head).transpose()?,
            config: config.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &NfnetConfig {
        &self.config
    }

    /// Pictures `[n, size, size, 3]` → embeddings (or logits) `[n, embed_dim]`,
    /// not normalised.
    ///
    /// # Errors
    /// Where shapes do not go together, the tower was read for its features
    /// alone or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let head = self.head.as_ref().ok_or(Error::FeaturesAlone)?;
        let features = self.features(pixels)?;
        let x = head
            .final_conv
            .then(&features, Some(self.config.activation))?;
        head.fc.then(&mean(&x)?, None)
    }

    /// Pictures `[n, size, size, 3]` → what the last stage gives, `[n, grid,
    /// grid, features]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn features(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let stem = self.stem(pixels)?;
        let mut stages = self.stages.iter();
        stages.try_fold(stem, |x, stage| through(stage, x))
    }

    /// What comes out of the stem and of each stage: five tensors
    /// `[n, h, w, channels]`.
    ///
    /// # Errors
    /// As [`Nfnet::features`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        let mut states = vec![self.stem(pixels)?];
        for stage in &self.stages {
            states.push(through(stage, states[states.len() - 1].clone())?);
        }
        Ok(states)
    }

    /// `[n, size, size, 3]` → `[n, size / 4, size / 4, stem_width]`.
    fn stem(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let [first @ .., last] = &self.stem;
        let act = Some(self.config.activation);
        let mut convs = first.iter();
        let x = convs.try_fold(pixels.clone(), |x, conv| conv.then(&x, act))?;
        last.then(&x, None)
    }
}

/// Through every block of a stage.
fn through<B: Backend>(stage: &[Block<B>], x: Tensor<B>) -> Result<Tensor<B>> {
    stage.iter().try_fold(x, |x, block| block.forward(&x))
}
