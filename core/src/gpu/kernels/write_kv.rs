use super::{ANGLE, Kernel, turning};
use crate::DeviceError;
use crate::backend::{Columns, Smear, Turned, WriteDims};
use crate::gpu::{Buffer, Gpu};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 48,
    name: "write_kv",
    source: &[ANGLE, include_str!("write_kv.wgsl")],
    inputs: 5,
    constants: &[],
};

/// See [`crate::backend::Backend::write_kv`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    cache: &Buffer,
    d: WriteDims,
    (keys, values): (&Columns<'_, Buffer>, &Columns<'_, Buffer>),
    smear: Option<&Smear<'_, Buffer, Buffer>>,
    turn: Turned<'_, Buffer>,
) -> Result<(), DeviceError> {
    let parts = if smear.is_some() { 3 } else { 2 };
    let n = d.batch * d.rows * parts * d.width;
    let sizes = [n, parts, d.width, d.rows, d.capacity, d.start];
    let bands = [keys.start, keys.stride, values.start, values.stride];
    let head_dim = turn.map_or(1, |(_, turn)| turn.head_dim);
    let mut parameters: Vec<u32> = sizes.into_iter().chain(bands).map(|x| x as u32).collect();
    parameters.push(head_dim as u32);
    parameters.extend(turning(turn));
    let inputs = [
        Some(keys.buffer),
        Some(values.buffer),
        turn.map(|(table, _)| table),
        smear.map(|smear| smear.gate),
        smear.map(|smear| smear.previous),
    ];
    gpu.each_into(&KERNEL, &inputs, cache, n, &parameters)
}
