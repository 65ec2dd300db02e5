use super::Kernel;
use crate::DeviceError;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 19,
    name: "attention_sum",
    source: &[include_str!("attention_sum.wgsl")],
    inputs: 1,
    constants: &[],
};

/// What parts of the keys gave, `[rows, parts, head_dim + 2]` → `[rows,
/// head_dim]`, `len` numbers.
pub(super) fn run(
    gpu: &Gpu,
    x: &Buffer,
    len: usize,
    head_dim: usize,
    parts: usize,
) -> Result<Buffer, DeviceError> {
    let parameters = [len, head_dim, parts].map(|x| x as u32);
    gpu.each(&KERNEL, &[Some(x)], len, &parameters)
}
