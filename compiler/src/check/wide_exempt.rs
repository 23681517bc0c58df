//! `wide-exempt`: an exemption that covers more than a sidecar.

use crate::diag::{Code, Diagnostic};
use crate::hir::{Exempted, Program};
use crate::source::Span;

/// More ids than this in one range are more than the sidecars of one node need.
const WIDEST: u32 = 16;

pub(super) fn check(program: &Program, diagnostics: &mut Vec<Diagnostic>) {
    for exempt in &program.exempts {
        let (what, range) = match &exempt.who {
            Exempted::Uid(range) => ("uid", *range),
            Exempted::Gid(range) => ("gid", *range),
            Exempted::Interface(pattern) => {
                diagnostics.extend((pattern == "*").then(|| every_interface(exempt.span)));
                continue;
            }
            Exempted::Cgroup(_) => continue,
        };
        let root = what == "uid" && range.first == 0;
        let (message, label) = if range.last - range.first >= WIDEST {
            let count = u64::from(range.last - range.first) + 1;
            (format!("{count} {what}s are exempt"), "a wide range")
        } else if root {
            ("everything that runs as root is exempt".to_owned(), "uid 0")
        } else {
            continue;
        };
        diagnostics.push(
            Diagnostic::new(Code::WideExempt, message)
                .label(exempt.span, label)
                .help(format!("give the sidecar a {what} of its own, such as `exempt {what} 1500`")),
        );
    }
}

fn every_interface(span: Span) -> Diagnostic {
    Diagnostic::new(Code::WideExempt, "whatever goes by any interface is exempt")
        .label(span, "every interface but loopback")
        .help("name those that the mesh is to leave alone, such as `exempt interface \"net*\"`")
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    const MESH: &str = "\nmesh m { workload a { any } }";

    #[test]
    fn root_and_ranges_of_more_than_16_are_wide() {
        expect(
            &format!("exempt uid 0, 1-16, 1-17\nexempt gid 0, 5-500{MESH}"),
            &[
                ("wide-exempt", "everything that runs as root is exempt", &["0"]),
                ("wide-exempt", "17 uids are exempt", &["1-17"]),
                ("wide-exempt", "496 gids are exempt", &["5-500"]),
            ],
        );
        expect(
            &format!("exempt interface \"*\", \"e*\", \"eth0\"{MESH}"),
            &[("wide-exempt", "whatever goes by any interface is exempt", &["\"*\""])],
        );
    }
}
