//! CLIP's vision transformer: one more layer norm, before the blocks (CLIP
//! §2.4; `VisionTransformer` of OpenAI's `model.py`). SigLIP's has none there,
//! and is pooled by attention.

use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::flamingo::VisionFeatures;
use crate::config::{StemConfig, VisionPool, VitConfig};
use crate::models::pool::MapHead;
use crate::nn::{Conv, LayerNorm, Linear, Transformer};
use crate::tensor::{Tensor, Window};
use crate::{Error, Result};

/// From pixels to a grid of tokens.
enum Stem<B: Backend> {
    Patch { size: usize, conv1: Linear<B> },
    Conv { convs: Vec<Conv<B>>, out: Linear<B> },
}

impl<B: Backend> Stem<B> {
    fn load(scope: &Scope<'_, B>, config: &StemConfig, width: usize) -> Result<Self> {
        match config {
            StemConfig::Patch { size, bias } => {
                let (size, inner) = (*size, 3 * size * size);
                let conv1 = if *bias {
                    Linear::load(&scope.child("conv1"), inner, width)?
                } else {
                    Linear::projection(scope, "conv1.weight", inner, width)?
                };
                Ok(Self::Patch { size, conv1 })
            }
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
            Self::Patch { size, conv1 } => conv1.windows(pixels, Window::new(*size, *size, 0)),
            Self::Conv { convs, out } => {
                let x = convs
                    .iter()
                    .try_fold(pixels.clone(), |x, conv| conv.forward(&x))?;
                out.forward(&x)
            }
        }
    }
}

/// From tokens to one vector; see [`VisionPool`].
enum Pool<B: Backend> {
    Class { proj: Linear<B> },
    Cells { side: usize, proj: Linear<B> },
    Map(Box<MapHead<B>>),
}

impl<B: Backend> Pool<B> {
    fn load(scope: &Scope<'_, B>, config: &VitConfig, embed_dim: usize) -> Result<Self> {
        let width = config.transformer.width;
        let proj = |inner| Linear::projection(scope, "proj", inner, embed_dim);
        Ok(match config.pool {
            VisionPool::Class => Self::Class { proj: proj(width)? },
            VisionPool::Cells { side } => Self::Cells {
                side,
                proj: proj(side * side * width)?,
            },
            VisionPool::Map => {
                let head = MapHead::load(&scope.child("map"), &config.transformer)?;
                Self::Map(Box::new(head))
            }
        })
    }
}

/// A vision transformer.
pub struct Vit<B: Backend> {
    stem: Stem<B>,
    class_embedding: Option<Tensor<B>>,
    positional_embedding: Tensor<B>,
    ln_pre: Option<LayerNorm<B>>,
    transformer: Transformer<B>,
    ln_post: LayerNorm<B>,
    /// Absent where the tower is read for its features alone.
    pool: Option<Pool<B>>,
    config: VitConfig,
}

impl<B: Backend> Vit<B> {
    /// Reads the tower's weights; without `embed_dim` there is no way from its
    /// features to one vector.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(
        scope: &Scope<'_, B>,
        config: &VitConfig,
        embed_dim: Option<usize>,
    ) -> Result<Self> {
        let transformer = &config.transformer;
        let width = transformer.width;
        let norm =
            |name: &str| LayerNorm::load(&scope.child(name), width, transformer.layer_norm_eps);
        let class_embedding = match config.pool {
            VisionPool::Class => {
                let embedding = scope.parameter("class_embedding", &[width])?;
                Some(embedding.reshape(&[1, width])?)
            }
            VisionPool::Cells { .. } | VisionPool::Map => None,
        };
        Ok(Self {
            stem: Stem::load(&scope.child("stem"), &config.stem, width)?,
            class_embedding,
            positional_embedding: scope
                .parameter("positional_embedding", &[config.tokens(), width])?,
            ln_pre: config.ln_pre.then(|| norm("ln_pre")).transpose()?,
            transformer: Transformer::load(scope, transformer, Mask::None)?,
            ln_post: norm("ln_post")?,
            pool: embed_dim
                .map(|embed_dim| Pool::load(scope, config, embed_dim))
                .transpose()?,
            config: config.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// `[n, size, size, 3]` → `[n, tokens, width]`, what the blocks are given.
    fn tokens(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let grid = self.stem.forward(pixels)?;
        let width = self.config.transformer.width;
        let tokens = self.config.grid() * self.config.grid();
        let n = grid.len() / (width * tokens).max(1);
        let mut x = grid.reshape(&[n, tokens, width])?;
        if let Some(embedding) = &self.class_embedding {
            x = Tensor::concat(embedding, &x)?;
        }
        let x = x.add(&self.positional_embedding)?;
        match &self.ln_pre {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }

    /// Pictures `[n, size, size, 3]` → embeddings `[n, embed_dim]`, not
    /// normalised: what the last block gives, read as the configuration says,
    /// normalised and projected.
    ///
    /// # Errors
    /// Where shapes do not go together, the tower was read for its features
    /// alone or the device fails.
    pub fn forward(&self, pixels: &Tensor<B>) -> Result<Tensor<B>> {
        let pool = self.pool.as_ref().ok_or(Error::FeaturesAlone)?;
        self.pooled(pool, &self.transformer.forward(self.tokens(pixels)?)?)
    }

    /// Pictures `[n, size, size, 3]` → what the last block gives, `[n, tokens,
    /// width]`, for a model that reads all of it.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub fn features(&self, pixels: &Tensor<B>, wanted: VisionFeatures) -> Result<Tensor<B>> {
        let mut x = self.transformer.forward(self.tokens(pixels)?)?;
        if self.class_embedding.is_some() && !wanted.class_token {
            x = x.narrow(1, x.shape()[1] - 1)?;
        }
        if wanted.ln_post {
            x = self.ln_post.forward(&x)?;
        }
        Ok(x)
    }

    /// The residual stream before the first block and after each:
    /// `layers + 1` tensors `[n, tokens, width]`.
    ///
    /// # Errors
    /// As [`Vit::forward`].
    pub fn states(&self, pixels: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        self.transformer.states(self.tokens(pixels)?)
    }

    fn pooled(&self, pool: &Pool<B>, x: &Tensor<B>) -> Result<Tensor<B>> {
        let (n, width) = (x.shape()[0], self.config.transformer.width);
        match pool {
            Pool::Class { proj } => {
                let class = x.narrow(0, 1)?.reshape(&[n, width])?;
                proj.forward(&self.ln_post.forward(&class)?)
            }
            Pool::Cells { side, proj } => {
                let grid = self.config.grid();
                let x = self.ln_post.forward(x)?.reshape(&[n, grid, grid, width])?;
                let cells = x.avg_pool(grid / side)?;
                proj.forward(&cells.reshape(&[n, side * side * width])?)
            }
            Pool::Map(head) => head.forward(&self.ln_post.forward(x)?),
        }
    }
}
