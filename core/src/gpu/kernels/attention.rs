use super::Kernel;
use crate::backend::{AttentionDims, Columns, Mask};
use crate::gpu::recorder::Dispatch;
use crate::gpu::{Buffer, Gpu};
use crate::{Error, Result};

pub(in crate::gpu) const KERNEL: Kernel = Kernel {
    id: 9,
    name: "attention",
    source: include_str!("attention.wgsl"),
    inputs: 3,
    constants: &[],
};

/// Widest head that the shader has room for.
const MAX_HEAD_DIM: usize = 256;
/// Most queries, heads or sequences: workgroups along one axis.
const MAX_AXIS: usize = 65_535;

/// See [`crate::backend::Backend::attention`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    q: &Columns<'_, Buffer>,
    k: &Columns<'_, Buffer>,
    v: &Columns<'_, Buffer>,
    dims: AttentionDims,
) -> Result<Buffer> {
    let AttentionDims {
        batch,
        heads,
        head_dim,
        queries,
        keys,
        mask,
    } = dims;
    if head_dim > MAX_HEAD_DIM || batch.max(queries).max(heads) > MAX_AXIS {
        return Err(Error::Shape {
            operation: "attention on the GPU",
            expected: format!("heads of up to {MAX_HEAD_DIM}, {MAX_AXIS} of anything"),
            found: format!("{dims:?}; compute on the CPU"),
        });
    }
    let output = gpu.take(batch * queries * heads * head_dim)?;
    let (causal, offset) = match mask {
        Mask::None => (0, 0),
        Mask::Causal { offset } => (1, offset as u32),
    };
    let scale = (head_dim as f32).sqrt().recip();
    let mut parameters = vec![
        heads as u32,
        head_dim as u32,
        queries as u32,
        keys as u32,
        causal,
        offset,
        scale.to_bits(),
    ];
    for band in [q, k, v] {
        parameters.extend([band.start as u32, band.stride as u32]);
    }
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: 0,
        inputs: &[Some(q.buffer), Some(k.buffer), Some(v.buffer)],
        output: &output,
        parameters: &parameters,
        groups: (queries as u32, heads as u32, batch as u32),
    })?;
    Ok(output)
}
