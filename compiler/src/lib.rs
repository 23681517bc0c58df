//! The meshc compiler: pure, from source text to a proved map image.

pub mod ast;
pub mod check;
pub mod compile;
pub mod diag;
pub mod diff;
pub mod emit;
pub mod eval;
pub mod explain;
pub mod format;
pub mod hir;
pub mod ir;
pub mod item;
pub mod lower;
pub mod origin;
pub mod parse;
pub mod prove;
pub mod question;
pub mod region;
pub mod resolve;
pub mod source;
pub mod testing;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod laws;
