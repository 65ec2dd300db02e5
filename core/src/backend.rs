//! The device seam: about twenty coarse operations that a model is written in.
//!
//! An operation is a *kernel*, not a primitive: what a GPU does in one dispatch
//! is one method here. Shapes have been checked by [`Tensor`](crate::tensor::Tensor)
//! before a method is called; an implementation may rely on them.
//!
//! All activations are f32, contiguous and row-major.

use std::future::Future;

use half::f16;

use crate::Result;
use crate::quant::{BLOCK, Quantization};

/// The point-wise functions of the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`, with the exact error function.
    Gelu,
    /// GELU by a hyperbolic tangent, as SigLIP's checkpoints were trained.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, as OpenAI's checkpoints were trained.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`, as in LLaMA.
    Silu,
    /// `max(x, 0)²` (So et al. 2021), as in Flamingo's trained layers.
    SquaredRelu,
}

/// Which keys a query may attend to. A rule, not a tensor: it is worked out
/// inside the attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every query sees every key.
    None,
    /// Query `i` sees the keys `0 ..= i + offset`; `offset` is the number of
    /// keys that came before the first query (0 without a cache).
    Causal {
        /// Number of keys before the first query.
        offset: usize,
    },
    /// Keys are pictures of `per_image` tokens each, one after the other. The
    /// rule holds a number for each query: 0 sees nothing, `t` sees the `t`-th
    /// picture (Flamingo §2.3).
    Media {
        /// Tokens of one picture.
        per_image: usize,
        /// `t` sees the pictures before the `t`-th as well.
        all_previous: bool,
    },
    /// Queries are the newest tokens of `width` beams that share a prompt. The
    /// keys are the prompt and then, for each step, a token of each beam. The
    /// rule `[queries, steps]` names, for each query, the beam whose token of
    /// each step it goes on from.
    Beams {
        /// Keys of the prompt, which every query sees.
        prompt: usize,
        /// Keys of one step.
        width: usize,
    },
}

/// The slope of ALiBi for a head (Press et al. 2022), `max_bias` being 8 in
/// the paper: `2^(−max_bias · (head + 1) / heads)` where `heads` is a power of
/// two; otherwise those of the next power, every second one first (MPT's
/// `gen_slopes`).
pub fn alibi_slope(head: usize, heads: usize, max_bias: u32) -> f32 {
    let all = heads.next_power_of_two();
    let place = if all == heads {
        head + 1
    } else if head < all / 2 {
        2 * head + 2
    } else {
        2 * (head - all / 2) + 1
    };
    (-(max_bias as f32) * place as f32 / all as f32).exp2()
}

/// What `linear` does after the product, in this order: add the bias, apply
/// the activation, multiply by the gate, add the residual; or, where
/// `residual_first`, add the bias, add the residual, apply the activation.
pub struct Epilogue<'a, Buffer> {
    /// `[out]`, added to every row.
    pub bias: Option<&'a Buffer>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// What is multiplied by `tanh` of it (Flamingo §2.2), and its length: 1 or
    /// `out`.
    pub gate: Option<(&'a Buffer, usize)>,
    /// `[rows, out]`, added last.
    pub residual: Option<&'a Buffer>,
    /// The residual is added before the activation, as ResNets do.
    pub residual_first: bool,
}

/// A norm of the rows of a matrix: with a bias, to mean 0 and variance 1 (two
/// passes, biased variance), then `· weight + bias`; without, by the root of
/// the mean square, then `· weight` (Zhang and Sennrich 2019).
pub struct RowNorm<'a, Buffer> {
    /// A gain for each column.
    pub weight: &'a Buffer,
    /// What is added to each column.
    pub bias: Option<&'a Buffer>,
    /// Added to the variance or the mean square.
    pub eps: f32,
}

/// The sizes of one `norm` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormDims {
    /// Rows of the band.
    pub rows: usize,
    /// Equal parts of each row, each of which is normalised on its own.
    pub parts: usize,
    /// Columns of a part.
    pub cols: usize,
    /// The parts have one weight and bias `[cols]` between them, rather than
    /// `[parts · cols]`.
    pub shared: bool,
}

/// A band of columns of a row-major matrix: `width` columns starting at
/// `start` of rows that are `stride` wide. Lets attention read q, k and v from
/// one fused projection.
pub struct Columns<'a, Buffer> {
    /// The matrix.
    pub buffer: &'a Buffer,
    /// First column of the band.
    pub start: usize,
    /// Length of a row of the matrix, in elements.
    pub stride: usize,
}

/// The sizes of one attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionDims {
    /// Independent sequences.
    pub batch: usize,
    /// Heads; each has `head_dim` columns, side by side.
    pub heads: usize,
    /// Columns of one head. Scores are scaled by `head_dim^-1/2`.
    pub head_dim: usize,
    /// Queries in each sequence.
    pub queries: usize,
    /// Keys (and values) in each sequence.
    pub keys: usize,
    /// Rows from the first key of a sequence to that of the next: `keys`, or
    /// more where a cache has room for others.
    pub key_rows: usize,
    /// Who sees whom.
    pub mask: Mask,
    /// The largest bias of ALiBi, if the model has it: `slope · (j − i)` is
    /// added to the score of key `j` for query `i`; see [`alibi_slope`].
    pub alibi: Option<u32>,
}

/// The sizes of one `rotary` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RotaryDims {
    /// Rows of the projection.
    pub rows: usize,
    /// Heads; each has `head_dim` columns, side by side.
    pub heads: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Columns of each head that are turned, from its first on: even.
    pub rotary_dims: usize,
    /// The pairs are neighbours (Su et al. 2021, GPT-J) rather than columns
    /// half of `rotary_dims` apart (GPT-NeoX, transformers).
    pub interleaved: bool,
    /// Rows of one sequence; row `i` of it stands at `start + i · step`.
    pub queries: usize,
    /// Position of the first row.
    pub start: usize,
    /// 1, or 0 where all rows stand at the same position.
    pub step: usize,
}

/// Zeros around a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// So many on every side.
    Every(usize),
    /// As many as make `⌈length / stride⌉` windows of a side; the odd one comes
    /// after it, as in TensorFlow.
    Same,
}

/// The windows of a convolution over `[n, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowDims {
    /// Pictures.
    pub n: usize,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Channels, innermost.
    pub channels: usize,
    /// Side of the square window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: Padding,
}

impl WindowDims {
    /// Rows and columns of windows: `(out_height, out_width)`.
    pub fn out(&self) -> (usize, usize) {
        let side = |length: usize| match self.padding {
            Padding::Every(zeros) => (length + 2 * zeros - self.kernel) / self.stride + 1,
            Padding::Same => length.div_ceil(self.stride),
        };
        (side(self.height), side(self.width))
    }

    /// Zeros above the picture and to the left of it.
    pub fn before(&self) -> (usize, usize) {
        let side = |length: usize| match self.padding {
            Padding::Every(zeros) => zeros,
            Padding::Same => {
                let last = (length.div_ceil(self.stride) - 1) * self.stride;
                (last + self.kernel).saturating_sub(length) / 2
            }
        };
        (side(self.height), side(self.width))
    }
}

/// The sizes of one `excite` call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExciteDims {
    /// Pictures; each has a gate.
    pub n: usize,
    /// Rows of a picture.
    pub rows: usize,
    /// Channels.
    pub cols: usize,
    /// What the product is multiplied by.
    pub scale: f32,
}

/// The sizes of one `avg_pool` call over `[n, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolDims {
    /// Pictures.
    pub n: usize,
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Channels, innermost.
    pub channels: usize,
    /// Side of the square window, and the step between windows. Rows and
    /// columns that fill no window are left out.
    pub kernel: usize,
}

/// The sizes of one `write_kv` call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteDims {
    /// Independent sequences.
    pub batch: usize,
    /// Rows that the cache has room for, in each sequence.
    pub capacity: usize,
    /// Length of a key, and of a value.
    pub width: usize,
    /// First row that is written.
    pub start: usize,
    /// Rows that are written, in each sequence.
    pub rows: usize,
}

/// The pairs of each head turned by rotary positions, before an operation: the
/// table and the sizes of [`Backend::rotary`].
pub type Turned<'a, Buffer> = Option<(&'a Buffer, RotaryDims)>;

/// Keys with a part of those before them (Elhage et al. 2021): to each is added
/// `tanh(gate)` times that of the token before it.
pub struct Smear<'a, Buffer, Ids> {
    /// `[width]`.
    pub gate: &'a Buffer,
    /// `[batch, rows]`: the place in its sequence of the token before each row,
    /// plus one; 0 for none.
    pub previous: &'a Ids,
}

/// One side of a `concat`.
pub struct Span<'a, Buffer> {
    /// `[outer, len]`, or `[len]` where `shared`.
    pub buffer: &'a Buffer,
    /// Elements that each outer item contributes.
    pub len: usize,
    /// The same `len` elements serve every outer item.
    pub shared: bool,
}

/// The numbers of a weight, in the precision they were stored in.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats; computed with in f32.
    F16(Vec<f16>),
    /// Blocks of 32 weights in GGML's `q8_0` or `q4_0`, row after row; the
    /// inner size is a multiple of 32.
    Quantized(Quantization, Vec<u8>),
}

impl WeightData {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(data) => data.len(),
            Self::F16(data) => data.len(),
            Self::Quantized(kind, bytes) => bytes.len() / kind.block_bytes() * BLOCK,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds so many zeros at the end; of blocks whole ones.
    pub(crate) fn extend_zeros(&mut self, count: usize) {
        match self {
            Self::F32(data) => data.resize(data.len() + count, 0.0),
            Self::F16(data) => data.resize(data.len() + count, f16::ZERO),
            // A scale of 0 makes a block of zeros.
            Self::Quantized(kind, bytes) => {
                bytes.resize(bytes.len() + count / BLOCK * kind.block_bytes(), 0);
            }
        }
    }

    /// Multiplies every number; of blocks, their scales.
    pub fn multiply(&mut self, factor: f32) {
        let times = |x: f16| f16::from_f32(x.to_f32() * factor);
        match self {
            Self::F32(data) => data.iter_mut().for_each(|x| *x *= factor),
            Self::F16(data) => data.iter_mut().for_each(|x| *x = times(*x)),
            Self::Quantized(kind, bytes) => {
                for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                    let scale = times(f16::from_le_bytes([block[0], block[1]]));
                    block[..2].copy_from_slice(&scale.to_le_bytes());
                }
            }
        }
    }

    /// The numbers as f32.
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Self::F32(data) => data,
            Self::F16(data) => data.into_iter().map(f32::from).collect(),
            Self::Quantized(kind, bytes) => kind.dequantize(&bytes),
        }
    }
}

/// A device that can run the models.
///
/// Computing methods may only *record* work; the one place that waits is
/// [`Backend::read`]. A device failure (lost, out of memory) may therefore be
/// reported there, for work recorded earlier.
pub trait Backend: Clone + 'static {
    /// f32 activations on the device.
    type Buffer: Clone;
    /// u32 indices on the device.
    type Ids: Clone;
    /// A `[rows, cols]` matrix in its stored precision.
    type Weight: Clone;

    /// Whether `linear` rounds activations to 8 bits where the weight is
    /// quantised, so that its result is only near the exact one.
    fn rounds_activations(&self) -> bool {
        false
    }

    /// Copies activations to the device.
    fn upload(&self, data: &[f32]) -> Result<Self::Buffer>;
    /// Copies indices to the device.
    fn upload_ids(&self, ids: &[u32]) -> Result<Self::Ids>;
    /// Copies a parameter that is kept in f32 (bias, norm, position) to the
    /// device, once, at load. `name` is its canonical name.
    fn parameter(&self, name: &str, data: Vec<f32>, shape: &[usize]) -> Result<Self::Buffer>;
    /// Copies a `[rows, cols]` matrix to the device, once, at load.
    fn weight(
        &self,
        name: &str,
        data: WeightData,
        rows: usize,
        cols: usize,
    ) -> Result<Self::Weight>;
    /// As [`Backend::weight`], for a matrix whose numbers are all multiplied: what
    /// is trained of it are the numbers before that.
    fn weight_times(
        &self,
        name: &str,
        mut data: WeightData,
        (rows, cols): (usize, usize),
        factor: f32,
    ) -> Result<Self::Weight> {
        data.multiply(factor);
        self.weight(name, data, rows, cols)
    }
    /// Waits for the recorded work and copies `len` numbers back.
    fn read(&self, buffer: &Self::Buffer, len: usize) -> impl Future<Output = Result<Vec<f32>>>;

    /// `[rows, in]` → `[rows, out]`: `residual + act(x · wᵀ + bias)`.
    fn linear(
        &self,
        x: &Self::Buffer,
        rows: usize,
        w: &Self::Weight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Self::Buffer>,
    ) -> Result<Self::Buffer>;
    /// `linear` of the rows of `x` after a norm. A device may do both at once.
    fn norm_linear(
        &self,
        x: &Self::Buffer,
        rows: usize,
        norm: &RowNorm<'_, Self::Buffer>,
        w: &Self::Weight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Self::Buffer>,
    ) -> Result<Self::Buffer> {
        let cols = out_in.1;
        let band = Columns {
            buffer: x,
            start: 0,
            stride: cols,
        };
        let dims = NormDims {
            rows,
            parts: 1,
            cols,
            shared: true,
        };
        self.linear(&self.norm(band, dims, norm)?, rows, w, out_in, epilogue)
    }
    /// `linear` of what [`Backend::glu`] makes of `x` `[rows, 2 · in]`. A device
    /// may do both at once.
    fn glu_linear(
        &self,
        x: &Self::Buffer,
        rows: usize,
        activation: Activation,
        w: &Self::Weight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Self::Buffer>,
    ) -> Result<Self::Buffer> {
        let x = self.glu(x, (rows, out_in.1), activation)?;
        self.linear(&x, rows, w, out_in, epilogue)
    }
    /// A band of columns → `[rows, parts · cols]`, each part of a row
    /// normalised.
    fn norm(
        &self,
        x: Columns<'_, Self::Buffer>,
        dims: NormDims,
        norm: &RowNorm<'_, Self::Buffer>,
    ) -> Result<Self::Buffer>;
    /// `[rows, cols]` → same: each row divided by its Euclidean length (a row
    /// of zeros stays zero).
    fn l2_normalize(&self, x: &Self::Buffer, rows_cols: (usize, usize)) -> Result<Self::Buffer>;
    /// `x + y` where `y` has `y_len` elements and repeats; `y_len` divides `len`.
    fn add(
        &self,
        x: &Self::Buffer,
        len: usize,
        y: &Self::Buffer,
        y_len: usize,
    ) -> Result<Self::Buffer>;
    /// Applies the function to `len` elements.
    fn activate(
        &self,
        x: &Self::Buffer,
        len: usize,
        activation: Activation,
    ) -> Result<Self::Buffer>;
    /// Scaled dot-product attention: q `[batch · queries, heads · head_dim]`,
    /// k and v `[batch · key_rows, heads · head_dim]` → as q. A query that may
    /// see no key gives zeros.
    ///
    /// `rule` holds the numbers that the mask needs: see [`Mask::Media`] and
    /// [`Mask::Beams`]. [`Mask::Causal`] may have `[batch]`, the first key that
    /// each sequence sees: those before it are padding. `turn` turns the queries.
    fn attention(
        &self,
        q: Columns<'_, Self::Buffer>,
        k: Columns<'_, Self::Buffer>,
        v: Columns<'_, Self::Buffer>,
        dims: AttentionDims,
        rule: Option<&Self::Ids>,
        turn: Turned<'_, Self::Buffer>,
    ) -> Result<Self::Buffer>;
    /// Rotary positions: a band of a projection → `[rows, heads · head_dim]`,
    /// with the pairs of each head turned. Row `p` of `table` `[positions,
    /// rotary_dims]` has the cosines of the angles at position `p`, then the
    /// sines.
    fn rotary(
        &self,
        x: Columns<'_, Self::Buffer>,
        table: &Self::Buffer,
        dims: RotaryDims,
    ) -> Result<Self::Buffer>;
    /// `[rows, cols]` twice → same: `x + tanh(gate) · y`, with a gate of one
    /// number or of `cols` (Flamingo §2.2).
    fn gated_add(
        &self,
        x: &Self::Buffer,
        y: &Self::Buffer,
        len: usize,
        gate: (&Self::Buffer, usize),
    ) -> Result<Self::Buffer>;
    /// `[rows, 2 · width]` → `[rows, width]`: the activation of the first half
    /// of each row times the second (Shazeer 2020).
    fn glu(
        &self,
        x: &Self::Buffer,
        rows_width: (usize, usize),
        activation: Activation,
    ) -> Result<Self::Buffer>;
    /// `[rows, cols]` → `[rows, 2 · k + 1]`: the `k` largest numbers of each
    /// row, largest first and of equal ones the first first; their places, as
    /// numbers; and the logarithm of the sum of the exponentials of the row. No
    /// number of it is infinite or none at all.
    fn top_k(&self, x: &Self::Buffer, rows_cols: (usize, usize), k: usize) -> Result<Self::Buffer>;
    /// Writes keys and values `[batch · rows, width]` into a cache `[batch,
    /// capacity, 2 · width]` in place, side by side, to rows `start .. start +
    /// rows` of each sequence; the keys are smeared, then turned, on the way. A
    /// cache of smeared keys is `[batch, capacity, 3 · width]`: behind the value
    /// stands the key as it was given.
    fn write_kv(
        &self,
        cache: &Self::Buffer,
        dims: WriteDims,
        keys: Columns<'_, Self::Buffer>,
        values: Columns<'_, Self::Buffer>,
        smear: Option<Smear<'_, Self::Buffer, Self::Ids>>,
        turn: Turned<'_, Self::Buffer>,
    ) -> Result<()>;
    /// A convolution of `[n, h, w, c]` with a square window: `w` is `[out,
    /// kernel · kernel · c / groups]` (window row, window column, channel) →
    /// `[n, out_h, out_w, out]`, with the epilogue of [`Backend::linear`]. Each
    /// of `groups` equal parts of the outputs is made of the same part of the
    /// channels.
    fn conv2d(
        &self,
        x: &Self::Buffer,
        dims: WindowDims,
        w: &Self::Weight,
        out_groups: (usize, usize),
        epilogue: Epilogue<'_, Self::Buffer>,
    ) -> Result<Self::Buffer>;
    /// `[n · rows, cols]` twice, gate `[n, cols]` → `[n · rows, cols]`:
    /// `residual + scale · sigmoid(gate) · x` (squeeze and excitation, Hu et al.
    /// 2018).
    fn excite(
        &self,
        x: &Self::Buffer,
        gate: &Self::Buffer,
        residual: &Self::Buffer,
        dims: ExciteDims,
    ) -> Result<Self::Buffer>;
    /// `[n, h, w, c]` → `[n, h / kernel, w / kernel, c]`: the mean of each
    /// window.
    fn avg_pool(&self, x: &Self::Buffer, dims: PoolDims) -> Result<Self::Buffer>;
    /// `[outer, a.len]`, `[outer, b.len]` → `[outer, a.len + b.len]`.
    fn concat(
        &self,
        outer: usize,
        a: Span<'_, Self::Buffer>,
        b: Span<'_, Self::Buffer>,
    ) -> Result<Self::Buffer>;
    /// `[outer, len]` → `[outer, count]`: elements `start .. start + count` of
    /// each outer item.
    fn narrow(
        &self,
        x: &Self::Buffer,
        outer_len: (usize, usize),
        start: usize,
        count: usize,
    ) -> Result<Self::Buffer>;
    /// Rows of a weight: `[rows, cols]`, ids `[n]` → `[n, cols]`.
    fn embed(
        &self,
        table: &Self::Weight,
        rows_cols: (usize, usize),
        ids: &Self::Ids,
        n: usize,
    ) -> Result<Self::Buffer>;
    /// Rows of an activation: `[rows, cols]`, ids `[n]` → `[n, cols]`.
    fn gather(
        &self,
        x: &Self::Buffer,
        rows_cols: (usize, usize),
        ids: &Self::Ids,
        n: usize,
    ) -> Result<Self::Buffer>;
}
