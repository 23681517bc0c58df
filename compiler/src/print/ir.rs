//! The decided program.

use mesh_bpf::flow::Direction;
use mesh_bpf::prefix::Prefix;

use super::Page;
use crate::hir::{Program, WorkloadId, item};
use crate::ir::{Decider, Ir, Node, Outcome, Profile, TableId};

/// A program with every port of every prefix decided. Names of scopes are those of `program`.
#[must_use]
pub fn ir(program: &Program, ir: &Ir) -> String {
    let mut page = Page::default();
    for (number, one) in ir.items.iter().enumerate() {
        let scope = program.scopes.get(one.scope.index()).map_or("", |scope| scope.name.as_str());
        let source =
            item::source(scope, one.always, one.direction, one.verdict, one.protocol, &one.ports, &one.who);
        page.line(0, format_args!("item {number}: {}", source.credit(Prefix::Any)));
    }
    page.sources(&ir.sources);
    for (number, table) in ir.tables.iter().enumerate() {
        page.table(number, table, outcome);
    }
    for (number, profile) in ir.profiles.iter().enumerate() {
        write_profile(&mut page, number, profile);
    }
    for (WorkloadId(id), profile) in (0u32..).map(WorkloadId).zip(&ir.profile_of) {
        page.line(0, format_args!("workload {id}: profile {profile}"));
    }
    page.text
}

fn write_profile(page: &mut Page, number: usize, profile: &Profile) {
    page.line(0, format_args!("profile {number}: {}", profile.name));
    for (direction, side) in Direction::ALL.into_iter().zip(&profile.sides) {
        for (own, tree) in [(false, &side.tree), (true, &side.own)] {
            page.tree(direction, own, tree.iter().map(node));
        }
    }
    page.classes(&profile.classes, |page, direction, side| {
        for (own, tree) in [(false, &side.tree), (true, &side.own)] {
            page.tree(direction, own, tree.iter().map(node));
        }
    });
    let Profile { exempt, acceleration, missing_sidecar_refuse, failed_attach_refuse, .. } = profile;
    page.rest(exempt, acceleration, *missing_sidecar_refuse, *failed_attach_refuse);
}

fn node(node: &Node) -> (Prefix, [u32; 2], String) {
    (node.prefix, node.tables.map(|TableId(table)| table), decider(node.least))
}

fn outcome(outcome: &Outcome) -> String {
    format!("{} by {}, {} up", outcome.verdict, decider(outcome.decider), outcome.up)
}

fn decider(decider: Decider) -> String {
    match decider {
        Decider::NoRule => "no rule".to_owned(),
        Decider::BuiltIn(built_in) => format!("built-in {}", built_in.word()),
        Decider::Item(item) => format!("item {}", item.0),
    }
}
