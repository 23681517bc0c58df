//! meshc.
fn main() {}
