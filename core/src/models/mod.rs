//! The models, written as in their papers and generic over the device.

pub mod clip;
pub mod lm;
mod pool;
pub mod resnet;
pub mod text;
pub mod vision;
pub mod vit;
