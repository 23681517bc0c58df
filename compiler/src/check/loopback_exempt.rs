//! `no-effect` of an exemption that covers nothing: loopback leads to no other network.

use mesh_bpf::selector::LOOPBACK;

use crate::diag::{Code, Diagnostic};
use crate::hir::{Exempted, Program};

pub(super) fn check(program: &Program, diagnostics: &mut Vec<Diagnostic>) {
    let of_loopback = program.exempts.iter().filter(|exempt| match &exempt.who {
        Exempted::Interface(pattern) => pattern == LOOPBACK,
        Exempted::Uid(_) | Exempted::Gid(_) | Exempted::Cgroup(_) => false,
    });
    diagnostics.extend(of_loopback.map(|exempt| {
        Diagnostic::new(Code::NoEffect, "an exemption of loopback leaves nothing alone")
            .label(exempt.span, "no other network is behind it")
            .help("remove it: only rules whose own addresses are loopback's decide what stays in a member")
    }));
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    #[test]
    fn loopback_is_no_interface_to_leave_alone() {
        let mesh = "\nmesh m { workload a { any } }";
        expect(
            &format!("exempt interface \"lo\", \"lo0\", \"l*\"{mesh}"),
            &[("no-effect", "an exemption of loopback leaves nothing alone", &["\"lo\""])],
        );
    }
}
