//! The CPU device, on candle: the path without WebGPU, the training path, and
//! the oracle of the kernel tests.
//!
//! Candle's fused operations lack a backward pass and drop gradients silently;
//! those in `ops` have both directions, so one code path serves inference and
//! training.

mod heads;
mod language;
mod math;
mod matrix;
mod ops;
mod product;
mod softmax;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};
use heads::Heads;

pub use matrix::Matrix;

use crate::Result;
use crate::backend::{
    Activation, AttentionDims, Backend, Columns, Epilogue, ExciteDims, NormDims, PoolDims,
    RotaryDims, RowNorm, Smear, Span, Turned, WeightData, WindowDims, WriteDims,
};

/// The parameters under training, by canonical name.
#[derive(Clone, Default)]
pub struct Parameters(Arc<Mutex<BTreeMap<String, Var>>>);

impl Parameters {
    /// The parameters, in the order of their names.
    pub fn all(&self) -> Vec<(String, Var)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    fn register(&self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        let var = Var::from_tensor(tensor)?;
        let shared = var.as_tensor().clone();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(name.to_owned(), var);
        Ok(shared)
    }
}

/// The CPU.
#[derive(Clone, Default)]
pub struct Candle {
    training: Option<Parameters>,
    /// Of the names of weights, whether one is trained; unless set, all are.
    trained: Option<Chosen>,
    hollow: Option<Names>,
}

/// Says of a name whether it is meant.
type Chosen = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The names of the weights that a hollow device was given.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn note(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned());
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.contains(name)
    }
}

impl Candle {
    /// A device that computes only.
    pub fn new() -> Self {
        Self::default()
    }

    /// A device whose parameters can be trained: each weight that is loaded is
    /// registered under its name, and results carry gradients.
    pub fn training() -> (Self, Parameters) {
        let parameters = Parameters::default();
        let training = Some(parameters.clone());
        let candle = Self {
            training,
            ..Self::default()
        };
        (candle, parameters)
    }

    /// As [`Candle::training`], but only the weights whose names `trained`
    /// picks are registered; the others stay as they are.
    pub fn training_some(
        trained: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> (Self, Parameters) {
        let (mut candle, parameters) = Self::training();
        candle.trained = Some(Arc::new(trained));
        (candle, parameters)
    }

    /// A device that takes weights without keeping their numbers, for asking a
    /// model which it has; and the names of those that are matrices.
    pub(crate) fn hollow() -> (Self, Names) {
        let names = Names::default();
        let candle = Self {
            hollow: Some(names.clone()),
            ..Self::default()
        };
        (candle, names)
    }

    fn keep(&self, name: &str, data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        if self.hollow.is_some() {
            return Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape)?);
        }
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu)?;
        match &self.training {
            Some(parameters) if self.trained.as_ref().is_none_or(|trained| trained(name)) => {
                parameters.register(name, &tensor)
            }
            _ => Ok(tensor),
        }
    }
}

/// A band of columns `[rows, width]` on its own.
fn cut_out(band: &Columns<'_, Tensor>, rows: usize, width: usize) -> Result<Tensor> {
    let whole = shaped(band.buffer, (rows, band.stride))?;
    Ok(whole.narrow(1, band.start, width)?.contiguous()?)
}

/// The first `rows` of `[batch, stored, heads · head_dim]` columns → `[batch,
/// heads, rows, head_dim]`.
fn split_heads(
    band: &Columns<'_, Tensor>,
    (stored, rows): (usize, usize),
    dims: &AttentionDims,
) -> Result<Tensor> {
    let split = heads::Split(Heads {
        batch: dims.batch,
        stored,
        rows,
        start: band.start,
        stride: band.stride,
        heads: dims.heads,
        head_dim: dims.head_dim,
    });
    Ok(band.buffer.contiguous()?.apply_op1(split)?)
}

/// `[batch, heads, queries, head_dim]` → `[batch · queries, heads · head_dim]`.
fn join_heads(mixed: &Tensor, dims: &AttentionDims) -> Result<Tensor> {
    let join = heads::Join(Heads {
        batch: dims.batch,
        stored: dims.queries,
        rows: dims.queries,
        start: 0,
        stride: dims.heads * dims.head_dim,
        heads: dims.heads,
        head_dim: dims.head_dim,
    });
    Ok(mixed.contiguous()?.apply_op1(join)?)
}

/// A tensor in this shape: candle's `reshape` has a gradient to add up even
/// where nothing changes.
fn shaped(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    if x.shape() == &shape && x.is_contiguous() {
        return Ok(x.clone());
    }
    Ok(x.reshape(shape)?)
}

/// A norm of rows by `count` of its weights.
fn normed(
    x: &Tensor,
    norm: &RowNorm<'_, Tensor>,
    (start, count): (usize, usize),
) -> Result<Tensor> {
    let part = |t: &Tensor| t.flatten_all()?.narrow(0, start, count)?.contiguous();
    let (weight, eps) = (part(norm.weight)?, norm.eps);
    Ok(match norm.bias {
        Some(bias) => x.apply_op3(&weight, &part(bias)?, ops::LayerNorm { eps })?,
        None => x.apply_op2(&weight, language::RmsNorm { eps })?,
    })
}

/// A product `[rows, out]` and what follows it.
fn finished(
    mut y: Tensor,
    (rows, out): (usize, usize),
    epilogue: &Epilogue<'_, Tensor>,
) -> Result<Tensor> {
    let residual = match epilogue.residual {
        Some(residual) => Some(shaped(residual, (rows, out))?),
        None => None,
    };
    let (first, last) = if epilogue.residual_first {
        (residual, None)
    } else {
        (None, residual)
    };
    if let Some(residual) = first {
        y = (y + residual)?;
    }
    match (epilogue.bias, epilogue.activation) {
        (Some(bias), activation) => {
            y = y.apply_op2(&bias.flatten_all()?, ops::BiasActivation(activation))?;
        }
        (None, Some(activation)) => y = y.apply_op1(ops::Activate(activation))?,
        (None, None) => {}
    }
    match (epilogue.gate, last) {
        (None, Some(residual)) => Ok((y + residual)?),
        (None, None) => Ok(y),
        (Some((gate, gate_len)), residual) => {
            let shape = (rows * out / gate_len.max(1), gate_len);
            let y = shaped(&y, shape)?;
            let residual = match residual {
                Some(residual) => shaped(&residual, shape)?,
                None => y.zeros_like()?,
            };
            Ok(residual.apply_op3(&y, &gate.flatten_all()?, language::GatedAdd)?)
        }
    }
}

/// `[n, h, w, c]` → `[n · out_h · out_w, kernel · kernel · c]`.
fn unfold(x: &Tensor, dims: WindowDims) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op1(ops::Unfold(dims))?)
}

impl Backend for Candle {
    type Buffer = Tensor;
    type Ids = Tensor;
    type Weight = Matrix;

    fn rounds_activations(&self) -> bool {
        true
    }

    fn upload(&self, data: &[f32]) -> Result<Tensor> {
        Ok(Tensor::from_slice(data, data.len(), &Device::Cpu)?)
    }

    fn upload_ids(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(Tensor::from_slice(ids, ids.len(), &Device::Cpu)?)
    }

    fn parameter(&self, name: &str, data: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
        self.keep(name, data, shape)
    }

    fn weight(&self, name: &str, data: WeightData, rows: usize, cols: usize) -> Result<Matrix> {
        if let Some(names) = &self.hollow {
            names.note(name);
        }
        match (&self.training, data) {
            (None, WeightData::Quantized(kind, bytes)) => {
                Matrix::quantized(kind, bytes, rows, cols)
            }
            (None, data) if self.hollow.is_none() => Matrix::dense(data.into_f32(), rows, cols),
            (_, data) => Ok(Matrix::Dense(self.keep(
                name,
                data.into_f32(),
                &[rows, cols],
            )?)),
        }
    }

    fn weight_times(
        &self,
        name: &str,
        mut data: WeightData,
        (rows, cols): (usize, usize),
        factor: f32,
    ) -> Result<Matrix> {
        if self.training.is_some() {
            let w = self.keep(name, data.into_f32(), &[rows, cols])?;
            return Ok(Matrix::Times { w, factor });
        }
        data.multiply(factor);
        self.weight(name, data, rows, cols)
    }

    async fn read(&self, buffer: &Tensor, len: usize) -> Result<Vec<f32>> {
        Ok(buffer
            .flatten_all()?
            .narrow(0, 0, len)?
            .to_dtype(DType::F32)?
            .to_vec1()?)
    }

    fn linear(
        &self,
        x: &Tensor,
        rows: usize,
        w: &Matrix,
        (out, inner): (usize, usize),
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor> {
        let y = w.product(&shaped(x, (rows, inner))?)?;
        finished(y, (rows, out), &epilogue)
    }

    fn norm(
        &self,
        x: Columns<'_, Tensor>,
        dims: NormDims,
        norm: &RowNorm<'_, Tensor>,
    ) -> Result<Tensor> {
        let NormDims {
            rows, parts, cols, ..
        } = dims;
        let x = cut_out(&x, rows, parts * cols)?;
        if dims.shared || parts == 1 {
            let x = shaped(&x, (rows * parts, cols))?;
            return shaped(&normed(&x, norm, (0, cols))?, (rows, parts * cols));
        }
        let parts = (0..parts).map(|part| {
            let x = x.narrow(1, part * cols, cols)?.contiguous()?;
            normed(&x, norm, (part * cols, cols))
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?)
    }

    fn l2_normalize(&self, x: &Tensor, (rows, cols): (usize, usize)) -> Result<Tensor> {
        let x = shaped(x, (rows, cols))?;
        let length = x.sqr()?.sum_keepdim(1)?.maximum(1e-24)?.sqrt()?;
        Ok(x.broadcast_div(&length)?)
    }

    fn add(&self, x: &Tensor, len: usize, y: &Tensor, y_len: usize) -> Result<Tensor> {
        let x = shaped(x, (len / y_len.max(1), y_len))?;
        Ok(x.apply_op2(&y.flatten_all()?, ops::BiasActivation(None))?)
    }

    fn activate(&self, x: &Tensor, _len: usize, activation: Activation) -> Result<Tensor> {
        Ok(x.apply_op1(ops::Activate(activation))?)
    }

    fn attention(
        &self,
        q: Columns<'_, Tensor>,
        k: Columns<'_, Tensor>,
        v: Columns<'_, Tensor>,
        dims: AttentionDims,
        rule: Option<&Tensor>,
        turn: Turned<'_, Tensor>,
    ) -> Result<Tensor> {
        let shape = (dims.batch * dims.queries, dims.heads * dims.head_dim);
        if dims.keys == 0 {
            return Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        if let Some((table, turn)) = turn {
            let q = Columns {
                buffer: &self.rotary(q, table, turn)?,
                start: 0,
                stride: shape.1,
            };
            return self.attention(q, k, v, dims, rule, None);
        }
        let q = split_heads(&q, (dims.queries, dims.queries), &dims)?;
        let k = split_heads(&k, (dims.key_rows, dims.keys), &dims)?;
        let v = split_heads(&v, (dims.key_rows, dims.keys), &dims)?;
        let rule = rule.map(Tensor::to_vec1).transpose()?;
        let softmax = softmax::MaskedSoftmax::new(dims, rule);
        let scores = product::by_rows(&q, &k)?.apply_op1(softmax)?;
        let mixed = product::by_columns(&scores, &v)?;
        join_heads(&mixed, &dims)
    }

    fn rotary(&self, x: Columns<'_, Tensor>, table: &Tensor, dims: RotaryDims) -> Result<Tensor> {
        let x = cut_out(&x, dims.rows, dims.heads * dims.head_dim)?;
        Ok(x.apply_op2(&table.flatten_all()?, language::Rotary(dims))?)
    }

    fn gated_add(
        &self,
        x: &Tensor,
        y: &Tensor,
        len: usize,
        (gate, gate_len): (&Tensor, usize),
    ) -> Result<Tensor> {
        let shape = (len / gate_len.max(1), gate_len);
        let (x, y) = (shaped(x, shape)?, shaped(y, shape)?);
        Ok(x.apply_op3(&y, &gate.flatten_all()?, language::GatedAdd)?)
    }

    fn glu(&self, x: &Tensor, (rows, width): (usize, usize), act: Activation) -> Result<Tensor> {
        let x = shaped(x, (rows, 2 * width))?;
        Ok(x.apply_op1(language::Glu(act))?)
    }

    fn top_k(&self, x: &Tensor, rows_cols: (usize, usize), k: usize) -> Result<Tensor> {
        language::top_k(&x.reshape(rows_cols)?, k)
    }

    fn write_kv(
        &self,
        cache: &Tensor,
        dims: WriteDims,
        keys: Columns<'_, Tensor>,
        values: Columns<'_, Tensor>,
        smear: Option<Smear<'_, Tensor, Tensor>>,
        turn: Turned<'_, Tensor>,
    ) -> Result<()> {
        let (rows, width) = (dims.batch * dims.rows, dims.width);
        let given = cut_out(&keys, rows, width)?;
        let mut keys = match &smear {
            Some(smear) => language::smeared(&given, cache, dims, smear)?,
            None => given.clone(),
        };
        if let Some((table, turn)) = turn {
            keys = keys.apply_op2(&table.flatten_all()?, language::Rotary(turn))?;
        }
        let mut row = vec![keys, cut_out(&values, rows, width)?];
        row.extend(smear.map(|_| given));
        let row = Tensor::cat(&row, 1)?;
        let length = row.dim(1)?;
        let row = row.reshape((dims.batch, dims.rows, length))?;
        let cache = cache.reshape((dims.batch, dims.capacity, length))?;
        // What is cached is computed with, not learned from.
        Ok(cache.slice_set(&row.detach(), 1, dims.start)?)
    }

    fn conv2d(
        &self,
        x: &Tensor,
        dims: WindowDims,
        w: &Matrix,
        (out, groups): (usize, usize),
        epilogue: Epilogue<'_, Tensor>,
    ) -> Result<Tensor> {
        let (out_height, out_width) = dims.out();
        let rows = dims.n * out_height * out_width;
        if groups == 1 {
            return finished(w.product(&unfold(x, dims)?)?, (rows, out), &epilogue);
        }
        let channels = dims.channels / groups;
        let pixels = x.reshape((dims.n * dims.height * dims.width, dims.channels))?;
        let parts = (0..groups).map(|group| {
            let part = pixels.narrow(1, group * channels, channels)?;
            let windows = unfold(&part, WindowDims { channels, ..dims })?;
            let count = out / groups;
            w.part(group * count, count)?.product(&windows)
        });
        let parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
        finished(Tensor::cat(&parts, 1)?, (rows, out), &epilogue)
    }

    fn excite(
        &self,
        x: &Tensor,
        gate: &Tensor,
        residual: &Tensor,
        dims: ExciteDims,
    ) -> Result<Tensor> {
        let shape = (dims.n, dims.rows, dims.cols);
        let gate = gate.reshape((dims.n, 1, dims.cols))?;
        let open = (gate.neg()?.exp()? + 1.0)?.recip()?;
        let opened = x.reshape(shape)?.broadcast_mul(&open)?;
        Ok(((opened * f64::from(dims.scale))? + residual.reshape(shape)?)?)
    }

    fn avg_pool(&self, x: &Tensor, dims: PoolDims) -> Result<Tensor> {
        Ok(x.contiguous()?.apply_op1(ops::AvgPool(dims))?)
    }

    fn concat(&self, outer: usize, a: Span<'_, Tensor>, b: Span<'_, Tensor>) -> Result<Tensor> {
        let side = |span: &Span<'_, Tensor>| -> Result<Tensor> {
            let rows = if span.shared { 1 } else { outer };
            let tensor = span.buffer.reshape((rows, span.len))?;
            Ok(tensor.broadcast_as((outer, span.len))?)
        };
        Ok(Tensor::cat(&[side(&a)?, side(&b)?], 1)?)
    }

    fn narrow(
        &self,
        x: &Tensor,
        (outer, len): (usize, usize),
        start: usize,
        count: usize,
    ) -> Result<Tensor> {
        let x = x.reshape((outer, len))?;
        Ok(x.narrow(1, start, count)?.contiguous()?)
    }

    fn embed(
        &self,
        table: &Matrix,
        _rows_cols: (usize, usize),
        ids: &Tensor,
        _n: usize,
    ) -> Result<Tensor> {
        table.rows(ids)
    }

    fn gather(
        &self,
        x: &Tensor,
        rows_cols: (usize, usize),
        ids: &Tensor,
        _n: usize,
    ) -> Result<Tensor> {
        Ok(x.reshape(rows_cols)?.index_select(ids, 0)?)
    }
}
