use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) const KERNEL: Kernel = Kernel {
    id: 5,
    name: "layer_norm",
    source: include_str!("layer_norm.wgsl"),
    inputs: 3,
    constants: &[],
};

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
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: 0,
        inputs: &[Some(x), Some(weight), Some(bias)],
        output: &output,
        parameters: &[rows as u32, cols as u32, eps.to_bits(), groups.0],
        groups,
    })?;
    Ok(output)
}
