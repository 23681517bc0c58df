//! What is not said: warnings that a comment allows, and those about files that are there for others to import.

use crate::diag::{Code, Diagnostic, Severity, sort};
use crate::resolve::Resolution;
use crate::source::Span;

/// Removes the warnings that `# meshc: allow(…)` comments silence, and `unused` and `no-effect` in files
/// that are there for others: what has no use here may have one elsewhere. Sorts the rest by place.
///
/// To be called once, with the diagnostics of all passes. `complete` says that all passes ran: only then
/// is a comment that silences nothing a mistake.
#[must_use]
pub fn silence(resolution: &Resolution, diagnostics: Vec<Diagnostic>, complete: bool) -> Vec<Diagnostic> {
    let mut used: Vec<Vec<bool>> =
        resolution.allows.iter().map(|allow| vec![false; allow.codes.len()]).collect();
    let mut kept: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len());
    for diagnostic in diagnostics {
        let span = diagnostic.span().filter(|_| diagnostic.severity != Severity::Error);
        let allowed = span.is_some_and(|span| allow(resolution, &mut used, diagnostic.code, span));
        let elsewhere = matches!(diagnostic.code, Code::Unused | Code::NoEffect)
            && span.is_some_and(|span| resolution.for_others.contains(&span.file));
        if !allowed && !elsewhere {
            kept.push(diagnostic);
        }
    }
    if complete {
        kept.extend(idle(resolution, &used));
    }
    sort(&mut kept);
    kept
}

/// Whether a comment allows this; all that do are noted.
fn allow(resolution: &Resolution, used: &mut [Vec<bool>], code: Code, span: Span) -> bool {
    let mut allowed = false;
    for (allow, used) in resolution.allows.iter().zip(used) {
        if !allow.scope.is_some_and(|scope| scope.covers(span)) {
            continue;
        }
        for (item, used) in allow.codes.iter().zip(used) {
            if item.value == code {
                *used = true;
                allowed = true;
            }
        }
    }
    allowed
}

fn idle(resolution: &Resolution, used: &[Vec<bool>]) -> Vec<Diagnostic> {
    let here = |span: Span| !resolution.for_others.contains(&span.file);
    let codes =
        resolution.allows.iter().zip(used).flat_map(|(allow, used)| {
            allow.codes.iter().zip(used).map(move |(item, used)| (allow, item, used))
        });
    codes
        .filter(|(allow, _, used)| !**used && here(allow.span))
        .map(|(allow, item, _)| {
            let help = match allow.scope {
                Some(_) => "remove it",
                None => "it must stand alone on the line above a statement",
            };
            Diagnostic::new(Code::Unused, format!("`allow({})` silences nothing", item.value))
                .label(item.span, "no such warning below")
                .help(help)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[test]
    fn a_comment_silences_the_statement_below_and_its_block() {
        expect("# meshc: allow(unused)\nset s = 1.1.1.1\nmesh m { workload a { any } }", &[]);
        expect(
            "# meshc: allow(unused, wide-exempt)\nmesh m {\n set s = 1.1.1.1\n exempt uid 0\n workload a { any }\n}",
            &[],
        );
    }

    #[test]
    fn it_silences_nothing_else() {
        expect(
            "# meshc: allow(unused)\nset s = 1.1.1.1\nset t = 1.1.1.1\nmesh m { workload a { any } }",
            &[("unused", "the set `t` is not used", &["t"])],
        );
    }

    #[test]
    fn a_comment_that_silences_nothing_is_a_warning() {
        expect(
            "# meshc: allow(wide-exempt)\nexempt uid 1500\nmesh m { workload a { any } } # meshc: allow(unused)",
            &[
                ("unused", "`allow(wide-exempt)` silences nothing", &["wide-exempt"]),
                ("unused", "`allow(unused)` silences nothing", &["unused"]),
            ],
        );
    }

    #[test]
    fn no_such_warning_while_errors_hide_others() {
        expect(
            "# meshc: allow(leak)\ndeny outbound\ndeny outbound to s\nmesh m { workload a { any } }",
            &[("unknown-name", "nothing is named `s`", &["s"])],
        );
    }
}
