use super::Kernel;
use crate::DeviceError;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 2,
    name: "add",
    source: &[include_str!("add.wgsl")],
    inputs: 2,
    constants: &[],
};

/// See [`crate::backend::Backend::add`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    (x, len): (&Buffer, usize),
    (y, y_len): (&Buffer, usize),
) -> Result<Buffer, DeviceError> {
    gpu.each(
        &KERNEL,
        &[Some(x), Some(y)],
        len,
        &[len as u32, y_len as u32],
    )
}
