use super::{Kernel, matrix_kernels};

/// Dispatched by [`super::linear`], with and without `SPLIT`.
pub(in crate::gpu) static KERNELS: [Kernel; 2] = matrix_kernels!(
    [12, 13],
    "linear_small",
    "linear_small.wgsl",
    &["WEIGHT", "VECTOR", "WINDOWS", "SPLIT"]
);
