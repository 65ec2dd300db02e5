use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::Dispatch;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) const KERNEL: Kernel = Kernel {
    id: 4,
    name: "gather",
    source: include_str!("gather.wgsl"),
    inputs: 2,
    constants: &["HALF"],
};

/// See [`crate::backend::Backend::gather`] and [`crate::backend::Backend::embed`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    (table, half): (&Buffer, bool),
    cols: usize,
    (ids, n): (&Buffer, usize),
) -> Result<Buffer, DeviceError> {
    let len = n * cols;
    let output = gpu.take(len)?;
    let groups = crate::gpu::recorder::folded((len as u32).div_ceil(256));
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: u32::from(half),
        inputs: &[Some(table), Some(ids)],
        output: &output,
        parameters: &[len as u32, cols as u32, groups.0 * 256],
        groups,
    })?;
    Ok(output)
}
