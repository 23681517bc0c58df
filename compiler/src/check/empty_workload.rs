//! `empty-workload`: a workload that can select no endpoint.

use mesh_bpf::selector::{Selector, Subject};

use super::conditions::{Conditions, words};
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{Workload, WorkloadId};
use crate::resolve::{Places, Resolution};

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
        } else if let Some(contradiction) = contradiction(&workload.selector) {
            let places = resolution.places.get(&id);
            diagnostics.push(contradicting(workload, contradiction, places));
        }
    }
}

/// What a selector asks and no endpoint can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction<'p> {
    /// Too much of one subject.
    Of(&'p Subject),
    /// A process of the host that is also a pod.
    HostAnd(&'p Subject),
}

/// What no endpoint can be, if the selector asks for that.
pub(super) fn contradiction(selector: &Selector) -> Option<Contradiction<'_>> {
    if let Some(subject) = Conditions::of(&[selector]).contradiction() {
        return Some(Contradiction::Of(subject));
    }
    let host_only = !selector.cgroups.is_empty() && selector.addresses.is_empty();
    let of_pods = |subject: &Subject| !matches!(subject, Subject::Label(_));
    let asked =
        selector.conditions.iter().find(|condition| !condition.negated && of_pods(&condition.subject));
    asked.filter(|_| host_only).map(|condition| Contradiction::HostAnd(&condition.subject))
}

fn contradicting(workload: &Workload, found: Contradiction<'_>, places: Option<&Places>) -> Diagnostic {
    let (subject, what, host) = match found {
        Contradiction::Of(subject) => (subject, words(subject), false),
        Contradiction::HostAnd(subject) => (subject, format!("`cgroup` and {}", words(subject)), true),
    };
    let name = quote(&workload.name);
    let message =
        format!("no endpoint can be in workload {name}: its lines about {what} contradict each other");
    let cgroups = places.iter().flat_map(|places| &places.cgroups).filter(|_| host).map(|(_, span)| *span);
    let conditions = places.iter().flat_map(|places| &places.conditions);
    let lines = conditions.filter(|(asked, _)| asked.subject == *subject).map(|(_, span)| *span);
    let diagnostic =
        cgroups.chain(lines).fold(Diagnostic::new(Code::EmptyWorkload, message), |diagnostic, span| {
            diagnostic.label(span, "must hold")
        });
    diagnostic
        .also(workload.span, "nobody is a member of it")
        .help("values with commas between them are alternatives; several lines must all hold")
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[track_caller]
    fn check(selectors: &str, subject: &str, lines: &[&str]) {
        let text = format!("mesh m {{ workload a {{ {selectors} }} }}");
        let lines: Vec<&str> = lines.iter().copied().chain(["a"]).collect();
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
        check("namespace a; label x; namespace b", "`namespace`", &["namespace a", "namespace b"]);
        check("label k = v; not label k", "`label k`", &["label k = v", "not label k"]);
        check("label k = v, w; not label k = v, w", "`label k`", &["label k = v, w", "not label k = v, w"]);
        check("label k; not label k", "`label k`", &["label k", "not label k"]);
        check("cgroup \"/a\"; namespace b", "`cgroup` and `namespace`", &["\"/a\"", "namespace b"]);
        let of_namespace = ["namespace-label k = v", "not namespace-label k"];
        check("namespace-label k = v; label k; not namespace-label k", "`namespace-label k`", &of_namespace);
        let of_host = ["\"/a\"", "namespace-label k"];
        check("cgroup \"/a\"; namespace-label k", "`cgroup` and `namespace-label k`", &of_host);
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
