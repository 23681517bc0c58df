//! What a policy means at every port of one address, by the evaluator.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{MapImage, Source, SourceId};
use mesh_bpf::intern::Interner;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_hir::item::{self, BuiltIn};
use mesh_hir::region::real_ports;
use mesh_hir::{PortItem, Program, Rule, Scope, ScopeId, Who};

use crate::bounds::FlowBox;
use crate::eval::{Contender, Winner, by_port, join};

/// A set of boxes that one rule writes at each of its prefixes.
pub(super) type SetId = u32;

/// The boxes of all rules, without their addresses.
pub(super) struct Boxes<'p> {
    boxes: Vec<PlainBox<'p>>,
    /// Whether one of them is not about everybody.
    names_processes: bool,
    sets: Interner<Vec<u32>>,
    set_of_rule: Vec<SetId>,
    /// For each direction and scope its rules.
    rules: [Vec<Vec<usize>>; 2],
    built_ins: BTreeMap<BuiltIn, Option<SourceId>>,
    no_rule: Option<SourceId>,
}

/// A box without its address.
struct PlainBox<'p> {
    scope: &'p Scope,
    always: bool,
    verdict: Verdict,
    protocol: Protocol,
    ports: PortSet,
    who: &'p Who,
    source: Source,
    /// Its source in the image, if it is there.
    id: Option<SourceId>,
}

/// What is expected on a stretch of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) verdict: Verdict,
    /// Who is to be credited; none where the image does not know it.
    pub(super) source: Option<SourceId>,
    /// How many prefixes above the innermost its own is.
    pub(super) up: usize,
    /// A redirect that ties with it and leads elsewhere.
    pub(super) tied: Option<Tied>,
}

/// A redirect that ties with the one that is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tied {
    number: u32,
    /// How many prefixes above the innermost its own is.
    pub(super) up: usize,
}

/// Where redirects lead to.
#[derive(Default)]
pub(super) struct SidecarPorts {
    all: BTreeSet<u16>,
    led_to: BTreeSet<(Direction, Protocol, u16)>,
}

impl SidecarPorts {
    fn is_outbound_only(&self, protocol: Protocol, port: u16) -> bool {
        let led_to = |direction| self.led_to.contains(&(direction, protocol, port));
        led_to(Direction::Outbound) && !led_to(Direction::Inbound)
    }
}

/// The prefixes around an address, the innermost first, each with the sets of boxes written there.
pub(super) struct Around<'a> {
    pub(super) levels: Vec<(Prefix, &'a [SetId])>,
    /// What decides where no box matches.
    pub(super) default: Option<BuiltIn>,
}

impl<'p> Boxes<'p> {
    pub(super) fn of(program: &'p Program, image: &MapImage) -> Self {
        let ids: BTreeMap<&Source, SourceId> = image.sources.iter().zip((0u32..).map(SourceId)).collect();
        let mut plain = Interner::default();
        let mut boxes = Vec::new();
        let mut sets = Interner::default();
        let mut rules = [0, 1].map(|_| vec![Vec::new(); program.scopes.len()]);
        let mut set_of_rule = Vec::with_capacity(program.rules.len());
        let mut known = HashMap::new();
        for (index, rule) in program.rules.iter().enumerate() {
            let lists = rules.get_mut(rule.direction as usize);
            if let Some(list) = lists.and_then(|lists| lists.get_mut(rule.scope.index())) {
                list.push(index);
            }
            // Rules that share their ports and their processes write the same boxes.
            let lists = [rule.ports.key(), rule.who.key()];
            let said = (rule.scope, rule.always, rule.direction, rule.verdict, lists);
            if let Some(&set) = known.get(&said) {
                set_of_rule.push(set);
                continue;
            }
            let mut set: Vec<u32> = Vec::with_capacity(rule.ports.len());
            for (ports, who) in rule.boxes() {
                let said = (rule.scope, rule.always, rule.direction, rule.verdict);
                let number = plain.intern((said, ports.protocol, &ports.ports, who));
                if number as usize == boxes.len() {
                    boxes.extend(plain_box(program, rule, (ports, who), &ids));
                }
                set.push(number);
            }
            set.sort_unstable();
            set.dedup();
            let set = sets.intern(set);
            known.insert(said, set);
            set_of_rule.push(set);
        }
        let built_ins = BuiltIn::ALL.map(|one| (one, ids.get(&one.source()).copied())).into();
        let no_rule = ids.get(&Source::default()).copied();
        let names_processes = boxes.iter().any(|plain| !plain.who.is_everybody());
        Self { boxes, names_processes, sets, set_of_rule, rules, built_ins, no_rule }
    }

    /// Every prefix that the rules of these scopes name, with the boxes that they write there: sorted and distinct.
    pub(super) fn written(
        &mut self,
        program: &Program,
        scopes: &[ScopeId],
        direction: Direction,
    ) -> Vec<(Prefix, SetId)> {
        // Rules that share their addresses are taken together.
        let mut together: BTreeMap<usize, (&Rule, Vec<SetId>)> = BTreeMap::new();
        let lists = self.rules.get(direction as usize);
        for &index in scopes.iter().filter_map(|scope| lists?.get(scope.index())).flatten() {
            if let (Some(rule), Some(&set)) = (program.rules.get(index), self.set_of_rule.get(index)) {
                together.entry(rule.addresses.key()).or_insert((rule, Vec::new())).1.push(set);
            }
        }
        let mut written = Vec::new();
        for (rule, sets) in together.into_values() {
            let set = self.union(sets);
            if rule.addresses.is_empty() {
                written.push((Prefix::Any, set));
            }
            written.extend(rule.addresses.iter().map(|address| (address.prefix, set)));
        }
        written.sort_unstable();
        written.dedup();
        written
    }

    /// What is left of `written` where, beside those of everybody, only boxes of these processes take part.
    pub(super) fn of_processes<'w>(
        &mut self,
        written: &'w [(Prefix, SetId)],
        whos: &BTreeSet<&Who>,
    ) -> Cow<'w, [(Prefix, SetId)]> {
        if !self.names_processes {
            return Cow::Borrowed(written);
        }
        let takes_part = |who: &Who| who.is_everybody() || whos.contains(who);
        let mut known: BTreeMap<SetId, Option<SetId>> = BTreeMap::new();
        let mut left = Vec::with_capacity(written.len());
        for &(prefix, set) in written {
            let set = *known.entry(set).or_insert_with(|| {
                let boxes = self.sets.values().get(set as usize).into_iter().flatten().copied();
                let of = |number: &u32| {
                    self.boxes.get(*number as usize).is_some_and(|plain| takes_part(plain.who))
                };
                let boxes: Vec<u32> = boxes.filter(of).collect();
                (!boxes.is_empty()).then(|| self.sets.intern(boxes))
            });
            left.extend(set.map(|set| (prefix, set)));
        }
        left.sort_unstable();
        left.dedup();
        Cow::Owned(left)
    }

    /// The boxes of all these sets.
    fn union(&mut self, mut sets: Vec<SetId>) -> SetId {
        sets.sort_unstable();
        sets.dedup();
        if let [only] = sets.as_slice() {
            return *only;
        }
        let boxes = sets.iter().filter_map(|&set| self.sets.values().get(set as usize)).flatten();
        let mut boxes: Vec<u32> = boxes.copied().collect();
        boxes.sort_unstable();
        boxes.dedup();
        self.sets.intern(boxes)
    }

    /// Ports that the rules of these scopes redirect to.
    pub(super) fn sidecar_ports(&self, program: &Program, scopes: &[ScopeId]) -> SidecarPorts {
        let mut ports = SidecarPorts::default();
        let lists =
            self.rules.iter().flat_map(|lists| scopes.iter().filter_map(|scope| lists.get(scope.index())));
        let rules = lists.flatten().filter_map(|&index| program.rules.get(index));
        for (rule, port) in rules.filter_map(|rule| Some((rule, rule.verdict.port()?))) {
            ports.all.insert(port);
            for protocol in rule.ports.iter().map(|item| item.protocol) {
                ports.led_to.insert((rule.direction, protocol, port));
            }
        }
        ports
    }

    /// What is expected at every port from 1 on.
    pub(super) fn expected(
        &self,
        around: &Around<'_>,
        protocol: Protocol,
        sidecar_ports: &SidecarPorts,
    ) -> Vec<(u16, Expected)> {
        let mut present = self.present(around, protocol);
        present.sort_by_key(|one| item::order(&one.plain.source, one.prefix));
        let source = |built_in| self.built_ins.get(&built_in).copied().flatten();
        let default = around.default.map_or(self.no_rule, source);
        let default = Expected { verdict: Verdict::Excluded, source: default, up: 0, tied: None };
        let all = winners(&present);
        if sidecar_ports.all.is_empty() {
            return all.iter().map(|&(port, won)| (port, outcome(won, default))).collect();
        }
        let elsewhere = !matches!(around.default, Some(BuiltIn::OwnAddress | BuiltIn::Loopback));
        let belonging = |port| elsewhere && sidecar_ports.is_outbound_only(protocol, port);
        let own: PortSet = sidecar_ports
            .all
            .iter()
            .copied()
            .filter(|&port| belonging(port))
            .map(PortRange::single)
            .collect();
        let left = |stays: &dyn Fn(&PlainBox<'_>) -> bool| {
            winners(&present.iter().copied().filter(|one| stays(one.plain)).collect::<Vec<_>>())
        };
        let straight = left(&|one| one.verdict.port().is_none());
        let inside = left(&|one| match one.verdict {
            Verdict::Redirected { .. } => false,
            Verdict::Excluded => own.covers(&one.ports),
            Verdict::Denied => true,
        });
        let both = join(&all, &straight, |all, straight| (all, straight));
        let three = join(&both, &inside, |both, inside| (both, inside));
        let steps = steps_of(&sidecar_ports.all);
        let at = |port| (sidecar_ports.all.contains(&port), own.contains(port));
        let steps: Vec<_> = steps.into_iter().map(|port| (port, at(port))).collect();
        let closed = |verdict, by| Expected { verdict, source: source(by), up: 0, tied: None };
        join(&three, &steps, |((all, straight), inside), (is_sidecar, is_own)| {
            match (is_sidecar, is_own, straight) {
                (false, _, _) => outcome(all, default),
                (true, true, _) => outcome(inside, closed(Verdict::Denied, BuiltIn::OutboundPort)),
                (true, false, None) if all.is_some() => closed(Verdict::Excluded, BuiltIn::SidecarPort),
                (true, false, straight) => outcome(straight, default),
            }
        })
    }

    /// The boxes of one protocol around an address.
    fn present(&self, around: &Around<'_>, protocol: Protocol) -> Vec<Present<'_>> {
        let mut numbers: BTreeSet<(usize, u32)> = BTreeSet::new();
        for (up, (_, sets)) in around.levels.iter().enumerate() {
            let written = sets.iter().filter_map(|&set| self.sets.values().get(set as usize)).flatten();
            numbers.extend(written.map(|&number| (up, number)));
        }
        (numbers.into_iter())
            .filter_map(|(up, number)| {
                let plain = self.boxes.get(number as usize).filter(|plain| plain.protocol == protocol)?;
                Some(Present { plain, number, up, prefix: around.levels.get(up)?.0 })
            })
            .collect()
    }

    /// What a tied redirect wants, and what it is credited as.
    pub(super) fn tied(&self, tied: Tied) -> Option<(Verdict, &Source)> {
        self.boxes.get(tied.number as usize).map(|plain| (plain.verdict, &plain.source))
    }
}

/// A box that holds an address.
#[derive(Clone, Copy)]
struct Present<'b> {
    plain: &'b PlainBox<'b>,
    /// Its place among all boxes.
    number: u32,
    up: usize,
    prefix: Prefix,
}

/// Who wins at every port; `present` is in the order of credit.
fn winners<'b>(present: &[Present<'b>]) -> Vec<(u16, Option<Won<'b>>)> {
    let contender = |one: &Present<'b>| Contender {
        bounds: FlowBox {
            scope: one.plain.scope,
            ports: &one.plain.ports,
            prefix: one.prefix,
            who: one.plain.who,
        },
        always: one.plain.always,
        verdict: one.plain.verdict,
    };
    let contenders: Vec<Contender<'_>> = present.iter().map(contender).collect();
    let winners = by_port(&contenders);
    winners.into_iter().map(|(port, won)| (port, won.and_then(|won| Won::of(present, won)))).collect()
}

/// A winner; the same box at another port is the same winner.
#[derive(Clone, Copy)]
struct Won<'b> {
    one: Present<'b>,
    tied: Option<Tied>,
}

impl<'b> Won<'b> {
    fn of(present: &[Present<'b>], winner: Winner) -> Option<Self> {
        let tied = winner.tied.and_then(|index| present.get(index));
        let tied = tied.map(|other| Tied { number: other.number, up: other.up });
        Some(Self { one: *present.get(winner.index)?, tied })
    }
}

impl PartialEq for Won<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.one.number, self.one.up, self.tied) == (other.one.number, other.one.up, other.tied)
    }
}

fn outcome(won: Option<Won<'_>>, default: Expected) -> Expected {
    won.map_or(default, |Won { one, tied }| Expected {
        verdict: one.plain.verdict,
        source: one.plain.id,
        up: one.up,
        tied,
    })
}

/// Where it may change whether a port is one of these.
fn steps_of(ports: &BTreeSet<u16>) -> BTreeSet<u16> {
    let around = ports.iter().flat_map(|&port| [Some(port), port.checked_add(1)]).flatten();
    around.chain([1]).collect()
}

fn plain_box<'p>(
    program: &'p Program,
    rule: &Rule,
    (ports, who): (&PortItem, &'p Who),
    ids: &BTreeMap<&Source, SourceId>,
) -> Option<PlainBox<'p>> {
    let source = item::rule_source(program, rule, ports, who);
    Some(PlainBox {
        scope: program.scopes.get(rule.scope.index())?,
        always: rule.always,
        verdict: rule.verdict,
        protocol: ports.protocol,
        ports: real_ports(&ports.ports),
        who,
        id: ids.get(&source).copied(),
        source,
    })
}
