//! `over-capacity`: the result does not fit the kernel's tables.

use mesh_bpf::pack::Unpackable;

use crate::decide::placed;
use crate::diag::{Code, Diagnostic};
use crate::hir::{Program, Rule};

/// How many rules are shown.
const SHOWN: usize = 3;

/// What there is to say of tables that are too large, with the rules that stand for the most boxes.
pub fn over_capacity(program: &Program, error: &Unpackable) -> Diagnostic {
    let mut heaviest: Vec<(usize, &Rule)> =
        program.rules.iter().map(|rule| (weight(program, rule), rule)).collect();
    heaviest.sort_by_key(|(weight, rule)| (std::cmp::Reverse(*weight), rule.span));
    let diagnostic = Diagnostic::new(Code::OverCapacity, error.to_string());
    let diagnostic = heaviest.iter().take(SHOWN).fold(diagnostic, |diagnostic, (weight, rule)| {
        diagnostic
            .label(rule.span, format!("needs the most: {weight} boxes of workloads, ports and addresses"))
    });
    diagnostic.help(
        "join ports to ranges and addresses to prefixes, and write what many workloads share once, in their mesh",
    )
}

/// Boxes that a rule stands for, for each workload that it reaches.
fn weight(program: &Program, rule: &Rule) -> usize {
    rule.ports.len().saturating_mul(placed(program, rule))
}
