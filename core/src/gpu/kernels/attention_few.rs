use super::Kernel;

/// Dispatched by [`super::attention`].
pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 18,
    name: "attention_few",
    source: &[
        include_str!("attention_inputs.wgsl"),
        include_str!("attention_few.wgsl"),
    ],
    inputs: 4,
    constants: &["VECTOR", "QUADS"],
};
