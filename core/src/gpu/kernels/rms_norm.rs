use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 40,
    name: "rms_norm",
    source: &[include_str!("rms_norm.wgsl")],
    inputs: 2,
    constants: &[],
};

/// See [`crate::backend::Backend::rms_norm`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
    weight: &Buffer,
    eps: f32,
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * cols)?;
    let groups = folded(rows as u32);
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: 0,
        inputs: &[Some(x), Some(weight)],
        output: &output,
        parameters: &[rows as u32, cols as u32, eps.to_bits(), groups.0],
        groups,
        work: 6 * (rows * cols) as u64,
    })?;
    Ok(output)
}
