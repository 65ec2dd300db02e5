use super::Kernel;
use crate::DeviceError;
use crate::backend::Span;
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 3,
    name: "copy",
    source: &[include_str!("copy.wgsl")],
    inputs: 1,
    constants: &[],
};

/// See [`crate::backend::Backend::concat`].
pub(in crate::gpu) fn concat(
    gpu: &Gpu,
    outer: usize,
    a: &Span<'_, Buffer>,
    b: &Span<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let whole = a.len + b.len;
    let out = gpu.take(outer * whole)?;
    for (span, start) in [(a, 0), (b, a.len)] {
        let step = if span.shared { 0 } else { span.len };
        let n = outer * span.len;
        let parameters = [n, span.len, step, 0, whole, start].map(|x| x as u32);
        gpu.each_into(&KERNEL, &[Some(span.buffer)], &out, n, &parameters)?;
    }
    Ok(out)
}

/// See [`crate::backend::Backend::narrow`].
pub(in crate::gpu) fn narrow(
    gpu: &Gpu,
    x: &Buffer,
    (outer, len): (usize, usize),
    start: usize,
    count: usize,
) -> Result<Buffer, DeviceError> {
    let n = outer * count;
    let parameters = [n, count, len, start, count, 0].map(|x| x as u32);
    gpu.each(&KERNEL, &[Some(x)], n, &parameters)
}
