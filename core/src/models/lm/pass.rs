//! The rows that go through a language model at once.

use std::cell::OnceCell;

use super::Cache;
use crate::Result;
use crate::backend::{Backend, Mask};

/// The rows of one pass: how many, where they stand, and what they see.
pub struct Pass<B: Backend> {
    pub(super) batch: usize,
    pub(super) queries: usize,
    /// Keys before those of this pass.
    pub(super) before: usize,
    /// Position of the first row.
    pub(super) start: usize,
    /// From one row to the next.
    pub(super) step: usize,
    /// Rows at the beginning of each sequence that are no tokens.
    padding: Vec<usize>,
    pub(super) mask: Mask,
    pub(super) rule: Option<B::Ids>,
    /// Where rows follow others than the one before them: the places of those.
    parents: Option<Vec<usize>>,
    /// [`Pass::previous`] on the device, once it is asked for.
    previous: OnceCell<B::Ids>,
}

impl<B: Backend> Pass<B> {
    /// Whole texts, without a cache: `queries` tokens of each sequence, of
    /// which the first `padding[i]` of the `i`-th are none.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn whole(backend: &B, queries: usize, padding: &[usize]) -> Result<Self> {
        Self::causal(backend, queries, 0, padding)
    }

    /// `queries` more tokens of each sequence of a cache.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn next(backend: &B, cache: &Cache<B>, queries: usize) -> Result<Self> {
        Self::causal(backend, queries, cache.len, &cache.padding)
    }

    fn causal(backend: &B, queries: usize, before: usize, padding: &[usize]) -> Result<Self> {
        let first: Vec<u32> = padding.iter().map(|&rows| rows as u32).collect();
        let padded = padding.iter().any(|&rows| rows > 0);
        Ok(Self {
            batch: padding.len(),
            queries,
            before,
            start: before,
            step: 1,
            padding: padding.to_vec(),
            mask: Mask::Causal { offset: before },
            rule: padded.then(|| backend.upload_ids(&first)).transpose()?,
            parents: None,
            previous: OnceCell::new(),
        })
    }

    /// One token of each of several beams, which follow a prompt of `prompt`
    /// tokens in a cache of one sequence. `ancestry[i]` names, for each step so
    /// far and this one, the beam whose token is part of beam `i`.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn beams(
        backend: &B,
        cache: &Cache<B>,
        prompt: usize,
        ancestry: &[Vec<u32>],
    ) -> Result<Self> {
        let width = ancestry.len();
        let parent = |line: &Vec<u32>| match line.len().checked_sub(2) {
            Some(step) => prompt + step * width + line[step] as usize,
            None => prompt.saturating_sub(1),
        };
        Ok(Self {
            batch: 1,
            queries: width,
            before: cache.len,
            start: prompt + (cache.len - prompt) / width.max(1),
            step: 0,
            padding: vec![0],
            mask: Mask::Beams { prompt, width },
            rule: Some(backend.upload_ids(&ancestry.concat())?),
            parents: Some(ancestry.iter().map(parent).collect()),
            previous: OnceCell::new(),
        })
    }

    /// Sequences.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Rows of each sequence.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// The places of the rows of each sequence among all its keys.
    pub fn keys(&self) -> std::ops::Range<usize> {
        self.before..self.before + self.queries
    }

    /// For each row the place of the token before it, plus one; 0 for none.
    pub(super) fn previous(&self) -> impl Iterator<Item = u32> {
        self.padding.iter().flat_map(move |&padding| {
            (0..self.queries).map(move |i| {
                let place = match &self.parents {
                    Some(parents) => parents[i] + 1,
                    None => self.before + i,
                };
                if place <= padding { 0 } else { place as u32 }
            })
        })
    }

    /// [`Pass::previous`] for a device.
    pub(super) fn previous_on(&self, backend: &B) -> Result<&B::Ids> {
        if let Some(ids) = self.previous.get() {
            return Ok(ids);
        }
        let ids = backend.upload_ids(&self.previous().collect::<Vec<_>>())?;
        Ok(self.previous.get_or_init(|| ids))
    }

    /// Where each row stands in its text; 0 for padding.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> {
        self.padding.iter().flat_map(move |padding| {
            (0..self.queries).map(move |i| (self.start + i * self.step).saturating_sub(*padding))
        })
    }
}
