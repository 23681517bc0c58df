//! `over-capacity`: the result does not fit the kernel's tables.

use mesh_bpf::pack::Unpackable;

use crate::decide::{CLASSES, TooLarge, placed};
use crate::diag::{Code, Diagnostic};
use crate::hir::{Program, Rule, RuleId};

/// How many rules are shown.
const SHOWN: usize = 3;

/// What there is to say of a program that is too large.
pub fn over_capacity(program: &Program, error: &TooLarge) -> Diagnostic {
    match error {
        TooLarge::Tables(error) => tables(program, error),
        TooLarge::Classes { profile, rules } => classes(program, profile, rules),
    }
}

/// With the rules that stand for the most boxes.
fn tables(program: &Program, error: &Unpackable) -> Diagnostic {
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

/// With the rules that name the most processes.
fn classes(program: &Program, profile: &str, rules: &[RuleId]) -> Diagnostic {
    let mut most: Vec<&Rule> = rules.iter().filter_map(|rule| program.rules.get(rule.index())).collect();
    most.sort_by_key(|rule| (std::cmp::Reverse(rule.who.len()), rule.span));
    let message = format!(
        "the rules for `{profile}` tell more than {CLASSES} classes of processes apart, and the tables hold {CLASSES}"
    );
    let diagnostic = Diagnostic::new(Code::OverCapacity, message);
    let diagnostic = most.iter().take(SHOWN).fold(diagnostic, |diagnostic, rule| {
        let count = rule.who.len();
        let words = if count == 1 { "names some".to_owned() } else { format!("names {count} of them") };
        let first = rule.who.first().and_then(|item| item.spans.into_iter().flatten().next());
        diagnostic.label(first.unwrap_or(rule.span), words)
    });
    diagnostic.help("join ids to ranges, or name a cgroup or a group instead of many users")
}

/// Boxes that a rule stands for, for each workload that it reaches.
fn weight(program: &Program, rule: &Rule) -> usize {
    rule.ports.len().saturating_mul(rule.who.len().max(1)).saturating_mul(placed(program, rule))
}
