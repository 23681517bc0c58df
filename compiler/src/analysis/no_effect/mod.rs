//! `no-effect`: a rule, or an item, whose removal alone would change no verdict.
//!
//! What is removed is a *unit*: a rule, or the words of one item, which may stand in a set that several
//! rules name. A box is gone when no unit that is left supports it. At the pieces of flow space where a
//! unit's boxes lie, the law is applied once more without them; one different verdict is enough.
//!
//! Sites below the same site with the same kinds of rules have the same answers, so a list of 100,000
//! prefixes asks once. The work is bounded: a program of tens of thousands of overlapping port ranges gets
//! a note instead of an answer.

mod boxes;
mod kept;
mod probe;
mod removal;
mod report;
mod sites;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeSet;

use mesh_bpf::flow::Direction;

use crate::diag::Diagnostic;
use crate::hir::region::applies;
use crate::hir::region::kinds_of_processes;
use crate::hir::{Program, Rule, ScopeId, Who, WorkloadId};
pub(super) use kept::Kept;
use kept::Now;
use removal::RemovalAnalysis;
pub(super) use units::Effects;
use units::{SidecarPorts, Units};

/// How many times a box may be looked at: some seconds at the most.
const BUDGET: u64 = 200_000_000;

/// Looks at every rule and every item. What is kept of an earlier version is not looked for again.
pub(super) fn find(program: &Program, kept: Option<&mut Kept>) -> Effects {
    effects(program, &Units::of(program), kept)
}

/// Says what has no effect in a program of which this was found.
pub(super) fn report(program: &Program, effects: &Effects, diagnostics: &mut Vec<Diagnostic>) {
    if !effects.are_all() {
        report::report(program, &Units::of(program), effects, diagnostics);
    }
}

fn effects(program: &Program, units: &Units<'_>, mut kept: Option<&mut Kept>) -> Effects {
    let mut effects = Effects::new(units, BUDGET);
    if let Some(kept) = &mut kept {
        kept.next_version(program);
    }
    for scopes in classes(program) {
        let Some(kept) = kept.as_deref_mut() else {
            look(program, units, &scopes, &mut effects);
            continue;
        };
        let Some(now) = Now::of(program, units, &scopes, &effects) else {
            look(program, units, &scopes, &mut effects);
            continue;
        };
        if let Some(now) = kept.recall(now, &mut effects) {
            effects.notes = Some(Vec::new());
            look(program, units, &scopes, &mut effects);
            let notes = effects.notes.take().unwrap_or_default();
            kept.keep(now, notes, &effects);
        }
    }
    effects
}

/// Looks at the workloads that these scopes reach.
fn look(program: &Program, units: &Units<'_>, scopes: &[ScopeId], effects: &mut Effects) {
    let sidecar_ports = units.sidecar_ports(program, scopes, effects);
    for direction in Direction::ALL {
        let written = units.written(program, scopes, direction);
        let closed = match direction {
            Direction::Outbound => SidecarPorts::default(),
            Direction::Inbound => sidecar_ports.clone(),
        };
        let kinds = processes(program, scopes, direction);
        for own in [false, true] {
            let sites = sites::Sites::of(&written, own);
            for whos in &kinds {
                RemovalAnalysis::new(units, &sites, &closed, own, whos).run(effects);
            }
        }
    }
}

/// The sets of what rules name that somebody is within. Inbound that is the node alone: nobody of the member opens what
/// it receives.
fn processes<'p>(
    program: &'p Program,
    scopes: &[ScopeId],
    direction: Direction,
) -> BTreeSet<BTreeSet<&'p Who>> {
    let of = |rule: &&Rule| rule.direction == direction && scopes.contains(&rule.scope);
    let named: BTreeSet<&Who> =
        program.rules.iter().filter(of).flat_map(|rule| &rule.who).map(|item| &item.who).collect();
    kinds_of_processes(&named).into_keys().collect()
}

/// The distinct sets of scopes that reach a workload.
fn classes(program: &Program) -> BTreeSet<Vec<ScopeId>> {
    let written: BTreeSet<ScopeId> = program.rules.iter().map(|rule| rule.scope).collect();
    let reaching = |workload| {
        let scopes = written.iter().copied();
        let reaches =
            |id: &ScopeId| program.scopes.get(id.index()).is_some_and(|scope| applies(scope, workload));
        scopes.filter(reaches).collect()
    };
    (0u32..).map(WorkloadId).zip(&program.workloads).map(|(workload, _)| reaching(workload)).collect()
}
