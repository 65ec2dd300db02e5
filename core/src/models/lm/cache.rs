//! What a language model keeps of what it has read.

use crate::backend::Backend;
use crate::tensor::Tensor;

/// The keys and values of what has been read, with room for what is to come.
pub struct Cache<B: Backend> {
    /// Of each block: keys and values side by side, `[batch, capacity, 2 ·
    /// width]`; where keys are smeared, `3 · width`: what was not, behind.
    pub(super) layers: Vec<Tensor<B>>,
    /// Rows that are filled.
    pub(super) len: usize,
    pub(super) batch: usize,
    pub(super) capacity: usize,
    pub(super) padding: Vec<usize>,
}

impl<B: Backend> Cache<B> {
    /// Tokens that are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets what came after the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}
