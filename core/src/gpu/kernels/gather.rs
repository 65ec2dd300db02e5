use super::Kernel;
use crate::DeviceError;
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::weight::Storage;
use crate::gpu::{Buffer, Gpu, GpuWeight};

pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 4,
    name: "gather",
    source: &[include_str!("gather.wgsl")],
    inputs: 3,
    constants: &["WEIGHT"],
};

/// A table, or the part of one that lies in one buffer.
struct Table<'a> {
    storage: Storage,
    data: &'a Buffer,
    scales: Option<&'a Buffer>,
    /// Words and blocks of a row.
    words: usize,
    blocks: usize,
    /// The first row, and how many there are.
    first: usize,
    rows: usize,
}

/// See [`crate::backend::Backend::gather`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    x: &Buffer,
    (rows, cols): (usize, usize),
    (ids, n): (&Buffer, usize),
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(n * cols)?;
    let table = Table {
        storage: Storage::F32,
        data: x,
        scales: None,
        words: cols,
        blocks: 0,
        first: 0,
        rows,
    };
    read(gpu, &table, (ids, n), &output, cols)?;
    Ok(output)
}

/// See [`crate::backend::Backend::embed`].
pub(in crate::gpu) fn embed(
    gpu: &Gpu,
    weight: &GpuWeight,
    cols: usize,
    (ids, n): (&Buffer, usize),
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(n * cols)?;
    for shard in weight.shards.iter() {
        let table = Table {
            storage: weight.storage,
            data: &shard.data,
            scales: shard.scales.as_ref(),
            words: weight.words(),
            blocks: weight.blocks,
            first: shard.start,
            rows: shard.rows,
        };
        read(gpu, &table, (ids, n), &output, cols)?;
    }
    Ok(output)
}

fn read(
    gpu: &Gpu,
    table: &Table<'_>,
    (ids, n): (&Buffer, usize),
    output: &Buffer,
    cols: usize,
) -> Result<(), DeviceError> {
    let len = n * cols;
    let groups = folded((len as u32).div_ceil(256));
    let sizes = [
        len,
        cols,
        table.words,
        table.blocks,
        table.first,
        table.rows,
    ];
    let mut parameters = sizes.map(|x| x as u32).to_vec();
    parameters.push(groups.0 * 256);
    gpu.recorder.dispatch(&Dispatch {
        kernel: &KERNEL,
        variant: table.storage as u32,
        inputs: &[Some(table.data), table.scales, Some(ids)],
        output,
        parameters: &parameters,
        groups,
        work: len as u64,
    })
}
