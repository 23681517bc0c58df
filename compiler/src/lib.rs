//! The meshc compiler: pure, from source text to a proved map image.
//!
//! [`compile`](compile::compile) runs the passes in order. Each is a function from one type to the next:
//!
//! | pass | takes | gives |
//! |---|---|---|
//! | [`parse`] | text | a tree ([`ast`]), with what could not be read left out |
//! | [`resolve`] | the trees of all files | the policy with every name resolved ([`hir`]) |
//! | [`check`] | that | [`Checked`](check::Checked): no statement has an error |
//! | [`decide`] | that | [`Decided`](decide::Decided): trees of prefixes with every port decided ([`ir`]) |
//! | [`analysis`] | that | [`Analyzed`](analysis::Analyzed): no redirects tie |
//! | [`lower`] | that | the map image, which `mesh_bpf::pack` makes tables of |
//!
//! [`prove`] holds tables against the policy and shares nothing with what made them. [`emit`], [`explain`],
//! [`diff`] and [`testing`] say what came out; [`print`] shows what a pass made, [`format`] lays source text out.

pub mod analysis;
pub mod asked;
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
mod same;
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
#[cfg(test)]
mod random;

pub use mesh_hir as hir;
pub use mesh_proof::{eval, prove};
