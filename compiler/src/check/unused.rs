//! `unused`: a set or a group that nothing names.

use super::library::HELP as LIBRARY;
use crate::diag::{Code, Diagnostic, quote};
use crate::resolve::Resolution;

pub(super) fn check(resolution: &Resolution, diagnostics: &mut Vec<Diagnostic>) {
    // A file that is missing may hold the use.
    if resolution.lost.file {
        return;
    }
    for unused in &resolution.unused {
        let message = format!("the {} {} is not used", unused.what, quote(&unused.name));
        diagnostics.push(
            Diagnostic::new(Code::Unused, message)
                .label(unused.span, "nothing names it")
                .help(format!("remove it, or name it where it was meant to be used{LIBRARY}")),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[test]
    fn sets_and_groups_that_nothing_names_are_unused() {
        expect(
            "set s = 1.1.1.1\nmesh m { workload a { any }\n group g = a }",
            &[("unused", "the set `s` is not used", &["s"]), ("unused", "the group `g` is not used", &["g"])],
        );
    }

    #[test]
    fn a_use_in_a_statement_that_could_not_be_read_counts() {
        expect(
            "set s = 1.1.1.1\ndeny outbound to s tcp\nmesh m { workload a { any } }",
            &[("syntax", "expected `,`, `->`, `as` or the end of the statement, found `tcp`", &["tcp"])],
        );
    }
}
