use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 49,
    name: "top_k",
    source: &[include_str!("top_k.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::top_k`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
    k: usize,
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * (2 * k + 1))?;
    let groups = folded(rows as u32);
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: 0,
        inputs: &[Some(x)],
        output: &output,
        parameters: &[rows as u32, cols as u32, k as u32, groups.0],
        groups,
        work: (rows * cols * (k + 1)) as u64,
    })?;
    Ok(output)
}
