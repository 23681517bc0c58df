//! The second opinion: what a policy means, and the proof that its tables say exactly that.
//!
//! A proof is worth something only if it is not made of what it proves. So this is a crate of its own, which
//! cannot import the passes that make the tables: it reads the policy as it was resolved (`mesh_hir`) and the
//! tables as the programs walk them (`mesh_bpf::sim`), and nothing in between.
//!
//! [`eval`] is the law of deciding for one flow, and for all ports of one address. [`prove()`] works out
//! with it what every stretch of addresses and ports should be, and compares.

pub mod bounds;
pub mod eval;
pub mod prove;

pub use prove::{Disproof, prove};
