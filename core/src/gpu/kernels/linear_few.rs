use super::{Kernel, matrix_kernels};

/// Columns that a workgroup makes.
pub(super) const COLUMNS: usize = 8;

/// Dispatched by [`super::linear`] for one to four rows.
pub(in crate::gpu) static KERNELS: [Kernel; 2] = matrix_kernels!(
    [16, 17],
    "linear_few",
    "linear_few.wgsl",
    &["WEIGHT", "VECTOR", "ROWS", "BEFORE"]
);
