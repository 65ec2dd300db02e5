//! CLIP's ResNet (§2.4; `ModifiedResNet` of OpenAI's `model.py`): a stem of
//! three convolutions, average pooling instead of strides, attention pooling
//! instead of an average at the end. Batch norm is folded into the
//! convolutions where the checkpoint is read.

use crate::backend::{Activation, Backend};
use crate::checkpoint::Scope;
use crate::config::ResNetConfig;
use crate::models::pool::CrossAttention;
use crate::tensor::{After, Tensor, Weight, Window};
use crate::{Error, Result};

/// A convolution over `[n, h, w, c]` with as much padding as keeps the size.
struct Conv<B: Backend> {
    weight: Weight<B>,
    bias: Tensor<B>,
    kernel: usize,
    stride: usize,
}

impl<B: Backend> Conv<B> {
    /// Reads `weight` `[out, kernel² · in]` and `bias` `[out]`.
    fn load(
        scope: &Scope<'_, B>,
        (inner, out): (usize, usize),
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.weight("weight", out, kernel * kernel * inner)?,
            bias: scope.parameter("bias", &[out])?,
            kernel,
            stride,
        })
    }

    fn then(&self, x: &Tensor<B>, after: &After<'_, B>) -> Result<Tensor<B>> {
        if self.kernel == 1 {
            x.linear(&self.weight, after)
        } else {
            let window = Window::new(self.kernel, self.stride, self.kernel / 2);
            x.conv2d(&self.weight, window, after)
        }
    }

    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.then(
            x,
            &After {
                bias: Some(&self.bias),
                ..After::default()
            },
        )
    }

    /// `max(conv(x), 0)`.
    fn relu(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.then(
            x,
            &After {
                bias: Some(&self.bias),
                activation: Some(Activation::Relu),
                ..After::default()
            },
        )
    }

    /// `max(conv(x) + identity, 0)`.
    fn residual_relu(&self, x: &Tensor<B>, identity: &Tensor<B>) -> Result<Tensor<B>> {
        self.then(
            x,
            &After {
                bias: Some(&self.bias),
                activation: Some(Activation::Relu),
                residual: Some(identity),
                residual_first: true,
                ..After::default()
            },
        )
    }
}

/// How much wider a block's result is than its inside.
const EXPANSION: usize = 4;

/// 1 × 1, 3 × 3, 1 × 1; the size is halved by average pooling.
struct Bottleneck<B: Backend> {
    conv1: Conv<B>,
    conv2: Conv<B>,
    conv3: Conv<B>,
    downsample: Option<Conv<B>>,
    stride: usize,
}

impl<B: Backend> Bottleneck<B> {
    fn load(
        scope: &Scope<'_, B>,
        (inner, planes): (usize, usize),
        stride: usize,
        downsample: bool,
    ) -> Result<Self> {
        let out = EXPANSION * planes;
        let conv =
            |name: &str, channels, kernel| Conv::load(&scope.child(name), channels, kernel, 1);
        Ok(Self {
            conv1: conv("conv1", (inner, planes), 1)?,
            conv2: conv("conv2", (planes, planes), 3)?,
            conv3: conv("conv3", (planes, out), 1)?,
            downsample: downsample
                .then(|| conv("downsample", (inner, out), 1))
                .transpose()?,
            stride,
        })
    }

    /// `[n, h, w, in]` → `[n, h / stride, w / stride, out]`.
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let mut y = self.conv2.relu(&self.conv1.relu(x)?)?;
        let mut identity = x.clone();
        if self.stride > 1 {
            y = y.avg_pool(self.stride)?;
            identity = identity.avg_pool(self.stride)?;
        }
        if let Some(downsample) = &self.downsample {
            identity = downsample.forward(&identity)?;
        }
        self.conv3.residual_relu(&y, &identity)
    }
}

/// The mean of all positions asks, the mean and all positions answer
/// (`AttentionPool2d`).
struct AttentionPool<B: Backend> {
    positional_embedding: Tensor<B>,
    attn: CrossAttention<B>,
    grid: usize,
    features: usize,
    embed_dim: usize,
}

impl<B: Backend> AttentionPool<B> {
    fn load(scope: &Scope<'_, B>, config: &ResNetConfig, embed_dim: usize) -> Result<Self> {
        let (grid, features) = (config.grid(), config.features());
        Ok(Self {
            positional_embedding: scope
                .parameter("positional_embedding", &[grid * grid + 1, features])?,
            attn: CrossAttention::load(scope, (features, embed_dim), config.heads)?,
            grid,
            features,
            embed_dim,
        })
    }

    /// `[n, grid, grid, features]` → `[n, embed_dim]`.
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let (n, grid, features) = (x.shape()[0], self.grid, self.features);
        let mean = x.avg_pool(grid)?.reshape(&[n, 1, features])?;
        let x = x.reshape(&[n, grid * grid, features])?;
        let x = Tensor::concat(&mean, &x)?.add(&self.positional_embedding)?;
        let pooled = self.attn.forward(&x.narrow(0, 1)?, &x)?;
        pooled.reshape(&[n, self.embed_dim])
    }
}

/// CLIP's ResNet.
pub struct ModifiedResNet<B: Backend> {
    stem: [Conv<B>; 3],
    layers: Vec<Vec<Bottleneck<B>>>,
    /// Absent where the tower is read for its features alone.
    attnpool: Option<AttentionPool<B>>,
    config: ResNetConfig,
}

impl<B: Backend> ModifiedResNet<B> {
    /// Reads the tower's weights; without `embed_dim` there is no way from its
    /// features to one vector.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(
        scope: &Scope<'_, B>,
        config: &ResNetConfig,
        embed_dim: Option<usize>,
    ) -> Result<Self> {
        let width = config.width;
        let conv =
            |name: &str, channels, stride| Conv::load(&scope.child(name), channels, 3, stride);
        let stem = [
            conv("conv1", (3, width / 2), 2)?,
            conv("conv2", (width / 2, width / 2), 1)?,
            conv("conv3", (width / 2, width), 1)?,
        ];
        let mut inner = width;
        let mut layers = Vec::with_capacity(config.layers.len());
        for (i, &blocks) in config.layers.iter().enumerate() {
            let planes = width << i;
            let mut layer = Vec::with_capacity(blocks);
            for block in 0..blocks {
                let scope = scope.child(&format!("layer{}.{block}", i + 1));
                let first = block == 0;
                let stride = if first && i > 0 { 2 } else { 1 };
                layer.push(Bottleneck::load(&scope, (inner, planes), stride, first)?);
                inner = EXPANSION * planes;
            }
            layers.push(layer);
        }
        Ok(Self {
            stem,
            layers,
            attnpool: embed_dim
                .map(|embed_dim| AttentionPool::load(&scope.child("attnpool"), config, embed_dim))
                .transpose()?,
            config: config.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Pictures `[n, size, size, 3]` → embeddings `[n, embed_dim]`, not
    /// normalised.
    ///
    /// # Errors
    /// Where shapes do not go together, the tower was read for its features
    /// alone or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let attnpool = self.attnpool.as_ref().ok_or(Error::FeaturesAlone)?;
        attnpool.forward(&self.features(pixels)?)
    }

    /// Pictures `[n, size, size, 3]` → what the last layer gives, `[n, grid,
    /// grid, features]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn features(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let stem = self.stem(pixels)?;
        let mut layers = self.layers.iter();
        layers.try_fold(stem, |x, layer| through(layer, x))
    }

    /// What comes out of the stem and of each layer: five tensors
    /// `[n, h, w, channels]`.
    ///
    /// # Errors
    /// As [`ModifiedResNet::features`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        let mut states = vec![self.stem(pixels)?];
        for layer in &self.layers {
            states.push(through(layer, states[states.len() - 1].clone())?);
        }
        Ok(states)
    }

    /// `[n, size, size, 3]` → `[n, size / 4, size / 4, width]`.
    fn stem(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let mut convs = self.stem.iter();
        let x = convs.try_fold(pixels.clone(), |x, conv| conv.relu(&x))?;
        x.avg_pool(2)
    }
}

/// Through every block of a layer.
fn through<B: Backend>(layer: &[Bottleneck<B>], x: Tensor<B>) -> Result<Tensor<B>> {
    layer.iter().try_fold(x, |x, block| block.forward(&x))
}
