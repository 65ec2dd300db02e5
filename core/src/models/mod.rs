//! The models, written as in their papers and generic over the device.

pub mod clip;
pub mod text;
pub mod vit;
