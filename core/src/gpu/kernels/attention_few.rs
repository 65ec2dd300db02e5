use super::{ANGLE, Kernel};

/// Dispatched by [`super::attention`].
pub(in crate::gpu) static KERNEL: Kernel = Kernel {
    id: 18,
    name: "attention_few",
    source: &[
        ANGLE,
        include_str!("attention_inputs.wgsl"),
        include_str!("attention_few.wgsl"),
    ],
    inputs: 5,
    constants: &["VECTOR", "QUADS"],
};
