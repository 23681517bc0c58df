//! `accelerate` statements.

use std::collections::BTreeSet;

use mesh_bpf::flow::Protocol;

use super::names::{Reach, Target};
use super::resolver::Resolver;
use crate::ast::{self, AccelerateForm};
use crate::diag::{Code, Diagnostic};
use crate::hir::{Acceleration, AccelerationForm, NameId, PortItem, Ports, WorkloadId};

impl<'a> Resolver<'a, '_> {
    /// One `accelerate` statement of a mesh.
    pub(super) fn acceleration(&mut self, mesh: usize, statement: &'a ast::Accelerate) {
        let everyone = |this: &Self| -> BTreeSet<WorkloadId> {
            let all = this.collected.workloads.iter().enumerate().filter(|(_, (_, of))| *of == mesh);
            all.filter_map(|(i, _)| this.groups.workload(i)).collect()
        };
        let form = match &statement.form {
            AccelerateForm::Local(None) => AccelerationForm::Local(sorted(everyone(self))),
            AccelerateForm::Local(Some(names)) => {
                self.repeated(names);
                let members = names.iter().flat_map(|name| self.named_members(mesh, name)).collect();
                AccelerationForm::Local(sorted(members))
            }
            AccelerateForm::Pair(left, right) => AccelerationForm::Between(
                sorted(self.named_members(mesh, left)),
                sorted(self.named_members(mesh, right)),
            ),
            AccelerateForm::Within(name) => {
                let members = sorted(self.named_members(mesh, name));
                AccelerationForm::Between(members.clone(), members)
            }
            AccelerateForm::All => {
                let members = sorted(everyone(self));
                AccelerationForm::Between(members.clone(), members)
            }
        };
        let ports = self.tcp_ports(mesh, statement);
        let Some(mesh) = self.collected.mesh_id(mesh) else { return };
        if !ports.is_empty() {
            self.program.accelerations.push(Acceleration { mesh, form, ports, span: statement.span });
        }
    }

    /// The workloads that a name stands for; a set is no workload, which is reported.
    pub(super) fn named_members(&mut self, mesh: usize, name: &'a ast::Name) -> BTreeSet<WorkloadId> {
        match self.names.find(Some(mesh), name, Reach::Own) {
            Some((target @ Target::Set(_), declared)) => {
                self.diagnostics.push(super::groups::no_member(&name.value, name.span, target, declared));
                BTreeSet::new()
            }
            Some((target, _)) => self.groups.members(target),
            None => BTreeSet::new(),
        }
    }

    fn tcp_ports(&mut self, mesh: usize, statement: &'a ast::Accelerate) -> Vec<PortItem> {
        let Some(written) = statement.ports.as_ref() else {
            return vec![PortItem {
                protocol: Protocol::Tcp,
                ports: Ports::All,
                span: statement.span,
                by: NameId::WRITTEN_OUT,
            }];
        };
        let ports = self.ports(Some(mesh), written);
        if let Some(udp) = ports.iter().find(|item| item.protocol == Protocol::Udp) {
            self.diagnostics.push(
                Diagnostic::new(Code::Unsupported, "udp cannot be accelerated")
                    .label(udp.span, "stands for udp")
                    .also(statement.span, "in this acceleration")
                    .help("only tcp connections have a fast path: write `tcp`, or nothing for all tcp ports"),
            );
        }
        ports.iter().filter(|item| item.protocol == Protocol::Tcp).cloned().collect()
    }
}

fn sorted(members: BTreeSet<WorkloadId>) -> Vec<WorkloadId> {
    members.into_iter().collect()
}
