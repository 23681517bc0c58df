//! Rules, exemptions and `on` statements, each with the scope in which it is written.

use mesh_bpf::flow::{Protocol, Verdict};

use super::collected::blocks;
use super::names::{Reach, Target};
use super::resolver::Resolver;
use crate::ast::{self, Body, Identity, Spanned, Verb};
use crate::hir::{self, Exempted, Level, List, NameId, On, PortItem, Ports, ScopeId, WhoItem, WorkloadId};
use crate::source::Span;

/// Where a body stands. Without a scope it is part of a mistake, and only its names are looked at.
#[derive(Clone, Copy)]
struct BodyContext {
    mesh: Option<usize>,
    scope: Option<ScopeId>,
}

impl<'a> Resolver<'a, '_> {
    /// All statements of all files.
    pub(super) fn bodies(&mut self, files: &'a [ast::File]) {
        let collected = self.collected;
        for file in files {
            self.body(BodyContext { mesh: None, scope: Some(ScopeId(0)) }, &file.body);
        }
        for (mesh, block) in blocks(&collected.meshes) {
            let name = collected.mesh_id(mesh).and(block.name.as_ref()).map(|name| name.value.as_str());
            let scope = name.filter(|_| !block.body.is_empty());
            let scope = scope.map(|name| self.scope(Level::Mesh, name.to_owned(), self.members_of(mesh)));
            self.body(BodyContext { mesh: Some(mesh), scope }, &block.body);
            for inner in &block.fors {
                let scope = self.for_scope(mesh, name, inner);
                self.body(BodyContext { mesh: Some(mesh), scope }, &inner.body);
            }
            for statement in &block.accelerations {
                self.acceleration(mesh, statement);
            }
            for test in &block.tests {
                self.test(mesh, test);
            }
        }
        for (i, &(workload, mesh)) in collected.workloads.iter().enumerate() {
            let scope = self.groups.workload(i).filter(|_| !workload.body.is_empty());
            let scope = scope.map(|id| self.workload_scope(id));
            self.body(BodyContext { mesh: Some(mesh), scope }, &workload.body);
        }
    }

    fn members_of(&self, mesh: usize) -> Vec<WorkloadId> {
        let mine = self.collected.workloads.iter().enumerate().filter(|(_, (_, of))| *of == mesh);
        mine.filter_map(|(i, _)| self.groups.workload(i)).collect()
    }

    fn for_scope(&mut self, mesh: usize, name: Option<&str>, block: &'a ast::For) -> Option<ScopeId> {
        self.repeated(&block.members);
        let mut members = std::collections::BTreeSet::new();
        for member in &block.members {
            match self.names.find(Some(mesh), member, Reach::Own) {
                Some((target @ Target::Set(_), declared)) => {
                    self.diagnostics.push(super::groups::no_member(
                        &member.value,
                        member.span,
                        target,
                        declared,
                    ));
                }
                Some((target, _)) => members.extend(self.groups.members(target)),
                None => {}
            }
        }
        if block.body.is_empty() {
            return None;
        }
        let mut names: Vec<&str> = block.members.iter().map(|member| member.value.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let name = format!("{}+{}", name?, names.join(","));
        Some(self.scope(Level::For, name, members.into_iter().collect()))
    }

    fn workload_scope(&mut self, id: WorkloadId) -> ScopeId {
        let workload = self.program.workloads.get(id.index());
        let mesh = workload.and_then(|workload| self.program.meshes.get(workload.mesh.index()));
        let mesh = mesh.map_or("", |mesh| mesh.name.as_str());
        let name = format!("{mesh}/{}", workload.map_or("", |workload| workload.name.as_str()));
        self.scope(Level::Workload, name, vec![id])
    }

    fn body(&mut self, context: BodyContext, body: &'a Body) {
        for rule in &body.rules {
            self.rule(context, rule);
        }
        for exempt in &body.exempts {
            self.lost.exempt |= exempt.items.is_empty();
            if let Some(scope) = context.scope {
                self.program.exempts.extend(exempt.items.iter().map(|item| hir::Exempt {
                    scope,
                    who: exempted(&item.value),
                    span: item.span,
                }));
            }
        }
        let Some(scope) = context.scope else { return };
        self.program.ons.extend(body.ons.iter().map(|on| On {
            scope,
            event: match on.event.value {
                ast::Event::MissingSidecar => hir::Event::MissingSidecar,
                ast::Event::FailedAttach => hir::Event::FailedAttach,
            },
            refuse: on.refuse,
            span: on.span,
        }));
    }

    fn rule(&mut self, context: BodyContext, rule: &'a ast::Rule) {
        let ports = rule.ports.as_ref().map(|ports| self.ports(context.mesh, ports));
        let addresses = rule.addresses.as_ref().map(|written| self.addresses(context.mesh, written));
        let (Some(scope), Some(verdict)) = (context.scope, verdict(rule.verb.value)) else { return };
        let ports = ports.unwrap_or_else(|| default_ports(rule).into());
        let node = nodes(rule.addresses.as_deref());
        // A rule without ports or processes here had some that were wrong, and would now be wider.
        if ports.is_empty() {
            return;
        }
        let Some(who) = whos(rule.who.as_deref()) else { return };
        let resolved = hir::Rule {
            scope,
            always: rule.always.is_some(),
            direction: rule.direction.value,
            verdict,
            ports,
            addresses: addresses.unwrap_or_default(),
            who: who.clone().into(),
            span: rule.span,
        };
        // The node has no prefix, so it is a rule of its own.
        if !node.is_empty() {
            let who = at_node(&who, &node).into();
            self.program.rules.push(hir::Rule { addresses: List::default(), who, ..resolved.clone() });
        }
        // Without addresses it named the node alone, or services that have none, or what was wrong: for nobody else.
        if rule.addresses.is_none() || !resolved.addresses.is_empty() {
            self.program.rules.push(resolved);
        }
    }
}

/// Without a protocol a rule is about both, but a redirect only about TCP.
fn default_ports(rule: &ast::Rule) -> Vec<PortItem> {
    let protocols: &[Protocol] = match rule.verb.value {
        _ if rule.ports.is_some() => &[],
        Verb::Redirect { .. } => &[Protocol::Tcp],
        Verb::Exclude | Verb::Deny => &Protocol::ALL,
    };
    let (span, by) = (rule.verb.span, NameId::WRITTEN_OUT);
    protocols.iter().map(|&protocol| PortItem { protocol, ports: Ports::All, span, by }).collect()
}

/// The words `node` among addresses.
fn nodes(written: Option<&[ast::AddressItem]>) -> Vec<Span> {
    let node = |item: &ast::AddressItem| match item {
        ast::AddressItem::Node(span) => Some(*span),
        _ => None,
    };
    written.into_iter().flatten().filter_map(node).collect()
}

/// The same processes, with the node at the other end.
fn at_node(who: &[WhoItem], node: &[Span]) -> Vec<WhoItem> {
    let everybody = [WhoItem::EVERYBODY];
    let who = if who.is_empty() { &everybody[..] } else { who };
    let each = |one: &WhoItem| {
        let one = one.clone();
        node.iter().map(move |&span| {
            let mut one = one.clone();
            one.who.node = true;
            let [_, _, _, of_node] = &mut one.spans;
            *of_node = Some(span);
            one
        })
    };
    who.iter().flat_map(each).collect()
}

/// Every choice of one user, one group and one cgroup of those that are written. `None` where all of a kind were
/// wrong.
fn whos(written: Option<&[Spanned<Identity>]>) -> Option<Vec<WhoItem>> {
    let Some(written) = written else { return Some(Vec::new()) };
    if written.is_empty() {
        return None;
    }
    let mut choices = vec![WhoItem::EVERYBODY];
    for kind in [0, 1, 2] {
        let items: Vec<&Spanned<Identity>> =
            written.iter().filter(|item| side_of(&item.value) == kind).collect();
        if !items.is_empty() {
            let each = |one: WhoItem| items.iter().map(move |item| chosen(one.clone(), item));
            choices = choices.into_iter().flat_map(each).collect();
        }
    }
    Some(choices)
}

const fn side_of(identity: &Identity) -> usize {
    match identity {
        Identity::Uid(_) => 0,
        Identity::Gid(_) => 1,
        Identity::Cgroup(_) => 2,
        // The grammar has none in a rule.
        Identity::Interface(_) => 3,
    }
}

fn chosen(mut one: WhoItem, item: &Spanned<Identity>) -> WhoItem {
    match &item.value {
        Identity::Uid(range) => one.who.uid = Some(*range),
        Identity::Gid(range) => one.who.gid = Some(*range),
        Identity::Cgroup(path) => one.who.cgroup = Some(path.clone()),
        Identity::Interface(_) => {}
    }
    if let Some(span) = one.spans.get_mut(side_of(&item.value)) {
        *span = Some(item.span);
    }
    one
}

fn verdict(verb: Verb) -> Option<Verdict> {
    match verb {
        Verb::Redirect { port, transparent } => port.map(|port| Verdict::Redirected { port, transparent }),
        Verb::Exclude => Some(Verdict::Excluded),
        Verb::Deny => Some(Verdict::Denied),
    }
}

pub(super) fn exempted(identity: &Identity) -> Exempted {
    match identity {
        Identity::Uid(range) => Exempted::Uid(*range),
        Identity::Gid(range) => Exempted::Gid(*range),
        Identity::Cgroup(path) => Exempted::Cgroup(path.clone()),
        Identity::Interface(name) => Exempted::Interface(name.clone()),
    }
}
