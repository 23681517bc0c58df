//! `over-capacity`: the result does not fit the kernel's tables.

use mesh_bpf::pack::Unpackable;

use crate::diag::{Code, Diagnostic};
use crate::hir::{Program, Rule};

/// How many rules are shown.
const SHOWN: usize = 3;

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
    let workloads = program.scopes.get(rule.scope.index()).map_or(1, |scope| scope.members.len().max(1));
    rule.ports.len().saturating_mul(rule.addresses.len().max(1)).saturating_mul(workloads)
}
