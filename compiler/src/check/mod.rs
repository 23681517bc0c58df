//! What must hold of a resolved program before it is lowered, as far as its statements show it. What
//! rules decide together (conflicts, rules without effect, leaks) is looked at after they are decided, by
//! [`analysis`](crate::analysis).
//!
//! One diagnostic, one file.

mod conditions;
mod empty_mesh;
mod empty_workload;
#[cfg(test)]
pub(crate) mod fixture;
mod library;
mod loopback_exempt;
mod membership_overlap;
mod on_conflict;
mod redirect_loop;
mod silence;
mod unsupported;
mod unused;
mod wide_exempt;

use crate::diag::{Diagnostic, has_errors};
use crate::hir::Program;
use crate::resolve::Resolution;

pub use self::silence::silence;

/// Proof that a program was read and resolved, and that its statements were checked, without an error: the only
/// thing that is decided.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'p> {
    program: &'p Program,
}

impl<'p> Checked<'p> {
    /// The program that was checked.
    #[must_use]
    pub const fn program(self) -> &'p Program {
        self.program
    }
}

/// Runs every check on a resolved program, also on one with errors: what is absent because it could not be
/// read is not missed. Warnings are not yet silenced; see [`silence`].
#[must_use]
pub fn check(resolution: &Resolution) -> (Option<Checked<'_>>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    empty_mesh::check(resolution, &mut diagnostics);
    empty_workload::check(resolution, &mut diagnostics);
    membership_overlap::check(resolution, &mut diagnostics);
    redirect_loop::check(resolution, &mut diagnostics);
    unsupported::check(&resolution.program, &mut diagnostics);
    on_conflict::check(&resolution.program, &mut diagnostics);
    unused::check(resolution, &mut diagnostics);
    wide_exempt::check(&resolution.program, &mut diagnostics);
    loopback_exempt::check(&resolution.program, &mut diagnostics);
    crate::diag::sort(&mut diagnostics);
    let sound = resolution.sound && !has_errors(&diagnostics);
    (sound.then_some(Checked { program: &resolution.program }), diagnostics)
}
