use super::Kernel;
use crate::DeviceError;
use crate::backend::PoolDims;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 10,
    name: "avg_pool",
    source: &[include_str!("avg_pool.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::avg_pool`].
pub(in crate::gpu) fn run(gpu: &Gpu, x: &Buffer, d: PoolDims) -> Result<Buffer, DeviceError> {
    let (out_height, out_width) = (d.height / d.kernel, d.width / d.kernel);
    let len = d.n * out_height * out_width * d.channels;
    let parameters = [
        len, d.height, d.width, d.channels, d.kernel, out_height, out_width,
    ]
    .map(|x| x as u32);
    gpu.each(&KERNEL, &[Some(x)], len, &parameters)
}
