use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) const KERNEL: Kernel = Kernel {
    id: 6,
    name: "l2_normalize",
    source: include_str!("l2_normalize.wgsl"),
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::l2_normalize`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * cols)?;
    let groups = folded(rows as u32);
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: 0,
        inputs: &[Some(x)],
        output: &output,
        parameters: &[rows as u32, cols as u32, groups.0],
        groups,
    })?;
    Ok(output)
}
