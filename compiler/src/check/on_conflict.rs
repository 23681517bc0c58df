//! `conflict` between `on` statements: one scope, or two of which neither is narrower, that say different
//! things for one workload.

use std::collections::BTreeMap;

use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{Event, On, Program, Scope};

pub(super) fn check(program: &Program, diagnostics: &mut Vec<Diagnostic>) {
    let mut kinds: BTreeMap<(Event, bool), Vec<(&On, &Scope)>> = BTreeMap::new();
    for on in &program.ons {
        if let Some(scope) = program.scopes.get(on.scope.index()) {
            kinds.entry((on.event, on.refuse)).or_default().push((on, scope));
        }
    }
    for event in [Event::MissingSidecar, Event::FailedAttach] {
        let (Some(refusing), Some(others)) = (kinds.get(&(event, true)), kinds.get(&(event, false))) else {
            continue;
        };
        for &(on, scope) in others {
            let tie = refusing.iter().find_map(|&(other, wider)| Some((other, tied(scope, wider)?)));
            if let Some((other, workload)) = tie {
                diagnostics.push(conflict(program, event, on, other, workload));
            }
        }
    }
}

/// A workload for which neither scope is narrower.
fn tied(one: &Scope, other: &Scope) -> Option<usize> {
    let nested = one.covers(other) != other.covers(one);
    let common = one.members.iter().find(|member| other.members.binary_search(member).is_ok());
    if nested { None } else { common.map(|member| member.index()) }
}

fn conflict(program: &Program, event: Event, on: &On, other: &On, workload: usize) -> Diagnostic {
    let words = match event {
        Event::MissingSidecar => "on missing-sidecar",
        Event::FailedAttach => "on failed-attach",
    };
    let name = program.workloads.get(workload).map_or("", |workload| workload.name.as_str());
    let (second, first) = if on.span > other.span { (on, other) } else { (other, on) };
    Diagnostic::new(
        Code::Conflict,
        format!("two `{words}` say different things for workload {}", quote(name)),
    )
    .label(second.span, "this one")
    .label(first.span, "and this one, and neither is narrower")
    .help("keep one of them, or write one in the workload itself: the innermost decides")
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[test]
    fn one_scope_must_not_say_both() {
        expect(
            "on failed-attach start\non failed-attach refuse\nmesh m { workload a { any } }",
            &[(
                "conflict",
                "two `on failed-attach` say different things for workload `a`",
                &["on failed-attach refuse", "on failed-attach start"],
            )],
        );
    }

    #[test]
    fn the_innermost_decides() {
        expect(
            "on missing-sidecar pass\nmesh m { on missing-sidecar refuse\n workload a { any\n on missing-sidecar pass } }",
            &[],
        );
    }

    #[test]
    fn two_fors_tie_unless_one_lies_within_the_other() {
        let text = |left: &str, right: &str| {
            format!(
                "mesh m {{ workload a {{ address 1.1.1.1 }}\n workload b {{ address 1.1.1.2 }}\n workload c {{ address 1.1.1.3 }}\n for {left} {{ on missing-sidecar pass }}\n for {right} {{ on missing-sidecar refuse }}\n}}"
            )
        };
        expect(&text("a, b", "a"), &[]);
        expect(
            &text("a, b", "b, c"),
            &[(
                "conflict",
                "two `on missing-sidecar` say different things for workload `b`",
                &["on missing-sidecar refuse", "on missing-sidecar pass"],
            )],
        );
    }
}
