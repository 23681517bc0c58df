//! Why an item that matches does not decide.

use mesh_bpf::flow::{Flow, Identity, Verdict};
use mesh_bpf::prefix::Prefix;

use super::{Beaten, cause, reason};
use crate::eval::{self, Decider, Evaluation, Item};
use crate::hir::item::{BuiltIn, write_ports};
use crate::hir::{Level, PortItem, Ports, Program, Rule, Who, WorkloadId};

/// Why an item lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Who asks is exempt, and no rule reaches who is.
    Exempt,
    /// What beat it has `always`, and it has not.
    Always,
    /// What beat it is narrower.
    Narrower(Vec<Narrower>),
    /// Neither is narrower, and the other verdict is stronger.
    Stronger {
        /// The verdict that decides.
        verdict: Verdict,
        /// That of the item.
        than: Verdict,
    },
    /// The language keeps it out.
    BuiltIn(BuiltIn),
}

/// In what one box is narrower than another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Narrower {
    /// What is compared.
    pub respect: Respect,
    /// That of the narrower one: `tcp 3306`, `10.0.3.0/24`, `workload shop/cart`.
    pub inner: String,
    /// That of the other one: `tcp`, `all addresses`, `mesh shop`.
    pub outer: String,
}

/// What boxes are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Respect {
    /// Their ports.
    Ports,
    /// Their addresses.
    Addresses,
    /// Where they are written.
    Scope,
    /// Whose sockets they are about.
    Processes,
}

impl Respect {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Addresses => "addresses",
            Self::Scope => "scope",
            Self::Processes => "processes",
        }
    }
}

/// The items that match a flow and do not decide it.
pub(super) fn beaten(
    program: &Program,
    workload: WorkloadId,
    flow: &Flow,
    evaluation: &Evaluation,
) -> Vec<Beaten> {
    if let Decider::Exempt(_) = evaluation.decider {
        // What would decide about everybody else.
        let else_decided = eval::evaluate(program, workload, flow, &Identity::default());
        let Decider::Item(winner) = else_decided.decider else { return Vec::new() };
        let by = cause(program, evaluation.decider);
        let items = [winner].into_iter().chain(else_decided.also);
        return items
            .filter_map(|item| {
                Some(Beaten { rule: reason(program, item)?, by: by.clone(), why: Why::Exempt })
            })
            .collect();
    }
    (evaluation.beaten.iter())
        .filter_map(|&(loser, by, ref lost)| {
            let why = why(program, loser, by, lost)?;
            Some(Beaten { rule: reason(program, loser)?, by: cause(program, by), why })
        })
        .collect()
}

fn why(program: &Program, loser: Item, by: Decider, lost: &eval::Why) -> Option<Why> {
    if let eval::Why::BuiltIn(built_in) = *lost {
        return Some(Why::BuiltIn(built_in));
    }
    let Decider::Item(winner) = by else { return None };
    let (inner, outer) = (Bounds::of(program, winner)?, Bounds::of(program, loser)?);
    Some(match *lost {
        eval::Why::Always => Why::Always,
        eval::Why::Stronger => Why::Stronger { verdict: inner.rule.verdict, than: outer.rule.verdict },
        eval::Why::BuiltIn(built_in) => Why::BuiltIn(built_in),
        eval::Why::Narrower(respects) => {
            let all = [
                (respects.ports, Respect::Ports),
                (respects.addresses, Respect::Addresses),
                (respects.scope, Respect::Scope),
                (respects.who, Respect::Processes),
            ];
            let narrower = all.into_iter().filter(|(is, _)| *is).map(|(_, respect)| Narrower {
                respect,
                inner: inner.text(program, respect),
                outer: outer.text(program, respect),
            });
            Why::Narrower(narrower.collect())
        }
    })
}

/// What an item covers.
struct Bounds<'p> {
    rule: &'p Rule,
    ports: &'p PortItem,
    prefix: Prefix,
    who: &'p Who,
}

impl<'p> Bounds<'p> {
    fn of(program: &'p Program, item: Item) -> Option<Self> {
        let rule = program.rules.get(item.rule.index())?;
        let ports = rule.ports.get(item.port as usize)?;
        let prefix = match item.address {
            None => Prefix::Any,
            Some(index) => rule.addresses.get(index as usize)?.prefix,
        };
        Some(Self { rule, ports, prefix, who: rule.who_at(item.who) })
    }

    fn text(&self, program: &Program, respect: Respect) -> String {
        match respect {
            Respect::Ports => self.ports(),
            Respect::Addresses => self.addresses(),
            Respect::Scope => self.scope(program),
            Respect::Processes => self.processes(),
        }
    }

    fn ports(&self) -> String {
        let protocol = self.ports.protocol;
        match &self.ports.ports {
            Ports::All => format!("all {protocol} ports"),
            ports => {
                let mut text = protocol.to_string();
                write_ports(&mut text, ports);
                text
            }
        }
    }

    fn addresses(&self) -> String {
        match self.prefix {
            Prefix::Any if self.who.node => "the node's addresses".into(),
            Prefix::Any => "all addresses".into(),
            prefix => prefix.to_string(),
        }
    }

    fn processes(&self) -> String {
        if self.who.is_every_process() { "all processes".into() } else { self.who.to_string() }
    }

    fn scope(&self, program: &Program) -> String {
        let Some(scope) = program.scopes.get(self.rule.scope.index()) else { return String::new() };
        match scope.level {
            Level::Top => "the top level".into(),
            Level::Mesh => format!("mesh {}", scope.name),
            Level::For => format!("`for` {}", scope.name),
            Level::Workload => format!("workload {}", scope.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use mesh_bpf::flow::{Direction, Protocol};

    use super::*;
    use crate::fixture::Fixture;

    /// The items that lost in a flow of `a`, with what beat each and why.
    fn lost(
        rules: &[(&str, &str)],
        direction: Direction,
        address: &str,
        port: u16,
        own: bool,
    ) -> Vec<(String, String, Why)> {
        let mut fixture = Fixture::new(&["a", "b"]);
        for (scope, rule) in rules {
            fixture.rule(scope, rule);
        }
        let address: IpAddr = address.parse().unwrap();
        let flow = Flow { direction, protocol: Protocol::Tcp, address, port, own };
        let workload = fixture.workload("a");
        let evaluation = eval::evaluate(&fixture.program, workload, &flow, &Identity::default());
        let text = |by: super::super::Cause| match by {
            super::super::Cause::Rule(reason) => reason.text,
            other => format!("{other:?}"),
        };
        beaten(&fixture.program, workload, &flow, &evaluation)
            .into_iter()
            .map(|beaten| (beaten.rule.text, text(beaten.by), beaten.why))
            .collect()
    }

    fn outbound(rules: &[(&str, &str)], address: &str, port: u16) -> Vec<(String, String, Why)> {
        lost(rules, Direction::Outbound, address, port, false)
    }

    fn narrower(respects: &[(Respect, &str, &str)]) -> Why {
        let one = |&(respect, inner, outer): &(Respect, &str, &str)| Narrower {
            respect,
            inner: inner.into(),
            outer: outer.into(),
        };
        Why::Narrower(respects.iter().map(one).collect())
    }

    #[test]
    fn the_narrower_box_wins_in_ports_addresses_scope_and_all_of_them() {
        let redirect = ("", "redirect outbound -> 15001");
        let text = "redirect outbound tcp -> 15001";
        for (winner, shown, why) in [
            (
                ("", "exclude outbound tcp 3306"),
                "exclude outbound tcp 3306",
                narrower(&[(Respect::Ports, "tcp 3306", "all tcp ports")]),
            ),
            (
                ("", "exclude outbound tcp to 10.0.0.0/8"),
                "exclude outbound tcp to 10.0.0.0/8",
                narrower(&[(Respect::Addresses, "10.0.0.0/8", "all addresses")]),
            ),
            (
                ("m", "exclude outbound tcp"),
                "exclude outbound tcp",
                narrower(&[(Respect::Scope, "mesh m", "the top level")]),
            ),
            (
                ("m/a", "exclude outbound tcp not 25 to 10.0.3.9"),
                "exclude outbound tcp not 25 to 10.0.3.9",
                narrower(&[
                    (Respect::Ports, "tcp not 25", "all tcp ports"),
                    (Respect::Addresses, "10.0.3.9", "all addresses"),
                    (Respect::Scope, "workload m/a", "the top level"),
                ]),
            ),
        ] {
            let found = outbound(&[redirect, winner], "10.0.3.9", 3306);
            assert_eq!(found, [(text.to_owned(), shown.to_owned(), why)]);
        }
        let wide = ("m+a,b", "exclude outbound tcp 1-9000 to 10.0.0.0/8");
        let found = outbound(&[wide, ("m+a", "deny outbound tcp 80-90 to 10.0.0.0/9")], "10.0.3.9", 80);
        let why = narrower(&[
            (Respect::Ports, "tcp 80-90", "tcp 1-9000"),
            (Respect::Addresses, "10.0.0.0/9", "10.0.0.0/8"),
            (Respect::Scope, "`for` m+a", "`for` m+a,b"),
        ]);
        assert_eq!(found.first().map(|(.., why)| why), Some(&why));
    }

    #[test]
    fn always_passes_a_narrower_rule_without_it() {
        let rules = [("", "always deny outbound"), ("m/a", "exclude outbound tcp 80 to 10.0.3.9")];
        let found = outbound(&rules, "10.0.3.9", 80);
        let expected = ("exclude outbound tcp 80 to 10.0.3.9", "always deny outbound tcp", Why::Always);
        assert_eq!(found, [(expected.0.to_owned(), expected.1.to_owned(), expected.2)]);
    }

    #[test]
    fn of_two_that_are_not_narrower_the_stronger_verdict_wins() {
        let exclude = ("m", "exclude outbound to 10.0.0.0/8");
        let redirect = ("m", "redirect outbound tcp 80 -> 15001");
        for (rules, verdict, than) in [
            ([exclude, ("m", "deny outbound tcp 80")], Verdict::Denied, Verdict::Excluded),
            ([exclude, redirect], Verdict::Excluded, Verdict::Redirected { port: 15001, transparent: false }),
        ] {
            let found = outbound(&rules, "10.0.3.9", 80);
            assert_eq!(found.first().map(|(.., why)| why), Some(&Why::Stronger { verdict, than }));
        }
    }

    #[test]
    fn what_lost_to_another_than_the_winner_says_to_which() {
        let rules = [
            ("", "redirect outbound -> 15001"),
            ("m", "exclude outbound to 10.0.0.0/8"),
            ("m", "deny outbound tcp 9200"),
        ];
        let found = outbound(&rules, "10.0.3.9", 9200);
        let by: Vec<&str> = found.iter().map(|(_, by, _)| by.as_str()).collect();
        assert_eq!(by, ["deny outbound tcp 9200"; 2], "{found:?}");
        let rules = [
            ("", "redirect outbound tcp 80 -> 15001"),
            ("m", "exclude outbound tcp 80"),
            ("m", "deny outbound to 10.0.0.0/8"),
        ];
        let found = outbound(&rules, "10.0.3.9", 80);
        let of = |text: &str| found.iter().find(|(loser, ..)| loser.starts_with(text)).cloned();
        let (_, by, why) = of("redirect").unwrap();
        assert_eq!(
            (by.as_str(), why),
            ("exclude outbound tcp 80", narrower(&[(Respect::Scope, "mesh m", "the top level")]))
        );
    }

    #[test]
    fn the_language_keeps_rules_out() {
        let redirects = [("", "redirect outbound -> 15001"), ("", "redirect inbound -> 15003")];
        let inbound = |rule: &'static str, port| {
            let rules = [redirects[0], redirects[1], ("m", rule)];
            lost(&rules, Direction::Inbound, "10.9.0.1", port, false)
        };
        let found = inbound("exclude inbound tcp 99", 15003);
        assert_eq!(found.first().map(|(.., why)| why), Some(&Why::BuiltIn(BuiltIn::SidecarPort)));
        let found = inbound("exclude inbound from 10.0.0.0/8", 15001);
        let excluded = found.iter().find(|(loser, ..)| loser.starts_with("exclude"));
        assert_eq!(excluded.map(|(.., why)| why), Some(&Why::BuiltIn(BuiltIn::OutboundPort)));
        for (address, own, built_in) in [
            ("127.0.0.1", false, BuiltIn::Loopback),
            ("224.0.0.251", false, BuiltIn::Multicast),
            ("fe80::1", false, BuiltIn::LinkLocal),
            ("10.0.3.9", true, BuiltIn::OwnAddress),
        ] {
            let found = lost(&redirects, Direction::Outbound, address, 80, own);
            assert_eq!(found.first().map(|(.., why)| why), Some(&Why::BuiltIn(built_in)), "{address}");
        }
    }

    #[test]
    fn an_exempt_process_passes_what_decides_about_others() {
        let mut fixture = Fixture::new(&["a"]);
        fixture.exempt("", "uid 1500").rule("", "redirect outbound -> 15001");
        fixture.rule("", "always deny outbound tcp 25");
        let (workload, address) = (fixture.workload("a"), "10.0.3.9".parse().unwrap());
        let flow =
            Flow { direction: Direction::Outbound, protocol: Protocol::Tcp, address, port: 25, own: false };
        let exempt = Identity { uid: Some(1500), ..Identity::default() };
        let evaluation = eval::evaluate(&fixture.program, workload, &flow, &exempt);
        let found = beaten(&fixture.program, workload, &flow, &evaluation);
        let texts: Vec<_> = found.iter().map(|beaten| (beaten.rule.text.as_str(), &beaten.why)).collect();
        assert_eq!(texts, [("always deny outbound tcp 25", &Why::Exempt)]);
    }
}
