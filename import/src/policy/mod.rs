//! From what was read of a mesh to a policy that a person would have written.

mod flows;
mod place;
mod select;
mod write;

pub use write::{OUTPUT, Read, Written, write};
