use super::{ANGLE, Kernel};
use crate::DeviceError;
use crate::backend::{Columns, RotaryDims};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 41,
    name: "rotary",
    source: &[ANGLE, include_str!("rotary.wgsl")],
    inputs: 2,
    constants: &[],
};

/// See [`crate::backend::Backend::rotary`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Columns<'_, Buffer>,
    table: &Buffer,
    dims: RotaryDims,
) -> Result<Buffer, DeviceError> {
    let width = dims.heads * dims.head_dim;
    let n = dims.rows * width;
    let parameters = [
        n,
        width,
        dims.head_dim,
        dims.rotary_dims,
        usize::from(dims.interleaved),
        x.start,
        x.stride,
        dims.queries,
        dims.start,
        dims.step,
    ]
    .map(|x| x as u32);
    gpu.each(&KERNEL, &[Some(x.buffer), Some(table)], n, &parameters)
}
