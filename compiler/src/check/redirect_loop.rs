//! `redirect-loop`: an outbound redirect that would catch the sidecar's own connections, since nothing
//! exempts them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Verdict};

use crate::diag::{Code, Diagnostic};
use crate::hir::{Exempted, MeshId, Program, Rule, Scope, WorkloadId};
use crate::resolve::Resolution;

/// How many places of each kind one diagnostic underlines.
const SHOWN: usize = 8;

pub(super) fn check(resolution: &Resolution, diagnostics: &mut Vec<Diagnostic>) {
    // An exemption that could not be read would be missed here.
    if resolution.lost.exempt || resolution.lost.file {
        return;
    }
    let program = &resolution.program;
    let caught = caught(program);
    if caught.is_empty() {
        return;
    }
    // Meshes whose workloads are caught by the same rules are one mistake.
    let mut mistakes: BTreeMap<Vec<usize>, Vec<WorkloadId>> = BTreeMap::new();
    for (mesh, workloads) in by_mesh(program, &caught) {
        let rules: Vec<usize> = (redirects(program)
            .filter(|(_, rule)| reaches(program, rule, mesh, &workloads)))
        .map(|(i, _)| i)
        .collect();
        if !rules.is_empty() {
            mistakes.entry(rules).or_default().extend(workloads);
        }
    }
    diagnostics.extend(mistakes.iter().map(|(rules, workloads)| looping(program, rules, workloads)));
}

/// Workloads that nothing exempts anybody in.
fn caught(program: &Program) -> Vec<WorkloadId> {
    // A sidecar is known by its process: where its connections go to it shares with whom it serves.
    let of_processes = program.exempts.iter().filter(|exempt| !matches!(exempt.who, Exempted::Interface(_)));
    let scopes: BTreeSet<usize> = of_processes.map(|exempt| exempt.scope.index()).collect();
    let members =
        scopes.iter().filter_map(|&scope| program.scopes.get(scope)).flat_map(|scope| &scope.members);
    let exempt: BTreeSet<WorkloadId> = members.copied().collect();
    let all = (0u32..).zip(&program.workloads).map(|(id, _)| WorkloadId(id));
    all.filter(|id| !exempt.contains(id)).collect()
}

fn by_mesh(program: &Program, workloads: &[WorkloadId]) -> BTreeMap<MeshId, Vec<WorkloadId>> {
    let mut meshes: BTreeMap<MeshId, Vec<WorkloadId>> = BTreeMap::new();
    for &id in workloads {
        if let Some(workload) = program.workloads.get(id.index()) {
            meshes.entry(workload.mesh).or_default().push(id);
        }
    }
    meshes
}

fn redirects(program: &Program) -> impl Iterator<Item = (usize, &Rule)> {
    program.rules.iter().enumerate().filter(|(_, rule)| {
        // A sidecar is not among the processes that a rule names, unless it says so.
        let everybodys = rule.who.is_empty() && rule.direction == Direction::Outbound;
        everybodys && matches!(rule.verdict, Verdict::Redirected { .. })
    })
}

fn reaches(program: &Program, rule: &Rule, _mesh: MeshId, workloads: &[WorkloadId]) -> bool {
    let Some(Scope { members, .. }) = program.scopes.get(rule.scope.index()) else { return false };
    workloads.iter().any(|workload| members.binary_search(workload).is_ok())
}

fn looping(program: &Program, rules: &[usize], workloads: &[WorkloadId]) -> Diagnostic {
    let spans = rules.iter().filter_map(|&rule| program.rules.get(rule)).map(|rule| rule.span);
    let names =
        workloads.iter().filter_map(|id| program.workloads.get(id.index())).map(|workload| workload.span);
    let diagnostic =
        Diagnostic::new(Code::RedirectLoop, "the sidecar's own connections would be redirected to it");
    let diagnostic = spans
        .take(SHOWN)
        .fold(diagnostic, |diagnostic, span| diagnostic.label(span, "catches the sidecar too"));
    (names.take(SHOWN))
        .fold(diagnostic, |diagnostic, span| diagnostic.also(span, "nothing exempts a sidecar here"))
        .help("say who the sidecar is, such as `exempt uid 1500`")
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    const LOOP: &str = "the sidecar's own connections would be redirected to it";

    #[test]
    fn an_outbound_redirect_needs_an_exemption() {
        expect(
            "redirect outbound -> 15001\nmesh m { workload a { any } }",
            &[("redirect-loop", LOOP, &["redirect outbound -> 15001", "a"])],
        );
        expect("redirect inbound -> 15003\nmesh m { workload a { any } }", &[]);
    }

    #[test]
    fn an_exemption_counts_where_it_holds() {
        for exempt in ["exempt uid 1500", "exempt gid 7", "exempt cgroup \"/sidecar\""] {
            expect(&format!("redirect outbound -> 15001\n{exempt}\nmesh m {{ workload a {{ any }} }}"), &[]);
            expect(&format!("redirect outbound -> 15001\nmesh m {{ workload a {{ any\n {exempt} }} }}"), &[]);
        }
        expect(
            "redirect outbound -> 15001\nmesh m { workload a { any\n exempt uid 1500 }\n workload b { address 1.1.1.1 } }",
            &[("redirect-loop", LOOP, &["redirect outbound -> 15001", "b"])],
        );
    }

    #[test]
    fn an_exempt_interface_exempts_no_sidecar() {
        expect(
            "redirect outbound -> 15001\nexempt interface \"net1\"\nmesh m { workload a { any } }",
            &[("redirect-loop", LOOP, &["redirect outbound -> 15001", "a"])],
        );
    }

    #[test]
    fn many_redirects_without_an_exemption_are_one_mistake() {
        expect(
            "redirect outbound -> 1\nredirect outbound tcp 80 -> 2\nmesh m { workload a { any } }\nmesh n { workload b { address 1.1.1.1 } }",
            &[(
                "redirect-loop",
                LOOP,
                &["redirect outbound -> 1", "redirect outbound tcp 80 -> 2", "a", "b"],
            )],
        );
    }

    #[test]
    fn an_exemption_that_could_not_be_read_is_not_missed() {
        expect(
            "redirect outbound -> 15001\nexempt uid 99999999999\nmesh m { workload a { any } }",
            &[("bad-id", "`99999999999` is over 32 bits", &["99999999999"])],
        );
        expect(
            "redirect outbound -> 15001\nexmept uid 1500\nmesh m { workload a { any } }",
            &[("syntax", "`exmept` does not begin a statement", &["exmept"])],
        );
    }
}
