//! A decoder-only language model: one decoder for every family (Vaswani et al.
//! 2017; what differs is in [`LmConfig`]).

use std::cell::OnceCell;

use crate::backend::{Activation, Backend, Mask};
use crate::checkpoint::Scope;
use crate::config::language::{LmConfig, Positions, Residual};
use crate::models::table::Table;
use crate::nn::{Linear, Norm};
use crate::tensor::{Attend, Tensor, Turn, attend};
use crate::{Error, Result};

/// The keys and values of what has been read, with room for what is to come.
pub struct Cache<B: Backend> {
    /// Of each block: keys and values side by side, `[batch, capacity, 2 ·
    /// width]`; where keys are smeared, `3 · width`: what was not, behind.
    layers: Vec<Tensor<B>>,
    /// Rows that are filled.
    len: usize,
    batch: usize,
    capacity: usize,
    padding: Vec<usize>,
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

/// The rows of one pass: how many, where they stand, and what they see.
pub struct Pass<B: Backend> {
    batch: usize,
    queries: usize,
    /// Keys before those of this pass.
    before: usize,
    /// Position of the first row.
    start: usize,
    /// From one row to the next.
    step: usize,
    /// Rows at the beginning of each sequence that are no tokens.
    padding: Vec<usize>,
    mask: Mask,
    rule: Option<B::Ids>,
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
    fn previous(&self) -> impl Iterator<Item = u32> {
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
    fn previous_on(&self, backend: &B) -> Result<&B::Ids> {
        if let Some(ids) = self.previous.get() {
            return Ok(ids);
        }
        let ids = backend.upload_ids(&self.previous().collect::<Vec<_>>())?;
        Ok(self.previous.get_or_init(|| ids))
    }

    /// Where each row stands in its text; 0 for padding.
    fn positions(&self) -> impl Iterator<Item = usize> {
        self.padding.iter().flat_map(move |padding| {
            (0..self.queries).map(move |i| (self.start + i * self.step).saturating_sub(*padding))
        })
    }
}

/// The hidden layer of an MLP and the way back.
pub(crate) struct Mlp<B: Backend> {
    c_fc: Linear<B>,
    c_proj: Linear<B>,
    activation: Activation,
    gated: bool,
}

impl<B: Backend> Mlp<B> {
    /// Reads `c_fc` `[hidden, width]`, or `[2 · hidden, width]` (the gate, then
    /// what is gated), and `c_proj`.
    pub(crate) fn load(
        scope: &Scope<'_, B>,
        (width, hidden): (usize, usize),
        activation: Activation,
        gated: bool,
        bias: bool,
    ) -> Result<Self> {
        let both = if gated { 2 * hidden } else { hidden };
        Ok(Self {
            c_fc: Linear::with_bias(&scope.child("c_fc"), width, both, bias)?,
            c_proj: Linear::with_bias(&scope.child("c_proj"), hidden, width, bias)?,
            activation,
            gated,
        })
    }

    /// `[.., width]` → same: `residual + tanh(gate) · mlp(norm(x))`, as far as
    /// there are a gate and a norm.
    pub(crate) fn forward(
        &self,
        x: &Tensor<B>,
        norm: Option<&Norm<B>>,
        gate: Option<&Tensor<B>>,
        residual: &Tensor<B>,
    ) -> Result<Tensor<B>> {
        let activation = (!self.gated).then_some(self.activation);
        let hidden = match norm {
            Some(norm) => norm.linear(x, &self.c_fc, activation)?,
            None => self.c_fc.then(x, activation, None)?,
        };
        if self.gated {
            let activation = self.activation;
            return self
                .c_proj
                .glu_gated(&hidden, activation, gate, Some(residual));
        }
        self.c_proj.gated(&hidden, gate, Some(residual))
    }
}

/// Keys to which those of the tokens before are added.
struct Smear<B: Backend> {
    /// `[width]`.
    gate: Tensor<B>,
    /// `[1, width]`: the key of no token.
    nothing: Tensor<B>,
}

impl<B: Backend> Smear<B> {
    fn load(scope: &Scope<'_, B>, width: usize) -> Result<Self> {
        Ok(Self {
            gate: scope.parameter("k_smear", &[width])?,
            nothing: Tensor::upload(scope.backend(), &vec![0.0; width], &[1, width])?,
        })
    }

    /// `[batch, queries, width]`, all keys that there are → same. A cache does
    /// this on the way; see [`Tensor::write_kv`].
    fn forward(&self, keys: &Tensor<B>, pass: &Pass<B>) -> Result<Tensor<B>> {
        let table = Tensor::concat(&self.nothing, keys)?;
        let stride = 1 + pass.queries;
        let rows = pass.previous().zip(0..);
        let rows: Vec<u32> = rows
            .map(|(row, i)| (i / pass.queries * stride) as u32 + row)
            .collect();
        let before = table.gather(&rows)?;
        keys.gated_add(&before.reshape(keys.shape())?, &self.gate)
    }
}

/// Causal self-attention; q, k and v come from one product.
struct Attention<B: Backend> {
    qkv: Linear<B>,
    /// Of queries and keys, side by side.
    qk_norm: Option<Norm<B>>,
    smear: Option<Smear<B>>,
    out: Linear<B>,
    heads: usize,
    width: usize,
    positions: Positions,
}

impl<B: Backend> Attention<B> {
    fn load(scope: &Scope<'_, B>, config: &LmConfig) -> Result<Self> {
        let width = config.width;
        let norm = || {
            let scope = scope.child("qk_norm");
            Norm::load(&scope, 2 * width, config.norm, config.norm_eps)
        };
        let qk_norm = config.qk_norm.then(norm).transpose()?;
        Ok(Self {
            qkv: Linear::with_bias(&scope.child("qkv"), width, 3 * width, config.bias)?,
            qk_norm,
            smear: config
                .smeared_keys
                .then(|| Smear::load(scope, width))
                .transpose()?,
            out: Linear::with_bias(&scope.child("out"), width, width, config.bias)?,
            heads: config.heads,
            width,
            positions: config.positions,
        })
    }

    /// `x + attention(norm(x))`, all `[batch, queries, width]`.
    fn forward(
        &self,
        x: &Tensor<B>,
        norm: Option<&Norm<B>>,
        place: &Place<'_, B>,
    ) -> Result<Tensor<B>> {
        let (pass, width) = (place.pass, self.width);
        let qkv = match norm {
            Some(norm) => norm.linear(x, &self.qkv, None)?,
            None => self.qkv.forward(x)?,
        };
        // q and k: a tensor, and the column of it at which they start.
        let (mut q, mut k) = ((qkv.clone(), 0), (qkv.clone(), width));
        if let Some(norm) = &self.qk_norm {
            let normed = qkv.band(0, 2 * width)?.norm(&norm.of(), 2)?;
            (q, k) = ((normed.clone(), 0), (normed, width));
        }
        let turn = match (place.rotary, self.positions) {
            (Some(table), Positions::Rotary { interleaved, .. }) => {
                let turn = Turn {
                    start: pass.start,
                    step: pass.step,
                    interleaved,
                };
                Some((table, turn))
            }
            _ => None,
        };
        if place.cached.is_none() {
            // A cache does this to keys on their way into it.
            if let Some(smear) = &self.smear {
                let rows = pass.batch * pass.queries;
                let parts = k.0.reshape(&[rows, k.0.len() / (rows * width), width])?;
                let keys = parts.narrow(1, 1)?;
                let keys = keys.reshape(&[pass.batch, pass.queries, width])?;
                k = (smear.forward(&keys, pass)?, 0);
            }
            if let Some((table, turn)) = turn {
                k = (k.0.band(k.1, width)?.rotary(table, self.heads, turn)?, 0);
            }
        }
        let alibi = match self.positions {
            Positions::Alibi { max_bias } => Some(max_bias),
            _ => None,
        };
        let how = Attend {
            heads: self.heads,
            mask: pass.mask,
            rule: pass.rule.as_ref(),
            keys: pass.before + pass.queries,
            alibi,
            turn,
        };
        let (q, k, v) = (
            q.0.band(q.1, width)?,
            k.0.band(k.1, width)?,
            qkv.band(2 * width, width)?,
        );
        let mixed = match place.cached {
            None => attend(&q, &k, &v, &how)?,
            Some(kv) => {
                let smear = match &self.smear {
                    Some(smear) => Some((&smear.gate, pass.previous_on(kv.backend())?)),
                    None => None,
                };
                let turn = turn.map(|(table, turn)| (table, self.heads, turn));
                kv.write_kv(&k, &v, pass.before, smear, turn)?;
                attend(&q, &kv.band(0, width)?, &kv.band(width, width)?, &how)?
            }
        };
        self.out.then(&mixed, None, Some(x))
    }
}

/// What the blocks share in a pass.
struct Place<'a, B: Backend> {
    pass: &'a Pass<B>,
    /// `[context, dims]`: cosines, then sines.
    rotary: Option<&'a Tensor<B>>,
    cached: Option<&'a Tensor<B>>,
}

/// One block.
struct Block<B: Backend> {
    ln_1: Norm<B>,
    attn: Attention<B>,
    ln_2: Norm<B>,
    mlp: Mlp<B>,
    residual: Residual,
}

impl<B: Backend> Block<B> {
    fn load(scope: &Scope<'_, B>, config: &LmConfig) -> Result<Self> {
        let norm = |name: &str| {
            Norm::load(
                &scope.child(name),
                config.width,
                config.norm,
                config.norm_eps,
            )
        };
        Ok(Self {
            ln_1: norm("ln_1")?,
            attn: Attention::load(&scope.child("attn"), config)?,
            ln_2: norm("ln_2")?,
            mlp: Mlp::load(
                &scope.child("mlp"),
                (config.width, config.mlp_width),
                config.activation,
                config.gated_mlp,
                config.bias,
            )?,
            residual: config.residual,
        })
    }

    /// `[batch, queries, width]` → same; `between` is done to what the attention
    /// gives.
    fn forward(
        &self,
        x: &Tensor<B>,
        place: &Place<'_, B>,
        between: &dyn Fn(&Tensor<B>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        match self.residual {
            Residual::Sequential => {
                let x = between(&self.attn.forward(x, Some(&self.ln_1), place)?)?;
                self.mlp.forward(&x, Some(&self.ln_2), None, &x)
            }
            Residual::Parallel => {
                let attended = between(&self.attn.forward(x, Some(&self.ln_1), place)?)?;
                self.mlp.forward(x, Some(&self.ln_2), None, &attended)
            }
            Residual::PostNorm => {
                let x = self.ln_1.forward(&self.attn.forward(x, None, place)?)?;
                let x = between(&x)?;
                self.ln_2.forward(&self.mlp.forward(&x, None, None, &x)?)
            }
        }
    }
}

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
