use super::{Kernel, code, with_activations};
use crate::DeviceError;
use crate::backend::Epilogue;
use crate::gpu::recorder::Dispatch;
use crate::gpu::{Buffer, Gpu, GpuWeight};

pub(in crate::gpu) const KERNEL: Kernel = Kernel {
    id: 8,
    name: "linear",
    source: with_activations!("linear.wgsl"),
    inputs: 4,
    constants: &["HALF", "ACTIVATION"],
};

/// Side of the tile that a workgroup makes.
const TILE: u32 = 64;
/// Row tiles along y; more go along z.
const MAX_ROW_GROUPS: u32 = 32_768;

/// See [`crate::backend::Backend::linear`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    (x, rows): (&Buffer, usize),
    w: &GpuWeight,
    (out, inner): (usize, usize),
    epilogue: &Epilogue<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(rows * out)?;
    let tiles = (rows as u32).div_ceil(TILE);
    let row_groups = tiles.min(MAX_ROW_GROUPS);
    // 1 before the activation, 2 after it.
    let residual = match (epilogue.residual, epilogue.residual_first) {
        (None, _) => 0,
        (Some(_), true) => 1,
        (Some(_), false) => 2,
    };
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: u32::from(w.half) | code(epilogue.activation) << 8,
        inputs: &[Some(x), Some(&w.buffer), epilogue.bias, epilogue.residual],
        output: &output,
        parameters: &[
            rows as u32,
            out as u32,
            inner as u32,
            u32::from(epilogue.bias.is_some()),
            residual,
            row_groups,
        ],
        groups: (
            (out as u32).div_ceil(TILE),
            row_groups,
            tiles.div_ceil(row_groups),
        ),
    })?;
    Ok(output)
}
