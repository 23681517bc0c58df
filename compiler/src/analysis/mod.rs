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
    match find(decided, None) {
        Ok((analyzed, found)) => (Some(analyzed), found.report(program)),
        Err(conflicts) => (None, conflicts),
    }
}

/// What was found out, without places: true of every program that says the same in the same order.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    leaks: Vec<leak::Leak>,
    /// None where a service is not known.
    effects: Option<no_effect::Effects>,
}

/// What is kept for the next version of a program.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    effects: no_effect::Kept,
}

/// The same as [`analyze`], not yet reported.
///
/// # Errors
/// Redirects that tie.
pub(crate) fn find<'p>(
    decided: Decided<'p>,
    kept: Option<&mut Kept>,
) -> Result<(Analyzed<'p>, Findings), Vec<Diagnostic>> {
    let program = decided.program();
    if !decided.conflicts().is_empty() {
        let mut diagnostics = Vec::new();
        conflict::check(program, decided.conflicts(), &mut diagnostics);
        return Err(diagnostics);
    }
    let mut found = Findings::default();
    // What a rule says of a service that nobody knows is not there, and may be what another rule is for.
    if program.knows_all_services() {
        found.leaks = leak::find(program, decided.ir());
        found.effects = Some(no_effect::find(program, kept.map(|kept| &mut kept.effects)));
    }
    Ok((Analyzed { decided }, found))
}

impl Findings {
    /// Says it of a program that it is true of.
    pub(crate) fn report(&self, program: &Program) -> Vec<Diagnostic> {
        let mut diagnostics: Vec<Diagnostic> =
            self.leaks.iter().filter_map(|leak| leak.report(program)).collect();
        if let Some(effects) = &self.effects {
            no_effect::report(program, effects, &mut diagnostics);
        }
        diagnostics
    }
}
