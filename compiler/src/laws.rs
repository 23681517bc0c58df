//! The laws of the language, held by random programs: the evaluator, brute force and the programs' model over
//! the packed tables agree on every flow; order and layout of the source change no byte.

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{IdRange, MapImage, Source};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{Decided, Sim};
use mesh_proof::bounds::FlowBox;
use proptest::prelude::*;

use crate::analysis::fixture::{image, ties};
use crate::eval::{self, Contender, Decider, Winner};
use crate::fixture::{Fixture, prefix};
use crate::hir::item;
use crate::hir::{Level, Program, Scope, Who, WorkloadId};
use crate::random::Random;

const WORKLOADS: [&str; 3] = ["a", "b", "c"];
const SCOPES: [&str; 7] = ["", "m", "m+a,b", "m+b,c", "m+a,b,c", "m/a", "m/b"];
const PORTS: [&str; 20] = [
    "",
    "tcp",
    "udp",
    "any",
    "tcp 2",
    "tcp 3",
    "tcp 2-3",
    "tcp 1-65535",
    "tcp 3-7",
    "tcp 5-9",
    "tcp not 3",
    "tcp not 2,7",
    "udp 5",
    "udp 2-65535",
    "tcp 2,4-5",
    "tcp not 1-3",
    "tcp 4",
    "any 4,9",
    "udp 9",
    "tcp not 1-3,5-8,10-65535",
];
const ADDRESSES: [&str; 29] = [
    "node",
    "node",
    "10.0.0.0/8,node",
    "node,fd00::1",
    "",
    "",
    "",
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/31",
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.0/30",
    "127.0.0.0/8",
    "127.0.0.1",
    "::1",
    "fd00::/8",
    "fd00::1",
    "0.0.0.0",
    "10.0.0.0/31,10.0.0.4",
    "126.0.0.0/7",
    "224.0.0.0/3",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255",
    "ff02::/16",
    "fe80::9",
    "fe00::/7",
];
const WHOS: [&str; 10] = [
    "",
    "",
    "",
    " as uid 5",
    " as uid 5-9",
    " as uid 5,7-9 and gid 7,8",
    " as gid 7",
    " as uid 7-9 and gid 7-8",
    " as cgroup /a",
    " as uid 5 and cgroup /a/b",
];
const FLOW_ADDRESSES: [&str; 17] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.4",
    "10.1.0.0",
    "8.8.8.8",
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",
    "::1",
    "fd00::1",
    "fe80::9",
    "223.255.255.255",
    "224.0.0.251",
    "240.0.0.1",
    "255.255.255.255",
    "ff02::fb",
];
const FLOW_PORTS: [u16; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15001, 65535];

/// One rule: its scope, and its text.
pub(crate) fn rule() -> impl Strategy<Value = (String, String)> {
    let verb = prop_oneof![
        Just(("exclude", "")),
        Just(("deny", "")),
        Just(("redirect", " -> 4")),
        Just(("redirect", " -> 9 transparent")),
        Just(("redirect", " -> 9"))
    ];
    let pick = |all: &'static [&'static str]| prop::sample::select(all);
    let items = (pick(&PORTS), pick(&ADDRESSES), pick(&WHOS));
    (pick(&SCOPES), prop::bool::weighted(0.15), verb, any::<bool>(), items).prop_map(
        |(scope, always, (verb, tail), inbound, (ports, addresses, who))| {
            let who = if inbound { "" } else { who };
            let always = if always { "always " } else { "" };
            let (direction, preposition) = if inbound { ("inbound", "from") } else { ("outbound", "to") };
            let address =
                if addresses.is_empty() { String::new() } else { format!(" {preposition} {addresses}") };
            (scope.to_owned(), format!("{always}{verb} {direction} {ports}{address}{who}{tail}"))
        },
    )
}

pub(crate) fn program(rules: &[(String, String)]) -> Program {
    let mut fixture = Fixture::new(&WORKLOADS);
    for (scope, rule) in rules {
        fixture.rule(scope, rule);
    }
    fixture.program
}

/// The same, where rules with the same addresses or ports name them by one set.
pub(crate) fn program_with_sets(rules: &[(String, String)]) -> Program {
    let mut fixture = Fixture::new(&WORKLOADS);
    fixture.sets = true;
    for (scope, rule) in rules {
        fixture.rule(scope, rule);
    }
    fixture.program
}

fn flows() -> impl Iterator<Item = Flow> {
    Direction::ALL.into_iter().flat_map(|direction| {
        Protocol::ALL.into_iter().flat_map(move |protocol| {
            FLOW_ADDRESSES.into_iter().flat_map(move |address| {
                FLOW_PORTS.into_iter().flat_map(move |port| {
                    [false, true].map(|own| {
                        let address = address.parse().unwrap();
                        Flow { direction, protocol, address, port, own }
                    })
                })
            })
        })
    })
}

/// Nobody who is known, and a process of every kind that rules tell apart.
fn identities() -> Vec<Identity> {
    let mut all = vec![Identity::default()];
    for (uid, gid, cgroup) in [
        (5, 1, "/"),
        (5, 7, "/a/b/c"),
        (6, 7, "/a"),
        (8, 8, "/ab"),
        (1, 7, "/a/b"),
        (9, 6, "/a/bc"),
        (5, 8, "/a"),
    ] {
        all.push(Identity {
            uid: Some(uid),
            gid: Some(gid),
            cgroup: Some(cgroup.into()),
            interface: None,
            node: false,
        });
    }
    let at_node: Vec<Identity> = all.iter().map(|one| Identity { node: true, ..one.clone() }).collect();
    all.extend(at_node);
    all
}

/// Flows with who opens them.
fn opened() -> impl Iterator<Item = (Flow, Identity)> {
    let opened = |flow: Flow| {
        let mut identities = identities();
        if flow.direction == Direction::Inbound {
            identities.retain(|one| one.uid.is_none());
        }
        identities.into_iter().map(move |identity| (flow, identity))
    };
    flows().flat_map(opened)
}

/// Exemptions that meet: ranges at both ends of the ids, that touch, overlap and hold each other; cgroups in each other
/// and beside their namesakes; interfaces and beginnings of their names.
const EXEMPTIONS: [&str; 23] = [
    "uid 0",
    "uid 0-2",
    "uid 1",
    "uid 1-3",
    "uid 4",
    "uid 2-5",
    "uid 4294967295",
    "uid 4294967290-4294967295",
    "gid 0",
    "gid 1-3",
    "gid 3-4",
    "gid 4294967295",
    "cgroup /",
    "cgroup /a",
    "cgroup /a/b",
    "cgroup /ab",
    "cgroup /a/bc",
    "interface net1",
    "interface net*",
    "interface net1*",
    "interface eth0",
    "interface *",
    "interface lo",
];
const IDS: [Option<u32>; 9] =
    [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(u32::MAX)];
const INTERFACES: [Option<&str>; 6] =
    [None, Some("net1"), Some("net10"), Some("net"), Some("eth0"), Some("lo")];
const CGROUPS: [Option<&str>; 7] =
    [None, Some("/"), Some("/a"), Some("/a/b"), Some("/a/b/c"), Some("/ab"), Some("/b/a")];

/// Nobody who is known, and everybody near a bound of these.
fn anybody() -> impl Iterator<Item = Identity> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    IDS.into_iter().flat_map(move |uid| {
        IDS.into_iter().flat_map(move |gid| {
            CGROUPS.into_iter().flat_map(move |cgroup| {
                INTERFACES.map(|name| Identity {
                    uid,
                    gid,
                    cgroup: text(cgroup),
                    interface: text(name),
                    node: false,
                })
            })
        })
    })
}

/// What the evaluator credits the flow to.
fn credited(program: &Program, decider: Decider) -> (Source, Prefix) {
    match decider {
        Decider::NoRule => (Source::default(), Prefix::Any),
        Decider::BuiltIn(built_in) => (built_in.source(), Prefix::Any),
        Decider::Exempt(_) => unreachable!("no identity was given"),
        Decider::Item(one) => {
            let rule = &program.rules[one.rule.index()];
            let prefix = one.address.map_or(Prefix::Any, |index| rule.addresses[index as usize].prefix);
            (item::rule_source(program, rule, &rule.ports[one.port as usize], rule.who_at(one.who)), prefix)
        }
    }
}

/// The law once more, as plainly as it can be said: no struct of the compiler but the rules themselves.
fn brute_force(program: &Program, workload: WorkloadId, flow: &Flow, identity: &Identity) -> Option<Verdict> {
    let apart = |prefix: Prefix| {
        [
            ["0.0.0.0/32", "127.0.0.0/8", "::/128", "::1/128"].as_slice(),
            ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"].as_slice(),
            ["fe80::/10"].as_slice(),
        ]
        .iter()
        .position(|class| {
            class.iter().any(|text| Prefix::from(text.parse::<ipnet::IpNet>().unwrap()).covers(prefix))
        })
    };
    let host = Prefix::host(flow.address);
    let mut boxes = Vec::new();
    let reaching = |rule: &&crate::hir::Rule| {
        let scope = &program.scopes[rule.scope.index()];
        scope.level == crate::hir::Level::Top || scope.members.contains(&workload)
    };
    let rules: Vec<_> = program.rules.iter().filter(reaching).collect();
    let sidecar = rules.iter().any(|rule| rule.verdict.port() == Some(flow.port));
    let led_to = |direction| -> Vec<u16> {
        let speaks = |rule: &&&crate::hir::Rule| {
            rule.direction == direction && rule.ports.iter().any(|item| item.protocol == flow.protocol)
        };
        rules.iter().filter(speaks).filter_map(|rule| rule.verdict.port()).collect()
    };
    let (mut belonging, inbound) = (led_to(Direction::Outbound), led_to(Direction::Inbound));
    belonging.retain(|port| !inbound.contains(port));
    let elsewhere = !flow.own && apart(host) != Some(0);
    let closed = flow.direction == Direction::Inbound && elsewhere && belonging.contains(&flow.port);
    for rule in rules.iter().filter(|rule| rule.direction == flow.direction) {
        if flow.direction == Direction::Inbound && sidecar && rule.verdict.port().is_some() {
            continue;
        }
        let mut prefixes: Vec<Prefix> = rule.addresses.iter().map(|item| item.prefix).collect();
        if prefixes.is_empty() {
            prefixes.push(Prefix::Any);
        }
        let id = |range: Option<IdRange>, id: Option<u32>| match range {
            None => true,
            Some(range) => (range.first..=range.last).any(|one| Some(one) == id),
        };
        let below = |path: &str| {
            identity
                .cgroup
                .as_ref()
                .is_some_and(|cgroup| format!("{cgroup}/").starts_with(&format!("{path}/")))
        };
        let matches = |who: &crate::hir::Who| {
            id(who.uid, identity.uid)
                && id(who.gid, identity.gid)
                && who.cgroup.as_deref().is_none_or(below)
                && (identity.node || !who.node)
        };
        let whos: Vec<_> = rule.whos().map(|(_, who)| who).filter(|who| matches(who)).collect();
        for (ports, &who) in rule
            .ports
            .iter()
            .filter(|ports| ports.protocol == flow.protocol)
            .flat_map(|ports| whos.iter().map(move |who| (ports, who)))
        {
            let written = ports.ports.set();
            let set: Vec<bool> = (1..=65535).map(|port| written.contains(port)).collect();
            let wide = (1..=u16::MAX).any(|port| written.contains(port) && !belonging.contains(&port));
            if closed && rule.verdict == Verdict::Excluded && wide {
                continue;
            }
            for &prefix in prefixes.iter().filter(|prefix| prefix.contains(flow.address)) {
                let inside = if flow.own { prefix.is_host() } else { apart(host) == apart(prefix) };
                if inside && set[usize::from(flow.port) - 1] {
                    boxes.push((rule, prefix, set.clone(), who));
                }
            }
        }
    }
    if boxes.iter().any(|(rule, ..)| rule.always) {
        boxes.retain(|(rule, ..)| rule.always);
    }
    let ids = |a: Option<IdRange>, b: Option<IdRange>| match (a, b) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => (a.first..=a.last).all(|one| (b.first..=b.last).contains(&one)),
    };
    let paths = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => format!("{a}/").starts_with(&format!("{b}/")),
    };
    type Matching<'p> = (&'p &'p crate::hir::Rule, Prefix, Vec<bool>, &'p crate::hir::Who);
    let within = |a: &Matching<'_>, b: &Matching<'_>| {
        b.1.covers(a.1)
            && program.scopes[b.0.scope.index()].covers(&program.scopes[a.0.scope.index()])
            && a.2.iter().zip(&b.2).all(|(a, b)| *b || !a)
            && ids(a.3.uid, b.3.uid)
            && ids(a.3.gid, b.3.gid)
            && paths(&a.3.cgroup, &b.3.cgroup)
            && (a.3.node || !b.3.node)
    };
    let left: Vec<_> = boxes
        .iter()
        .filter(|one| !boxes.iter().any(|other| within(other, one) && !within(one, other)))
        .collect();
    let verdicts: Vec<Verdict> = left.iter().map(|(rule, ..)| rule.verdict).collect();
    if verdicts.contains(&Verdict::Denied) || verdicts.is_empty() && closed {
        return Some(Verdict::Denied);
    }
    if verdicts.is_empty() || verdicts.contains(&Verdict::Excluded) {
        return Some(Verdict::Excluded);
    }
    // Redirects that tie have no verdict.
    verdicts.iter().all(|verdict| *verdict == verdicts[0]).then(|| verdicts[0])
}

/// The proof accepts the tables, except where redirects tie: lowering and proof find that each for itself.
fn is_proved_unless_tied(program: &Program, tables: &mesh_bpf::tables::Tables) {
    let conflicts = ties(program);
    let proof = crate::prove::prove(program, tables);
    assert_eq!(proof.is_err(), !conflicts.is_empty(), "{proof:?} {conflicts:?}");
    if let Err(disproof) = proof {
        assert!(disproof.expected.contains("with the same right"), "{disproof}");
    }
}

fn check_flows(program: &Program, image: &MapImage) {
    let tables = mesh_bpf::pack::pack(image).unwrap();
    is_proved_unless_tied(program, &tables);
    let sim = Sim::new(&tables).unwrap();
    for (index, workload) in image.workloads.iter().enumerate() {
        let id = WorkloadId(u32::try_from(index).unwrap());
        for (flow, identity) in opened() {
            let evaluation = eval::evaluate(program, id, &flow, &identity);
            let Some(Decided::Policy(hit)) = sim.decide(workload.profile, &flow, &identity) else {
                panic!("nothing decided {flow:?}");
            };
            let (source, prefix) = credited(program, evaluation.decider);
            assert_eq!(hit.verdict, evaluation.verdict, "{} {flow:?}", workload.name);
            assert_eq!(image.source(hit.source), &source, "{} {flow:?}", workload.name);
            if matches!(evaluation.decider, Decider::Item(_)) {
                assert_eq!(hit.item, prefix, "{} {flow:?}", workload.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn evaluator_and_tables_agree(rules in prop::collection::vec(rule(), 0..12)) {
        let program = program(&rules);
        check_flows(&program, &image(&program));
    }

    #[test]
    fn sets_mean_what_is_in_them(rules in prop::collection::vec(rule(), 0..12)) {
        let with_sets = program_with_sets(&rules);
        let with = image(&with_sets);
        prop_assert_eq!(&with, &image(&program(&rules)));
        let tables = mesh_bpf::pack::pack(&with).unwrap();
        is_proved_unless_tied(&with_sets, &tables);
    }

    #[test]
    fn order_changes_no_byte(rules in prop::collection::vec(rule(), 0..12), seed in any::<u64>()) {
        let mut shuffled = rules.clone();
        let len = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed % len as u64).unwrap());
        shuffled.reverse();
        prop_assert_eq!(image(&program(&rules)), image(&program(&shuffled)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn the_evaluator_is_the_law(rules in prop::collection::vec(rule(), 0..8)) {
        let program = program(&rules);
        let mut conflicts = false;
        let found = ties(&program);
        for workload in (0..3).map(WorkloadId) {
            for (flow, identity) in opened().step_by(29) {
                let evaluation = eval::evaluate(&program, workload, &flow, &identity);
                match brute_force(&program, workload, &flow, &identity) {
                    Some(verdict) => prop_assert_eq!(evaluation.verdict, verdict, "{:?}", flow),
                    None => {
                        conflicts = true;
                        prop_assert!(!evaluation.conflict.is_empty());
                    }
                }
            }
        }
        prop_assert!(!conflicts || !found.is_empty());
        for tie in found {
            let verdict = brute_force(&program, tie.workload, &tie.flow, &tie.identity);
            prop_assert_eq!(verdict, None, "{:?}", tie);
        }
    }
}

/// The evaluator and the tables exempt the same identities and interfaces, by the same exemption; the proof accepts those
/// tables.
#[test]
fn exemptions_mean_what_the_tables_say() {
    let flow = |direction, own| Flow {
        direction,
        protocol: Protocol::Tcp,
        address: "10.0.0.1".parse().unwrap(),
        port: 80,
        own,
    };
    let flows = [Direction::Outbound, Direction::Inbound].map(|it| [false, true].map(|own| flow(it, own)));
    let mut exempt = 0;
    for seed in 1..=60u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut fixture = Fixture::new(&WORKLOADS);
        fixture.rule("", "always deny outbound");
        for _ in 0..random.below(10) {
            let (scope, who) = (random.of(&SCOPES), random.of(&EXEMPTIONS));
            fixture.exempt(scope, who);
        }
        let program = fixture.program;
        let image = image(&program);
        let tables = mesh_bpf::pack::pack(&image).unwrap();
        is_proved_unless_tied(&program, &tables);
        let sim = Sim::new(&tables).unwrap();
        for (workload, id) in image.workloads.iter().zip((0..).map(WorkloadId)) {
            for (identity, flow) in anybody().zip(flows.as_flattened().iter().copied().cycle()) {
                let by = match eval::evaluate(&program, id, &flow, &identity).decider {
                    Decider::Exempt(index) => {
                        let exempt = &program.exempts[index];
                        Some(item::exempt_source(&program.scopes[exempt.scope.index()].name, &exempt.who))
                    }
                    _ => None,
                };
                let held = match sim.decide(workload.profile, &flow, &identity).unwrap() {
                    Decided::Exempt(source) => Some(image.source(source)),
                    Decided::Policy(_) => None,
                };
                assert_eq!(held, by.as_ref(), "{} {identity:?} {:?}", workload.name, program.exempts);
                exempt += usize::from(held.is_some());
            }
        }
    }
    assert!(exempt > 1000, "{exempt}");
}

/// Walking the ports finds at each who wins the contest of the boxes that hold it.
#[test]
fn ports_are_walked_as_a_contest_at_each() {
    const PORTS: [u16; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 65534, 65535];
    let (mut beaten, mut tied) = (0, 0);
    let ids = |first, last| Some(IdRange { first, last });
    let whos = [
        Who::EVERYBODY,
        Who::EVERYBODY,
        Who { uid: ids(5, 5), ..Who::EVERYBODY },
        Who { uid: ids(5, 9), ..Who::EVERYBODY },
        Who { uid: ids(5, 9), gid: ids(7, 7), ..Who::EVERYBODY },
        Who { gid: ids(0, u32::MAX), ..Who::EVERYBODY },
        Who { cgroup: Some("/a".into()), ..Who::EVERYBODY },
        Who { gid: ids(6, 7), cgroup: Some("/a/b".into()), ..Who::EVERYBODY },
    ];
    for seed in 1..=3000u64 {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let scopes: Vec<Scope> = [(Level::Top, 3), (Level::Mesh, 3), (Level::For, 2), (Level::For, 1)]
            .map(|(level, members)| Scope {
                level,
                name: String::new(),
                members: (0..members).map(WorkloadId).collect(),
            })
            .into();
        let boxes: Vec<(usize, PortSet)> = (0..1 + random.below(7))
            .map(|_| {
                // Ports with many holes among those that are one range.
                let holed: PortSet =
                    PORTS.into_iter().filter(|_| random.below(2) == 0).map(PortRange::single).collect();
                let first = random.of(&PORTS);
                let last = random.of(&PORTS).max(first);
                let range = PortSet::from(PortRange { first, last });
                (random.below(4), if random.below(2) == 0 { holed } else { range })
            })
            .collect();
        let contenders: Vec<Contender<'_>> = (boxes.iter())
            .map(|(scope, ports)| Contender {
                bounds: FlowBox {
                    scope: &scopes[*scope],
                    ports,
                    prefix: prefix(random.of(&["0.0.0.0/0", "0.0.0.0/0", "10.0.0.0/8", "10.0.0.1"])),
                    who: random.of(&whos.each_ref()),
                },
                always: random.below(6) == 0,
                verdict: random.of(&[
                    Verdict::Denied,
                    Verdict::Excluded,
                    Verdict::Redirected { port: 1, transparent: false },
                    Verdict::Redirected { port: 1, transparent: true },
                    Verdict::Redirected { port: 2, transparent: false },
                ]),
            })
            .collect();
        let walked = eval::by_port(&contenders);
        for port in PORTS.into_iter().chain([13, 65533]) {
            let holds = |index: &usize| contenders[*index].bounds.ports.contains(port);
            let here: Vec<usize> = (0..contenders.len()).filter(holds).collect();
            let contest = eval::contest(&here.iter().map(|&index| contenders[index]).collect::<Vec<_>>());
            let expected = contest.winner.map(|(_, winner)| Winner {
                index: here[winner],
                tied: contest.conflict.first().map(|&other| here[other]),
            });
            assert_eq!(eval::at(&walked, port), Some(expected), "seed {seed}, port {port}: {contenders:#?}");
            beaten += contest.beaten.len();
            tied += contest.conflict.len();
        }
    }
    assert!(beaten > 1000 && tied > 1000, "{beaten} beaten, {tied} tied");
}
