use super::{ANGLE, Kernel};
use crate::DeviceError;
use crate::backend::{Columns, RotaryDims, WriteDims};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 48,
    name: "write_kv",
    source: &[ANGLE, include_str!("write_kv.wgsl")],
    inputs: 3,
    constants: &[],
};

/// See [`crate::backend::Backend::write_kv`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    cache: &Buffer,
    d: WriteDims,
    (keys, values): (&Columns<'_, Buffer>, &Columns<'_, Buffer>),
    turn: Option<(&Buffer, RotaryDims)>,
) -> Result<(), DeviceError> {
    let n = d.batch * d.rows * 2 * d.width;
    let mut parameters = vec![n, d.width, d.rows, d.capacity, d.start];
    parameters.extend([keys.start, keys.stride, values.start, values.stride]);
    let (table, turning) = match turn {
        Some((table, t)) => {
            let interleaved = usize::from(t.interleaved);
            let turning = [t.head_dim, t.rotary_dims, interleaved, t.start, t.step];
            (Some(table), turning)
        }
        None => (None, [1, 0, 0, 0, 0]),
    };
    parameters.extend(turning);
    let parameters: Vec<u32> = parameters.into_iter().map(|x| x as u32).collect();
    let inputs = [Some(keys.buffer), Some(values.buffer), table];
    gpu.each_into(&KERNEL, &inputs, cache, n, &parameters)
}
