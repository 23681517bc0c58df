//! What resolving works with.

use std::collections::BTreeMap;

use super::collected::{Collected, id};
use super::groups::Groups;
use super::names::Names;
use super::resolution::{Lost, Places};
use super::services;
use super::sets::Sets;
use crate::ast;
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{self, AddressItem, Level, NameId, Program, Scope, ScopeId, ServiceId, WorkloadId};
use crate::source::Span;

/// The pass itself. Its methods are spread over the modules of this directory, by kind of statement.
pub(super) struct Resolver<'a, 'c> {
    pub(super) collected: &'c Collected<'a>,
    pub(super) names: Names<'a>,
    pub(super) sets: Sets<'a>,
    pub(super) groups: Groups,
    pub(super) program: Program,
    /// Scopes by level and name, so that each is there once.
    pub(super) scopes: BTreeMap<(Level, String), ScopeId>,
    /// The `address` items are also what a workload stands for in a rule.
    pub(super) places: BTreeMap<WorkloadId, Places>,
    pub(super) lost: Lost,
    /// Ports and addresses of rules that name nothing but sets (and groups, workloads and services), by the mesh and the
    /// names. That of a service has a slash.
    pub(super) port_lists: BTreeMap<(Option<usize>, Vec<&'a str>), hir::List<hir::PortItem>>,
    pub(super) address_lists: BTreeMap<(Option<usize>, Vec<&'a str>), hir::List<hir::AddressItem>>,
    /// The place of each of [`Program::names`].
    pub(super) name_ids: BTreeMap<&'a str, NameId>,
    /// The same for services.
    pub(super) service_ids: BTreeMap<ServiceId, NameId>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Resolver<'a, '_> {
    /// The scope of that level and name; each is there once, however many blocks it has.
    pub(super) fn scope(&mut self, level: Level, name: String, members: Vec<WorkloadId>) -> ScopeId {
        let next = ScopeId(id(self.program.scopes.len()));
        let scope = *self.scopes.entry((level, name.clone())).or_insert(next);
        if scope == next {
            self.program.scopes.push(Scope { level, name, members });
        }
        scope
    }

    /// A name that stands for items in a rule.
    pub(super) fn name_id(&mut self, name: &'a str) -> NameId {
        let next = NameId(id(self.program.names.len()));
        let found = *self.name_ids.entry(name).or_insert(next);
        if found == next {
            self.program.names.push(name.to_owned());
        }
        found
    }

    /// The name of a service, where it stands for items in a rule.
    fn service_name_id(&mut self, id: ServiceId) -> NameId {
        let next = NameId(self::id(self.program.names.len()));
        let found = *self.service_ids.entry(id).or_insert(next);
        if found == next {
            let label = self.program.services.get(id.index()).map(hir::Service::label);
            self.program.names.push(label.unwrap_or_default());
        }
        found
    }

    /// The addresses of a service that a rule names, itself or by a set whose name is `by`.
    pub(super) fn service_addresses(
        &mut self,
        name: &ast::Name,
        by: Option<NameId>,
        items: &mut Vec<AddressItem>,
    ) {
        let Some(id) = services::find(&self.program.services, &name.value) else { return };
        let by = by.unwrap_or_else(|| self.service_name_id(id));
        let known = self.program.services.get(id.index()).and_then(|service| service.addresses.as_ref());
        items.extend(known.into_iter().flatten().map(|&prefix| AddressItem { prefix, span: name.span, by }));
    }

    /// A list that names one thing twice: the second says nothing.
    pub(super) fn repeated(&mut self, names: impl IntoIterator<Item = &'a ast::Name>) {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        for name in names {
            if let Some(&first) = seen.get(name.value.as_str()) {
                let quoted = quote(&name.value);
                let what = if name.value.contains('/') { format!("service {quoted}") } else { quoted };
                let message = format!("{what} is named twice in one list");
                self.diagnostics.push(
                    Diagnostic::new(Code::NoEffect, message)
                        .label(name.span, "says nothing new")
                        .also(first, "named here")
                        .help("remove one of them"),
                );
            } else {
                seen.insert(&name.value, name.span);
            }
        }
    }
}
