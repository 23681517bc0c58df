//! The sets of workloads that accelerations are written for.
//!
//! A set that is not a whole mesh is a party with a name, and profiles are told apart by the parties that their
//! workloads are in.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::image::{Source, SourceKind};

use crate::hir::item::write_ports;
use crate::hir::{self, AccelerationForm, MeshId, Ports, Program, WorkloadId};
use crate::source::Span;

/// The sets of workloads that accelerations are written for.
pub(crate) struct Parties {
    pub(crate) statements: Vec<Statement>,
    /// For each workload the suffixes of the parties of several that it is in.
    names: Vec<BTreeSet<String>>,
    /// For each workload whether it is a party of its own.
    alone: Vec<bool>,
}

/// One port item of one form.
pub(crate) struct Statement {
    mesh: MeshId,
    pub(crate) form: AccelerationForm,
    pub(crate) ports: Ports,
    pub(crate) source: Source,
}

impl Parties {
    /// Collects them. `local` forms of one port item are one set, however many statements they are
    /// spread over.
    pub(crate) fn of(program: &Program) -> Self {
        let mut local: BTreeMap<(MeshId, &Ports), BTreeSet<WorkloadId>> = BTreeMap::new();
        let mut statements = Vec::new();
        let mut names = vec![BTreeSet::new(); program.workloads.len()];
        let mut alone = vec![false; program.workloads.len()];
        for acceleration in &program.accelerations {
            for item in &acceleration.ports {
                match &acceleration.form {
                    AccelerationForm::Local(members) => {
                        local.entry((acceleration.mesh, &item.ports)).or_default().extend(members);
                    }
                    form @ AccelerationForm::Between(..) => {
                        statements.push(statement(program, acceleration.mesh, form.clone(), &item.ports));
                    }
                }
            }
        }
        for ((mesh, ports), members) in local {
            let form = AccelerationForm::Local(members.into_iter().collect());
            statements.push(statement(program, mesh, form, ports));
        }
        for (mesh, members) in statements.iter().flat_map(|statement| sets(program, statement)) {
            let Some(name) = party(program, mesh, members) else { continue };
            for member in members {
                if let [_] = members
                    && let Some(alone) = alone.get_mut(member.index())
                {
                    *alone = true;
                } else if let Some(names) = names.get_mut(member.index()) {
                    names.insert(format!("+{name}"));
                }
            }
        }
        Self { statements, names, alone }
    }

    /// Whether something is accelerated for this workload alone.
    pub(crate) fn is_alone(&self, workload: WorkloadId) -> bool {
        self.alone.get(workload.index()).copied().unwrap_or(false)
    }

    /// The suffixes of the parties of several that a workload is in.
    pub(crate) fn names_of(&self, workload: WorkloadId) -> impl Iterator<Item = &str> {
        self.names.get(workload.index()).into_iter().flatten().map(String::as_str)
    }
}

/// Every acceleration item's source, with the statement that it is written in.
pub(crate) fn written(program: &Program) -> Vec<(Source, Span)> {
    let parties = Parties::of(program);
    let mut written = Vec::new();
    for acceleration in &program.accelerations {
        for item in &acceleration.ports {
            let of_item =
                |statement: &&Statement| statement.ports == item.ports && statement.covers(acceleration);
            let sources = parties.statements.iter().filter(of_item);
            written.extend(sources.map(|statement| (statement.source.clone(), acceleration.span)));
        }
    }
    written
}

impl Statement {
    /// Whether `acceleration`, which has its ports, is one of those that it was made of.
    fn covers(&self, acceleration: &hir::Acceleration) -> bool {
        match (&self.form, &acceleration.form) {
            (AccelerationForm::Local(_), AccelerationForm::Local(_)) => self.mesh == acceleration.mesh,
            (one, other) => one == other,
        }
    }
}

fn sets<'a>(program: &Program, statement: &'a Statement) -> Vec<(MeshId, &'a [WorkloadId])> {
    let sets: Vec<&[WorkloadId]> = match &statement.form {
        AccelerationForm::Local(members) => vec![members],
        AccelerationForm::Between(ones, others) => vec![ones, others],
    };
    let mesh = |set: &[WorkloadId]| {
        set.first().and_then(|first| program.workloads.get(first.index())).map(|w| w.mesh)
    };
    sets.into_iter().filter_map(|set| Some((mesh(set)?, set))).collect()
}

/// The name of a set of workloads: its group's, or its workloads'; none for a whole mesh.
fn party(program: &Program, mesh: MeshId, members: &[WorkloadId]) -> Option<String> {
    let all = program.workloads.iter().filter(|workload| workload.mesh == mesh).count();
    if members.len() == all {
        return None;
    }
    let workload = |id: &WorkloadId| program.workloads.get(id.index()).map(|workload| workload.name.as_str());
    if let [only] = members {
        return workload(only).map(str::to_owned);
    }
    let group = (program.groups.iter())
        .filter(|group| group.mesh == mesh && group.members == members)
        .map(|group| group.name.as_str())
        .min();
    Some(
        group
            .map_or_else(|| members.iter().filter_map(workload).collect::<Vec<_>>().join(","), str::to_owned),
    )
}

fn statement(program: &Program, mesh: MeshId, form: AccelerationForm, ports: &Ports) -> Statement {
    let name = |members: &[WorkloadId]| party(program, mesh, members);
    let mut head = match &form {
        AccelerationForm::Local(members) => match name(members) {
            Some(name) => format!("accelerate local for {name}"),
            None => "accelerate local".to_owned(),
        },
        AccelerationForm::Between(ones, others) if ones == others => match name(ones) {
            Some(name) => format!("accelerate within {name}"),
            None => "accelerate all".to_owned(),
        },
        AccelerationForm::Between(ones, others) => {
            let mut names = [ones, others].map(|set| name(set).unwrap_or_else(|| mesh_name(program, mesh)));
            names.sort_unstable();
            format!("accelerate {}", names.join(" <-> "))
        }
    };
    head.push_str(" tcp");
    write_ports(&mut head, ports);
    let scope = mesh_name(program, mesh);
    Statement {
        mesh,
        form,
        ports: ports.clone(),
        source: Source { kind: SourceKind::Accelerate, scope, head, ..Source::default() },
    }
}

fn mesh_name(program: &Program, mesh: MeshId) -> String {
    program.meshes.get(mesh.index()).map_or_else(String::new, |mesh| mesh.name.clone())
}

#[cfg(test)]
mod tests {
    use mesh_bpf::ports::PortRange;

    use super::*;
    use crate::fixture::Fixture;

    /// The item of a program's only acceleration.
    fn item(fixture: &Fixture) -> String {
        let parties = Parties::of(&fixture.program);
        let [statement] = parties.statements.as_slice() else { panic!("one is expected") };
        assert_eq!((statement.source.kind, statement.source.scope.as_str()), (SourceKind::Accelerate, "m"));
        statement.source.head.clone()
    }

    #[test]
    fn an_item_names_who_is_accelerated() {
        for (form, expected) in [
            ("local a,b,c,d", "accelerate local tcp"),
            ("local c", "accelerate local for c tcp"),
            // The least of the groups that hold just these.
            ("local a,b", "accelerate local for front tcp"),
            ("local a,c", "accelerate local for a,c tcp"),
            ("a,b,c,d <-> a,b,c,d", "accelerate all tcp"),
            ("a,b <-> a,b", "accelerate within front tcp"),
            ("b,d <-> b,d", "accelerate within b,d tcp"),
            ("c <-> c", "accelerate within c tcp"),
            // Either way round it is the same.
            ("d <-> c", "accelerate c <-> d tcp"),
            ("c <-> d", "accelerate c <-> d tcp"),
            ("c <-> a,b", "accelerate c <-> front tcp"),
            ("a,b,c,d <-> c", "accelerate c <-> m tcp"),
        ] {
            let mut fixture = Fixture::new(&["a", "b", "c", "d"]);
            fixture.group("shop", "a,b").group("front", "a,b").group("all", "a,b,d");
            assert_eq!(item(fixture.accelerate(form, Ports::All)), expected, "{form}");
        }
    }

    #[test]
    fn an_item_has_its_ports_as_written() {
        for (ports, expected) in [
            (Ports::Range(PortRange { first: 1, last: 9 }), "accelerate local tcp 1-9"),
            (Ports::Not(PortRange::single(80).into()), "accelerate local tcp not 80"),
        ] {
            assert_eq!(item(Fixture::new(&["a", "b"]).accelerate("local a,b", ports)), expected);
        }
    }

    #[test]
    fn statements_with_equal_ports_are_one_item_where_they_are_local() {
        let mut fixture = Fixture::new(&["a", "b", "c"]);
        let ports = |port| Ports::Range(PortRange::single(port));
        fixture
            .accelerate("local a", ports(1))
            .accelerate("local b", ports(1))
            .accelerate("local b", ports(2))
            .accelerate("a <-> c", ports(1))
            .accelerate("b <-> c", ports(1));
        let statements = |of: &str| -> Vec<usize> {
            let written = written(&fixture.program).into_iter().filter(|(source, _)| source.head == of);
            let number = |span| fixture.program.accelerations.iter().position(|one| one.span == span);
            written.filter_map(|(_, span)| number(span)).collect()
        };
        assert_eq!(statements("accelerate local for a,b tcp 1"), [0, 1]);
        assert_eq!(statements("accelerate local for b tcp 2"), [2]);
        assert_eq!(statements("accelerate a <-> c tcp 1"), [3]);
        assert_eq!(statements("accelerate b <-> c tcp 1"), [4]);
        assert_eq!(written(&fixture.program).len(), 5);
    }
}
