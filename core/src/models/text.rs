//! CLIP's text tower: a causal transformer read at the end-of-text token
//! (CLIP §2.4; `encode_text` of OpenAI's `model.py`). SigLIP's sees both ways
//! and is read at the last position.

use crate::backend::{Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::{TextConfig, TextPool};
use crate::nn::{LayerNorm, Linear, Transformer};
use crate::tensor::{Tensor, Weight};
use crate::tokens::Tokens;
use crate::{Error, Result};

/// The text tower.
pub struct TextTower<B: Backend> {
    token_embedding: Weight<B>,
    positional_embedding: Tensor<B>,
    transformer: Transformer<B>,
    ln_final: LayerNorm<B>,
    projection: Linear<B>,
    config: TextConfig,
    backend: B,
}

impl<B: Backend> TextTower<B> {
    /// Reads the tower's weights.
    ///
    /// # Errors
    /// Where the checkpoint lacks one or the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &TextConfig, embed_dim: usize) -> Result<Self> {
        let transformer = &config.transformer;
        let (width, eps) = (transformer.width, transformer.layer_norm_eps);
        let mask = if config.causal {
            Mask::Causal { offset: 0 }
        } else {
            Mask::None
        };
        Ok(Self {
            token_embedding: scope.weight("token_embedding", config.vocab_size, width)?,
            positional_embedding: scope
                .parameter("positional_embedding", &[config.context, width])?
                .reshape(&[1, config.context, width])?,
            transformer: Transformer::load(scope, transformer, mask)?,
            ln_final: LayerNorm::load(&scope.child("ln_final"), width, eps)?,
            projection: if config.proj_bias {
                Linear::load(&scope.child("projection"), width, embed_dim)?
            } else {
                Linear::projection(scope, "projection", width, embed_dim)?
            },
            config: config.clone(),
            backend: scope.backend().clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Texts → `[n, length, width]`, what the blocks are given, where `length`
    /// is that of the longest text, or the context where the last position is
    /// read. Shorter texts are filled up with their last token, the end token:
    /// under a causal mask no query that is read sees it, and SigLIP was
    /// trained with it. A tower that is neither sees how far its text was
    /// filled up: give it texts of one length.
    fn tokens(&self, texts: &[Tokens]) -> Result<Tensor<B>> {
        let longest = texts.iter().map(|t| t.ids.len()).max().unwrap_or(0);
        if longest == 0 || longest > self.config.context {
            return Err(Error::Shape {
                operation: "text tower",
                expected: format!("texts of 1 to {} tokens", self.config.context),
                found: format!("{longest} tokens"),
            });
        }
        let length = match self.config.pool {
            TextPool::Eot => longest,
            TextPool::Last => self.config.context,
        };
        let mut ids = Vec::with_capacity(texts.len() * length);
        for text in texts {
            ids.extend(&text.ids);
            let last = text.ids.last().copied().unwrap_or(0);
            ids.resize(ids.len() + length - text.ids.len(), last);
        }
        let width = self.config.transformer.width;
        let positions = self
            .positional_embedding
            .narrow(0, length)?
            .reshape(&[length, width])?;
        self.token_embedding
            .embed(&self.backend, &ids)?
            .reshape(&[texts.len(), length, width])?
            .add(&positions)
    }

    /// Texts → embeddings `[n, embed_dim]`, not normalised: the position that
    /// is read, after the last block, normalised and projected.
    ///
    /// # Errors
    /// Where a text is longer than the context or the device fails.
    pub fn forward(&self, texts: &[Tokens]) -> Result<Tensor<B>> {
        let x = self.transformer.forward(self.tokens(texts)?)?;
        let length = x.shape()[1];
        let place = |text: &Tokens| match self.config.pool {
            TextPool::Eot => text.eot,
            TextPool::Last => length - 1,
        };
        let ends: Vec<u32> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| (i * length + place(text)) as u32)
            .collect();
        let x = self.ln_final.forward(&x.gather(&ends)?)?;
        self.projection.forward(&x)
    }

    /// The residual stream before the first block and after each:
    /// `layers + 1` tensors `[n, length, width]`.
    ///
    /// # Errors
    /// As [`TextTower::forward`].
    pub fn states(&self, texts: &[Tokens]) -> Result<Vec<Tensor<B>>> {
        self.transformer.states(self.tokens(texts)?)
    }
}
