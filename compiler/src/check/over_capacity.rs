//! `over-capacity`: the result does not fit the kernel's tables.

use mesh_bpf::map::Table;
use mesh_bpf::pack::Unpackable;

use crate::diag::{Code, Diagnostic};
use crate::hir::{Level, Program, Rule, Scope};
use crate::lower;

/// How many rules are shown.
const SHOWN: usize = 3;

/// Counts the nodes of all trees before one is grown, where there may be too many: a program a hundred times as
/// large as the tables would not fit into memory either.
pub(crate) fn foresee(program: &Program, limit: usize) -> Result<(), Unpackable> {
    const EACH: usize = size_of::<mesh_bpf::abi::Node>();
    let lines = |nodes: usize| nodes.saturating_mul(EACH).div_ceil(64);
    let most = program.rules.iter().map(|rule| places(program, rule)).fold(0, usize::saturating_add);
    if lines(most) <= limit {
        return Ok(());
    }
    let needed = lines(lower::nodes(program));
    if needed <= limit {
        Ok(())
    } else {
        Err(Unpackable::OverCapacity { table: Table::Nodes, needed, limit })
    }
}

/// Reports tables that are too large, with the rules that stand for the most boxes.
pub(crate) fn check(program: &Program, error: &Unpackable, diagnostics: &mut Vec<Diagnostic>) {
    let mut heaviest: Vec<(usize, &Rule)> =
        program.rules.iter().map(|rule| (weight(program, rule), rule)).collect();
    heaviest.sort_by_key(|(weight, rule)| (std::cmp::Reverse(*weight), rule.span));
    let diagnostic = Diagnostic::new(Code::OverCapacity, error.to_string());
    let diagnostic = heaviest.iter().take(SHOWN).fold(diagnostic, |diagnostic, (weight, rule)| {
        diagnostic
            .label(rule.span, format!("needs the most: {weight} boxes of workloads, ports and addresses"))
    });
    diagnostics.push(diagnostic.help(
        "join ports to ranges and addresses to prefixes, and write what many workloads share once, in their mesh",
    ));
}

/// Boxes that a rule stands for, for each workload that it reaches.
fn weight(program: &Program, rule: &Rule) -> usize {
    rule.ports.len().saturating_mul(places(program, rule))
}

/// Its prefixes, for each workload that it reaches.
fn places(program: &Program, rule: &Rule) -> usize {
    let members = |scope: &Scope| match scope.level {
        Level::Top => program.workloads.len(),
        _ => scope.members.len(),
    };
    let workloads = program.scopes.get(rule.scope.index()).map_or(1, |scope| members(scope).max(1));
    rule.addresses.len().max(1).saturating_mul(workloads)
}
