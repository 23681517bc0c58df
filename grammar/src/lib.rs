//! Source text of `.mesh` policies to a concrete tree.
//!
//! Two steps, so that an error in one statement never hides the next:
//! [`scan`](scan::scan) cuts a file into statements, and [`parse`](statement::parse) takes one of
//! them apart with the pest grammar in `mesh.pest`. Neither is recursive, and both are linear.
//!
//! The crate knows words and structure. It does not know what a good port or address is, what a
//! name stands for, or how a message is worded beyond [`symbol`](symbol::symbol).

pub mod scan;
pub mod statement;
pub mod symbol;
mod tree;

pub use tree::Rule;
