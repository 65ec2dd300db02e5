//! A decoder-only language model: one decoder for every family (Vaswani et al.
//! 2017; what differs is in [`LmConfig`](crate::config::language::LmConfig)).

mod attention;
mod block;
mod cache;
mod mlp;
mod model;
mod pass;

pub use cache::Cache;
pub(crate) use mlp::Mlp;
pub use model::Lm;
pub use pass::Pass;

use crate::Result;
use crate::backend::Backend;
use crate::tensor::Tensor;

/// What writes on: a language model, by itself or with pictures.
pub trait Decoder<B: Backend> {
    /// The language model.
    fn lm(&self) -> &Lm<B>;

    /// Token ids → `[batch, queries, width]` after the last block.
    ///
    /// # Errors
    /// As [`Lm::embed`] and [`Lm::block`].
    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>>;
}

impl<B: Backend> Decoder<B> for Lm<B> {
    fn lm(&self) -> &Lm<B> {
        self
    }

    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        Lm::forward(self, ids, pass, cache)
    }
}
