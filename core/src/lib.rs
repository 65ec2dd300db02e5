//! Plume's models and numbers. No page, no files, no clock, no network: a
//! [`Backend`](backend::Backend) computes, a [`Source`](checkpoint::Source)
//! reads, and nothing here knows who calls it.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod contract;
pub mod cpu;
mod error;
pub mod gpu;
pub mod hub;
pub mod image;
pub mod models;
pub mod nn;
mod presets;
pub mod prompts;
pub mod quant;
pub mod tasks;
pub mod tensor;
pub mod tokens;

pub use error::{DeviceError, Error, Result};
