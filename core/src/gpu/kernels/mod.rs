//! The kernels. Each is a `.wgsl` file and, beside it, the Rust that dispatches
//! it.
//!
//! Binding 0 holds the parameters, 1 to n the inputs, n + 1 the output.

pub(super) mod activate;
pub(super) mod add;
pub(super) mod attention;
pub(super) mod avg_pool;
pub(super) mod copy;
pub(super) mod gather;
pub(super) mod l2_normalize;
pub(super) mod layer_norm;
pub(super) mod linear;
pub(super) mod unfold;

/// A kernel's number, for the caches.
pub(super) type KernelId = u32;

/// A shader and how it is bound.
pub(super) struct Kernel {
    pub(super) id: KernelId,
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    /// Number of read-only buffers.
    pub(super) inputs: usize,
    /// Constants of the specialisation; each takes eight bits of the variant.
    pub(super) constants: &'static [&'static str],
}

/// Every kernel, for the test that reads them all.
#[cfg(test)]
const ALL: &[&Kernel] = &[
    &activate::KERNEL,
    &add::KERNEL,
    &attention::KERNEL,
    &avg_pool::KERNEL,
    &copy::KERNEL,
    &gather::KERNEL,
    &layer_norm::KERNEL,
    &linear::KERNEL,
    &l2_normalize::KERNEL,
    &unfold::KERNEL,
];

/// The number by which a shader knows an activation; 0 is none.
pub(super) fn code(activation: Option<crate::backend::Activation>) -> u32 {
    use crate::backend::Activation;
    match activation {
        None => 0,
        Some(Activation::Gelu) => 1,
        Some(Activation::QuickGelu) => 2,
        Some(Activation::Relu) => 3,
        Some(Activation::GeluTanh) => 4,
    }
}

/// The activations in WGSL, put before the shaders that use them.
macro_rules! with_activations {
    ($file:literal) => {
        concat!(include_str!("activations.wgsl"), include_str!($file))
    };
}
pub(super) use with_activations;

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn every_kernel_is_valid_wgsl_and_has_a_number_of_its_own() {
        let mut ids = std::collections::BTreeSet::new();
        for kernel in ALL {
            assert!(ids.insert(kernel.id), "{} shares its number", kernel.name);
            let module = wgpu::naga::front::wgsl::parse_str(kernel.source)
                .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(kernel.source)));
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
