use super::{ACTIVATIONS, Kernel, code};
use crate::DeviceError;
use crate::backend::Activation;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 43,
    name: "glu",
    source: &[ACTIVATIONS, include_str!("glu.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::glu`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, width): (usize, usize),
    activation: Activation,
) -> Result<Buffer, DeviceError> {
    let n = rows * width;
    let parameters = [n as u32, width as u32, code(Some(activation))];
    gpu.each(&KERNEL, &[Some(x)], n, &parameters)
}
