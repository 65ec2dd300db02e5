//! Entry of the worker.
fn main() {}
