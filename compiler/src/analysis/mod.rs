//! What rules decide together, as far as it is an error or worth a word: redirects that tie, rules that decide
//! nothing, UDP that goes past a redirect, tables that are too large.
//!
//! One diagnostic, one file. Nothing is decided here.

mod conflict;
#[cfg(test)]
pub(crate) mod fixture;
mod leak;
mod no_effect;
mod over_capacity;

pub use over_capacity::over_capacity;

use crate::decide::Decided;
use crate::diag::Diagnostic;
use crate::hir::Program;
use crate::ir::Ir;

/// Proof that a program was checked and decided, and that no redirects tie: the only thing that is lowered.
#[derive(Debug)]
pub struct Analyzed<'p> {
    decided: Decided<'p>,
}

impl<'p> Analyzed<'p> {
    /// What was analyzed.
    #[must_use]
    pub const fn program(&self) -> &'p Program {
        self.decided.program()
    }

    /// What was decided.
    #[must_use]
    pub const fn ir(&self) -> &Ir {
        self.decided.ir()
    }

    /// The same, to be made into something else.
    #[must_use]
    pub fn into_ir(self) -> Ir {
        self.decided.into_ir()
    }
}

/// Looks at what was decided. Where redirects tie nothing else is looked at: what they decide is not known.
#[must_use]
pub fn analyze(decided: Decided<'_>) -> (Option<Analyzed<'_>>, Vec<Diagnostic>) {
    let program = decided.program();
    let mut diagnostics = Vec::new();
    conflict::check(program, decided.conflicts(), &mut diagnostics);
    if !decided.conflicts().is_empty() {
        return (None, diagnostics);
    }
    // What a rule says of a service that nobody knows is not there, and may be what another rule is for.
    if program.knows_all_services() {
        leak::check(program, decided.ir(), &mut diagnostics);
        no_effect::check(program, &mut diagnostics);
    }
    (Some(Analyzed { decided }), diagnostics)
}
