//! `empty-workload`: a workload that can select no endpoint.

use mesh_bpf::selector::{Selector, Subject};

use super::conditions::{Conditions, words};
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{Workload, WorkloadId};
use crate::resolve::Resolution;

pub(super) fn check(resolution: &Resolution, diagnostics: &mut Vec<Diagnostic>) {
    for (id, workload) in (0u32..).map(WorkloadId).zip(&resolution.program.workloads) {
        if resolution.lost.workloads.contains(&id) {
            continue;
        }
        if workload.selector_spans.is_empty() {
            diagnostics.push(
                Diagnostic::new(Code::EmptyWorkload, format!("workload {} has no selector", quote(&workload.name)))
                    .label(workload.span, "nobody is a member of it")
                    .help("say who is, such as `address 10.42.1.0/24`, `namespace shop` or `cgroup \"/system.slice/x.service\"`"),
            );
        } else if let Some(subject) = contradiction(&workload.selector) {
            diagnostics.push(contradicting(workload, &subject));
        }
    }
}

/// What no endpoint can be, if the selector asks for that.
pub(super) fn contradiction(selector: &Selector) -> Option<String> {
    let conditions = Conditions::of(&[selector]);
    if let Some(subject) = conditions.contradiction() {
        return Some(words(subject));
    }
    let host_only = !selector.cgroups.is_empty() && selector.addresses.is_empty();
    let of_pods = |subject: &Subject| !matches!(subject, Subject::Label(_));
    let asked =
        selector.conditions.iter().find(|condition| !condition.negated && of_pods(&condition.subject));
    asked.filter(|_| host_only).map(|condition| format!("`cgroup` and {}", words(&condition.subject)))
}

fn contradicting(workload: &Workload, subject: &str) -> Diagnostic {
    let name = quote(&workload.name);
    let message =
        format!("no endpoint can be in workload {name}: its lines about {subject} contradict each other");
    let diagnostic =
        Diagnostic::new(Code::EmptyWorkload, message).label(workload.span, "nobody is a member of it");
    (workload.selector_spans.iter())
        .fold(diagnostic, |diagnostic, span| diagnostic.also(*span, "must hold"))
        .help("values with commas between them are alternatives; several lines must all hold")
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[track_caller]
    fn check(selectors: &str, subject: &str) {
        let text = format!("mesh m {{ workload a {{ {selectors} }} }}");
        let lines: Vec<&str> = std::iter::once("a").chain(selectors.split("; ")).collect();
        let message =
            format!("no endpoint can be in workload `a`: its lines about {subject} contradict each other");
        expect(&text, &[("empty-workload", &message, &lines)]);
    }

    #[test]
    fn a_workload_needs_a_selector() {
        expect("mesh m { workload a { } }", &[("empty-workload", "workload `a` has no selector", &["a"])]);
    }

    #[test]
    fn a_selector_that_could_not_be_read_is_not_missed() {
        expect(
            "mesh m { workload a { address 10.0.0.1/8 } }",
            &[("bad-address", "`10.0.0.1/8` has bits set beyond its prefix", &["10.0.0.1/8"])],
        );
    }

    #[test]
    fn lines_that_cannot_hold_together_are_found() {
        check("namespace a; namespace b", "`namespace`");
        check("label k = v; not label k", "`label k`");
        check("label k = v, w; not label k = v, w", "`label k`");
        check("label k; not label k", "`label k`");
        check("cgroup \"/a\"; namespace b", "`cgroup` and `namespace`");
    }

    #[test]
    fn lines_that_can_hold_together_are_not() {
        for selectors in
            ["namespace a, b; namespace b, c", "label k; not label k = v", "not label k; not label k = v"]
        {
            expect(&format!("mesh m {{ workload a {{ {selectors} }} }}"), &[]);
        }
    }
}
