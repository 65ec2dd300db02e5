use super::{Kernel, row_kernels};

/// Dispatched by [`super::norm`] where there is no bias.
pub(in crate::gpu) static KERNELS: [Kernel; 2] =
    row_kernels!([40, 47], "rms_norm", "rms_norm.wgsl", 3);
