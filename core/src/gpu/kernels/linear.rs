//! `linear` and `conv2d`: one product over rows of a matrix or windows of
//! pictures, in the variant that fits its shape.

use super::{Kernel, code, form, linear_few, linear_small, linear_sum, matrix_kernels, vectors};
use crate::DeviceError;
use crate::backend::{Activation, Columns, Epilogue, NormDims, RowNorm, WindowDims};
use crate::gpu::recorder::{Dispatch, folded};
use crate::gpu::tuning::LinearVariant;
use crate::gpu::weight::Shard;
use crate::gpu::{Buffer, Gpu, GpuWeight};
use crate::quant::BLOCK;

pub(in crate::gpu) static KERNELS: [Kernel; 2] = matrix_kernels!(
    [8, 11],
    "linear",
    "linear.wgsl",
    &["WEIGHT", "VECTOR", "WINDOWS"]
);

/// Row tiles along y; more go along z.
const MAX_ROW_TILES: usize = 32_768;

/// What is multiplied: rows of a matrix, or windows of pictures.
struct Rows<'a> {
    buffer: &'a Buffer,
    rows: usize,
    inner: usize,
    windows: Option<Windows>,
    /// Done to few rows on the way.
    before: Before<'a>,
}

/// What is done to x before the product.
#[derive(Clone, Copy)]
pub(in crate::gpu) enum Before<'a> {
    Nothing,
    Norm(&'a RowNorm<'a, Buffer>),
    /// Rows are twice as long as the product's inner axis.
    Glu(Activation),
}

impl<'a> Before<'a> {
    fn norm(self) -> Option<&'a RowNorm<'a, Buffer>> {
        match self {
            Self::Norm(norm) => Some(norm),
            Self::Nothing | Self::Glu(_) => None,
        }
    }
}

/// Windows of pictures, whose channels and columns are in equal groups.
#[derive(Clone, Copy)]
struct Windows {
    dims: WindowDims,
    groups: usize,
    group_channels: usize,
    group_cols: usize,
}

/// See [`crate::backend::Backend::linear`].
pub(in crate::gpu) fn run(
    gpu: &Gpu,
    (buffer, rows): (&Buffer, usize),
    before: Before<'_>,
    w: &GpuWeight,
    (out, inner): (usize, usize),
    epilogue: &Epilogue<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let mut x = Rows {
        buffer,
        rows,
        inner,
        windows: None,
        before,
    };
    let few = matches!(gpu.tuning.linear, None | Some(LinearVariant::Few)) && rows <= 4;
    // Many rows are made ready once for all columns; few are, for each few
    // columns again, in the product itself. The gate lies where the norm would.
    let ready = match before {
        Before::Norm(norm) if !few || epilogue.gate.is_some() => {
            let band = Columns {
                buffer,
                start: 0,
                stride: inner,
            };
            let dims = NormDims {
                rows,
                parts: 1,
                cols: inner,
                shared: true,
            };
            super::norm(gpu, &band, dims, norm)?
        }
        Before::Glu(activation) if !few => super::glu::run(gpu, buffer, (rows, inner), activation)?,
        _ => return product(gpu, &x, w, out, epilogue),
    };
    (x.buffer, x.before) = (&ready, Before::Nothing);
    product(gpu, &x, w, out, epilogue)
}

/// See [`crate::backend::Backend::conv2d`]: the product over windows whose
/// places are worked out where they are read.
pub(in crate::gpu) fn conv2d(
    gpu: &Gpu,
    buffer: &Buffer,
    dims: WindowDims,
    w: &GpuWeight,
    (out, groups): (usize, usize),
    epilogue: &Epilogue<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let (out_height, out_width) = dims.out();
    // A window of one pixel at every pixel is that pixel.
    let pixels = (dims.kernel, dims.stride, dims.before(), groups) == (1, 1, (0, 0), 1);
    let group_channels = dims.channels / groups;
    let windows = Windows {
        dims,
        groups,
        group_channels,
        group_cols: out / groups,
    };
    let x = Rows {
        buffer,
        rows: dims.n * out_height * out_width,
        inner: dims.kernel * dims.kernel * group_channels,
        windows: (!pixels).then_some(windows),
        before: Before::Nothing,
    };
    product(gpu, &x, w, out, epilogue)
}

fn product(
    gpu: &Gpu,
    x: &Rows<'_>,
    w: &GpuWeight,
    out: usize,
    epilogue: &Epilogue<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let output = gpu.take(x.rows * out)?;
    for shard in w.shards.iter() {
        Product {
            gpu,
            x,
            w,
            shard,
            out,
            epilogue,
            output: &output,
        }
        .record()?;
    }
    Ok(output)
}

/// The columns of a product that one buffer of weights gives.
struct Product<'a> {
    gpu: &'a Gpu,
    x: &'a Rows<'a>,
    w: &'a GpuWeight,
    shard: &'a Shard,
    out: usize,
    epilogue: &'a Epilogue<'a, Buffer>,
    output: &'a Buffer,
}

/// What follows the products, as the shaders know it.
struct End {
    /// Columns of the output, and the first of ours.
    width: usize,
    first: usize,
    bias: bool,
    /// 1 before the activation, 2 after it.
    residual: u32,
    activation: u32,
    /// 1 for one number, 2 for one of each column.
    gate: u32,
}

impl Product<'_> {
    fn record(&self) -> Result<(), DeviceError> {
        let (rows, cols, inner) = (self.x.rows, self.shard.rows, self.x.inner);
        let variant =
            (self.gpu.tuning.linear).unwrap_or_else(|| LinearVariant::choose(rows, cols, inner));
        match variant {
            LinearVariant::Large => self.tiles(&KERNELS, 64),
            LinearVariant::Few if rows <= 4 && self.x.windows.is_none() => self.few(),
            LinearVariant::Few | LinearVariant::Small => self.tiles(&linear_small::KERNELS, 32),
            // Parts are stored in vectors, which may not cross from one group to
            // the next.
            LinearVariant::Split { .. } if self.windows() == 2 && !self.quads() => {
                self.tiles(&linear_small::KERNELS, 32)
            }
            LinearVariant::Split { parts } => self.split(parts),
        }
    }

    fn end(&self) -> End {
        let epilogue = self.epilogue;
        End {
            width: self.out,
            first: self.shard.start,
            bias: epilogue.bias.is_some(),
            residual: match (epilogue.residual, epilogue.residual_first) {
                (None, _) => 0,
                (Some(_), true) => 1,
                (Some(_), false) => 2,
            },
            activation: code(epilogue.activation),
            gate: match epilogue.gate {
                None => 0,
                Some((_, 1)) => 1,
                Some(_) => 2,
            },
        }
    }

    /// Whether columns are stored in vectors.
    fn quads(&self) -> bool {
        let group = self.x.windows.map_or(self.out, |x| x.group_cols);
        vectors(&[self.out, self.shard.start, self.shard.rows, group])
    }

    /// Whether x is read in vectors: no four numbers may cross the end of a
    /// row, or of a line of a window.
    fn vector(&self) -> bool {
        match self.x.windows {
            None => vectors(&[self.x.inner]),
            Some(x) if x.groups > 1 => vectors(&[x.group_channels]),
            Some(Windows { dims: d, .. }) => {
                let pixels = [d.stride, d.before().1, d.width, d.kernel];
                vectors(&pixels.map(|pixels| pixels * d.channels))
            }
        }
    }

    fn variant(&self) -> u32 {
        self.w.storage as u32 | u32::from(self.vector()) << 8
    }

    /// As the shaders of tiles know it: whether there are windows, and groups.
    fn windows(&self) -> u32 {
        self.x.windows.map_or(0, |x| 1 + u32::from(x.groups > 1))
    }

    /// Tiles of columns: where there are groups, each has its own.
    fn column_tiles(&self, side: usize) -> usize {
        let (start, rows) = (self.shard.start, self.shard.rows);
        match self.x.windows {
            Some(x) if x.groups > 1 => {
                let groups = (start + rows).div_ceil(x.group_cols) - start / x.group_cols;
                groups * x.group_cols.div_ceil(side)
            }
            _ => rows.div_ceil(side),
        }
    }

    fn parameters(&self, end: &End, row_tiles: usize, split: usize) -> Vec<u32> {
        let sizes = [
            self.x.rows,
            self.shard.rows,
            self.x.inner,
            self.w.blocks,
            end.width,
            end.first,
        ];
        let mut parameters = sizes.map(|x| x as u32).to_vec();
        parameters.extend([u32::from(end.bias), end.residual, end.activation, end.gate]);
        let eps = self.x.before.norm().map_or(0.0, |norm| norm.eps);
        let glu = match self.x.before {
            Before::Glu(activation) => code(Some(activation)),
            Before::Nothing | Before::Norm(_) => 0,
        };
        parameters.extend([eps.to_bits(), glu]);
        parameters.extend([row_tiles as u32, split as u32]);
        if let Some(x) = self.x.windows {
            let d = x.dims;
            let (out_height, out_width) = d.out();
            let (above, before) = d.before();
            let windows = [
                d.height,
                d.width * d.channels,
                d.kernel * x.group_channels,
                out_height,
                out_width,
                d.stride,
                d.stride * d.channels,
                above,
                before * d.channels,
                d.channels,
                x.group_channels,
                x.group_cols,
                self.shard.start,
            ];
            parameters.extend(windows.map(|x| x as u32));
        }
        parameters
    }

    fn inputs(&self) -> [Option<&Buffer>; 7] {
        let gate = self.epilogue.gate.map(|(gate, _)| gate);
        let norm = self.x.before.norm();
        [
            Some(self.x.buffer),
            Some(&self.shard.data),
            self.shard.scales.as_ref(),
            self.epilogue.bias,
            self.epilogue.residual,
            norm.map(|norm| norm.weight).or(gate),
            norm.and_then(|norm| norm.bias),
        ]
    }

    fn work(&self) -> u64 {
        2 * (self.x.rows * self.shard.rows * self.x.inner) as u64
    }

    fn tiles(&self, kernels: &'static [Kernel; 2], side: usize) -> Result<(), DeviceError> {
        let tiles = self.x.rows.div_ceil(side);
        let row_tiles = tiles.min(MAX_ROW_TILES);
        let inner = self.w.blocks * BLOCK;
        self.gpu.recorder.dispatch(&Dispatch {
            kernel: &kernels[form(self.quads())],
            variant: self.variant() | self.windows() << 16,
            inputs: &self.inputs(),
            output: self.output,
            parameters: &self.parameters(&self.end(), row_tiles, inner),
            groups: (
                self.column_tiles(side) as u32,
                row_tiles as u32,
                tiles.div_ceil(row_tiles) as u32,
            ),
            work: self.work(),
        })
    }

    fn few(&self) -> Result<(), DeviceError> {
        let before = match self.x.before {
            Before::Nothing => 0,
            Before::Norm(norm) if norm.bias.is_some() => 1,
            Before::Norm(_) => 2,
            Before::Glu(_) => 3,
        };
        let (x, y, z) = folded(self.shard.rows.div_ceil(linear_few::COLUMNS) as u32);
        self.gpu.recorder.dispatch(&Dispatch {
            kernel: &linear_few::KERNELS[form(self.quads())],
            variant: self.variant() | (self.x.rows as u32) << 16 | before << 24,
            inputs: &self.inputs(),
            output: self.output,
            parameters: &self.parameters(&self.end(), x as usize, 0),
            groups: (x, y, z),
            work: self.work(),
        })
    }

    /// The parts side by side, then their sum and what follows it.
    fn split(&self, parts: usize) -> Result<(), DeviceError> {
        let (rows, cols) = (self.x.rows, self.shard.rows);
        let length = self.w.blocks.div_ceil(parts.max(1)) * BLOCK;
        let parts = (self.w.blocks * BLOCK).div_ceil(length);
        let width = cols.next_multiple_of(4);
        let partial = self.gpu.take(parts * rows * width)?;
        let row_tiles = rows.div_ceil(32);
        let nothing_yet = End {
            width,
            first: 0,
            bias: false,
            residual: 0,
            activation: 0,
            gate: 0,
        };
        self.gpu.recorder.dispatch(&Dispatch {
            // Parts are stored in vectors whatever the output's columns are.
            kernel: &linear_small::KERNELS[form(true)],
            variant: self.variant() | self.windows() << 16 | 1 << 24,
            inputs: &self.inputs(),
            output: &partial,
            parameters: &self.parameters(&nothing_yet, row_tiles, length),
            groups: (self.column_tiles(32) as u32, row_tiles as u32, parts as u32),
            work: self.work(),
        })?;
        let mut inputs = self.inputs();
        inputs[..3].copy_from_slice(&[Some(&partial), None, None]);
        let quads = rows * width / 4;
        self.gpu.recorder.dispatch(&Dispatch {
            kernel: &linear_sum::KERNELS[form(self.quads())],
            variant: 0,
            inputs: &inputs,
            output: self.output,
            parameters: &self.parameters(&self.end(), row_tiles, parts),
            groups: (quads.div_ceil(64) as u32, 1, 1),
            work: (parts * rows * cols) as u64,
        })
    }
}
