use super::Kernel;
use crate::DeviceError;
use crate::backend::ExciteDims;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 46,
    name: "excite",
    source: &[include_str!("excite.wgsl")],
    inputs: 3,
    constants: &[],
};

/// See [`crate::backend::Backend::excite`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    gate: &Buffer,
    residual: &Buffer,
    d: ExciteDims,
) -> Result<Buffer, DeviceError> {
    let each = d.rows * d.cols;
    let len = d.n * each;
    let parameters = [len as u32, each as u32, d.cols as u32, d.scale.to_bits()];
    let inputs = [Some(x), Some(gate), Some(residual)];
    gpu.each(&KERNEL, &inputs, len, &parameters)
}
