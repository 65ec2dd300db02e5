//! A table of tokens: from ids to rows, and from rows to logits.

use crate::Result;
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::nn::Norm;
use crate::tensor::{After, Tensor, Weight};

/// A row for each token. Those of tokens that were added to a finished
/// vocabulary may be stored by themselves, exactly, where the others are in
/// fewer bits.
pub(crate) struct Table<B: Backend> {
    first: Weight<B>,
    added: Option<Weight<B>>,
}

impl<B: Backend> Table<B> {
    /// Reads `name`, `[rows, cols]`.
    pub(crate) fn load(scope: &Scope<'_, B>, name: &str, rows: usize, cols: usize) -> Result<Self> {
        let (first, added) = scope.parted(name, rows, cols)?;
        Ok(Self { first, added })
    }

    /// Rows `ids` → `[ids.len(), cols]`.
    pub(crate) fn embed(&self, backend: &B, ids: &[u32]) -> Result<Tensor<B>> {
        let (base, cols) = self.first.dims();
        let is_added = |&id: &u32| id as usize >= base;
        let added = match &self.added {
            Some(added) if ids.iter().any(is_added) => added,
            _ => return self.first.embed(backend, ids),
        };
        let (new, old): (Vec<u32>, Vec<u32>) = ids.iter().partition(|id| is_added(id));
        let new: Vec<u32> = new.iter().map(|id| id - base as u32).collect();
        let new = added.embed(backend, &new)?;
        if old.is_empty() {
            return Ok(new);
        }
        let count = old.len() as u32;
        let old = self.first.embed(backend, &old)?;
        let both = Tensor::concat(
            &old.reshape(&[1, old.shape()[0], cols])?,
            &new.reshape(&[1, new.shape()[0], cols])?,
        )?;
        // Back into the order of the text.
        let (mut old, mut new) = (0..count, count..);
        let place = |id: &u32| if is_added(id) { new.next() } else { old.next() };
        let order: Vec<u32> = ids.iter().filter_map(place).collect();
        both.reshape(&[ids.len(), cols])?.gather(&order)
    }

    /// `[.., cols]` → `[.., rows]`, of what the norm makes of it if there is one.
    pub(crate) fn logits(&self, norm: Option<&Norm<B>>, x: &Tensor<B>) -> Result<Tensor<B>> {
        let after = After::default();
        let product = |w: &Weight<B>| match norm {
            Some(norm) => x.norm_linear(&norm.of(), w, &after),
            None => x.linear(w, &after),
        };
        let first = product(&self.first)?;
        let Some(added) = &self.added else {
            return Ok(first);
        };
        let added = product(added)?;
        let column = |part: &Tensor<B>| {
            let width = part.shape().last().copied().unwrap_or(1);
            part.reshape(&[part.len() / width, width, 1])
        };
        let both = Tensor::concat(&column(&first)?, &column(&added)?)?;
        let mut shape = x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = both.shape()[1];
        }
        both.reshape(&shape)
    }
}
