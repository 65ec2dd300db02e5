//! What `cargo xtask` is made of. The tests use the server.

pub mod build;
pub mod check;
pub mod run;
pub mod serve;
pub mod setup;
