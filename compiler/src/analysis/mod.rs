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

use mesh_bpf::pack::MAX_LINES;

use crate::decide::{Decided, decide_program};
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

    /// The same, to be lowered later.
    pub(crate) fn aside(self) -> Aside {
        Aside { ir: Some(self.decided.into_ir()) }
    }
}

/// What was analyzed, without the program.
#[derive(Debug)]
pub(crate) struct Aside {
    /// None where the whole was not decided again, since it is known that no redirects tie.
    ir: Option<Ir>,
}

impl Aside {
    /// Of a program that is known to have no redirects that tie, and to fit: it is decided when somebody asks.
    pub(crate) const fn undecided() -> Self {
        Self { ir: None }
    }

    /// What was decided of the program, or is now.
    pub(crate) fn into_ir(self, program: &Program) -> Option<Ir> {
        self.ir.or_else(|| Some(decide_program(program, MAX_LINES).ok()?.into_ir()))
    }
}

/// Looks at what was decided. Where redirects tie nothing else is looked at: what they decide is not known.
#[must_use]
pub fn analyze(decided: Decided<'_>) -> (Option<Analyzed<'_>>, Vec<Diagnostic>) {
    let program = decided.program();
    match untied(decided) {
        Ok(analyzed) => {
            let found = Findings { leaks: leaks(&analyzed), effects: effects(program, None), things: None };
            (Some(analyzed), found.report(program))
        }
        Err(conflicts) => (None, conflicts),
    }
}

/// What was found out, without places: true of every program that says the same in the same order.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) leaks: Leaks,
    pub(crate) effects: Effects,
    /// How many things its tables have at the most, where that is known.
    pub(crate) things: Option<usize>,
}

/// UDP that goes past a redirect.
pub(crate) type Leaks = Vec<leak::Leak>;

/// What has no effect. None where a service is not known.
pub(crate) type Effects = Option<no_effect::Effects>;

/// What is kept for the next version of a program.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    effects: no_effect::Kept,
}

/// Lets pass what may be lowered.
///
/// # Errors
/// Redirects that tie.
pub(crate) fn untied(decided: Decided<'_>) -> Result<Analyzed<'_>, Vec<Diagnostic>> {
    if decided.conflicts().is_empty() {
        return Ok(Analyzed { decided });
    }
    let mut diagnostics = Vec::new();
    conflict::check(decided.program(), decided.conflicts(), &mut diagnostics);
    Err(diagnostics)
}

/// Looks for leaks.
pub(crate) fn leaks(analyzed: &Analyzed<'_>) -> Leaks {
    let program = analyzed.program();
    // What a rule says of a service that nobody knows is not there.
    if program.knows_all_services() { leak::find(program, analyzed.ir()) } else { Leaks::new() }
}

/// Looks for what has no effect. It needs nothing that was decided, so it may be looked for meanwhile.
pub(crate) fn effects(program: &Program, kept: Option<&mut Kept>) -> Effects {
    // What a rule says of a service that nobody knows may be what another rule is for.
    program.knows_all_services().then(|| no_effect::find(program, kept.map(|kept| &mut kept.effects)))
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
