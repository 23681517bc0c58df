//! `unsupported`: what the language can say and the kernel cannot do.

use mesh_bpf::flow::{Direction, Protocol, Verdict};

use crate::diag::{Code, Diagnostic};
use crate::hir::{PortItem, Program, Rule};

pub(super) fn check(program: &Program, diagnostics: &mut Vec<Diagnostic>) {
    for rule in &program.rules {
        let Verdict::Redirected { transparent, .. } = rule.verdict else { continue };
        let Some(udp) = rule.ports.iter().find(|item| item.protocol == Protocol::Udp) else { continue };
        if rule.direction == Direction::Inbound {
            diagnostics.push(inbound_udp(rule, udp));
        } else if transparent {
            diagnostics.push(transparent_udp(rule, udp));
        }
    }
}

/// Datagrams would arrive at the sidecar, but its answers would leave from the sidecar's own port.
fn inbound_udp(rule: &Rule, udp: &PortItem) -> Diagnostic {
    at(rule, udp, "inbound udp cannot be redirected")
        .help("redirect only `tcp` inbound; udp reaches the application itself: `exclude inbound udp`")
}

fn transparent_udp(rule: &Rule, udp: &PortItem) -> Diagnostic {
    at(rule, udp, "`transparent` is for tcp")
        .help("leave `transparent` out for udp: a rule of its own for each protocol")
}

fn at(rule: &Rule, udp: &PortItem, message: &str) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::Unsupported, message).label(udp.span, "stands for udp");
    if rule.span.covers(udp.span) { diagnostic } else { diagnostic.also(rule.span, "in this rule") }
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::expect;

    const MESH: &str = "\nexempt uid 1500\nmesh m { workload a { any } }";

    #[test]
    fn inbound_udp_is_not_redirected() {
        expect(
            &format!("redirect inbound udp 53 -> 15053{MESH}"),
            &[("unsupported", "inbound udp cannot be redirected", &["53"])],
        );
        expect(
            &format!("redirect inbound any -> 15053{MESH}"),
            &[("unsupported", "inbound udp cannot be redirected", &["any"])],
        );
    }

    #[test]
    fn udp_from_a_set_underlines_the_rule_too() {
        expect(
            &format!("set dns = tcp 53, udp 53\nredirect inbound dns -> 15053{MESH}"),
            &[("unsupported", "inbound udp cannot be redirected", &["53", "redirect inbound dns -> 15053"])],
        );
    }

    #[test]
    fn transparent_is_for_tcp() {
        expect(
            &format!("redirect outbound udp 53 -> 15053 transparent{MESH}"),
            &[("unsupported", "`transparent` is for tcp", &["53"])],
        );
        expect(&format!("redirect outbound tcp 53 -> 15053 transparent{MESH}"), &[]);
    }
}
