use super::Kernel;
use crate::DeviceError;
use crate::backend::UnfoldDims;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 7,
    name: "unfold",
    source: &[include_str!("unfold.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::unfold`].
pub(in crate::gpu) fn run(gpu: &Gpu, x: &Buffer, d: UnfoldDims) -> Result<Buffer, DeviceError> {
    let (out_height, out_width) = d.out();
    let (above, before) = d.before();
    let len = d.n * out_height * out_width * d.kernel * d.kernel * d.channels;
    let parameters = [
        len, d.height, d.width, d.channels, d.kernel, d.stride, above, before, out_height,
        out_width,
    ]
    .map(|x| x as u32);
    gpu.each(&KERNEL, &[Some(x)], len, &parameters)
}
