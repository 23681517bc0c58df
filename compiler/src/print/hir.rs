//! The resolved program.

use super::Page;
use crate::emit::selector_lines;
use crate::hir::item::{exempt_source, rule_source, write_ports};
use crate::hir::{
    AccelerationForm, Event, Expected, Level, NODE, Peer, PortItem, Program, Rule, Scope, ScopeId, Service,
    TestLine, Who, WorkloadId,
};

/// A program with every name resolved and every list expanded.
#[must_use]
pub fn hir(program: &Program) -> String {
    let mut page = Page::default();
    for mesh in &program.meshes {
        page.line(0, format_args!("mesh {}", mesh.name));
    }
    for (id, workload) in (0u32..).map(WorkloadId).zip(&program.workloads) {
        page.line(0, format_args!("workload {}: {}", id.0, workload_name(program, id)));
        for line in selector_lines(&workload.selector) {
            page.line(1, line);
        }
    }
    for group in &program.groups {
        let members = members(&group.members);
        page.line(0, format_args!("group {}: workloads {members}", group.name));
    }
    for service in &program.services {
        let Some(addresses) = &service.addresses else {
            page.line(0, format_args!("{}: not known", service.label()));
            continue;
        };
        page.line(0, service.label());
        addresses.iter().for_each(|address| page.line(1, address));
    }
    for (number, scope) in program.scopes.iter().enumerate() {
        page.line(
            0,
            format_args!("scope {number}: {}, workloads {}", scope_name(scope), members(&scope.members)),
        );
    }
    for (number, rule) in program.rules.iter().enumerate() {
        write_rule(&mut page, program, number, rule);
    }
    for exempt in &program.exempts {
        page.line(0, format_args!("{} in scope {}", exempt_source("", &exempt.who).head, exempt.scope.0));
    }
    for on in &program.ons {
        let (event, other) = match on.event {
            Event::MissingSidecar => ("missing-sidecar", "pass"),
            Event::FailedAttach => ("failed-attach", "start"),
        };
        let answer = if on.refuse { "refuse" } else { other };
        page.line(0, format_args!("on {event} {answer} in scope {}", on.scope.0));
    }
    for acceleration in &program.accelerations {
        let form = match &acceleration.form {
            AccelerationForm::Local(of) => format!("local workloads {}", members(of)),
            AccelerationForm::Between(ones, others) => {
                format!("workloads {} <-> workloads {}", members(ones), members(others))
            }
        };
        page.line(0, format_args!("accelerate {form}"));
        acceleration.ports.iter().for_each(|item| page.line(1, ports(item)));
    }
    for test in &program.tests {
        page.line(0, format_args!("test {:?}", test.name));
        test.lines.iter().for_each(|line| page.line(1, test_line(program, line)));
    }
    page.text
}

fn write_rule(page: &mut Page, program: &Program, number: usize, rule: &Rule) {
    let ScopeId(scope) = rule.scope;
    let always = if rule.always { "always " } else { "" };
    page.line(0, format_args!("rule {number}: {always}{} {} in scope {scope}", rule.direction, rule.verdict));
    for item in &rule.ports {
        let source = rule_source(program, rule, item, &Who::EVERYBODY);
        page.line(1, format_args!("{} ({})", ports(item), source.head));
    }
    for address in &rule.addresses {
        page.line(1, address.prefix);
    }
    for item in &rule.who {
        let node =
            if item.who.node { format!("{} {NODE}", rule.direction.preposition()) } else { String::new() };
        let who = if item.who.is_every_process() { String::new() } else { format!("as {}", item.who) };
        let between = if node.is_empty() || who.is_empty() { "" } else { " " };
        page.line(1, format_args!("{node}{between}{who}"));
    }
}

fn ports(item: &PortItem) -> String {
    let mut text = item.protocol.to_string();
    write_ports(&mut text, &item.ports);
    text
}

fn workload_name(program: &Program, id: WorkloadId) -> String {
    let workload = program.workloads.get(id.index());
    let mesh = workload.and_then(|workload| program.meshes.get(workload.mesh.index()));
    match (mesh, workload) {
        (Some(mesh), Some(workload)) => format!("{}/{}", mesh.name, workload.name),
        _ => String::new(),
    }
}

fn scope_name(scope: &Scope) -> String {
    let level = match scope.level {
        Level::Top => return "top level".to_owned(),
        Level::Mesh => "mesh",
        Level::For => "for",
        Level::Workload => "workload",
    };
    format!("{level} {}", scope.name)
}

fn members(ids: &[WorkloadId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

fn test_line(program: &Program, line: &TestLine) -> String {
    let TestLine { workload, direction, peer, protocol, port, identity, expected, .. } = line;
    let peer = match peer {
        Peer::Address(address) => address.to_string(),
        Peer::Service(id) => program.services.get(id.index()).map_or_else(String::new, Service::label),
        Peer::Workload(id) => format!("workload {}", id.0),
        Peer::Node => NODE.to_owned(),
    };
    let expected = match expected {
        Expected::Redirected(None) => "redirected".to_owned(),
        Expected::Redirected(Some(port)) => format!("redirected {port}"),
        Expected::Excluded => "excluded".to_owned(),
        Expected::Denied => "denied".to_owned(),
        Expected::Accelerated(true) => "accelerated".to_owned(),
        Expected::Accelerated(false) => "not accelerated".to_owned(),
    };
    let preposition = direction.preposition();
    format!(
        "workload {} {direction} {protocol} {port} {preposition} {peer}{} is {expected}",
        workload.0,
        identity.clause()
    )
}
