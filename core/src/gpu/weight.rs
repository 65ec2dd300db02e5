//! Weights on the device, in their stored precision.
//!
//! Rows are padded with zeros to whole blocks of 32, so that kernels read
//! vectors of 16 bytes whatever the precision. Of quantised blocks the codes
//! lie in one buffer and the scales in another: GGML's blocks of 34 and 18
//! bytes would begin in the middle of words. A matrix that one binding does not
//! hold is laid out over several buffers, by rows.

use std::rc::Rc;

use bytemuck::Pod;

use super::Gpu;
use super::buffer::Buffer;
use crate::DeviceError;
use crate::backend::WeightData;
use crate::quant::{BLOCK, Quantization};

/// Bytes that are copied to the device at a time.
const PIECE: usize = 4 << 20;

/// How numbers are stored, as the shaders number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    F32 = 0,
    F16 = 1,
    Q8_0 = 2,
    Q4_0 = 3,
}

impl Storage {
    /// Bytes of a block of 32 without its scale.
    fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 128,
            Self::F16 => 64,
            Self::Q8_0 => 32,
            Self::Q4_0 => 16,
        }
    }
}

/// Rows `start .. start + rows` of a matrix.
pub(super) struct Shard {
    pub(super) start: usize,
    pub(super) rows: usize,
    pub(super) data: Buffer,
    /// Of quantised blocks, two f16 to a word.
    pub(super) scales: Option<Buffer>,
}

/// A matrix on the device.
#[derive(Clone)]
pub struct GpuWeight {
    pub(super) storage: Storage,
    /// Blocks in a row.
    pub(super) blocks: usize,
    pub(super) shards: Rc<[Shard]>,
}

impl GpuWeight {
    /// u32 words in a row.
    pub(super) fn words(&self) -> usize {
        self.blocks * self.storage.block_bytes() / 4
    }
}

/// Copies a `[rows, cols]` matrix to the device.
pub(super) fn load(
    gpu: &Gpu,
    name: &str,
    data: &WeightData,
    rows: usize,
    cols: usize,
) -> Result<GpuWeight, DeviceError> {
    let storage = match data {
        WeightData::F32(_) => Storage::F32,
        WeightData::F16(_) => Storage::F16,
        WeightData::Quantized(Quantization::Q8_0, _) => Storage::Q8_0,
        WeightData::Quantized(Quantization::Q4_0, _) => Storage::Q4_0,
    };
    let blocks = cols.div_ceil(BLOCK);
    let row_bytes = blocks * storage.block_bytes();
    let limit = gpu.recorder.pool.limit();
    let fit = (limit / row_bytes as u64).min(rows as u64) as usize;
    // Shards of whole vectors of columns, where they are many.
    let step = if fit < rows && fit >= 4 {
        fit / 4 * 4
    } else {
        fit
    };
    if step == 0 {
        return Err(DeviceError::TooLarge {
            name: name.to_owned(),
            bytes: row_bytes as u64,
            limit,
        });
    }
    let mut shards = Vec::with_capacity(rows.div_ceil(step));
    for start in (0..rows).step_by(step) {
        let shard_rows = step.min(rows - start);
        let buffer = gpu.recorder.reserve((shard_rows * row_bytes) as u64)?;
        let part = start * cols..(start + shard_rows) * cols;
        let scales = match data {
            WeightData::F32(data) => {
                copy(gpu, &buffer, &data[part], cols);
                None
            }
            WeightData::F16(data) => {
                copy(gpu, &buffer, &data[part], cols);
                None
            }
            WeightData::Quantized(kind, bytes) => {
                let block = kind.block_bytes();
                let part = part.start / BLOCK * block..part.end / BLOCK * block;
                Some(copy_blocks(gpu, &buffer, &bytes[part], block)?)
            }
        };
        shards.push(Shard {
            start,
            rows: shard_rows,
            data: buffer,
            scales,
        });
    }
    Ok(GpuWeight {
        storage,
        blocks,
        shards: shards.into(),
    })
}

/// Copies rows of `cols` numbers, padded to whole blocks.
fn copy<T: Pod>(gpu: &Gpu, buffer: &Buffer, data: &[T], cols: usize) {
    let padded = cols.next_multiple_of(BLOCK);
    let rows = (PIECE / (padded * size_of::<T>())).max(1);
    let mut offset = 0;
    for piece in data.chunks(rows * cols) {
        if padded == cols {
            offset += gpu
                .recorder
                .write(buffer, offset, bytemuck::cast_slice(piece));
            continue;
        }
        let mut wide = vec![T::zeroed(); piece.len() / cols * padded];
        for (to, from) in wide.chunks_exact_mut(padded).zip(piece.chunks_exact(cols)) {
            to[..cols].copy_from_slice(from);
        }
        offset += gpu
            .recorder
            .write(buffer, offset, bytemuck::cast_slice(&wide));
    }
}

/// Copies the codes of blocks to `buffer` and gives their scales.
fn copy_blocks(
    gpu: &Gpu,
    buffer: &Buffer,
    bytes: &[u8],
    block: usize,
) -> Result<Buffer, DeviceError> {
    let mut scales: Vec<u8> = bytes
        .chunks_exact(block)
        .flat_map(|block| [block[0], block[1]])
        .collect();
    scales.resize(scales.len().next_multiple_of(4), 0);
    let mut offset = 0;
    for piece in bytes.chunks(PIECE / block * block) {
        let codes: Vec<u8> = piece
            .chunks_exact(block)
            .flat_map(|block| &block[2..])
            .copied()
            .collect();
        offset += gpu.recorder.write(buffer, offset, &codes);
    }
    gpu.recorder.keep(&scales)
}
