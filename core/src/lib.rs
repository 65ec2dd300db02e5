//! Plume's models and numbers. No page, no files, no clock, no network: a
//! [`Backend`](backend::Backend) computes, a `checkpoint::Source` reads, and nothing here
//! knows who calls it.

pub mod backend;
mod error;
pub mod gpu;
pub mod image;
pub mod tensor;
pub mod tokens;

pub use error::{DeviceError, Error, Result};
