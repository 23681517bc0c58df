//! Flows of tests.

use mesh_bpf::flow::{Direction, Identity};

use super::names::{Reach, Target};
use super::resolver::Resolver;
use super::services;
use crate::ast::{self, Endpoint, Spanned};
use crate::diag::{Code, Diagnostic, all_of, quote};
use crate::hir::{Expected, Peer, Test, TestLine, WorkloadId};
use crate::source::Span;

/// A flow with its names resolved.
struct ResolvedFlow {
    workload: WorkloadId,
    direction: Direction,
    peer: Peer,
    identity: Identity,
}

impl<'a> Resolver<'a, '_> {
    /// One `test` block of a mesh.
    pub(super) fn test(&mut self, mesh: usize, test: &'a ast::Test) {
        let lines: Vec<TestLine> = test.lines.iter().filter_map(|line| self.test_line(mesh, line)).collect();
        let (Some(mesh), Some(name)) = (self.collected.mesh_id(mesh), &test.name) else { return };
        self.program.tests.push(Test { mesh, name: name.value.clone(), lines, span: name.span });
    }

    fn test_line(&mut self, mesh: usize, line: &'a ast::Expect) -> Option<TestLine> {
        let (from, to) = (self.end(mesh, &line.flow.from), self.end(mesh, &line.flow.to));
        let flow = match assemble(&line.flow, from?, to?) {
            Ok(flow) => flow,
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                return None;
            }
        };
        Some(TestLine {
            workload: flow.workload,
            direction: flow.direction,
            peer: flow.peer,
            protocol: line.flow.protocol,
            port: line.flow.port,
            identity: flow.identity,
            expected: expected(line.expected.value),
            span: line.flow.span,
            expected_span: line.expected.span,
        })
    }

    fn end(&mut self, mesh: usize, endpoint: &'a Endpoint) -> Option<Peer> {
        let name = match endpoint {
            Endpoint::Address(address) => return Some(Peer::Address(address.value)),
            Endpoint::Service(name) => {
                return services::find(&self.program.services, &name.value).map(Peer::Service);
            }
            Endpoint::Node(_) => return Some(Peer::Node),
            Endpoint::Name(name) => name,
        };
        match self.names.find(Some(mesh), name, Reach::Everywhere)? {
            (Target::Workload(workload), _) => self.groups.workload(workload).map(Peer::Workload),
            (target, declared) => {
                let diagnostic = self.not_a_workload(name, target).also(declared, "declared here");
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn not_a_workload(&self, name: &ast::Name, target: Target) -> Diagnostic {
        let names: Vec<String> = (self.groups.members(target).iter())
            .filter_map(|id| self.program.workloads.get(id.index()))
            .map(|workload| quote(&workload.name))
            .collect();
        let help = match (target, names.is_empty()) {
            (Target::Group(_), false) => {
                format!("write a line for each of its workloads: {}", all_of(&names))
            }
            _ => "write a workload, or one address".to_owned(),
        };
        let message =
            format!("{} is {}, and a workload or an address belongs here", quote(&name.value), target.kind());
        Diagnostic::new(Code::WrongKind, message).label(name.span, target.kind()).help(help)
    }
}

/// Whose decision the flow asks for: the left one's, or on the right of an address, or after `inbound`, the
/// right one's.
fn assemble(flow: &ast::Flow, from: Peer, to: Peer) -> Result<ResolvedFlow, Diagnostic> {
    let node = [&from, &to].contains(&&Peer::Node);
    let identity = Identity { node, ..identity(&flow.identity) };
    let (workload, direction, peer) = match (from, to, flow.inbound) {
        (Peer::Workload(workload), peer, None) => (workload, Direction::Outbound, peer),
        (peer @ Peer::Workload(_), Peer::Workload(workload), Some(_))
        | (peer @ (Peer::Address(_) | Peer::Service(_) | Peer::Node), Peer::Workload(workload), _) => {
            (workload, Direction::Inbound, peer)
        }
        (Peer::Workload(_), Peer::Address(_) | Peer::Service(_) | Peer::Node, Some(inbound)) => {
            return Err(inbound_of_address(flow.to.span(), inbound));
        }
        (
            Peer::Address(_) | Peer::Service(_) | Peer::Node,
            Peer::Address(_) | Peer::Service(_) | Peer::Node,
            _,
        ) => {
            return Err(no_workload(flow.span));
        }
    };
    if direction == Direction::Inbound {
        only_an_interface(&flow.identity)?;
    }
    Ok(ResolvedFlow { workload, direction, peer, identity })
}

pub(crate) fn identity(written: &[Spanned<ast::Identity>]) -> Identity {
    let mut identity = Identity::default();
    for item in written {
        match &item.value {
            ast::Identity::Uid(range) => identity.uid = Some(range.first),
            ast::Identity::Gid(range) => identity.gid = Some(range.first),
            ast::Identity::Cgroup(path) => identity.cgroup = Some(path.clone()),
            ast::Identity::Interface(name) => identity.interface = Some(name.clone()),
        }
    }
    identity
}

const fn expected(expected: ast::Expected) -> Expected {
    match expected {
        ast::Expected::Redirected(port) => Expected::Redirected(port),
        ast::Expected::Excluded => Expected::Excluded,
        ast::Expected::Denied => Expected::Denied,
        ast::Expected::Accelerated(yes) => Expected::Accelerated(yes),
    }
}

pub(crate) fn inbound_of_address(to: Span, inbound: Span) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "`inbound` asks for the decision of a workload on the right")
        .label(to, "an address decides nothing")
        .also(inbound, "asks for it")
        .help("leave `inbound` out, or put the workload on the right")
}

pub(crate) fn no_workload(flow: Span) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "neither end of the flow is a workload")
        .label(flow, "nobody's decision")
        .help("write a workload at one end: on the left for what it opens, on the right for what it receives")
}

/// What a member receives comes in by an interface, and is opened by nobody of it.
pub(crate) fn only_an_interface(written: &[Spanned<ast::Identity>]) -> Result<(), Diagnostic> {
    let is_interface = |one: &&Spanned<ast::Identity>| matches!(one.value, ast::Identity::Interface(_));
    match written.iter().find(|one| !is_interface(one)) {
        None => Ok(()),
        Some(one) => Err(identity_of_inbound(one.span)),
    }
}

fn identity_of_inbound(span: Span) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "`as` does not go with an inbound flow")
        .label(span, "nobody of this workload opens the flow")
        .help("leave it out: exempt processes are those that open connections of a workload")
}
