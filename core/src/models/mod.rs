//! The models, written as in their papers and generic over the device.

pub mod clip;
pub mod flamingo;
pub mod gated_xattn;
pub(crate) mod gaze;
pub mod lm;
pub mod nfnet;
mod pool;
pub mod resampler;
pub mod resnet;
mod table;
pub mod text;
pub mod vision;
pub mod vit;
