//! What there is to know about the words at a place.

use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};
use mesh_bpf::flow::{Direction, Identity};
use mesh_compiler::emit::{Entry, Map, Sets, entries_of};
use mesh_compiler::hir::{Exempted, NamedSet, Program, Rule, WorkloadId};
use mesh_compiler::question::{OtherEnd, Question};
use mesh_compiler::source::Span;

use super::index::{self, Declared, Kind};
use super::{View, range, touches};
use crate::text::Text;

/// So many things are listed.
const LISTED: usize = 12;

/// What is said there.
pub fn hover(view: View<'_>, offset: usize) -> Option<Hover> {
    let (value, span) = code(view, offset)
        .or_else(|| service(view, offset))
        .or_else(|| {
            let (declared, span) = index::at(view.program, view.file, offset)?;
            Some((name(view, declared), span))
        })
        .or_else(|| rule(view, offset))?;
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value });
    Some(Hover { contents, range: Some(range(&Text::new(view.text()), span)) })
}

/// The page of a code in `# meshc: allow(…)`.
fn code(view: View<'_>, offset: usize) -> Option<(String, Span)> {
    let codes = view.program.tree(view.file)?.allows.iter().flat_map(|allow| &allow.codes);
    let found = codes.into_iter().find(|code| touches(code.span, view.file, offset))?;
    Some((found.value.page().to_owned(), found.span))
}

/// A Kubernetes service: who knows its addresses, and where it is named.
fn service(view: View<'_>, offset: usize) -> Option<(String, Span)> {
    let (service, span) = index::service_at(view.program, view.file, offset)?;
    let known = match &service.addresses {
        None => "Its addresses come from an inventory, or from the node that takes the policy.".to_owned(),
        Some(all) => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            listed("address", "addresses", &all)
        }
    };
    let uses = named(view, &service.uses);
    Some((format!("```mesh\n{}\n```\n\n{known}\n\n{uses}", service.label()), span))
}

/// How often something is named, and where.
fn named(view: View<'_>, uses: &[Span]) -> String {
    match uses.len() {
        0 => "Nothing names it.".to_owned(),
        1 => format!("Named once: {}.", place(view, uses)),
        all => format!("Named {all} times: {}.", place(view, uses)),
    }
}

fn name(view: View<'_>, declared: Declared<'_>) -> String {
    let program = &view.program.compilation.resolution.program;
    let mut lines = vec![format!("```mesh\n{} {}\n```", declared.kind.word(), declared.name.value)];
    match declared.kind {
        Kind::Set => lines.extend(set(program, declared)),
        Kind::Workload => lines.extend(workload(view, declared)),
        Kind::Group => {
            let group = program.groups.iter().find(|group| group.span == declared.name.span);
            let members = group.iter().flat_map(|group| &group.members);
            let members: Vec<String> = members.filter_map(|&id| workload_name(program, id)).collect();
            lines.push(listed("workload", "workloads", &members));
        }
        Kind::Mesh => {
            let mesh = program.meshes.iter().position(|mesh| mesh.name == declared.name.value);
            let workloads = program.workloads.iter().filter(|it| Some(it.mesh.index()) == mesh);
            let names: Vec<String> = workloads.map(|it| it.name.clone()).collect();
            lines.push(listed("workload", "workloads", &names));
        }
    }
    if declared.kind != Kind::Mesh {
        let uses: Vec<Span> = index::uses(view.program, declared).collect();
        lines.push(named(view, &uses));
    }
    lines.join("\n\n")
}

/// Files and lines.
fn place(view: View<'_>, spans: &[Span]) -> String {
    let mut places: Vec<String> = Vec::new();
    for span in spans {
        let Some(source) = view.program.source(span.file) else { continue };
        let line = source.line(span.start);
        let place =
            if span.file == view.file { format!("line {line}") } else { format!("{}:{line}", source.name) };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    cut(places)
}

fn cut(mut all: Vec<String>) -> String {
    if all.len() > LISTED {
        let more = all.len() - LISTED;
        all.truncate(LISTED);
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

fn listed(one: &str, many: &str, names: &[String]) -> String {
    let what = if names.len() == 1 { one } else { many };
    match names {
        [] => format!("No {many}."),
        _ => format!("{} {what}: {}", names.len(), cut(names.iter().map(|it| format!("`{it}`")).collect())),
    }
}

fn set(program: &Program, declared: Declared<'_>) -> Option<String> {
    let set = find_set(program, declared)?;
    let addresses: Vec<String> = set.addresses.iter().map(|item| item.prefix.to_string()).collect();
    let words = |item: &mesh_compiler::hir::PortItem| format!("{} {}", item.protocol, item.ports.set());
    let ports: Vec<String> = set.ports.iter().map(words).collect();
    Some(match ports.is_empty() {
        true => listed("prefix", "prefixes", &addresses),
        false => listed("item of ports", "items of ports", &ports),
    })
}

/// What a set came to.
pub fn find_set<'p>(program: &'p Program, declared: Declared<'_>) -> Option<&'p NamedSet> {
    let name = &declared.name.value;
    let full = declared.mesh.map_or_else(|| name.clone(), |mesh| format!("{mesh}/{name}"));
    program.sets.iter().find(|set| set.name == full)
}

/// How much is in a set, in words.
pub fn size_of_set(set: &NamedSet) -> String {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let known = set.addresses.iter().filter(|_| set.ports.is_empty()).count();
    let mut parts = Vec::new();
    if !set.ports.is_empty() {
        parts.push(counted(set.ports.len(), "item of ports", "items of ports"));
    }
    if known > 0 || parts.is_empty() {
        parts.push(counted(known, "prefix", "prefixes"));
    }
    if !set.services.is_empty() {
        parts.push(counted(set.services.len(), "service", "services"));
    }
    parts.join(", ")
}

/// What it selects, and who of it is exempt.
fn workload(view: View<'_>, declared: Declared<'_>) -> Vec<String> {
    let program = &view.program.compilation.resolution.program;
    let found = program.workloads.iter().position(|it| it.span == declared.name.span);
    let Some((at, workload)) = found.and_then(|at| Some((at, program.workloads.get(at)?))) else {
        return Vec::new();
    };
    let id = WorkloadId(u32::try_from(at).unwrap_or(u32::MAX));
    let selectors: Vec<&str> = workload.selector_spans.iter().map(|&span| view.program.words(span)).collect();
    let exempt = program.exempts.iter().filter(|exempt| {
        program.scopes.get(exempt.scope.index()).is_some_and(|scope| scope.members.contains(&id))
    });
    let exempt: Vec<String> = exempt
        .map(|exempt| match &exempt.who {
            Exempted::Uid(range) => format!("`uid {range}`"),
            Exempted::Gid(range) => format!("`gid {range}`"),
            Exempted::Cgroup(path) => format!("`cgroup \"{path}\"`"),
            Exempted::Interface(name) => format!("`interface \"{name}\"`"),
        })
        .collect();
    let rules = program.rules.iter().filter(|rule| {
        program.scopes.get(rule.scope.index()).is_some_and(|scope| scope.members.contains(&id))
    });
    let selects = match selectors.as_slice() {
        [] => "Selects nothing.".to_owned(),
        all => format!("Selects:\n```mesh\n{}\n```", all.join("\n")),
    };
    let exempts =
        if exempt.is_empty() { "Nobody is exempt.".to_owned() } else { format!("Exempt: {}", cut(exempt)) };
    let rules = match rules.count() {
        1 => "1 rule is about it.".to_owned(),
        count => format!("{count} rules are about it."),
    };
    let mut lines = vec![selects, exempts, rules];
    let mesh = program.meshes.get(workload.mesh.index()).map_or("", |mesh| mesh.name.as_str());
    lines.extend(verdicts(view, &format!("{mesh}/{}", workload.name)));
    lines
}

/// What becomes of a workload's flows, as a table, and what where its sidecar is missing.
fn verdicts(view: View<'_>, workload: &str) -> Option<String> {
    let compilation = &view.program.compilation;
    let image = &compilation.compiled.as_ref()?.image;
    let found = image.workloads.iter().find(|it| it.name == workload)?;
    let profile = image.profiles.get(found.profile.0 as usize)?;
    let entries = entries_of(image, profile, &Sets::of(&compilation.resolution.program));
    let flows: Vec<&Entry> = entries.iter().filter(|entry| entry.map == Map::Flows).collect();
    let mut lines = vec!["| | flows | verdict | by |".to_owned(), "|---|---|---|---|".to_owned()];
    let cell = |text: &str| text.replace('|', "\\|");
    lines.extend(flows.iter().take(LISTED).map(|entry| {
        let direction = entry.direction.map_or_else(String::new, |direction| direction.to_string());
        format!("| {direction} | `{}` | {} | {} |", cell(&entry.key), cell(&entry.value), cell(&entry.credit))
    }));
    if flows.len() > LISTED {
        lines.push(format!("| | {} more | | |", flows.len() - LISTED));
    }
    let refused = |refuse| if refuse { "refuses" } else { "lets pass" };
    let started = if profile.failed_attach_refuse { "is refused" } else { "starts" };
    Some(format!(
        "{}\n\nWithout a sidecar, a member {} what is redirected; where it cannot be attached, it {started}.",
        lines.join("\n"),
        refused(profile.missing_sidecar_refuse)
    ))
}

fn workload_name(program: &Program, id: WorkloadId) -> Option<String> {
    program.workloads.get(id.index()).map(|workload| workload.name.clone())
}

/// What happens to a flow that a rule is about, and why.
fn rule(view: View<'_>, offset: usize) -> Option<(String, Span)> {
    let compilation = &view.program.compilation;
    let program = &compilation.resolution.program;
    let rule = program.rules.iter().find(|rule| touches(rule.span, view.file, offset))?;
    let compiled = compilation.compiled.as_ref()?;
    let scope = program.scopes.get(rule.scope.index())?;
    let workload = *scope.members.first()?;
    let name = workload_name(program, workload)?;
    let question = question(rule, workload)?;
    let OtherEnd::Addresses(addresses) = &question.peer else { return None };
    let other = addresses.first()?;
    let (from, to) = match rule.direction {
        Direction::Outbound => (name, other.to_string()),
        Direction::Inbound => (other.to_string(), name),
    };
    let who = question.identity.clause();
    let asked = format!("{from} -> {to} {} {}{who}", question.protocol, question.port);
    let said = view.host.explain(compilation, compiled, &question, &asked);
    Some((format!("For example\n```text\n{}\n```", said.trim_end()), rule.span))
}

/// The first flow of a rule.
fn question(rule: &Rule, workload: WorkloadId) -> Option<Question> {
    let ports = rule.ports.first()?;
    // Where a rule names no port, one that is nobody's built-in.
    let port = match &ports.ports {
        mesh_compiler::hir::Ports::All => 443,
        other => other.set().ranges().first()?.first,
    };
    let identity = rule.who.first().map(|item| Identity {
        uid: item.who.uid.map(|range| range.first),
        gid: item.who.gid.map(|range| range.first),
        cgroup: item.who.cgroup.clone(),
        interface: None,
        node: item.who.node,
    });
    let peer = match rule.addresses.first() {
        Some(item) => OtherEnd::Addresses(vec![item.prefix.first()?]),
        None if identity.as_ref().is_some_and(|it| it.node) => OtherEnd::Node,
        // Of RFC 5737, for examples.
        None => OtherEnd::Addresses(vec![std::net::Ipv4Addr::new(192, 0, 2, 1).into()]),
    };
    Some(Question {
        workload,
        direction: rule.direction,
        peer,
        member: None,
        protocol: ports.protocol,
        port,
        identity: identity.unwrap_or_default(),
    })
}
