//! What another mesh does to a flow, as it orders it: layers, of which the first that matches decides.
//!
//! A policy has no order; the narrower rule wins. [`resolve`] makes rules of layers that mean the same: what lies within
//! something that was looked at first is left out, and where a redirect comes before what it would tie with, a rule for
//! both says so.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};

use crate::value::Range;

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes straight.
    Exclude,
    /// It goes to this port of the sidecar.
    Redirect(u16),
}

/// Whose connections a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Everybody's.
    #[default]
    All,
    /// Of these users.
    Users(Vec<Range<u32>>),
    /// Of these groups.
    Groups(Vec<Range<u32>>),
}

/// A rule: all combinations of its items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Which end the member is.
    pub direction: Direction,
    /// What happens.
    pub verdict: Verdict,
    /// At least one.
    pub protocols: Vec<Protocol>,
    /// None are all.
    pub ports: Vec<Range<u16>>,
    /// None are all, of both families.
    pub addresses: Vec<IpNet>,
    /// Whose.
    pub owner: Owner,
}

/// A rule at its place in the order, and the setting that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub rule: Rule,
    /// What a comment says of it.
    pub cite: String,
}

/// A flow as a test asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Which end the member is.
    pub direction: Direction,
    /// Its protocol.
    pub protocol: Protocol,
    /// The other end.
    pub address: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// The user that opens it; `None` for one that no rule names.
    pub user: Option<u32>,
}

/// One item of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    protocol: Protocol,
    ports: Range<u16>,
    address: Option<IpNet>,
    owner: Option<(bool, Range<u32>)>,
}

impl Rule {
    /// A rule about TCP.
    #[must_use]
    pub fn tcp(direction: Direction, verdict: Verdict) -> Self {
        let protocols = vec![Protocol::Tcp];
        Self { direction, verdict, protocols, ports: Vec::new(), addresses: Vec::new(), owner: Owner::All }
    }

    /// The same about these ports.
    #[must_use]
    pub fn ports(mut self, ports: Vec<Range<u16>>) -> Self {
        self.ports = ports;
        self
    }

    /// The same about these addresses.
    #[must_use]
    pub fn addresses(mut self, addresses: Vec<IpNet>) -> Self {
        self.addresses = addresses;
        self
    }

    /// The same in TCP and UDP.
    #[must_use]
    pub fn both(mut self) -> Self {
        self.protocols = vec![Protocol::Tcp, Protocol::Udp];
        self
    }

    /// Whether it is about all TCP connections of its direction.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        let all = self.ports.is_empty() && self.addresses.is_empty() && self.owner == Owner::All;
        all && self.protocols.contains(&Protocol::Tcp)
    }

    /// How many items it has.
    #[must_use]
    pub fn size(&self) -> usize {
        let owners = match &self.owner {
            Owner::All => 1,
            Owner::Users(ids) | Owner::Groups(ids) => ids.len(),
        };
        [self.protocols.len(), self.ports.len(), self.addresses.len(), owners]
            .map(|side| side.max(1))
            .iter()
            .product()
    }

    /// Whether each item of another lies in one of its own.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let own = self.cells();
        self.direction == other.direction
            && other.cells().iter().all(|cell| own.iter().any(|own| own.contains(cell)))
    }

    /// The same in these protocols alone.
    #[must_use]
    pub fn of_protocols(&self, protocols: &[Protocol]) -> Self {
        let protocols =
            self.protocols.iter().copied().filter(|protocol| protocols.contains(protocol)).collect();
        Self { protocols, ..self.clone() }
    }

    fn owners(&self) -> Vec<Option<(bool, Range<u32>)>> {
        match &self.owner {
            Owner::All => vec![None],
            Owner::Users(ids) => ids.iter().map(|&id| Some((true, id))).collect(),
            Owner::Groups(ids) => ids.iter().map(|&id| Some((false, id))).collect(),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let ports = if self.ports.is_empty() { vec![(0, u16::MAX)] } else { self.ports.clone() };
        let addresses: Vec<Option<IpNet>> = match self.addresses.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let owners = self.owners();
        let mut cells = Vec::new();
        for &protocol in &self.protocols {
            for &ports in &ports {
                for &address in &addresses {
                    cells.extend(owners.iter().map(|&owner| Cell { protocol, ports, address, owner }));
                }
            }
        }
        cells
    }

    /// What both are about, with the verdict of the first; `None` where that is nothing.
    #[must_use]
    pub fn both_of(&self, other: &Self) -> Option<Self> {
        let protocols: Vec<Protocol> =
            self.protocols.iter().copied().filter(|it| other.protocols.contains(it)).collect();
        let ports = meet(&self.ports, &other.ports, |a, b| {
            let both = (a.0.max(b.0), a.1.min(b.1));
            (both.0 <= both.1).then_some(both)
        })?;
        let addresses = meet(&self.addresses, &other.addresses, |a, b| {
            if a.contains(b) { Some(*b) } else { b.contains(a).then_some(*a) }
        })?;
        let ids = |a: &[Range<u32>], b: &[Range<u32>]| {
            meet(a, b, |a, b| {
                let both = (a.0.max(b.0), a.1.min(b.1));
                (both.0 <= both.1).then_some(both)
            })
        };
        let owner = match (&self.owner, &other.owner) {
            (Owner::All, owner) | (owner, Owner::All) => owner.clone(),
            (Owner::Users(a), Owner::Users(b)) => Owner::Users(ids(a, b)?),
            (Owner::Groups(a), Owner::Groups(b)) => Owner::Groups(ids(a, b)?),
            // No mesh has lists of both.
            (Owner::Users(_), Owner::Groups(_)) | (Owner::Groups(_), Owner::Users(_)) => return None,
        };
        let some = !protocols.is_empty() && self.direction == other.direction;
        let (direction, verdict) = (self.direction, self.verdict);
        some.then_some(Self { direction, verdict, protocols, ports, addresses, owner })
    }

    /// Whether it is about a flow.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let owner = match &self.owner {
            Owner::All => true,
            Owner::Users(ids) => {
                flow.user.is_some_and(|user| ids.iter().any(|&(first, last)| (first..=last).contains(&user)))
            }
            Owner::Groups(_) => false,
        };
        owner
            && self.direction == flow.direction
            && self.protocols.contains(&flow.protocol)
            && (self.ports.is_empty()
                || self.ports.iter().any(|&(first, last)| (first..=last).contains(&flow.port)))
            && (self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&flow.address)))
    }
}

/// What two lists have in common, where an empty one has all; `None` where that is nothing.
fn meet<T: Clone + Ord>(a: &[T], b: &[T], both: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    match (a, b) {
        ([], all) | (all, []) => Some(all.to_vec()),
        (a, b) => {
            let mut common: Vec<T> = a.iter().flat_map(|a| b.iter().filter_map(|b| both(a, b))).collect();
            common.sort();
            common.dedup();
            (!common.is_empty()).then_some(common)
        }
    }
}

impl Cell {
    fn contains(&self, other: &Self) -> bool {
        let address = match (self.address, other.address) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(a), Some(b)) => a.contains(&b),
        };
        let owner = match (self.owner, other.owner) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((kind, a)), Some((other, b))) => kind == other && a.0 <= b.0 && b.1 <= a.1,
        };
        address
            && owner
            && self.protocol == other.protocol
            && self.ports.0 <= other.ports.0
            && other.ports.1 <= self.ports.1
    }
}

/// What happens to a flow: by the first layer that matches, else it goes straight.
#[must_use]
pub fn decide(layers: &[Layer], flow: &Flow) -> Verdict {
    layers.iter().find(|layer| layer.rule.matches(flow)).map_or(Verdict::Exclude, |layer| layer.rule.verdict)
}

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
    /// Its items that have none; all of them, if there are none.
    pub items: Vec<String>,
    /// What is looked at before.
    pub by: String,
}

struct Made<'l> {
    layer: &'l Layer,
    cells: Vec<Cell>,
    whole: usize,
}

/// Rules without an order that decide as the layers do.
#[must_use]
pub fn resolve(layers: &[Layer]) -> (Vec<Resolved>, Vec<Dead>) {
    let mut made: Vec<Made<'_>> = layers
        .iter()
        .map(|layer| {
            let cells = layer.rule.cells();
            Made { layer, whole: cells.len(), cells }
        })
        .collect();
    let mut dead = Vec::new();
    // What is looked at first leaves nothing of what lies within it and says otherwise.
    for at in 0..made.len() {
        let (before, from) = made.split_at_mut(at);
        let Some(now) = from.first_mut() else { break };
        for first in before.iter() {
            let (a, b) = (&first.layer.rule, &now.layer.rule);
            if a.direction != b.direction || a.verdict == b.verdict {
                continue;
            }
            let by = a.cells();
            let is_dead = |cell: &Cell| by.iter().any(|by| by.contains(cell));
            let items: Vec<String> = now.cells.iter().filter(|cell| is_dead(cell)).map(Cell::text).collect();
            if !items.is_empty() {
                now.cells.retain(|cell| !is_dead(cell));
                let items = if items.len() == now.whole { Vec::new() } else { items };
                dead.push(Dead { cite: now.layer.cite.clone(), items, by: first.layer.cite.clone() });
            }
        }
    }
    let mut rules = Vec::new();
    let mut places = Vec::new();
    for one in &made {
        let start = rules.len();
        let rule = &one.layer.rule;
        let cite = &one.layer.cite;
        rules.extend(remaining(rule, one).into_iter().map(|rule| Resolved {
            rule,
            cite: cite.clone(),
            meets: None,
        }));
        places.push(start..rules.len());
    }
    let own = rules.clone();
    for (first, one) in places.iter().enumerate() {
        for (high, a) in own.iter().enumerate().take(one.end).skip(one.start) {
            if a.rule.verdict == Verdict::Exclude {
                continue;
            }
            for low in places.iter().skip(first + 1).flat_map(Clone::clone) {
                let Some(b) = own.get(low).filter(|b| b.rule.verdict != a.rule.verdict) else { continue };
                let Some(rule) = a.rule.both_of(&b.rule) else { continue };
                let cite = format!("{}, which comes before {}", short(&a.cite), short(&b.cite));
                let both = Layer { rule, cite };
                // What an exclusion before them covers stays excluded: a narrower redirect would win.
                let mut cells = both.rule.cells();
                let whole = cells.len();
                for earlier in layers.iter().take(first) {
                    let rule = &earlier.rule;
                    if rule.direction == both.rule.direction && rule.verdict != both.rule.verdict {
                        let by = rule.cells();
                        cells.retain(|cell| !by.iter().any(|by| by.contains(cell)));
                    }
                }
                let made = Made { layer: &both, cells, whole };
                let left = remaining(&both.rule, &made).into_iter();
                rules.extend(left.map(|rule| Resolved {
                    rule,
                    cite: both.cite.clone(),
                    meets: Some((high, low)),
                }));
            }
        }
    }
    (rules, dead)
}

/// The setting alone, without its value.
#[must_use]
pub fn short(cite: &str) -> &str {
    cite.split_once(": ").map_or(cite, |(name, _)| name)
}

/// What is left of a rule, in as few rules as that takes.
fn remaining(rule: &Rule, made: &Made<'_>) -> Vec<Rule> {
    if made.cells.len() == made.whole {
        return vec![rule.clone()];
    }
    let mut rules: Vec<Rule> = Vec::new();
    for cell in &made.cells {
        let ports = if cell.ports == (0, u16::MAX) { Vec::new() } else { vec![cell.ports] };
        let owner = match cell.owner {
            None => Owner::All,
            Some((true, ids)) => Owner::Users(vec![ids]),
            Some((false, ids)) => Owner::Groups(vec![ids]),
        };
        let (direction, verdict) = (rule.direction, rule.verdict);
        let (protocols, addresses) = (vec![cell.protocol], cell.address.into_iter().collect());
        let one = Rule { direction, verdict, protocols, ports, addresses, owner };
        match rules.iter_mut().find(|into| into.takes(&one)) {
            Some(into) => into.join(one),
            None => rules.push(one),
        }
    }
    rules
}

impl Rule {
    /// Whether another is the same but for one side, so that both are one rule.
    fn takes(&self, other: &Self) -> bool {
        let same = [
            self.protocols == other.protocols,
            self.ports == other.ports,
            self.addresses == other.addresses,
            self.owner == other.owner,
        ];
        same.iter().filter(|same| !**same).count() <= 1
            && self.ports.is_empty() == other.ports.is_empty()
            && self.addresses.is_empty() == other.addresses.is_empty()
            && self.owner == other.owner
    }

    fn join(&mut self, other: Self) {
        let add = |list: &mut Vec<_>, more: Vec<_>| {
            list.extend(more);
            list.sort();
            list.dedup();
        };
        add(&mut self.ports, other.ports);
        self.addresses.extend(other.addresses);
        self.addresses.sort();
        self.addresses.dedup();
        self.protocols.extend(other.protocols);
        self.protocols.sort();
        self.protocols.dedup();
    }
}

impl Cell {
    fn text(&self) -> String {
        let ports = (self.ports != (0, u16::MAX)).then(|| range(self.ports));
        let address = self.address.map(|net| prefix(&net));
        let parts: Vec<String> = [ports, address].into_iter().flatten().collect();
        parts.join(" to ")
    }
}

/// `80` or `80-90`.
#[must_use]
pub fn range<T: PartialEq + std::fmt::Display>((first, last): Range<T>) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `10.0.0.0/8`, and an address without its length.
#[must_use]
pub fn prefix(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (rules, dead) = resolve(&layers);
        assert_eq!(rules[1].rule.addresses, nets("172.16.0.0/12"));
        assert_eq!(
            dead,
            [Dead { cite: "i".into(), items: vec!["10.1.0.0/16".into()], by: "x: 10/8".into() }]
        );
    }

    #[test]
    fn a_redirect_that_comes_first_wins_where_both_meet() {
        let layers = [
            layer("dns", Rule::tcp(OUT, Verdict::Redirect(53)).ports(vec![(53, 53)]).both()),
            layer("x: 10/8", Rule::tcp(OUT, Verdict::Exclude).addresses(nets("10.0.0.0/8"))),
        ];
        let (rules, _) = resolve(&layers);
        let meeting = &rules[2];
        assert_eq!(
            (meeting.rule.ports.as_slice(), &meeting.rule.addresses),
            (&[(53, 53)][..], &nets("10.0.0.0/8"))
        );
        assert_eq!(meeting.rule.protocols, [Protocol::Tcp]);
        assert_eq!((meeting.meets, meeting.cite.as_str()), (Some((0, 1)), "dns, which comes before x"));
    }
}
