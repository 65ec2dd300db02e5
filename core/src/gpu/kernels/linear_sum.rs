use super::{Kernel, matrix_kernels};

/// Dispatched by [`super::linear`], after the parts.
pub(in crate::gpu) static KERNELS: [Kernel; 2] =
    matrix_kernels!([14, 15], "linear_sum", "linear_sum.wgsl", &[]);
