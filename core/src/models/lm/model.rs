//! The whole: tokens in, blocks, logits out.

use super::attention::Place;
use super::block::Block;
use super::{Cache, Pass};
use crate::backend::Backend;
use crate::checkpoint::Scope;
use crate::config::language::{LmConfig, Positions};
use crate::models::table::Table;
use crate::nn::{Linear, Norm};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A language model on a device.
pub struct Lm<B: Backend> {
    token_embedding: Table<B>,
    positional_embedding: Option<Tensor<B>>,
    rotary: Option<Tensor<B>>,
    embed_in: Option<Linear<B>>,
    blocks: Vec<Block<B>>,
    ln_final: Option<Norm<B>>,
    embed_out: Option<Linear<B>>,
    head: Option<Table<B>>,
    config: LmConfig,
    backend: B,
}

impl<B: Backend> Lm<B> {
    /// Reads every weight and copies it to the device, one at a time.
    ///
    /// # Errors
    /// Where the configuration makes no model, the source lacks a weight or
    /// the device fails.
    pub fn load(scope: &Scope<'_, B>, config: &LmConfig) -> Result<Self> {
        config.check()?;
        let backend = scope.backend();
        let (width, embed_width) = (config.width, config.embed_width);
        let table = |name: &str| Table::load(scope, name, config.vocab_size, embed_width);
        let projected = embed_width != width;
        let map = |name: &str, inner, out| Linear::projection(scope, name, inner, out);
        let (mut positional_embedding, mut rotary) = (None, None);
        match config.positions {
            Positions::Alibi { .. } => {}
            Positions::Learned { offset } => {
                let shape = [config.context + offset, width];
                positional_embedding = Some(scope.parameter("positional_embedding", &shape)?);
            }
            Positions::Rotary { dims, base, .. } => {
                let table = rotary_table(config.context, dims, base);
                rotary = Some(Tensor::upload(backend, &table, &[config.context, dims])?);
            }
        }
        let norm = || {
            Norm::load(
                &scope.child("ln_final"),
                width,
                config.norm,
                config.norm_eps,
            )
        };
        let blocks =
            (0..config.layers).map(|i| Block::load(&scope.child(&format!("blocks.{i}")), config));
        Ok(Self {
            token_embedding: table("token_embedding")?,
            positional_embedding,
            rotary,
            embed_in: projected
                .then(|| map("embed_in", embed_width, width))
                .transpose()?,
            blocks: blocks.collect::<Result<_>>()?,
            ln_final: config.final_norm.then(norm).transpose()?,
            embed_out: projected
                .then(|| map("embed_out", width, embed_width))
                .transpose()?,
            head: (!config.tied).then(|| table("head")).transpose()?,
            config: config.clone(),
            backend: backend.clone(),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Number of blocks.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// An empty cache for up to `capacity` tokens of each sequence, of which
    /// the `i`-th begins with `padding[i]` rows that are none.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn cache(&self, capacity: usize, padding: &[usize]) -> Result<Cache<B>> {
        let width = self.cache_width();
        let empty = |_| self.zeros([padding.len(), capacity, width]);
        let layers = self.blocks.iter().map(empty);
        Ok(Cache {
            layers: layers.collect::<Result<_>>()?,
            len: 0,
            batch: padding.len(),
            capacity,
            padding: padding.to_vec(),
        })
    }

    /// Numbers that a block keeps of a token.
    fn cache_width(&self) -> usize {
        let parts = if self.config.smeared_keys { 3 } else { 2 };
        parts * self.config.width
    }

    /// Zeros that are made on the device, from one row: those of a large model's
    /// cache would fill the memory of the host.
    fn zeros(&self, [batch, rows, width]: [usize; 3]) -> Result<Tensor<B>> {
        let row = Tensor::upload(&self.backend, &vec![0.0; width], &[1, width])?;
        let all = row.gather(&vec![0; batch * rows])?;
        all.reshape(&[batch, rows, width])
    }

    /// Makes room for `capacity` tokens of each sequence; what is in the cache
    /// stays.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn reserve(&self, cache: &mut Cache<B>, capacity: usize) -> Result<()> {
        if capacity <= cache.capacity {
            return Ok(());
        }
        let more = [cache.batch, capacity - cache.capacity, self.cache_width()];
        for layer in &mut cache.layers {
            *layer = Tensor::concat(layer, &self.zeros(more)?)?;
        }
        cache.capacity = capacity;
        Ok(())
    }

    /// Token ids, `batch · queries` of them → `[batch, queries, width]`, what
    /// the first block is given.
    ///
    /// # Errors
    /// Where a token is unknown, the text is too long or the device fails.
    pub fn embed(&self, ids: &[u32], pass: &Pass<B>) -> Result<Tensor<B>> {
        let found = (ids.len(), pass.batch * pass.queries);
        if found.0 != found.1 || ids.is_empty() {
            return Err(Error::Shape {
                operation: "language model",
                expected: format!("{} tokens, at least one", found.1),
                found: format!("{} tokens", found.0),
            });
        }
        let longest = pass.positions().max().unwrap_or(0) + 1;
        if longest > self.config.context {
            return Err(Error::CacheFull {
                capacity: self.config.context,
                needed: longest,
            });
        }
        let mut x = self.token_embedding.embed(&self.backend, ids)?;
        if let Some(map) = &self.embed_in {
            x = map.forward(&x)?;
        }
        if let (Some(table), Positions::Learned { offset }) =
            (&self.positional_embedding, self.config.positions)
        {
            let rows: Vec<u32> = pass.positions().map(|at| (at + offset) as u32).collect();
            x = x.add(&table.gather(&rows)?)?;
        }
        x.reshape(&[pass.batch, pass.queries, self.config.width])
    }

    /// One block: `[batch, queries, width]` → same. With a cache, what the rows
    /// are for those after them is written there; see [`Lm::advance`].
    ///
    /// # Errors
    /// Where the cache is full or another one's, or the device fails.
    pub fn block(
        &self,
        layer: usize,
        x: &Tensor<B>,
        pass: &Pass<B>,
        cache: Option<&Cache<B>>,
    ) -> Result<Tensor<B>> {
        self.block_with(layer, x, pass, cache, &|x| Ok(x.clone()))
    }

    /// As [`Lm::block`], with something between its attention and its MLP.
    ///
    /// # Errors
    /// As [`Lm::block`], and where what is between fails.
    pub fn block_with(
        &self,
        layer: usize,
        x: &Tensor<B>,
        pass: &Pass<B>,
        cache: Option<&Cache<B>>,
        between: &dyn Fn(&Tensor<B>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let before = cache.map_or((0, pass.batch), |cache| (cache.len, cache.batch));
        if before != (pass.before, pass.batch) {
            return Err(Error::Shape {
                operation: "language model",
                expected: format!("a cache of {} tokens in {} texts", pass.before, pass.batch),
                found: format!("{} in {}", before.0, before.1),
            });
        }
        let place = Place {
            pass,
            rotary: self.rotary.as_ref(),
            cached: cache.map(|cache| &cache.layers[layer]),
        };
        self.blocks[layer].forward(x, &place, between)
    }

    /// Ends a pass: the rows that every block has written now count.
    pub fn advance(&self, pass: &Pass<B>, cache: &mut Cache<B>) {
        cache.len = pass.before + pass.queries;
    }

    /// `[.., width]` after the last block → logits `[.., vocab_size]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn logits(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let head = self.head.as_ref().unwrap_or(&self.token_embedding);
        match (&self.ln_final, &self.embed_out) {
            (norm, None) => head.logits(x, norm.as_ref()),
            (Some(norm), Some(map)) => head.logits(&norm.linear(x, map, None)?, None),
            (None, Some(map)) => head.logits(&map.forward(x)?, None),
        }
    }

    /// The residual stream before the first block and after each: `layers + 1`
    /// tensors `[batch, queries, width]`.
    ///
    /// # Errors
    /// As [`Lm::embed`] and [`Lm::block`].
    pub fn states(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        mut cache: Option<&mut Cache<B>>,
    ) -> Result<Vec<Tensor<B>>> {
        let mut states = vec![self.embed(ids, pass)?];
        for layer in 0..self.blocks.len() {
            let next = self.block(layer, &states[layer], pass, cache.as_deref())?;
            states.push(next);
        }
        if let Some(cache) = &mut cache {
            self.advance(pass, cache);
        }
        Ok(states)
    }

    /// Token ids → `[batch, queries, width]` after the last block.
    ///
    /// # Errors
    /// As [`Lm::embed`] and [`Lm::block`].
    pub fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        mut cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        let mut x = self.embed(ids, pass)?;
        for layer in 0..self.blocks.len() {
            x = self.block(layer, &x, pass, cache.as_deref())?;
        }
        if let Some(cache) = &mut cache {
            self.advance(pass, cache);
        }
        Ok(x)
    }
}

/// `[positions, dims]`: the cosines of `position · base^(−2i / dims)`, then the
/// sines.
fn rotary_table(positions: usize, dims: usize, base: f32) -> Vec<f32> {
    let half = dims / 2;
    let angle = |position: usize, i: usize| {
        position as f64 * f64::from(base).powf(-2.0 * i as f64 / dims as f64)
    };
    let row = |position: usize| {
        let cos = (0..half).map(move |i| angle(position, i).cos() as f32);
        cos.chain((0..half).map(move |i| angle(position, i).sin() as f32))
    };
    (0..positions).flat_map(row).collect()
}
