//! The WebGPU device: the same code in the browser and on Vulkan, Metal and
//! Direct3D 12. Operations are recorded; one read submits and waits.

mod buffer;
mod device;
mod kernels;
mod recorder;
mod tuning;
mod variants;
mod weight;

use std::rc::Rc;

pub use buffer::Buffer;
pub use device::{Info, MemoryLimits};
pub use recorder::Counters;
pub use tuning::{AttentionVariant, LinearVariant, Tuning};
pub use variants::contract;
pub use weight::GpuWeight;

use crate::backend::{
    Activation, AttentionDims, Backend, Columns, Epilogue, ExciteDims, NormDims, PoolDims,
    RotaryDims, RowNorm, Smear, Span, Turned, WeightData, WindowDims, WriteDims,
};
use crate::{DeviceError, Result};
use kernels::Kernel;
use kernels::linear::Before;
use recorder::{Dispatch, Recorder, folded};

/// A graphics processor.
#[derive(Clone)]
pub struct Gpu {
    recorder: Rc<Recorder>,
    tuning: Tuning,
}

impl Gpu {
    /// Opens the best adapter there is.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn new() -> Result<Self, DeviceError> {
        Self::with_limits(MemoryLimits::default()).await
    }

    /// Opens the best adapter there is and asks for no more memory at a time
    /// than given.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn with_limits(limits: MemoryLimits) -> Result<Self, DeviceError> {
        let recorder = Recorder::new(device::open(limits).await?)?;
        Ok(Self {
            recorder: Rc::new(recorder),
            tuning: Tuning::default(),
        })
    }

    /// The same device with variants forced, for tests.
    #[must_use]
    pub fn tuned(&self, tuning: Tuning) -> Self {
        Self {
            recorder: self.recorder.clone(),
            tuning,
        }
    }

    /// What has been asked of the device so far.
    pub fn counters(&self) -> Counters {
        self.recorder.counters()
    }

    /// What computes, for a person.
    pub fn info(&self) -> &Info {
        &self.recorder.opened.info
    }

    /// Most bytes of a tensor.
    pub fn limit(&self) -> u64 {
        self.recorder.pool.limit()
    }

    /// Whether the device is well, as far as is known by now.
    ///
    /// # Errors
    /// What went wrong.
    pub fn check(&self) -> Result<(), DeviceError> {
        self.recorder.opened.fault.check()
    }

    /// Room for `len` numbers, with anything in them.
    fn take(&self, len: usize) -> Result<Buffer, DeviceError> {
        self.recorder.pool.take(len as u64 * 4, false)
    }

    /// Runs a kernel with one invocation for each of `len` outputs; the width
    /// of the grid follows the parameters.
    fn each(
        &self,
        kernel: &'static Kernel,
        inputs: &[Option<&Buffer>],
        len: usize,
        parameters: &[u32],
    ) -> Result<Buffer, DeviceError> {
        let output = self.take(len)?;
        self.each_into(kernel, inputs, &output, len, parameters)?;
        Ok(output)
    }

    fn each_into(
        &self,
        kernel: &'static Kernel,
        inputs: &[Option<&Buffer>],
        output: &Buffer,
        len: usize,
        parameters: &[u32],
    ) -> Result<(), DeviceError> {
        let groups = folded((len as u32).div_ceil(256));
        let mut parameters = parameters.to_vec();
        parameters.push(groups.0 * 256);
        self.recorder.dispatch(&Dispatch {
            kernel,
            variant: 0,
            inputs,
            output,
            parameters: &parameters,
            groups,
            work: len as u64,
        })
    }
}

impl Backend for Gpu {
    type Buffer = Buffer;
    type Ids = Buffer;
    type Weight = GpuWeight;

    fn upload(&self, data: &[f32]) -> Result<Buffer> {
        Ok(self.recorder.upload(bytemuck::cast_slice(data))?)
    }

    fn upload_ids(&self, ids: &[u32]) -> Result<Buffer> {
        Ok(self.recorder.upload(bytemuck::cast_slice(ids))?)
    }

    fn parameter(&self, _name: &str, data: Vec<f32>, _shape: &[usize]) -> Result<Buffer> {
        Ok(self.recorder.keep(bytemuck::cast_slice(&data))?)
    }

    fn weight(&self, name: &str, data: WeightData, rows: usize, cols: usize) -> Result<GpuWeight> {
        Ok(weight::load(self, name, &data, rows, cols)?)
    }

    async fn read(&self, buffer: &Buffer, len: usize) -> Result<Vec<f32>> {
        Ok(self.recorder.read(buffer, len).await?)
    }

    fn linear(
        &self,
        x: &Buffer,
        rows: usize,
        w: &GpuWeight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Buffer>,
    ) -> Result<Buffer> {
        let x = (x, rows);
        Ok(kernels::linear::run(
            self,
            x,
            Before::Nothing,
            w,
            out_in,
            &epilogue,
        )?)
    }

    fn norm_linear(
        &self,
        x: &Buffer,
        rows: usize,
        norm: &RowNorm<'_, Buffer>,
        w: &GpuWeight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Buffer>,
    ) -> Result<Buffer> {
        let before = Before::Norm(norm);
        let x = (x, rows);
        Ok(kernels::linear::run(self, x, before, w, out_in, &epilogue)?)
    }

    fn glu_linear(
        &self,
        x: &Buffer,
        rows: usize,
        activation: Activation,
        w: &GpuWeight,
        out_in: (usize, usize),
        epilogue: Epilogue<'_, Buffer>,
    ) -> Result<Buffer> {
        let before = Before::Glu(activation);
        let x = (x, rows);
        Ok(kernels::linear::run(self, x, before, w, out_in, &epilogue)?)
    }

    fn norm(
        &self,
        x: Columns<'_, Buffer>,
        dims: NormDims,
        norm: &RowNorm<'_, Buffer>,
    ) -> Result<Buffer> {
        Ok(kernels::norm(self, &x, dims, norm)?)
    }

    fn l2_normalize(&self, x: &Buffer, rows_cols: (usize, usize)) -> Result<Buffer> {
        Ok(kernels::l2_normalize::run(self, x, rows_cols)?)
    }

    fn add(&self, x: &Buffer, len: usize, y: &Buffer, y_len: usize) -> Result<Buffer> {
        Ok(kernels::add::run(self, (x, len), (y, y_len))?)
    }

    fn activate(&self, x: &Buffer, len: usize, activation: Activation) -> Result<Buffer> {
        Ok(kernels::activate::run(self, x, len, activation)?)
    }

    fn attention(
        &self,
        q: Columns<'_, Buffer>,
        k: Columns<'_, Buffer>,
        v: Columns<'_, Buffer>,
        dims: AttentionDims,
        rule: Option<&Buffer>,
        turn: Turned<'_, Buffer>,
    ) -> Result<Buffer> {
        kernels::attention::run(self, [&q, &k, &v], dims, rule, turn)
    }

    fn rotary(&self, x: Columns<'_, Buffer>, table: &Buffer, dims: RotaryDims) -> Result<Buffer> {
        Ok(kernels::rotary::run(self, &x, table, dims)?)
    }

    fn gated_add(
        &self,
        x: &Buffer,
        y: &Buffer,
        len: usize,
        gate: (&Buffer, usize),
    ) -> Result<Buffer> {
        Ok(kernels::gated_add::run(self, (x, y), len, gate)?)
    }

    fn glu(
        &self,
        x: &Buffer,
        rows_width: (usize, usize),
        activation: Activation,
    ) -> Result<Buffer> {
        Ok(kernels::glu::run(self, x, rows_width, activation)?)
    }

    fn top_k(&self, x: &Buffer, rows_cols: (usize, usize), k: usize) -> Result<Buffer> {
        Ok(kernels::top_k::run(self, x, rows_cols, k)?)
    }

    fn write_kv(
        &self,
        cache: &Buffer,
        dims: WriteDims,
        keys: Columns<'_, Buffer>,
        values: Columns<'_, Buffer>,
        smear: Option<Smear<'_, Buffer, Buffer>>,
        turn: Turned<'_, Buffer>,
    ) -> Result<()> {
        let kv = (&keys, &values);
        Ok(kernels::write_kv::run(
            self,
            cache,
            dims,
            kv,
            smear.as_ref(),
            turn,
        )?)
    }

    fn conv2d(
        &self,
        x: &Buffer,
        dims: WindowDims,
        w: &GpuWeight,
        out: (usize, usize),
        epilogue: Epilogue<'_, Buffer>,
    ) -> Result<Buffer> {
        Ok(kernels::linear::conv2d(self, x, dims, w, out, &epilogue)?)
    }

    fn excite(
        &self,
        x: &Buffer,
        gate: &Buffer,
        residual: &Buffer,
        dims: ExciteDims,
    ) -> Result<Buffer> {
        Ok(kernels::excite::run(self, x, gate, residual, dims)?)
    }

    fn avg_pool(&self, x: &Buffer, dims: PoolDims) -> Result<Buffer> {
        Ok(kernels::avg_pool::run(self, x, dims)?)
    }

    fn concat(&self, outer: usize, a: Span<'_, Buffer>, b: Span<'_, Buffer>) -> Result<Buffer> {
        Ok(kernels::copy::concat(self, outer, &a, &b)?)
    }

    fn narrow(
        &self,
        x: &Buffer,
        outer_len: (usize, usize),
        start: usize,
        count: usize,
    ) -> Result<Buffer> {
        Ok(kernels::copy::narrow(self, x, outer_len, start, count)?)
    }

    fn embed(
        &self,
        table: &GpuWeight,
        (_, cols): (usize, usize),
        ids: &Buffer,
        n: usize,
    ) -> Result<Buffer> {
        Ok(kernels::gather::embed(self, table, cols, (ids, n))?)
    }

    fn gather(
        &self,
        x: &Buffer,
        rows_cols: (usize, usize),
        ids: &Buffer,
        n: usize,
    ) -> Result<Buffer> {
        Ok(kernels::gather::run(self, x, rows_cols, (ids, n))?)
    }
}
