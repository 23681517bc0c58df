//! For tests: programs that were put together by hand are decided and lowered whatever they are.

use mesh_bpf::image::MapImage;
use mesh_bpf::pack::MAX_LINES;

use super::Analyzed;
use crate::check::fixture::unchecked;
use crate::decide::{Conflict, Decided, decide};
use crate::hir::Program;
use crate::lower;

fn decided(program: &Program) -> Decided<'_> {
    decide(unchecked(program), MAX_LINES).unwrap()
}

/// The redirects of a program that tie.
pub(crate) fn ties(program: &Program) -> Vec<Conflict> {
    decided(program).conflicts().to_vec()
}

/// What it would be lowered to, also where redirects tie.
pub(crate) fn image(program: &Program) -> MapImage {
    lower::lower(Analyzed { decided: decided(program) })
}
