//! What pest generates from `mesh.pest`.
#![expect(missing_docs, reason = "pest writes a function without one; each rule has its own")]

/// The generated parser.
#[derive(pest_derive::Parser)]
#[grammar = "../mesh.pest"]
pub(crate) struct Grammar;
