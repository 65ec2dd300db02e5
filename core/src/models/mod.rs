//! The models, written as in their papers and generic over the device.

pub mod clip;
mod pool;
pub mod resnet;
pub mod text;
pub mod vision;
pub mod vit;
