//! Rules without an order that decide as layers do.

use std::collections::BTreeSet;

use mesh_bpf::flow::Protocol;

use super::{Layer, Rule, Sides, prefix, range, short};

/// A rule of a policy, made of a layer, or of two where both meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The rule.
    pub rule: Rule,
    /// What a comment says of it.
    pub cite: String,
    /// Where it stands for what two of the rules have in common: which, in the same list.
    pub meets: Option<(usize, usize)>,
}

/// What has no effect where it comes from either, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The setting.
    pub cite: String,
    /// Some of its items that have none; all of them, if there are none.
    pub items: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// What is looked at before.
    pub by: String,
}

/// Items that are named of those that have no effect.
const NAMED: usize = 5;

/// So many rules at the most. No mesh's layers make as many; rules of `iptables` that all meet each other could.
const MOST: usize = 20_000;

/// Rules without an order that decide as the layers do, and what of the layers has no effect; `None` where that takes more
/// rules than anybody would read.
#[must_use]
pub fn resolve(layers: &[Layer]) -> Option<(Vec<Resolved>, Vec<Dead>)> {
    let sides: Vec<Sides> = layers.iter().map(|layer| Sides::of(&layer.rule)).collect();
    let mut made =
        Made { layers, sides: &sides, rules: Vec::new(), ranks: Vec::new(), seen: BTreeSet::new() };
    let mut dead = Vec::new();
    for (rank, layer) in layers.iter().enumerate() {
        let mut told = |first: &Layer, gone: &[Rule], size: usize| {
            dead.push(Dead::of(layer, first, gone, size));
        };
        for rule in made.left_of(layer.rule.clone(), rank, &mut told) {
            made.push(rank, Resolved { rule, cite: layer.cite.clone(), meets: None });
        }
    }
    // What stands for two may meet what is looked at before both.
    let own = made.rules.len();
    for high in 0..own {
        for low in high + 1..own {
            made.meeting(high, low)?;
        }
    }
    let mut low = own;
    while low < made.rules.len() {
        for high in 0..own {
            made.meeting(high, low)?;
        }
        low += 1;
    }
    Some((made.rules, dead))
}

struct Made<'l> {
    layers: &'l [Layer],
    sides: &'l [Sides],
    rules: Vec<Resolved>,
    /// The layer that each is of; of two, the one that is looked at first.
    ranks: Vec<usize>,
    /// What was made for several.
    seen: BTreeSet<(usize, Rule)>,
}

impl Made<'_> {
    fn push(&mut self, rank: usize, resolved: Resolved) {
        self.rules.push(resolved);
        self.ranks.push(rank);
    }

    /// What of a rule is left by the layers before one that say otherwise. `told` hears what each of them takes.
    fn left_of(&self, rule: Rule, rank: usize, told: &mut dyn FnMut(&Layer, &[Rule], usize)) -> Vec<Rule> {
        let size = rule.size();
        let (direction, verdict) = (rule.direction, rule.verdict);
        let mut left = vec![rule];
        for (first, sides) in self.layers.iter().zip(self.sides).take(rank) {
            if first.rule.direction != direction || first.rule.verdict == verdict {
                continue;
            }
            let mut gone = Vec::new();
            let mut rest = Vec::new();
            for rule in left {
                let (inside, outside) = sides.cut(&rule);
                gone.extend(inside);
                rest.extend(outside);
            }
            if !gone.is_empty() {
                told(first, &gone, size);
            }
            left = rest;
        }
        joined(left)
    }

    /// Adds what stands for what two rules have in common, where that does not say by itself what is looked at first.
    fn meeting(&mut self, high: usize, low: usize) -> Option<()> {
        let [rank, of_low] = [high, low].map(|at| self.ranks.get(at).copied().unwrap_or(usize::MAX));
        let (Some(a), Some(b)) = (self.rules.get(high), self.rules.get(low)) else { return Some(()) };
        if rank >= of_low || a.rule.verdict == b.rule.verdict || a.rule.verdict.beats(b.rule.verdict) {
            return Some(());
        }
        let Some(both) = a.rule.both_of(&b.rule) else { return Some(()) };
        // Where each of two stands is another matter, so what both are of a layer is said for each; what stands for more
        // than two once.
        let is_new = self.seen.insert((rank, both.clone()));
        if !is_new && b.meets.is_some() {
            return Some(());
        }
        let cite = format!("{}, which comes before {}", short(&a.cite), short(&b.cite));
        // What lies in something before them stays as that says: a narrower rule would win.
        for rule in self.left_of(both, rank, &mut |_, _, _| {}) {
            self.push(rank, Resolved { rule, cite: cite.clone(), meets: Some((high, low)) });
        }
        (self.rules.len() <= MOST).then_some(())
    }
}

impl Dead {
    /// What a layer before takes of another, which has so many items.
    fn of(layer: &Layer, first: &Layer, gone: &[Rule], size: usize) -> Self {
        let count = gone.iter().fold(0_usize, |sum, rule| sum.saturating_add(rule.size()));
        let (cite, by) = (layer.cite.clone(), first.cite.clone());
        if count >= size {
            return Self { cite, items: Vec::new(), more: 0, by };
        }
        // What is of both protocols, or of several users, is named once.
        let mut seen = BTreeSet::new();
        let distinct: Vec<&Rule> =
            gone.iter().filter(|rule| seen.insert((&rule.ports, &rule.addresses))).collect();
        let all =
            distinct.iter().map(|rule| rule.ports.len().max(1).saturating_mul(rule.addresses.len().max(1)));
        let items: Vec<String> = distinct.iter().flat_map(|rule| texts(rule)).take(NAMED).collect();
        let more = all.fold(0_usize, usize::saturating_add).saturating_sub(items.len());
        Self { cite, items, more, by }
    }
}

/// The items of a rule in words: ports and addresses, or protocols.
fn texts(rule: &Rule) -> impl Iterator<Item = String> + '_ {
    let ports = rule.ports.iter().map(|ports| Some(range(*ports)));
    let ports = ports.chain(rule.ports.is_empty().then_some(None));
    let addresses = rule.addresses.iter().map(|net| Some(prefix(net)));
    let addresses = addresses.chain(rule.addresses.is_empty().then_some(None));
    let protocols = || match rule.protocols.as_slice() {
        [Protocol::Tcp] => "tcp".to_owned(),
        [Protocol::Udp] => "udp".to_owned(),
        _ => "all".to_owned(),
    };
    ports.flat_map(move |ports| {
        addresses.clone().map(move |address| match (ports.clone(), address) {
            (None, None) => protocols(),
            (one, other) => one.into_iter().chain(other).collect::<Vec<_>>().join(" to "),
        })
    })
}

/// The same in as few rules as that takes, found by looking at each once.
fn joined(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for rule in rules {
        match joined.iter_mut().find(|into| are_one(into, &rule)) {
            Some(into) => {
                add(&mut into.protocols, rule.protocols);
                add(&mut into.ports, rule.ports);
                add(&mut into.addresses, rule.addresses);
            }
            None => joined.push(rule),
        }
    }
    joined
}

/// Whether two rules are the same but for one side, so that both are one rule.
fn are_one(a: &Rule, b: &Rule) -> bool {
    let same = [a.protocols == b.protocols, a.ports == b.ports, a.addresses == b.addresses];
    same.iter().filter(|same| !**same).count() <= 1
        && a.ports.is_empty() == b.ports.is_empty()
        && a.addresses.is_empty() == b.addresses.is_empty()
        && a.owner == b.owner
}

fn add<T: Ord>(list: &mut Vec<T>, more: Vec<T>) {
    list.extend(more);
    list.sort();
    list.dedup();
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use mesh_bpf::flow::Direction;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::chain::{Flow, Owner, Verdict, decide};

    fn layer(cite: &str, rule: Rule) -> Layer {
        Layer { rule, cite: cite.to_owned() }
    }

    fn nets(text: &str) -> Vec<IpNet> {
        text.split(' ').map(|net| net.parse().unwrap()).collect()
    }

    const OUT: Direction = Direction::Outbound;

    #[test]
    fn what_lies_in_something_that_comes_first_is_dead() {
        let layers = [
            layer("x: 10/8", Rule::tcp(OUT, Verdict::Exclude).addresses(nets("10.0.0.0/8"))),
            layer("i", Rule::tcp(OUT, Verdict::Redirect(1)).addresses(nets("10.1.0.0/16 172.16.0.0/12"))),
        ];
        let (rules, dead) = resolve(&layers).unwrap();
        assert_eq!(rules[1].rule.addresses, nets("172.16.0.0/12"));
        let items = vec!["10.1.0.0/16".into()];
        assert_eq!(dead, [Dead { cite: "i".into(), items, more: 0, by: "x: 10/8".into() }]);
    }

    #[test]
    fn a_redirect_that_comes_first_wins_where_both_meet() {
        let layers = [
            layer("dns", Rule::tcp(OUT, Verdict::Redirect(53)).ports(vec![(53, 53)]).both()),
            layer("x: 10/8", Rule::tcp(OUT, Verdict::Exclude).addresses(nets("10.0.0.0/8"))),
        ];
        let (rules, _) = resolve(&layers).unwrap();
        let meeting = &rules[2];
        assert_eq!(
            (meeting.rule.ports.as_slice(), &meeting.rule.addresses),
            (&[(53, 53)][..], &nets("10.0.0.0/8"))
        );
        assert_eq!(meeting.rule.protocols, [Protocol::Tcp]);
        assert_eq!((meeting.meets, meeting.cite.as_str()), (Some((0, 1)), "dns, which comes before x"));
    }

    /// Were each item held against each, this would take hours.
    #[test]
    fn long_lists_are_resolved() {
        let count = 400_000_u32;
        let list = |from: u32, length: u8| -> Vec<IpNet> {
            let net = |n: u32| ipnet::Ipv4Net::new((from + n * 256).into(), length).unwrap().into();
            (0..count).map(net).collect()
        };
        let [odd, even] =
            [1_u16, 2].map(|first| (0..30_000).map(|n| (n * 2 + first, n * 2 + first)).collect::<Vec<_>>());
        let layers = [
            layer("a", Rule::tcp(OUT, Verdict::Redirect(2)).ports(odd)),
            layer("x", Rule::tcp(OUT, Verdict::Exclude).addresses(list(0x0a00_0000, 24))),
            layer("i", Rule::tcp(OUT, Verdict::Redirect(1)).addresses(list(0x0a00_0001, 32)).ports(even)),
            layer("last", Rule::tcp(OUT, Verdict::Exclude)),
        ];
        let (rules, dead) = resolve(&layers).unwrap();
        assert_eq!((dead.len(), dead[0].by.as_str()), (1, "x"));
        assert!(rules.iter().any(|resolved| resolved.meets == Some((0, 1))));
        assert!(rules.iter().all(|resolved| resolved.cite != "i"));
    }

    /// One item of each side of a rule.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Cell {
        protocol: Protocol,
        ports: (u16, u16),
        address: Option<IpNet>,
        user: Option<(u32, u32)>,
    }

    fn cells(rule: &Rule) -> Vec<Cell> {
        fn some<T: Copy>(list: &[T]) -> Vec<Option<T>> {
            if list.is_empty() { vec![None] } else { list.iter().copied().map(Some).collect() }
        }
        let mut all = Vec::new();
        for &protocol in &rule.protocols {
            for ports in some(&rule.ports) {
                for address in some(&rule.addresses) {
                    for user in some(&rule.owner.users) {
                        let ports = ports.unwrap_or((0, u16::MAX));
                        all.push(Cell { protocol, ports, address, user });
                    }
                }
            }
        }
        all
    }

    impl Cell {
        fn lies_in(&self, other: &Self) -> bool {
            let is_in = |own: Option<(u32, u32)>, other: Option<(u32, u32)>| match (own, other) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(other)) => other.0 <= own.0 && own.1 <= other.1,
            };
            let address = match (self.address, other.address) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(other)) => other.contains(&own),
            };
            address
                && is_in(self.user, other.user)
                && self.protocol == other.protocol
                && other.ports.0 <= self.ports.0
                && self.ports.1 <= other.ports.1
        }

        fn matches(&self, flow: &Flow) -> bool {
            self.protocol == flow.protocol
                && (self.ports.0..=self.ports.1).contains(&flow.port)
                && self.address.is_none_or(|net| net.contains(&flow.address))
                && self
                    .user
                    .is_none_or(|(first, last)| flow.user.is_some_and(|user| (first..=last).contains(&user)))
        }
    }

    /// What is left of each layer, and how much each takes of another, by a look at each cell beside each other.
    fn simply(layers: &[Layer]) -> (Vec<Vec<Cell>>, usize) {
        let mut dead = 0;
        let mut left = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let mut own = cells(&layer.rule);
            for first in layers.iter().take(at).filter(|first| first.rule.verdict != layer.rule.verdict) {
                let before = own.len();
                own.retain(|cell| !cells(&first.rule).iter().any(|first| cell.lies_in(first)));
                dead += usize::from(own.len() < before);
            }
            own.sort();
            left.push(own);
        }
        (left, dead)
    }

    /// What rules without an order say of a flow: the narrower wins, then the stronger. `None` for a tie.
    fn by_narrowness(rules: &[Resolved], flow: &Flow) -> Option<Verdict> {
        let all = rules.iter().flat_map(|resolved| {
            let verdict = resolved.rule.verdict;
            cells(&resolved.rule).into_iter().map(move |cell| (cell, verdict))
        });
        let matching: Vec<(Cell, Verdict)> = all.filter(|(cell, _)| cell.matches(flow)).collect();
        let is_beaten =
            |cell: &Cell| matching.iter().any(|(other, _)| other.lies_in(cell) && !cell.lies_in(other));
        let mut best: Option<Verdict> = None;
        for &(_, verdict) in matching.iter().filter(|(cell, _)| !is_beaten(cell)) {
            match best {
                Some(found) if found == verdict || found.beats(verdict) => {}
                Some(found) if !verdict.beats(found) => return None,
                _ => best = Some(verdict),
            }
        }
        Some(best.unwrap_or(Verdict::Exclude))
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let verdicts = vec![Verdict::Exclude, Verdict::Redirect(1), Verdict::Redirect(2), Verdict::Deny];
        let protocols = vec![vec![Protocol::Tcp], vec![Protocol::Udp], vec![Protocol::Tcp, Protocol::Udp]];
        let ports = vec![(1, 1), (1, 9), (5, 5), (7, 20), (20, 20)];
        let addresses = nets("0.0.0.0/0 10.0.0.0/8 10.1.0.0/16 10.1.2.0/24 fd00::/8");
        let users = vec![(1, 5), (3, 3), (5, 9)];
        let sides = (subsequence(ports, 0..3), subsequence(addresses, 0..3), subsequence(users, 0..2));
        (select(verdicts), select(protocols), sides).prop_map(|(verdict, protocols, (ports, nets, users))| {
            let rule = Rule::tcp(OUT, verdict).ports(ports).addresses(nets).owner(Owner::users(users));
            Rule { protocols, ..rule }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rules_decide_as_layers_do(rules in proptest::collection::vec(rules(), 1..6)) {
            let layers: Vec<Layer> =
                rules.into_iter().enumerate().map(|(at, rule)| layer(&format!("{at}: "), rule)).collect();
            let (resolved, dead) = resolve(&layers).unwrap();
            let (left, gone) = simply(&layers);
            prop_assert_eq!(dead.len(), gone);
            for (at, left) in left.iter().enumerate() {
                let own = resolved.iter().filter(|one| one.meets.is_none() && one.cite == format!("{at}: "));
                let mut own: Vec<Cell> = own.flat_map(|one| cells(&one.rule)).collect();
                own.sort();
                prop_assert_eq!(&own, left);
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for address in ["10.0.0.1", "10.1.0.1", "10.1.2.3", "9.9.9.9", "fd00::1", "2001:db8::1"] {
                    for port in [1, 5, 6, 8, 20, 21] {
                        for user in [None, Some(1), Some(3), Some(5), Some(9)] {
                            let address = address.parse().unwrap();
                            let flow = Flow { direction: OUT, protocol, address, port, user, group: None };
                            let found = by_narrowness(&resolved, &flow);
                            prop_assert_eq!(found, Some(decide(&layers, &flow)), "{:?} of {:#?}", flow, resolved);
                        }
                    }
                }
            }
        }
    }
}
