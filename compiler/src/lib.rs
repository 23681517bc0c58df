//! The meshc compiler: pure, from source text to a proved map image.

pub mod analysis;
pub mod ast;
pub mod check;
pub mod compile;
pub mod decide;
pub mod diag;
pub mod diff;
pub mod emit;
pub mod explain;
pub mod format;
pub mod ir;
pub mod lower;
pub mod parse;
pub mod print;
pub mod question;
pub mod resolve;
pub mod source;
pub mod testing;

#[cfg(test)]
mod brute_force;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod proof_tests;

pub use mesh_hir as hir;
pub use mesh_proof::{eval, prove};
