use super::{Kernel, row_kernels};

/// Dispatched by [`super::norm`] where there is a bias.
pub(in crate::gpu) static KERNELS: [Kernel; 2] =
    row_kernels!([5, 20], "layer_norm", "layer_norm.wgsl", 3);
