//! CLIP's image tower: a vision transformer with one more layer norm, before
//! the blocks (CLIP §2.4; `VisionTransformer` of OpenAI's `model.py`).

use crate::Result;
use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::{StemConfig, VisionConfig, VisionPool};
use crate::nn::{Conv, LayerNorm, Linear, Transformer};
use crate::tensor::Tensor;

/// From pixels to a grid of tokens.
enum Stem<B: Backend> {
    Patch { size: usize, conv1: Linear<B> },
    Conv { convs: Vec<Conv<B>>, out: Linear<B> },
}

impl<B: Backend> Stem<B> {
    fn load(scope: &Scope<'_, B>, config: &StemConfig, width: usize) -> Result<Self> {
        match config {
            StemConfig::Patch { size } => Ok(Self::Patch {
                size: *size,
                conv1: Linear::projection(scope, "conv1.weight", 3 * size * size, width)?,
            }),
            StemConfig::Conv { convs } => {
                let mut channels = 3;
                let mut loaded = Vec::with_capacity(convs.len());
                for (i, conv) in convs.iter().enumerate() {
                    let scope = scope.child(&format!("convs.{i}"));
                    loaded.push(Conv::load(&scope, channels, conv.channels, conv.stride)?);
                    channels = conv.channels;
                }
                Ok(Self::Conv {
                    convs: loaded,
                    out: Linear::load(&scope.child("out"), channels, width)?,
                })
            }
        }
    }

    /// `[n, size, size, 3]` → `[n, grid, grid, width]`.
    fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        match self {
            Self::Patch { size, conv1 } => conv1.forward(&pixels.unfold(*size, *size, 0)?),
            Self::Conv { convs, out } => {
                let x = convs
                    .iter()
                    .try_fold(pixels.clone(), |x, conv| conv.forward(&x))?;
                out.forward(&x)
            }
        }
    }
}

/// The image tower.
pub struct VisionTower<B: Backend> {
    stem: Stem<B>,
    class_embedding: Option<Tensor<B>>,
    positional_embedding: Tensor<B>,
    ln_pre: LayerNorm<B>,
    transformer: Transformer<B>,
    ln_post: LayerNorm<B>,
    proj: Linear<B>,
    config: VisionConfig,
}

impl<B: Backend> VisionTower<B> {
    /// Reads the tower's weights.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &VisionConfig, embed_dim: usize) -> Result<Self> {
        let transformer = &config.transformer;
        let (width, eps) = (transformer.width, transformer.layer_norm_eps);
        let (class_embedding, pooled) = match config.pool {
            VisionPool::Class => {
                let class = scope.parameter("class_embedding", &[width])?;
                (Some(class.reshape(&[1, width])?), width)
            }
            VisionPool::Cells { side } => (None, side * side * width),
        };
        Ok(Self {
            stem: Stem::load(&scope.child("stem"), &config.stem, width)?,
            class_embedding,
            positional_embedding: scope
                .parameter("positional_embedding", &[config.tokens(), width])?,
            ln_pre: LayerNorm::load(&scope.child("ln_pre"), width, eps)?,
            transformer: Transformer::load(scope, transformer, Mask::None)?,
            ln_post: LayerNorm::load(&scope.child("ln_post"), width, eps)?,
            proj: Linear::projection(scope, "proj", pooled, embed_dim)?,
            config: config.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// `[n, size, size, 3]` → `[n, tokens, width]`, what the blocks are given.
    fn tokens(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let grid = self.stem.forward(pixels)?;
        let width = self.config.transformer.width;
        let tokens = self.config.grid() * self.config.grid();
        let n = grid.len() / (width * tokens).max(1);
        let mut x = grid.reshape(&[n, tokens, width])?;
        if let Some(class) = &self.class_embedding {
            x = Tensor::concat(class, &x)?;
        }
        self.ln_pre.forward(&x.add(&self.positional_embedding)?)
    }

    /// Pictures `[n, size, size, 3]` → embeddings `[n, embed_dim]`, not
    /// normalised: what the last block gives, read as the configuration says,
    /// normalised and projected.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        self.pool(&self.transformer.forward(self.tokens(pixels)?)?)
    }

    /// The residual stream before the first block and after each:
    /// `layers + 1` tensors `[n, tokens, width]`.
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        self.transformer.states(self.tokens(pixels)?)
    }

    fn pool(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let (n, width) = (x.shape()[0], self.config.transformer.width);
        match self.config.pool {
            VisionPool::Class => {
                let class = x.narrow(0, 1)?.reshape(&[n, width])?;
                self.proj.forward(&self.ln_post.forward(&class)?)
            }
            VisionPool::Cells { side } => {
                let grid = self.config.grid();
                let x = self.ln_post.forward(x)?.reshape(&[n, grid, grid, width])?;
                let cells = x.avg_pool(grid / side)?;
                self.proj
                    .forward(&cells.reshape(&[n, side * side * width])?)
            }
        }
    }
}
