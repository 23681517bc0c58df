//! Ports and addresses of rules: sets, groups and workloads become what they stand for.

use std::collections::BTreeSet;

use mesh_bpf::flow::Protocol;
use mesh_bpf::prefix::Prefix;

use super::names::{Reach, Target};
use super::resolver::Resolver;
use super::services;
use super::sets::{Entry, Kind};
use crate::ast::{self, PortChoice, ProtocolPorts, ProtocolWord, RulePorts, Spanned};
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{AddressItem, List, NameId, NamedSet, PortItem, Ports, WorkloadId};
use crate::source::Span;

impl<'a> Resolver<'a, '_> {
    /// The ports that are written.
    pub(super) fn ports(&mut self, mesh: Option<usize>, ports: &'a RulePorts) -> List<PortItem> {
        let mut items = Vec::new();
        let names = match ports {
            RulePorts::Protocol(ports) => {
                port_items(ports, NameId::WRITTEN_OUT, &mut items);
                return items.into();
            }
            RulePorts::Sets(names) => names,
        };
        let key = (mesh, names.iter().map(|name| name.value.as_str()).collect());
        if let Some(known) = self.port_lists.get(&key).cloned() {
            self.named_again(mesh, names, Reach::Own);
            return known;
        }
        let troubles = self.troubles();
        self.repeated(names);
        for name in names {
            self.port_set(mesh, name, &mut items);
        }
        let list: List<PortItem> = items.into();
        if self.troubles() == troubles {
            self.port_lists.insert(key, list.clone());
        }
        list
    }

    /// What each set stands for, beside its name.
    pub(super) fn named_sets(&mut self) {
        let collected = self.collected;
        for (set, &(declared, mesh)) in collected.sets.iter().enumerate() {
            let name = declared.name.value.as_str();
            if !self.names.counts(mesh, name, Target::Set(set)) {
                continue;
            }
            let mesh = match mesh {
                None => None,
                Some(mesh) => match collected.mesh_id(mesh).and(collected.meshes.get(mesh)) {
                    Some(mesh) => mesh.name.map(|name| name.value.as_str()),
                    None => continue,
                },
            };
            let name = mesh.map_or_else(|| name.to_owned(), |mesh| format!("{mesh}/{name}"));
            let named = self.contents(name, set);
            self.program.sets.push(named);
        }
        self.program.sets.sort_by(|one, other| one.name.cmp(&other.name));
    }

    /// What is wrong with a set is told where a rule names it.
    fn contents(&self, name: String, set: usize) -> NamedSet {
        let (mut addresses, mut ports, mut services) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.sets.flatten(set) {
            match entry {
                Entry::Address(address) => addresses.push(address_item(address, NameId::WRITTEN_OUT)),
                Entry::Ports(written) => port_items(written, NameId::WRITTEN_OUT, &mut ports),
                Entry::Members(members, _) => {
                    let places = self.groups.members(members).into_iter();
                    let places = places.filter_map(|id| self.places.get(&id));
                    addresses.extend(places.flat_map(|places| &places.addresses));
                }
                Entry::Service(name) => services.extend(services::find(&self.program.services, &name.value)),
                Entry::Set(..) => {}
            }
        }
        services.sort_unstable();
        services.dedup();
        NamedSet { name, addresses: addresses.into(), services, ports: ports.into() }
    }

    /// Grows with every mistake that is found, so that what comes with one is looked at again at each place.
    fn troubles(&self) -> usize {
        self.diagnostics.len() + self.names.unknown_uses()
    }

    /// Names of a list that is known: these are uses of theirs too.
    fn named_again(
        &mut self,
        mesh: Option<usize>,
        names: impl IntoIterator<Item = &'a ast::Name>,
        reach: Reach,
    ) {
        for name in names {
            self.names.find(mesh, name, reach);
        }
    }

    fn port_set(&mut self, mesh: Option<usize>, name: &'a ast::Name, items: &mut Vec<PortItem>) {
        let Some((target, declared)) = self.names.find(mesh, name, Reach::Own) else { return };
        match target {
            Target::Set(set) if self.sets.kind(set) != Kind::Addresses => {
                let by = self.name_id(&name.value);
                for entry in self.sets.flatten(set) {
                    if let Entry::Ports(ports) = entry {
                        port_items(ports, by, items);
                    }
                }
            }
            _ => {
                let what = if let Target::Set(_) = target { "a set of addresses" } else { target.kind() };
                let quoted = quote(&name.value);
                self.diagnostics.push(
                    Diagnostic::new(Code::WrongKind, format!("{quoted} is {what}, and ports belong here"))
                        .label(name.span, what)
                        .also(declared, "declared here")
                        .help(format!("addresses follow `to` or `from`: `to {}`", name.value)),
                );
            }
        }
    }

    /// The addresses of `to` and `from`.
    pub(super) fn addresses(
        &mut self,
        mesh: Option<usize>,
        written: &'a [ast::AddressItem],
    ) -> List<AddressItem> {
        // What is written out here is of no other rule.
        let names: Vec<&str> = names_of(written).map(|name| name.value.as_str()).collect();
        let key = (names.len() == written.len()).then_some((mesh, names));
        if let Some(known) = key.as_ref().and_then(|key| self.address_lists.get(key)).cloned() {
            let names = written.iter().filter_map(|item| match item {
                ast::AddressItem::Name(name) => Some(name),
                ast::AddressItem::Service(_) | ast::AddressItem::Prefix(_) | ast::AddressItem::Node(_) => {
                    None
                }
            });
            self.named_again(mesh, names, Reach::Everywhere);
            return known;
        }
        let troubles = self.troubles();
        self.repeated(names_of(written));
        let mut items = Vec::with_capacity(written.len());
        let mut services = BTreeSet::new();
        for item in written {
            match item {
                ast::AddressItem::Prefix(prefix) => {
                    items.push(address_item(*prefix, NameId::WRITTEN_OUT));
                }
                // The first one says it.
                ast::AddressItem::Service(name) if !services.insert(&name.value) => {}
                ast::AddressItem::Service(name) => self.service_addresses(name, None, &mut items),
                ast::AddressItem::Name(name) => self.named_addresses(mesh, name, &mut items),
                // A side of its own.
                ast::AddressItem::Node(_) => {}
            }
        }
        let list: List<AddressItem> = items.into();
        if let Some(key) = key.filter(|_| self.troubles() == troubles) {
            self.address_lists.insert(key, list.clone());
        }
        list
    }

    fn named_addresses(&mut self, mesh: Option<usize>, name: &'a ast::Name, items: &mut Vec<AddressItem>) {
        let Some((target, declared)) = self.names.find(mesh, name, Reach::Everywhere) else { return };
        let by = self.name_id(&name.value);
        let Target::Set(set) = target else { return self.member_addresses(target, name.span, by, items) };
        if self.sets.kind(set) == Kind::Ports {
            return self.diagnostics.push(not_addresses(name, declared));
        }
        for entry in self.sets.flatten(set) {
            match entry {
                Entry::Address(address) => items.push(address_item(address, by)),
                Entry::Service(name) => self.service_addresses(name, Some(by), items),
                Entry::Members(members, span) => self.member_addresses(members, span, by, items),
                Entry::Ports(_) | Entry::Set(..) => {}
            }
        }
    }

    /// The prefixes by which the members of a workload or a group are chosen.
    fn member_addresses(&mut self, target: Target, used: Span, by: NameId, items: &mut Vec<AddressItem>) {
        for id in self.groups.members(target) {
            if self.lost.workloads.contains(&id) {
                continue;
            }
            let Some(workload) = self.program.workloads.get(id.index()) else { continue };
            if workload.selector.is_by_address() {
                let chosen = self.places.get(&id).into_iter().flat_map(|places| &places.addresses);
                items.extend(chosen.map(|item| AddressItem { by, ..*item }));
            } else if !workload.selector_spans.is_empty() {
                self.diagnostics.push(self.unknown_addresses(id, used));
            }
        }
    }

    fn unknown_addresses(&self, id: WorkloadId, used: Span) -> Diagnostic {
        let workload = self.program.workloads.get(id.index());
        let name = workload.map_or("", |workload| workload.name.as_str());
        let message = format!("the addresses of workload {} are not known here", quote(name));
        let diagnostic = Diagnostic::new(Code::WrongKind, message).label(used, "stands for addresses").help(
            "only a workload whose members are all chosen by `address` stands for addresses; write them out",
        );
        let spans = workload.map_or(&[][..], |workload| &workload.selector_spans);
        match spans.first() {
            Some(&span) => diagnostic.also(span, "its members are chosen by something else"),
            None => diagnostic,
        }
    }

    /// The prefixes of an `address` selector. A workload cannot be chosen by another one's addresses.
    pub(super) fn selector_prefixes(
        &mut self,
        mesh: usize,
        written: &'a [ast::AddressItem],
    ) -> Vec<AddressItem> {
        self.repeated(names_of(written));
        let mut items = Vec::with_capacity(written.len());
        for item in written {
            let name = match item {
                ast::AddressItem::Prefix(prefix) => {
                    items.push(address_item(*prefix, NameId::WRITTEN_OUT));
                    continue;
                }
                ast::AddressItem::Service(name) => {
                    self.diagnostics.push(chosen_by_members(name.span, A_SERVICE));
                    continue;
                }
                ast::AddressItem::Node(span) => {
                    self.diagnostics.push(chosen_by_members(*span, THE_NODE));
                    continue;
                }
                ast::AddressItem::Name(name) => name,
            };
            let Some((target, declared)) = self.names.find(Some(mesh), name, Reach::Own) else { continue };
            let Target::Set(set) = target else {
                self.diagnostics.push(chosen_by_members(name.span, target.kind()));
                continue;
            };
            if self.sets.kind(set) == Kind::Ports {
                self.diagnostics.push(not_addresses(name, declared));
                continue;
            }
            for entry in self.sets.flatten(set) {
                match entry {
                    Entry::Address(address) => items.push(address_item(address, NameId::WRITTEN_OUT)),
                    Entry::Members(target, span) => {
                        let found = chosen_by_members(name.span, target.kind());
                        self.diagnostics.push(found.also(span, "in this set"));
                    }
                    Entry::Service(service) => {
                        let found = chosen_by_members(name.span, A_SERVICE);
                        self.diagnostics.push(found.also(service.span, "in this set"));
                    }
                    Entry::Ports(_) | Entry::Set(..) => {}
                }
            }
        }
        items
    }
}

const fn address_item(written: Spanned<Prefix>, by: NameId) -> AddressItem {
    AddressItem { prefix: written.value, span: written.span, by }
}

/// One item for each port or range and each protocol.
fn port_items(written: &ProtocolPorts, by: NameId, items: &mut Vec<PortItem>) {
    let protocols: &[Protocol] = match &written.protocol.value {
        ProtocolWord::One(protocol) => std::slice::from_ref(protocol),
        ProtocolWord::Any => &Protocol::ALL,
    };
    for &protocol in protocols {
        let item = |ports, span| PortItem { protocol, ports, span, by };
        match &written.ports {
            PortChoice::All => items.push(item(Ports::All, written.protocol.span)),
            PortChoice::Only(ranges) => {
                items.extend(ranges.iter().map(|range| item(Ports::Range(range.value), range.span)));
            }
            // Every port but those that were wrong would be a guess.
            PortChoice::Not(ranges, _) if ranges.is_empty() => {}
            PortChoice::Not(ranges, span) => {
                let others = ranges.iter().map(|range| range.value).collect();
                items.push(item(Ports::Not(others), *span));
            }
        }
    }
}

fn names_of(items: &[ast::AddressItem]) -> impl Iterator<Item = &ast::Name> {
    items.iter().filter_map(|item| match item {
        ast::AddressItem::Service(name) | ast::AddressItem::Name(name) => Some(name),
        ast::AddressItem::Prefix(_) | ast::AddressItem::Node(_) => None,
    })
}

fn not_addresses(name: &ast::Name, declared: Span) -> Diagnostic {
    let quoted = quote(&name.value);
    Diagnostic::new(Code::WrongKind, format!("{quoted} is a set of ports, and addresses belong here"))
        .label(name.span, "a set of ports")
        .also(declared, "declared here")
        .help(format!("ports follow the direction, before `to` or `from`: `outbound {}`", name.value))
}

/// What cannot choose a workload's members.
const A_SERVICE: &str = "a service";
const THE_NODE: &str = "the node";

fn chosen_by_members(used: Span, what: &str) -> Diagnostic {
    let message = format!("a workload cannot be chosen by the addresses of {what}");
    Diagnostic::new(Code::WrongKind, message).label(used, what).help("write the addresses, or a set of them")
}
