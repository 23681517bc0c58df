//! Flows of tests and of `explain`.

use mesh_bpf::flow::{Direction, Identity};

use super::collected::id;
use super::names::{Reach, Target};
use super::resolver::Resolver;
use crate::ast::{self, Endpoint};
use crate::diag::{Code, Diagnostic, all_of, did_you_mean, quote};
use crate::hir::{Expected, Peer, Program, Test, TestLine, WorkloadId};
use crate::source::Span;

/// A flow with its names resolved.
#[derive(Clone, Debug)]
pub struct ResolvedFlow {
    /// The workload whose decision is asked for.
    pub workload: WorkloadId,
    /// Which of its decisions.
    pub direction: Direction,
    /// The other end.
    pub peer: Peer,
    /// Who opens it, as far as `as` says.
    pub identity: Identity,
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

/// Resolves a flow that stands alone, such as that of `explain`. Names are workloads of `program`; where
/// two meshes have one of that name, `mesh` says which is meant.
///
/// # Errors
/// A name that is no workload, or of more than one mesh; a flow without a workload. Spans lie in the
/// text that the flow was read from.
pub fn resolve_flow(
    program: &Program,
    flow: &ast::Flow,
    mesh: Option<&str>,
) -> Result<ResolvedFlow, Diagnostic> {
    let end = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(address) => Ok(Peer::Address(address.value)),
        Endpoint::Name(name) => workload(program, name, mesh).map(Peer::Workload),
    };
    assemble(flow, end(&flow.from)?, end(&flow.to)?)
}

fn workload(program: &Program, name: &ast::Name, mesh: Option<&str>) -> Result<WorkloadId, Diagnostic> {
    let mesh_name = |workload: &crate::hir::Workload| {
        program.meshes.get(workload.mesh.index()).map_or("", |mesh| mesh.name.as_str())
    };
    let found: Vec<usize> = (program.workloads.iter().enumerate())
        .filter(|(_, workload)| workload.name == name.value)
        .filter(|(_, workload)| mesh.is_none_or(|mesh| mesh_name(workload) == mesh))
        .map(|(i, _)| i)
        .collect();
    match found.as_slice() {
        [only] => Ok(WorkloadId(id(*only))),
        [] => {
            let meant =
                did_you_mean(&name.value, program.workloads.iter().map(|workload| workload.name.as_str()));
            let help = meant.map_or_else(
                || "write a workload of the policy, or an address".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("no workload is named {}", quote(&name.value));
            Err(Diagnostic::new(Code::UnknownName, message).label(name.span, "not declared").help(help))
        }
        several => {
            let meshes =
                several.iter().filter_map(|&i| program.workloads.get(i)).map(|w| quote(mesh_name(w)));
            let meshes: Vec<String> = meshes.collect();
            let message = format!("more than one mesh has a workload {}", quote(&name.value));
            Err(Diagnostic::new(Code::DuplicateName, message)
                .label(name.span, "which one is not said")
                .help(format!("say of which mesh: {}", all_of(&meshes))))
        }
    }
}

/// Whose decision the flow asks for: the left one's, or on the right of an address, or after `inbound`, the
/// right one's.
fn assemble(flow: &ast::Flow, from: Peer, to: Peer) -> Result<ResolvedFlow, Diagnostic> {
    let identity = identity(flow);
    let (workload, direction, peer) = match (from, to, flow.inbound) {
        (Peer::Workload(workload), peer @ Peer::Address(_), None)
        | (Peer::Workload(workload), peer @ Peer::Workload(_), None) => (workload, Direction::Outbound, peer),
        (peer @ Peer::Address(_), Peer::Workload(workload), _)
        | (peer @ Peer::Workload(_), Peer::Workload(workload), Some(_)) => {
            (workload, Direction::Inbound, peer)
        }
        (Peer::Workload(_), Peer::Address(_), Some(inbound)) => {
            return Err(inbound_of_address(flow, inbound));
        }
        (Peer::Address(_), Peer::Address(_), _) => return Err(no_workload(flow)),
    };
    if let (Direction::Inbound, Some(first)) = (direction, flow.identity.first()) {
        return Err(identity_of_inbound(first.span));
    }
    Ok(ResolvedFlow { workload, direction, peer, identity })
}

fn identity(flow: &ast::Flow) -> Identity {
    let mut identity = Identity::default();
    for item in &flow.identity {
        match &item.value {
            ast::Identity::Uid(range) => identity.uid = Some(range.first),
            ast::Identity::Gid(range) => identity.gid = Some(range.first),
            ast::Identity::Cgroup(path) => identity.cgroup = Some(path.clone()),
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

fn inbound_of_address(flow: &ast::Flow, inbound: Span) -> Diagnostic {
    let to = if let Endpoint::Address(address) = &flow.to { address.span } else { flow.span };
    Diagnostic::new(Code::WrongKind, "`inbound` asks for the decision of a workload on the right")
        .label(to, "an address decides nothing")
        .also(inbound, "asks for it")
        .help("leave `inbound` out, or put the workload on the right")
}

fn no_workload(flow: &ast::Flow) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "neither end of the flow is a workload")
        .label(flow.span, "nobody's decision")
        .help("write a workload at one end: on the left for what it opens, on the right for what it receives")
}

fn identity_of_inbound(span: Span) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "`as` does not go with an inbound flow")
        .label(span, "nobody of this workload opens the flow")
        .help("leave it out: exemptions are for what a workload opens")
}
