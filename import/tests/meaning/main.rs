//! What an imported policy means, held against what each mesh's own rules do.
//!
//! A model here is written from the mesh's sources: it makes the mesh's list of iptables rules of the same annotations, in its
//! order, and walks it. It shares nothing with the importer. Policies are decided by the compiler's evaluator, at every
//! port and address at which either side could change.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails where it panics")]

mod consul;
mod iptables;
mod istio;
mod kernel;
mod kuma;
mod linkerd;
mod osm;
mod same;
mod tables;
