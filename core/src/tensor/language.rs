//! The operations of the language models.

use super::{Band, NormOf, Tensor, shape_error};
use crate::backend::{
    Activation, AttentionDims, Backend, Columns, Mask, NormDims, RotaryDims, Smear, WriteDims,
};
use crate::{Error, Result};

/// How queries attend to keys.
pub struct Attend<'a, B: Backend> {
    /// Heads; they divide the width.
    pub heads: usize,
    /// Who sees whom.
    pub mask: Mask,
    /// What the mask needs to know; see [`Backend::attention`].
    pub rule: Option<&'a B::Ids>,
    /// Keys that there are: the first of those that k and v have room for.
    pub keys: usize,
    /// See [`AttentionDims::alibi`].
    pub alibi: Option<u32>,
    /// Turns the queries by the angles of a table; see [`Band::rotary`].
    pub turn: Option<(&'a Tensor<B>, Turn)>,
}

impl<B: Backend> Attend<'_, B> {
    /// A mask without a rule, over all keys.
    pub fn new(heads: usize, mask: Mask, keys: usize) -> Self {
        Self {
            heads,
            mask,
            rule: None,
            keys,
            alibi: None,
            turn: None,
        }
    }
}

/// Scaled dot-product attention: q `[batch, queries, width]`, k and v `[batch,
/// keys or more, width]` → as q.
///
/// # Errors
/// Where shapes do not go together or the device fails.
pub fn attend<B: Backend>(
    q: &Band<'_, B>,
    k: &Band<'_, B>,
    v: &Band<'_, B>,
    how: &Attend<'_, B>,
) -> Result<Tensor<B>> {
    let (width, heads) = (q.width, how.heads);
    let (&[batch, queries, _], &[kv_batch, key_rows, _]) =
        (q.tensor.shape.as_slice(), k.tensor.shape.as_slice())
    else {
        return Err(shape_error(
            "attention",
            "[batch, rows, width]",
            &q.tensor.shape,
        ));
    };
    let same = k.width == width && v.width == width && kv_batch == batch;
    let divides = heads > 0 && width.is_multiple_of(heads);
    if !same || v.tensor.shape[..2] != [batch, key_rows] || !divides || how.keys > key_rows {
        return Err(shape_error(
            "attention",
            format!(
                "k and v [{batch}, {} or more, {width}], {heads} heads dividing {width}",
                how.keys
            ),
            &v.tensor.shape,
        ));
    }
    let dims = AttentionDims {
        batch,
        heads,
        head_dim: width / heads,
        queries,
        keys: how.keys,
        key_rows,
        mask: how.mask,
        alibi: how.alibi,
    };
    let turn = match how.turn {
        Some((table, turn)) => Some((&table.buffer, q.turned(table, heads, turn)?)),
        None => None,
    };
    let (backend, rule) = (&q.tensor.backend, how.rule);
    let buffer = backend.attention(q.columns(), k.columns(), v.columns(), dims, rule, turn)?;
    Ok(q.tensor.with(buffer, vec![batch, queries, width]))
}

impl<B: Backend> Band<'_, B> {
    fn columns(&self) -> Columns<'_, B::Buffer> {
        Columns {
            buffer: &self.tensor.buffer,
            start: self.start,
            stride: self.tensor.rows().1,
        }
    }

    /// `[batch, queries, width]` → same: the pairs of each head turned by the
    /// angles of `table` `[positions, rotary_dims]`.
    ///
    /// # Errors
    /// Where shapes do not go together, a position is not in the table or the
    /// device fails.
    pub fn rotary(&self, table: &Tensor<B>, heads: usize, turn: Turn) -> Result<Tensor<B>> {
        let dims = self.turned(table, heads, turn)?;
        let backend = &self.tensor.backend;
        let buffer = backend.rotary(self.columns(), &table.buffer, dims)?;
        let (batch, queries) = (self.tensor.shape[0], self.tensor.shape[1]);
        Ok(self.tensor.with(buffer, vec![batch, queries, self.width]))
    }

    /// The sizes of turning `[batch, queries, width]`.
    fn turned(&self, table: &Tensor<B>, heads: usize, turn: Turn) -> Result<RotaryDims> {
        let (&[batch, queries, _], &[positions, rotary_dims]) =
            (self.tensor.shape.as_slice(), table.shape.as_slice())
        else {
            return Err(shape_error(
                "rotary",
                "[batch, queries, width] and [positions, rotary_dims]",
                &self.tensor.shape,
            ));
        };
        let head_dim = self.width / heads.max(1);
        let last = turn.start + queries.saturating_sub(1) * turn.step;
        if head_dim * heads != self.width || rotary_dims > head_dim || last >= positions {
            return Err(shape_error(
                "rotary",
                format!("{heads} heads of {rotary_dims} or more, positions below {positions}"),
                &[self.width, last],
            ));
        }
        Ok(RotaryDims {
            rows: batch * queries,
            heads,
            head_dim,
            rotary_dims,
            interleaved: turn.interleaved,
            queries,
            start: turn.start,
            step: turn.step,
        })
    }

    /// `[.., width]` → same: each of `parts` equal parts of a row normalised.
    /// The norm has gains for `width` columns, or for those of one part.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn norm(&self, norm: &NormOf<'_, B>, parts: usize) -> Result<Tensor<B>> {
        let cols = self.width / parts.max(1);
        if cols * parts != self.width {
            return Err(shape_error(
                "norm",
                format!("[.., width], {parts} parts of it"),
                &[self.width],
            ));
        }
        let shared = norm.weight.len() == cols;
        let gains = if shared { cols } else { self.width };
        let dims = NormDims {
            rows: self.tensor.rows().0,
            parts,
            cols,
            shared,
        };
        let norm = norm.checked(gains)?;
        let buffer = self.tensor.backend.norm(self.columns(), dims, &norm)?;
        let mut shape = self.tensor.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = self.width;
        }
        Ok(self.tensor.with(buffer, shape))
    }
}

/// Where rows stand, and which columns are pairs; see [`RotaryDims`].
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Position of the first row.
    pub start: usize,
    /// From one row to the next.
    pub step: usize,
    /// Neighbours are pairs.
    pub interleaved: bool,
}

impl<B: Backend> Tensor<B> {
    /// `[.., cols]` → same: each row by its root mean square, then `· weight`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn rms_norm(&self, weight: &Self, eps: f32) -> Result<Self> {
        let bias = None;
        self.norm(&NormOf { weight, bias, eps })
    }

    /// `self + tanh(gate) · y`, gate `[1]` or `[cols]`.
    ///
    /// # Errors
    /// Where shapes do not go together or the device fails.
    pub fn gated_add(&self, y: &Self, gate: &Self) -> Result<Self> {
        if y.shape != self.shape {
            return Err(shape_error(
                "gated_add",
                format!("{:?}", self.shape),
                &y.shape,
            ));
        }
        let cols = self.rows().1;
        if gate.len() != 1 && gate.len() != cols {
            return Err(shape_error(
                "gated_add",
                format!("a gate [1] or [{cols}]"),
                &gate.shape,
            ));
        }
        let gate = (&gate.buffer, gate.len());
        let buffer = self
            .backend
            .gated_add(&self.buffer, &y.buffer, self.len(), gate)?;
        Ok(self.with(buffer, self.shape.clone()))
    }

    /// `[.., 2 · width]` → `[.., width]`: the activation of the first half of
    /// each row times the second.
    ///
    /// # Errors
    /// Where rows have an odd length or the device fails.
    pub fn glu(&self, activation: Activation) -> Result<Self> {
        let (rows, both) = self.rows();
        if both % 2 != 0 {
            return Err(shape_error("glu", "[.., 2 · width]", &self.shape));
        }
        let buffer = self
            .backend
            .glu(&self.buffer, (rows, both / 2), activation)?;
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = both / 2;
        }
        Ok(self.with(buffer, shape))
    }

    /// `[.., cols]` → `[rows, 2 · k + 1]`: the `k` largest numbers of each row,
    /// their places, and the logarithm of the sum of its exponentials; see
    /// [`Backend::top_k`].
    ///
    /// # Errors
    /// Where rows have fewer numbers, or more than places can be told as
    /// numbers; where the device fails.
    pub fn top_k(&self, k: usize) -> Result<Self> {
        let (rows, cols) = self.rows();
        if k == 0 || k > cols || cols > 1 << 24 {
            return Err(shape_error(
                "top_k",
                format!("[.., {k} to {} numbers]", 1 << 24),
                &self.shape,
            ));
        }
        let buffer = self.backend.top_k(&self.buffer, (rows, cols), k)?;
        Ok(self.with(buffer, vec![rows, 2 * k + 1]))
    }

    /// Writes keys and values, both `[batch, rows, width]`, into this cache
    /// `[batch, capacity, 2 · width]`, in place, from row `start` on. The keys
    /// are turned on the way by the angles of a table; see [`Band::rotary`].
    /// Before that they are smeared by a gate `[width]` and the ids of
    /// [`Smear::previous`], in a cache of `3 · width`.
    ///
    /// # Errors
    /// Where the rows do not fit or the device fails.
    pub fn write_kv(
        &self,
        keys: &Band<'_, B>,
        values: &Band<'_, B>,
        start: usize,
        smear: Option<(&Self, &B::Ids)>,
        turn: Option<(&Self, usize, Turn)>,
    ) -> Result<()> {
        let parts = if smear.is_some() { 3 } else { 2 };
        let dims = self.writing(keys, parts, start)?;
        if self.writing(values, parts, start)? != dims {
            return Err(shape_error(
                "write_kv",
                format!("values {:?}", keys.tensor.shape),
                &values.tensor.shape,
            ));
        }
        let turn = match turn {
            Some((table, heads, turn)) => Some((&table.buffer, keys.turned(table, heads, turn)?)),
            None => None,
        };
        let smear = match smear {
            Some((gate, _)) if gate.len() != keys.width => {
                let expected = format!("a gate [{}]", keys.width);
                return Err(shape_error("write_kv", expected, &gate.shape));
            }
            Some((gate, previous)) => Some(Smear {
                gate: &gate.buffer,
                previous,
            }),
            None => None,
        };
        let (keys, values) = (keys.columns(), values.columns());
        self.backend
            .write_kv(&self.buffer, dims, keys, values, smear, turn)
    }

    /// The sizes of writing `[batch, rows, width]` into `[batch, capacity,
    /// parts · width]`.
    fn writing(&self, rows: &Band<'_, B>, parts: usize, start: usize) -> Result<WriteDims> {
        let (&[batch, capacity, cache_width], &[row_batch, count, _]) =
            (self.shape.as_slice(), rows.tensor.shape.as_slice())
        else {
            return Err(shape_error(
                "write_kv",
                format!("[batch, capacity, {parts} · width]"),
                &self.shape,
            ));
        };
        if row_batch != batch || rows.width * parts != cache_width {
            return Err(shape_error(
                "write_kv",
                format!("[{batch}, rows, {}]", cache_width / parts),
                &rows.tensor.shape,
            ));
        }
        if start + count > capacity {
            return Err(Error::CacheFull {
                capacity,
                needed: start + count,
            });
        }
        Ok(WriteDims {
            batch,
            capacity,
            width: rows.width,
            start,
            rows: count,
        })
    }
}
