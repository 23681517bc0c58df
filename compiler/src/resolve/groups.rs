//! Groups: who is in each, through other groups.

use std::collections::BTreeSet;

use super::collected::Collected;
use super::cycle::{Edge, cycles};
use super::names::{Names, Reach, Target};
use super::sets::cycle_diagnostic;
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{self, WorkloadId};
use crate::source::Span;

/// All groups of a program.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// What each group names directly.
    entries: Vec<Vec<Target>>,
    /// The id of each workload; none where it is no part of the program.
    ids: Vec<Option<WorkloadId>>,
    /// Whether a group's declaration is the one that counts.
    count: Vec<bool>,
}

impl Groups {
    /// Resolves the names in all groups.
    pub(super) fn new<'a>(
        collected: &Collected<'a>,
        names: &mut Names<'a>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut entries = Vec::with_capacity(collected.groups.len());
        let mut edges = Vec::new();
        for (from, &(group, mesh)) in collected.groups.iter().enumerate() {
            let mut targets = Vec::new();
            for name in &group.members {
                match names.find(Some(mesh), name, Reach::Own) {
                    Some((target @ (Target::Workload(_) | Target::Group(_)), _)) => {
                        if let Target::Group(to) = target {
                            edges.push(Edge { from, to, span: name.span });
                        }
                        targets.push(target);
                    }
                    Some((target, declared)) => {
                        diagnostics.push(no_member(&name.value, name.span, target, declared))
                    }
                    None => {}
                }
            }
            entries.push(targets);
        }
        for cycle in cycles(entries.len(), &edges) {
            let groups = cycle.iter().filter_map(|edge| collected.groups.get(edge.from));
            let path = groups.map(|(group, _)| group.name.value.as_str()).collect();
            diagnostics.push(cycle_diagnostic(Code::GroupCycle, "group", &cycle, path));
        }
        let count = (collected.groups.iter().enumerate())
            .map(|(i, (group, mesh))| names.counts(Some(*mesh), &group.name.value, Target::Group(i)))
            .collect();
        Self { entries, ids: Vec::new(), count }
    }

    /// Tells which workloads are part of the program.
    pub(super) fn set_ids(&mut self, ids: Vec<Option<WorkloadId>>) {
        self.ids = ids;
    }

    pub(super) fn workload(&self, workload: usize) -> Option<WorkloadId> {
        self.ids.get(workload).copied().flatten()
    }

    /// The workloads that a name of a workload or a group stands for, sorted.
    pub(super) fn members(&self, target: Target) -> BTreeSet<WorkloadId> {
        let mut members = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut left = vec![target];
        while let Some(target) = left.pop() {
            match target {
                Target::Workload(workload) => members.extend(self.workload(workload)),
                Target::Group(group) if seen.insert(group) => {
                    left.extend(self.entries.get(group).into_iter().flatten());
                }
                Target::Group(_) | Target::Set(_) => {}
            }
        }
        members
    }

    /// All groups, expanded.
    pub(super) fn declared(&self, collected: &Collected<'_>) -> Vec<hir::Group> {
        let counting = collected.groups.iter().enumerate().filter(|(i, _)| self.count.get(*i) == Some(&true));
        counting
            .filter_map(|(i, (group, mesh))| {
                Some(hir::Group {
                    mesh: collected.mesh_id(*mesh)?,
                    name: group.name.value.clone(),
                    members: self.members(Target::Group(i)).into_iter().collect(),
                    span: group.name.span,
                })
            })
            .collect()
    }
}

/// Where a workload or a group belongs stands something else.
pub(super) fn no_member(name: &str, used: Span, target: Target, declared: Span) -> Diagnostic {
    let message = format!("{} is {}, and a workload or a group belongs here", quote(name), target.kind());
    Diagnostic::new(Code::WrongKind, message)
        .label(used, target.kind())
        .also(declared, "declared here")
        .help("name a workload or a group of this mesh")
}
