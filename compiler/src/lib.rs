//! The meshc compiler: pure, from source text to a proved map image.

pub mod ast;
pub mod diag;
pub mod hir;
pub mod origin;
pub mod parse;
pub mod source;
