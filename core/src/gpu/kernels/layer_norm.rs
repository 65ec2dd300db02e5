use super::{Kernel, form, row_kernels, vectors};
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNELS: [Kernel; 2] =
    row_kernels!([5, 20], "layer_norm", "layer_norm.wgsl", 3);

/// See [`crate::backend::Backend::layer_norm`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
    (weight, bias): (&Buffer, &Buffer),
    eps: f32,
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * cols)?;
    let groups = folded(rows as u32);
    let vectors = vectors(&[cols]);
    let numbers = if vectors { cols / 4 } else { cols };
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNELS[form(vectors)],
        variant: 0,
        inputs: &[Some(x), Some(weight), Some(bias)],
        output: &output,
        parameters: &[rows as u32, numbers as u32, eps.to_bits(), groups.0],
        groups,
        work: 8 * (rows * cols) as u64,
    })?;
    Ok(output)
}
