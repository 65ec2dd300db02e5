//! What the `plume` command is made of.

pub mod commands;
pub mod eval;
pub mod hub;
pub mod model;
pub mod pictures;
pub mod train;
pub mod world;
pub mod writer;
