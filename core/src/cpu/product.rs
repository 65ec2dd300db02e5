//! Products of little work. Candle asks the system how many processors there
//! are before each of its own, which on Linux means reading `/proc/cpuinfo`: 27
//! microseconds with two processors, more with more, and so two thirds of the
//! time in which a small model wrote a token. What is trained goes by candle's
//! own all the same: these have no way back.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Multiplications from which on candle's products are the faster ones.
const MUCH: usize = 1 << 18;

/// Numbers summed side by side, so that the compiler vectorises.
const LANES: usize = 16;

/// `x · wᵀ`: x `[.., m, inner]`, w `[.., n, inner]` → `[.., m, n]`. The rows of
/// a w of two axes may lie apart.
pub(super) fn by_rows(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if is_candles(x, w, w.dims()[w.rank() - 2]) {
        return x.matmul(&w.t()?);
    }
    x.contiguous()?.apply_op2_no_bwd(w, &ByRows)
}

/// `x · y`: x `[.., m, inner]`, y `[.., inner, n]` → `[.., m, n]`.
pub(super) fn by_columns(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if is_candles(x, y, y.dims()[y.rank() - 1]) {
        return x.matmul(y);
    }
    x.contiguous()?.apply_op2_no_bwd(y, &ByColumns)
}

/// Whether a product with `n` columns is much work, or learned through.
fn is_candles(x: &Tensor, other: &Tensor, n: usize) -> bool {
    x.track_op() || other.track_op() || x.elem_count() * n > MUCH
}

/// Matrices one after the other, whose rows may lie apart.
struct Rows<'a> {
    numbers: &'a [f32],
    /// Rows of a matrix and their length.
    rows: usize,
    cols: usize,
    /// From one row to the next.
    step: usize,
}

impl<'a> Rows<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (rows, cols, step) = match (layout.dims(), layout.stride()) {
            // Where an axis is of one, its stride may be anything.
            (&[.., rows, cols], _) if layout.is_contiguous() => (rows, cols, cols),
            (&[rows, cols], &[step, 1]) => (rows, cols, step),
            _ => candle_core::bail!("expected rows, got {layout:?}"),
        };
        Ok(Self {
            numbers: &storage.as_slice()?[layout.start_offset()..],
            rows,
            cols,
            step,
        })
    }

    /// The rows of a matrix.
    fn matrix(&self, number: usize) -> impl Iterator<Item = &'a [f32]> {
        let (first, numbers) = (number * self.rows, self.numbers);
        let (step, cols) = (self.step, self.cols);
        (first..first + self.rows).map(move |row| &numbers[row * step..row * step + cols])
    }
}

/// The sizes of a result: `[.., m]` of x and `n`.
fn shape(layout: &Layout, n: usize) -> Shape {
    let mut dims = layout.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    dims.into()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_whole.iter().zip(b_whole) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

struct ByRows;

impl CustomOp2 for ByRows {
    fn name(&self) -> &'static str {
        "product_by_rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (Rows::of(x, x_layout)?, Rows::of(w, w_layout)?);
        let shape = shape(x_layout, w.rows);
        let mut out = Vec::with_capacity(shape.elem_count());
        for number in 0..shape.elem_count() / (x.rows * w.rows).max(1) {
            for x in x.matrix(number) {
                out.extend(w.matrix(number).map(|w| dot(x, w)));
            }
        }
        Ok((CpuStorage::F32(out), shape))
    }
}

struct ByColumns;

impl CustomOp2 for ByColumns {
    fn name(&self) -> &'static str {
        "product_by_columns"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (Rows::of(x, x_layout)?, Rows::of(y, y_layout)?);
        let shape = shape(x_layout, y.cols);
        let mut out = vec![0f32; shape.elem_count()];
        let matrices = out.chunks_exact_mut((x.rows * y.cols).max(1));
        for (number, out) in matrices.enumerate() {
            let rows = out.chunks_exact_mut(y.cols).zip(x.matrix(number));
            for (out, x) in rows {
                for (x, y) in x.iter().zip(y.matrix(number)) {
                    out.iter_mut().zip(y).for_each(|(out, y)| *out += x * y);
                }
            }
        }
        Ok((CpuStorage::F32(out), shape))
    }
}
