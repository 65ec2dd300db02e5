use super::{Kernel, form, row_kernels, vectors};
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNELS: [Kernel; 2] =
    row_kernels!([6, 21], "l2_normalize", "l2_normalize.wgsl", 1);

/// See [`crate::backend::Backend::l2_normalize`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * cols)?;
    let groups = folded(rows as u32);
    let vectors = vectors(&[cols]);
    let numbers = if vectors { cols / 4 } else { cols };
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNELS[form(vectors)],
        variant: 0,
        inputs: &[Some(x)],
        output: &output,
        parameters: &[rows as u32, numbers as u32, groups.0],
        groups,
        work: 3 * (rows * cols) as u64,
    })?;
    Ok(output)
}
