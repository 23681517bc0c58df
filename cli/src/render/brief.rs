//! A difference in short, for whoever is asked whether to apply it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mesh_compiler::diff::{Difference, FlowChange};

use super::difference::{Beside, parts};
use crate::wrap::wrap;

/// Before what is listed.
const INDENT: &str = "  ";

/// As many changes as a screen has room for, in lines of so many columns; before them how many flows change from what
/// to what.
pub fn text(difference: &Difference, beside: &Beside, lines: usize, columns: usize) -> String {
    let mut sums: BTreeMap<String, usize> = BTreeMap::new();
    let mut workloads = BTreeSet::new();
    for FlowChange { workload, before, after, .. } in &difference.flows {
        let becomes = match (before.word(), after.word()) {
            (one, other) if one == other => format!("{one} to another port"),
            (one, other) => format!("{one} → {other}"),
        };
        *sums.entry(becomes).or_default() += 1;
        workloads.insert(workload);
    }
    let mut sums: Vec<(String, usize)> = sums.into_iter().collect();
    sums.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let sums: Vec<String> = sums.into_iter().map(|(becomes, sum)| format!("{sum} {becomes}")).collect();
    let mut out = match workloads.len() {
        0 => "no flow changes its verdict\n".to_owned(),
        1 => format!("flows that change, of 1 workload: {}\n", sums.join(", ")),
        more => format!("flows that change, of {more} workloads: {}\n", sums.join(", ")),
    };
    let parts = parts(difference, beside);
    let (mut room, mut shown) = (lines, 0);
    for part in &parts {
        let takes = wrap(&indented(part), columns).lines().count();
        let Some(left) = room.checked_sub(takes) else { continue };
        room = left;
        shown += 1;
        out.push_str(&indented(part));
    }
    if shown < parts.len() {
        let _ = writeln!(out, "{INDENT}and {} more: `meshc plan` shows all", parts.len() - shown);
    }
    out
}

fn indented(part: &str) -> String {
    part.lines().map(|line| format!("{INDENT}{line}\n")).collect()
}
