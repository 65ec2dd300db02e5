use super::Kernel;
use crate::DeviceError;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 42,
    name: "gated_add",
    source: &[include_str!("gated_add.wgsl")],
    inputs: 3,
    constants: &[],
};

/// See [`crate::backend::Backend::gated_add`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    (x, y): (&Buffer, &Buffer),
    len: usize,
    (gate, gate_len): (&Buffer, usize),
) -> Result<Buffer, DeviceError> {
    let inputs = [Some(x), Some(y), Some(gate)];
    gpu.each(&KERNEL, &inputs, len, &[len as u32, gate_len as u32])
}
