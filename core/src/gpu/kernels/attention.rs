use super::{ANGLE, Kernel, attention_few, attention_sum, turning, vectors};
use crate::backend::{AttentionDims, Columns, Mask, Turned};
use crate::gpu::recorder::Dispatch;
use crate::gpu::tuning::AttentionVariant;
use crate::gpu::{Buffer, Gpu};
use crate::{DeviceError, Error, Result};

/// The tiled form.
pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 9,
    name: "attention",
    source: &[
        ANGLE,
        include_str!("attention_inputs.wgsl"),
        include_str!("attention.wgsl"),
    ],
    inputs: 5,
    constants: &["VECTOR", "QUADS", "BLOCK"],
};

/// Widest head that the tiled form stages, and that any form takes.
const MAX_TILED: usize = 128;
const MAX_HEAD_DIM: usize = 256;
/// Most queries, heads or sequences: workgroups along one axis.
const MAX_AXIS: usize = 65_535;
/// Keys that a workgroup for few queries takes at a time.
const FEW_KEYS: usize = 64;

/// See [`crate::backend::Backend::attention`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    inputs: [&Columns<'_, Buffer>; 3],
    dims: AttentionDims,
    rule: Option<&Buffer>,
    turn: Turned<'_, Buffer>,
) -> Result<Buffer> {
    let AttentionDims {
        batch,
        heads,
        head_dim,
        queries,
        keys,
        ..
    } = dims;
    if head_dim > MAX_HEAD_DIM || batch.max(queries).max(heads) > MAX_AXIS {
        return Err(Error::Shape {
            operation: "attention on the GPU",
            expected: format!("heads of up to {MAX_HEAD_DIM}, {MAX_AXIS} of anything"),
            found: format!("{dims:?}; compute on the CPU"),
        });
    }
    let call = Call {
        gpu,
        inputs,
        rule,
        turn,
        dims,
        quads: head_dim.div_ceil(4),
    };
    let variant = (gpu.tuning.attention)
        .unwrap_or_else(|| AttentionVariant::choose(batch * heads, queries, keys));
    Ok(match variant {
        AttentionVariant::Tiled if head_dim <= MAX_TILED => call.tiled()?,
        AttentionVariant::Tiled => call.few(1)?,
        AttentionVariant::Few { parts } => {
            // One workgroup for each part of each query, along one axis.
            call.few(parts.clamp(1, MAX_AXIS / queries))?
        }
    })
}

struct Call<'a> {
    gpu: &'a Gpu,
    /// q, k and v.
    inputs: [&'a Columns<'a, Buffer>; 3],
    rule: Option<&'a Buffer>,
    /// Of the queries.
    turn: Turned<'a, Buffer>,
    dims: AttentionDims,
    /// Vectors of a head.
    quads: usize,
}

impl Call<'_> {
    fn variant(&self) -> u32 {
        let mut sizes = vec![self.dims.head_dim];
        for band in self.inputs {
            sizes.extend([band.start, band.stride]);
        }
        u32::from(vectors(&sizes)) | (self.quads as u32) << 8
    }

    fn buffers(&self) -> [Option<&Buffer>; 5] {
        let [q, k, v] = self.inputs.map(|band| Some(band.buffer));
        [q, k, v, self.rule, self.turn.map(|(table, _)| table)]
    }

    /// Numbers of the result.
    fn len(&self) -> usize {
        let d = self.dims;
        d.batch * d.queries * d.heads * d.head_dim
    }

    fn work(&self) -> u64 {
        4 * (self.len() * self.dims.keys) as u64
    }

    fn parameters(&self, chunk: usize, parts: usize) -> Vec<u32> {
        let d = self.dims;
        // A rule that is added here is added to `attention_inputs.wgsl`.
        let (mask, offset, several) = match d.mask {
            Mask::None => (0, 0, 1),
            Mask::Causal { offset } if self.rule.is_none() => (1, offset, 1),
            Mask::Causal { offset } => (2, offset, 1),
            Mask::Media {
                per_image,
                all_previous: false,
            } => (3, 0, per_image),
            Mask::Media { per_image, .. } => (4, 0, per_image),
            Mask::Beams { prompt, width } => (5, prompt, width),
        };
        let scale = (d.head_dim as f32).sqrt().recip();
        let mut parameters = [d.heads, d.head_dim, d.queries, d.keys]
            .map(|x| x as u32)
            .to_vec();
        parameters.extend([scale.to_bits(), mask, offset as u32]);
        for band in self.inputs {
            parameters.extend([band.start as u32, band.stride as u32]);
        }
        parameters.extend([chunk, parts, d.key_rows, several].map(|x| x as u32));
        let alibi = d.alibi.unwrap_or(0) as f32;
        parameters.extend([alibi.to_bits(), d.heads.next_power_of_two() as u32]);
        parameters.extend(turning(self.turn));
        parameters
    }

    fn tiled(&self) -> Result<Buffer, DeviceError> {
        let d = self.dims;
        let output = self.gpu.take(self.len())?;
        // As many keys as fit beside the queries in workgroup memory.
        let block = match self.quads {
            0..=16 => 32,
            17..=24 => 16,
            _ => 8,
        };
        self.gpu.recorder.dispatch(&Dispatch {
            kernel: &KERNEL,
            variant: self.variant() | block << 16,
            inputs: &self.buffers(),
            output: &output,
            parameters: &self.parameters(d.keys, 1),
            groups: (
                d.queries.div_ceil(16) as u32,
                d.heads as u32,
                d.batch as u32,
            ),
            work: self.work(),
        })?;
        Ok(output)
    }

    fn few(&self, parts: usize) -> Result<Buffer, DeviceError> {
        let d = self.dims;
        let chunk = d.keys.div_ceil(parts).next_multiple_of(FEW_KEYS);
        let parts = d.keys.div_ceil(chunk).max(1);
        let rows = d.batch * d.queries * d.heads;
        let len = if parts == 1 {
            self.len()
        } else {
            rows * parts * (d.head_dim + 2)
        };
        let output = self.gpu.take(len)?;
        self.gpu.recorder.dispatch(&Dispatch {
            kernel: &attention_few::KERNEL,
            variant: self.variant(),
            inputs: &self.buffers(),
            output: &output,
            parameters: &self.parameters(chunk, parts),
            groups: ((d.queries * parts) as u32, d.heads as u32, d.batch as u32),
            work: self.work(),
        })?;
        if parts == 1 {
            return Ok(output);
        }
        attention_sum::run(self.gpu, &output, self.len(), d.head_dim, parts)
    }
}
