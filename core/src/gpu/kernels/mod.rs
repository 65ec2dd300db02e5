//! The kernels. Each is a `.wgsl` file and, beside it, the Rust that dispatches
//! it.
//!
//! Binding 0 holds the parameters, 1 to n the inputs, n + 1 the output.

pub(super) mod activate;
pub(super) mod add;
pub(super) mod attention;
mod attention_few;
mod attention_sum;
pub(super) mod avg_pool;
pub(super) mod copy;
pub(super) mod excite;
pub(super) mod gated_add;
pub(super) mod gather;
pub(super) mod glu;
pub(super) mod l2_normalize;
mod layer_norm;
pub(super) mod linear;
mod linear_few;
mod linear_small;
mod linear_sum;
mod rms_norm;
pub(super) mod rotary;
pub(super) mod top_k;
pub(super) mod write_kv;

use super::recorder::{Dispatch, folded};
use super::{Buffer, Gpu};
use crate::DeviceError;
use crate::backend::{Columns, NormDims, RowNorm, Turned};

/// A kernel's number, for the caches.
pub(super) type KernelId = u32;

/// A shader and how it is bound.
pub(super) struct Kernel {
    pub(super) id: KernelId,
    pub(super) name: &'static str,
    /// What kernels share, then the kernel itself.
    pub(super) source: &'static [&'static str],
    /// Number of read-only buffers.
    pub(super) inputs: usize,
    /// Constants of the specialisation; each takes eight bits of the variant.
    pub(super) constants: &'static [&'static str],
}

/// Every kernel, for the test that reads them all.
#[cfg(test)]
fn all() -> Vec<&'static Kernel> {
    let mut all = vec![
        &activate::KERNEL,
        &add::KERNEL,
        &attention::KERNEL,
        &attention_few::KERNEL,
        &attention_sum::KERNEL,
        &avg_pool::KERNEL,
        &copy::KERNEL,
        &excite::KERNEL,
        &gated_add::KERNEL,
        &gather::KERNEL,
        &glu::KERNEL,
        &rotary::KERNEL,
        &top_k::KERNEL,
        &write_kv::KERNEL,
    ];
    all.extend(&l2_normalize::KERNELS);
    all.extend(&layer_norm::KERNELS);
    all.extend(&linear::KERNELS);
    all.extend(&linear_few::KERNELS);
    all.extend(&linear_small::KERNELS);
    all.extend(&linear_sum::KERNELS);
    all.extend(&rms_norm::KERNELS);
    all
}

/// The number by which a shader knows an activation; 0 is none.
pub(super) fn code(activation: Option<crate::backend::Activation>) -> u32 {
    use crate::backend::Activation;
    match activation {
        None => 0,
        Some(Activation::Gelu) => 1,
        Some(Activation::QuickGelu) => 2,
        Some(Activation::Relu) => 3,
        Some(Activation::GeluTanh) => 4,
        Some(Activation::Silu) => 5,
        Some(Activation::SquaredRelu) => 6,
    }
}

/// How rotary positions turn, put before the shaders that turn.
const ANGLE: &str = include_str!("angle.wgsl");

/// `rotary_dims`, `interleaved`, `start` and `step` of a shader that turns or
/// does not.
fn turning(turn: Turned<'_, Buffer>) -> [u32; 4] {
    let sizes = turn.map_or([0; 4], |(_, turn)| {
        let interleaved = usize::from(turn.interleaved);
        [turn.rotary_dims, interleaved, turn.start, turn.step]
    });
    sizes.map(|x| x as u32)
}

/// The activations in WGSL, put before the shaders that use them.
const ACTIVATIONS: &str = include_str!("activations.wgsl");

/// Whether vectors of four may be read and written: all of these lengths and
/// places are whole vectors.
fn vectors(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| size.is_multiple_of(4))
}

/// Which of two forms of a kernel: 0 reads and writes vectors, 1 numbers.
fn form(vectors: bool) -> usize {
    usize::from(!vectors)
}

/// Both forms of a kernel over rows.
macro_rules! row_kernels {
    ($ids:expr, $name:literal, $file:literal, $inputs:literal) => {
        [
            Kernel {
                id: $ids[0],
                name: $name,
                source: &[include_str!("number_quad.wgsl"), include_str!($file)],
                inputs: $inputs,
                constants: &[],
            },
            Kernel {
                id: $ids[1],
                name: $name,
                source: &[include_str!("number_one.wgsl"), include_str!($file)],
                inputs: $inputs,
                constants: &[],
            },
        ]
    };
}
use row_kernels;

/// See [`crate::backend::Backend::norm`].
pub(super) fn norm(
    gpu: &Gpu,
    x: &Columns<'_, Buffer>,
    d: NormDims,
    norm: &RowNorm<'_, Buffer>,
) -> Result<Buffer, DeviceError> {
    let rows = d.rows * d.parts;
    let output = gpu.take(rows * d.cols)?;
    let groups = folded(rows as u32);
    let vectors = vectors(&[d.cols, x.start, x.stride]);
    let kernels = match norm.bias {
        Some(_) => &layer_norm::KERNELS,
        None => &rms_norm::KERNELS,
    };
    // The shaders count in the numbers that they read.
    let numbers = |count: usize| (if vectors { count / 4 } else { count }) as u32;
    let gains = if d.shared { 0 } else { d.cols };
    gpu.recorder.dispatch(&Dispatch {
        kernel: &kernels[form(vectors)],
        variant: 0,
        inputs: &[Some(x.buffer), Some(norm.weight), norm.bias],
        output: &output,
        parameters: &[
            rows as u32,
            numbers(d.cols),
            norm.eps.to_bits(),
            groups.0,
            d.parts as u32,
            numbers(x.start),
            numbers(x.stride),
            numbers(gains),
        ],
        groups,
        work: 8 * (rows * d.cols) as u64,
    })?;
    Ok(output)
}

/// Both forms of a matrix kernel.
macro_rules! matrix_kernels {
    ($ids:expr, $name:literal, $file:literal, $constants:expr) => {
        [
            Kernel {
                id: $ids[0],
                name: $name,
                source: &[
                    crate::gpu::kernels::ACTIVATIONS,
                    include_str!("matrix.wgsl"),
                    include_str!("store_quads.wgsl"),
                    include_str!($file),
                ],
                inputs: 7,
                constants: $constants,
            },
            Kernel {
                id: $ids[1],
                name: $name,
                source: &[
                    crate::gpu::kernels::ACTIVATIONS,
                    include_str!("matrix.wgsl"),
                    include_str!("store_ones.wgsl"),
                    include_str!($file),
                ],
                inputs: 7,
                constants: $constants,
            },
        ]
    };
}
use matrix_kernels;

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn every_kernel_is_valid_wgsl_and_has_a_number_of_its_own() {
        let mut ids = std::collections::BTreeSet::new();
        for kernel in all() {
            assert!(ids.insert(kernel.id), "{} shares its number", kernel.name);
            let source = kernel.source.concat();
            let module = wgpu::naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)));
            let mut validator = wgpu::naga::valid::Validator::new(
                wgpu::naga::valid::ValidationFlags::all(),
                // unpack2x16float, which core WGSL has.
                wgpu::naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
            );
            validator
                .validate(&module)
                .unwrap_or_else(|e| panic!("{}: {e:?}", kernel.name));
            let buffers = module
                .global_variables
                .iter()
                .filter(|(_, v)| v.binding.is_some());
            assert_eq!(buffers.count(), kernel.inputs + 2, "{}", kernel.name);
        }
    }
}
