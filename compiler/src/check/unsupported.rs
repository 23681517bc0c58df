//! `unsupported`: what the language can say and the kernel cannot do.

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::prefix::{Apart, Prefix, mask128};

use crate::diag::{Code, Diagnostic};
use crate::hir::{AddressItem, PortItem, Program, Rule};
use crate::source::Span;

pub(super) fn check(program: &Program, diagnostics: &mut Vec<Diagnostic>) {
    for rule in &program.rules {
        let Verdict::Redirected { transparent, .. } = rule.verdict else { continue };
        let on_a_link = rule.addresses.iter().find(|item| needs_link(item.prefix));
        if let Some(item) = on_a_link.filter(|_| rule.direction == Direction::Outbound) {
            diagnostics.push(link_local(rule, item));
        }
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

/// The kernel does not tell programs which link was meant. Neither the application nor the sidecar could be told,
/// and a datagram that names its link leaves by that, wherever it is sent to.
fn link_local(rule: &Rule, item: &AddressItem) -> Diagnostic {
    let message = format!("`{}` names addresses of one link, which cannot be redirected", item.prefix);
    let help = if item.prefix.apart() == Some(Apart::LinkLocal) {
        "leave it out: link-local addresses go straight, and `deny` keeps members from them"
    } else {
        "name groups of a wider scope, such as `ff05::/16`: those of one link (`ff02::/16`) go straight"
    };
    under(rule, item.span, "names one link", &message).help(help)
}

/// Whether an address in it, which rules reach by it, means something on one link or one host only.
fn needs_link(prefix: Prefix) -> bool {
    match (prefix.apart(), prefix) {
        (Some(Apart::LinkLocal), _) => true,
        (Some(Apart::Multicast), Prefix::V6 { bits, len }) => {
            let second = |bits: u128| (bits >> 112) as u8;
            let last = second(bits | !mask128(len));
            (second(bits)..=last).any(|flags_and_scope| matches!(flags_and_scope & 15, 1 | 2))
        }
        _ => false,
    }
}

fn at(rule: &Rule, udp: &PortItem, message: &str) -> Diagnostic {
    under(rule, udp.span, "stands for udp", message)
}

fn under(rule: &Rule, span: Span, label: &str, message: &str) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::Unsupported, message).label(span, label);
    if rule.span.covers(span) { diagnostic } else { diagnostic.also(rule.span, "in this rule") }
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
    fn addresses_of_one_link_are_not_redirected() {
        for prefix in ["fe80::/10", "fe80::1", "ff02::fb", "ff02::/16", "ff12::/16", "ff01::1", "ff00::/8"] {
            let message = format!("`{prefix}` names addresses of one link, which cannot be redirected");
            for ports in ["", " tcp 80", " udp 53"] {
                expect(
                    &format!("redirect outbound{ports} to 10.0.0.0/8, {prefix} -> 15001{MESH}"),
                    &[("unsupported", &message, &[prefix])],
                );
            }
            expect(&format!("set links = {prefix}\ndeny outbound to links{MESH}"), &[]);
            expect(&format!("redirect inbound tcp from {prefix} -> 15003{MESH}"), &[]);
        }
        for prefix in
            ["224.0.0.0/4", "255.255.255.255", "ff05::/16", "ff0e::/16", "ff08::/13", "169.254.0.0/16"]
        {
            expect(&format!("redirect outbound udp to {prefix} -> 15001{MESH}"), &[]);
        }
        // None of these reaches what is apart.
        for prefix in ["::/0", "fe00::/7", "fec0::/10"] {
            expect(&format!("redirect outbound udp to {prefix} -> 15001{MESH}"), &[]);
        }
    }

    #[test]
    fn an_address_of_a_set_underlines_the_rule_too() {
        expect(
            &format!("set links = fe80::/10\nredirect outbound tcp to links -> 15001{MESH}"),
            &[(
                "unsupported",
                "`fe80::/10` names addresses of one link, which cannot be redirected",
                &["fe80::/10", "redirect outbound tcp to links -> 15001"],
            )],
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
