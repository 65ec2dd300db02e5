//! Entry of the page.
fn main() {}
