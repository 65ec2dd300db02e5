use super::{ACTIVATIONS, Kernel, code};
use crate::backend::Activation;
use crate::gpu::{Buffer, Gpu};
use crate::{DeviceError, Result};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 1,
    name: "activate",
    source: &[ACTIVATIONS, include_str!("activate.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::activate`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    len: usize,
    activation: Activation,
) -> Result<Buffer, DeviceError> {
    let parameters = [len as u32, code(Some(activation))];
    gpu.each(&KERNEL, &[Some(x)], len, &parameters)
}
