//! What a ruleset does to new connections of a member: its chains are walked with all of them at once, and what is decided on
//! the way is a layer.
//!
//! A layer decides for what it is about unless an earlier one does. So where a rule asks for an opposite, or leads back, what
//! goes on elsewhere is walked to its end first; what is left then needs no opposites.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};

use super::ruleset::{Chain, Family, Is, Match, Rule, Ruleset, Target};
use crate::chain::{Item, Layer, Owner, Rule as Part, Verdict, disjoint, lies_apart};
use crate::value::interfaces;

/// Rules that are looked at in one direction at the most, each time that they are.
const MOST: usize = 50_000;

/// Layers of one direction at the most.
const MOST_LAYERS: usize = 2_000;

/// How deep chains may lead into each other.
const DEEPEST: usize = 64;

/// What became of rules, by their place in the ruleset. `None` for one that decides; else why it does not.
pub type Fates = BTreeMap<*const Rule, Option<&'static str>>;

/// A layer, and the rules whose doing it is: none, where it is a chain's policy.
#[derive(Clone, Debug)]
pub struct Made {
    /// The layer.
    pub layer: Layer,
    /// The rules.
    pub by: BTreeSet<*const Rule>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Walked {
    /// Layers in order.
    pub made: Vec<Made>,
    /// Interfaces whose traffic is left alone before anything else, and the rules that say so.
    pub interfaces: Vec<(String, *const Rule)>,
    /// Whether it was given up: there is no end of it.
    pub is_endless: bool,
}

/// Walks all chains that a family's packets go through in a direction.
pub fn walk(ruleset: &Ruleset, family: Family, direction: Direction, fates: &mut Fates) -> Walked {
    let ways = ruleset.ways(family, direction);
    let mut walk = Walk {
        ruleset,
        family,
        direction,
        ways,
        fates,
        walked: Walked::default(),
        path: Vec::new(),
        by: None,
        steps: 0,
        decided: 0,
    };
    let all = Part::tcp(direction, Verdict::Exclude).both();
    walk.next(0, &all, 0);
    walk.walked
}

/// Where a chain returns to.
#[derive(Clone, Copy)]
struct Up<'r, 'u> {
    chain: &'r Chain,
    at: usize,
    up: Option<&'u Self>,
}

struct Walk<'r, 'f> {
    ruleset: &'r Ruleset,
    family: Family,
    direction: Direction,
    /// Chains that the kernel calls, in order.
    ways: Vec<&'r Chain>,
    fates: &'f mut Fates,
    walked: Walked,
    /// The rules that led here.
    path: Vec<&'r Rule>,
    /// The rule that left the chains whose ends are reached.
    by: Option<&'r Rule>,
    steps: usize,
    /// How often something was decided that was not before.
    decided: usize,
}

/// What the matches of a rule come to, for a direction.
enum Asked {
    /// All of this, and none of these.
    Holds { part: Part, none_of: Vec<Part> },
    /// What goes by an interface, and else nothing is asked.
    Interface(String),
    /// No new connection of a member that a policy decides about; and why.
    Never(&'static str),
    /// What a policy has no words for.
    Unknown(&'static str),
}

impl<'r> Walk<'r, '_> {
    /// Goes through the chains that the kernel calls from one on; behind the last, a connection goes straight.
    fn next(&mut self, way: usize, part: &Part, deep: usize) {
        match self.ways.get(way).copied() {
            Some(chain) => self.resume(chain, 0, part, None, way, deep),
            None => {
                let cite =
                    self.by.map_or_else(|| "at the end of all chains".to_owned(), |rule| rule.setting.cite());
                self.decide(Verdict::Exclude, part, &cite, self.by);
            }
        }
    }

    /// Goes on in a chain, and from its end to where it returns to, until all is decided.
    fn resume(
        &mut self,
        chain: &'r Chain,
        at: usize,
        part: &Part,
        up: Option<&Up<'r, '_>>,
        way: usize,
        deep: usize,
    ) {
        if deep > DEEPEST {
            self.walked.is_endless = true;
        }
        if self.walked.is_endless || self.through(chain, at, part, up, way, deep + 1) {
            return;
        }
        self.leave(part, up, way, deep);
    }

    /// What happens at the end of a chain that the kernel calls.
    fn policy(&mut self, part: &Part, way: usize, deep: usize) {
        match self.ways.get(way).copied().filter(|chain| chain.drops) {
            Some(chain) => {
                let of = self.ruleset.chains.iter().find(|(_, found)| std::ptr::eq(*found, chain));
                let name = of.map_or_else(String::new, |((_, table, name), _)| format!("{table} {name}"));
                self.decide(Verdict::Deny, part, &format!("the policy of {name}: DROP"), None);
            }
            None => self.next(way + 1, part, deep + 1),
        }
    }

    /// Goes through the rules of a chain from one on. False where its end is reached with something undecided.
    fn through(
        &mut self,
        chain: &'r Chain,
        from: usize,
        part: &Part,
        up: Option<&Up<'r, '_>>,
        way: usize,
        deep: usize,
    ) -> bool {
        for (at, rule) in chain.rules.iter().enumerate().skip(from) {
            self.steps += 1;
            if self.steps > MOST || self.walked.made.len() > MOST_LAYERS || deep > DEEPEST {
                self.walked.is_endless = true;
            }
            if self.walked.is_endless {
                return true;
            }
            if let Target::Nothing(why) = rule.target {
                self.is_not(rule, why.unwrap_or("it only counts"));
                continue;
            }
            let (asked, none_of) = match self.asked(rule) {
                Asked::Holds { part, none_of } => (part, none_of),
                Asked::Never(why) | Asked::Unknown(why) => {
                    self.is_not(rule, why);
                    continue;
                }
                Asked::Interface(name) => {
                    self.interface(name, rule, part);
                    continue;
                }
            };
            let Some(inner) = part.both_of(&asked) else { continue };
            if none_of.iter().any(|opposite| opposite.covers(&inner)) {
                continue;
            }
            if let Target::Unknown(why) = rule.target {
                self.is_not(rule, why);
                continue;
            }
            let kept = self.by;
            self.by = kept.or(Some(rule));
            for opposite in none_of.iter().filter_map(|opposite| inner.both_of(opposite)) {
                self.resume(chain, at + 1, &opposite, up, way, deep + 1);
            }
            self.by = kept;
            let is_all = none_of.is_empty() && asked.covers(part);
            let is_done = self.act(rule, &inner, is_all, (chain, at, up), way, deep);
            if is_all {
                match is_done {
                    Some(true) => return true,
                    // Back to where it was jumped from, with all that came in.
                    None => return false,
                    Some(false) => {}
                }
            }
        }
        false
    }

    /// What a rule does to what it matches. True where all of it is decided, false where it goes on with the next rule, `None`
    /// where it goes back.
    fn act(
        &mut self,
        rule: &'r Rule,
        part: &Part,
        is_all: bool,
        (chain, at, up): (&'r Chain, usize, Option<&Up<'r, '_>>),
        way: usize,
        deep: usize,
    ) -> Option<bool> {
        let (kept, before) = (self.by, self.decided);
        match &rule.target {
            Target::Drop => self.decide_by(Verdict::Deny, part, rule, is_all),
            Target::Redirect(port) => self.redirect(*port, part, rule, is_all),
            Target::Accept => {
                self.by = Some(rule);
                self.next(way + 1, part, deep + 1);
                self.by = kept;
            }
            Target::Return => {
                if is_all {
                    self.fates.insert(rule, None);
                    return None;
                }
                self.by = Some(rule);
                self.leave(part, up, way, deep);
                self.by = kept;
            }
            Target::Jump(name) | Target::Goto(name) => {
                let Some(to) = self.ruleset.named(chain, name) else {
                    self.is_not(rule, "it has a target that a policy has no words for");
                    return Some(false);
                };
                self.fates.insert(rule, None);
                self.path.push(self.doer(rule, is_all));
                let is_goto = matches!(rule.target, Target::Goto(_));
                let back = Up { chain, at: at + 1, up };
                let is_done =
                    self.through(to, 0, part, if is_goto { up } else { Some(&back) }, way, deep + 1);
                if !is_done && is_goto {
                    self.leave(part, up, way, deep);
                }
                self.path.pop();
                return Some(is_done || is_goto);
            }
            Target::Nothing(_) | Target::Unknown(_) => return Some(false),
        }
        if self.decided > before {
            self.fates.insert(rule, None);
        } else {
            self.is_not(rule, "rules before it decide about all of that");
        }
        Some(true)
    }

    /// Goes on where a chain returns to.
    fn leave(&mut self, part: &Part, up: Option<&Up<'r, '_>>, way: usize, deep: usize) {
        match up {
            Some(up) => self.resume(up.chain, up.at, part, up.up, way, deep + 1),
            None => self.policy(part, way, deep + 1),
        }
    }

    /// The rule that a comment names: of one that asks for nothing itself, what led to it.
    fn doer(&self, rule: &'r Rule, is_all: bool) -> &'r Rule {
        self.path.last().copied().filter(|_| is_all).unwrap_or(rule)
    }

    fn decide_by(&mut self, verdict: Verdict, part: &Part, rule: &'r Rule, is_all: bool) {
        let doer = self.doer(rule, is_all);
        self.decide(verdict, part, &doer.setting.cite(), Some(doer));
    }

    fn redirect(&mut self, port: u16, part: &Part, rule: &'r Rule, is_all: bool) {
        let mut part = part.clone();
        if self.direction == Direction::Inbound && part.protocols.contains(&Protocol::Udp) {
            part = part.of_protocols(&[Protocol::Tcp]);
            if part.protocols.is_empty() {
                return self.is_not(rule, "what comes in by UDP cannot be redirected");
            }
        }
        self.decide_by(Verdict::Redirect(port), &part, rule, is_all);
    }

    /// Notes why a rule decides nothing, unless it does elsewhere.
    fn is_not(&mut self, rule: &Rule, why: &'static str) {
        self.fates.entry(rule).or_insert(Some(why));
    }

    /// The next layer, unless all of it is decided before.
    fn decide(&mut self, verdict: Verdict, part: &Part, cite: &str, by: Option<&'r Rule>) {
        let rule = Part { verdict, ..part.clone() };
        if self.walked.made.iter().any(|made| made.layer.rule.covers(&rule)) {
            return;
        }
        self.decided += 1;
        let by = by.map(std::ptr::from_ref).into_iter();
        if let Some(last) = self.walked.made.last_mut()
            && let Some(one) = one_of(&last.layer.rule, &rule)
        {
            last.layer.rule = one;
            last.by.extend(by);
            return;
        }
        let layer = Layer { rule, cite: cite.to_owned() };
        self.walked.made.push(Made { layer, by: by.collect() });
    }

    /// What goes by an interface is left alone in all directions, or not at all.
    fn interface(&mut self, name: String, rule: &Rule, part: &Part) {
        let leaves_alone = matches!(rule.target, Target::Accept | Target::Return);
        let is_first = self.walked.made.iter().all(|made| made.layer.rule.verdict == Verdict::Exclude);
        if leaves_alone && is_first && part.is_catch_all() {
            self.walked.interfaces.push((name, std::ptr::from_ref(rule)));
        } else {
            self.is_not(rule, OF_AN_INTERFACE);
        }
    }

    fn asked(&self, rule: &Rule) -> Asked {
        let is_out = self.direction == Direction::Outbound;
        let mut part = Part::tcp(self.direction, Verdict::Exclude).both();
        let all = part.clone();
        let mut none_of = Vec::new();
        let mut interface = None;
        let mut never = None;
        let mut unknown = None;
        for asked in &rule.matches {
            let one = match asked {
                Match::Always => continue,
                Match::Unknown(why) => One::Unknown(why),
                Match::Protocol(protocols) if protocols.is_empty() => One::Never(OTHER_PROTOCOL),
                Match::Protocol(protocols) => {
                    One::Part(Part { protocols: protocols.clone(), ..all.clone() }, Is::So)
                }
                Match::Port(ports, is) => {
                    // Nothing goes to port 0.
                    let some = ports.iter().filter(|(_, last)| *last > 0);
                    let ports = disjoint(some.map(|&(first, last)| (first.max(1), last)).collect());
                    match ports.is_empty() {
                        true => truth(*is == Is::Not, "nothing goes to port 0"),
                        false => One::Part(all.clone().ports(ports), *is),
                    }
                }
                Match::Source(nets, is) | Match::Destination(nets, is) => {
                    let is_remote = matches!(asked, Match::Destination(..)) == is_out;
                    let own_family =
                        |net: &&IpNet| matches!(net, IpNet::V6(_)) == (self.family == Family::V6);
                    let nets: Vec<IpNet> = nets.iter().filter(own_family).copied().collect();
                    match (nets.is_empty(), is_remote) {
                        (true, _) => One::Never("it is of the other family"),
                        (false, true) => remote(&all, &nets, *is),
                        (false, false) => own(&nets, *is),
                    }
                }
                Match::LocalDestination(is) => truth((*is == Is::So) != is_out, is_own(is_out)),
                Match::User(ids, is) if is_out => {
                    One::Part(all.clone().owner(Owner::users(disjoint(ids.clone()))), *is)
                }
                Match::Group(ids, is) if is_out => {
                    One::Part(all.clone().owner(Owner::groups(disjoint(ids.clone()))), *is)
                }
                Match::Cgroup(cgroups, is) if is_out && cgroups.iter().all(|path| is_path(path)) => {
                    One::Part(
                        all.clone().owner(Owner { cgroups: disjoint(cgroups.clone()), ..Owner::default() }),
                        *is,
                    )
                }
                Match::User(..) | Match::Group(..) | Match::Cgroup(..) => {
                    One::Unknown("it asks who gets a connection, which is not known when one comes in")
                }
                Match::Leaves(name, is) if is_out => by_interface(name, *is, &mut interface),
                Match::Arrives(name, is) if !is_out => by_interface(name, *is, &mut interface),
                Match::Leaves(..) | Match::Arrives(..) => One::Unknown(OF_AN_INTERFACE),
                Match::Marked(is) => truth(*is == Is::Not, MARKED),
                Match::Known(is) => truth(*is == Is::Not, KNOWN),
            };
            match one {
                One::Never(why) => never = never.or(Some(why)),
                One::Unknown(why) => unknown = unknown.or(Some(why)),
                One::Always => {}
                One::Part(opposite, Is::Not) => none_of.push(opposite),
                One::Part(more, Is::So) => match part.both_of(&more) {
                    Some(both) => part = both,
                    None => never = never.or(Some("what it asks for excludes itself")),
                },
            }
        }
        match (never, unknown, interface) {
            (Some(why), ..) => Asked::Never(why),
            (None, Some(why), _) => Asked::Unknown(why),
            (None, None, Some(name)) if part == all && none_of.is_empty() => Asked::Interface(name),
            (None, None, Some(_)) => Asked::Unknown(OF_AN_INTERFACE),
            (None, None, None) => Asked::Holds { part, none_of },
        }
    }
}

const OTHER_PROTOCOL: &str = "it is of a protocol that is neither TCP nor UDP, and a policy is about these";
const LOOPBACK: &str =
    "loopback, multicast, link-local and own addresses go straight unless a rule names them";
const MARKED: &str =
    "it is of packets that a process marks: exempt that process, by its user, group or cgroup";
const KNOWN: &str = "it is of connections that are there: a policy decides once, when one begins";
pub const OF_AN_INTERFACE: &str =
    "it is of one interface in one direction: `exempt interface` leaves alone what goes by one in both";
const OWN: &str = "it asks for an address of the member itself, which a policy does not know";

const fn is_own(is_out: bool) -> &'static str {
    if is_out {
        LOOPBACK
    } else {
        "it is of what is passed on, and a policy is about what members send and get"
    }
}

/// What one match comes to.
enum One {
    Always,
    Never(&'static str),
    Unknown(&'static str),
    Part(Part, Is),
}

const fn truth(holds: bool, why: &'static str) -> One {
    if holds { One::Always } else { One::Never(why) }
}

/// The other end's address.
fn remote(all: &Part, nets: &[IpNet], is: Is) -> One {
    // What lies apart is decided apart.
    let rest: Vec<IpNet> = nets.iter().copied().filter(|net| !lies_apart(net)).collect();
    match (rest.is_empty(), is) {
        (true, is) => truth(is == Is::Not, LOOPBACK),
        (false, is) if rest.iter().any(|net| net.prefix_len() == 0) => {
            truth(is == Is::So, "what it asks for excludes itself")
        }
        (false, is) => One::Part(all.clone().addresses(disjoint(rest)), is),
    }
}

/// An address of the member's own: of what goes over loopback, another.
fn own(nets: &[IpNet], is: Is) -> One {
    if nets.iter().any(|net| net.prefix_len() == 0) {
        return truth(is == Is::So, "what it asks for excludes itself");
    }
    if nets.iter().all(lies_apart) { truth(is == Is::Not, LOOPBACK) } else { One::Unknown(OWN) }
}

fn by_interface(name: &str, is: Is, interface: &mut Option<String>) -> One {
    match (name, is) {
        ("lo" | "lo*", is) => truth(is == Is::Not, LOOPBACK),
        ("*" | "", is) => truth(is == Is::So, "what it asks for excludes itself"),
        (name, Is::So) if interface.is_none() && is_interface(name) => {
            *interface = Some(name.to_owned());
            One::Always
        }
        _ => One::Unknown(OF_AN_INTERFACE),
    }
}

/// Whether a policy takes this for interfaces. A last `*` is a last `+` where names are read.
fn is_interface(name: &str) -> bool {
    let listed = name.strip_suffix('*').map_or_else(|| name.to_owned(), |name| format!("{name}+"));
    let found = interfaces(&listed);
    found.bad.is_empty() && found.items.len() == 1
}

/// Whether a policy takes this for the path of a cgroup.
fn is_path(path: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
    };
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
}

/// Two rules that are the same but for one list, as one.
pub fn one_of(a: &Part, b: &Part) -> Option<Part> {
    joined(a, b, |rule| &mut rule.ports)
        .or_else(|| joined(a, b, |rule| &mut rule.addresses))
        .or_else(|| joined(a, b, |rule| &mut rule.owner.users))
        .or_else(|| joined(a, b, |rule| &mut rule.owner.groups))
        .or_else(|| joined(a, b, |rule| &mut rule.protocols))
}

/// The same, where it is this list.
fn joined<T: Item>(a: &Part, b: &Part, list: fn(&mut Part) -> &mut Vec<T>) -> Option<Part> {
    let (mut one, mut other) = (a.clone(), b.clone());
    let theirs = std::mem::replace(list(&mut other), list(&mut one).clone());
    let own = list(&mut one);
    if other != *a || own.is_empty() != theirs.is_empty() {
        return None;
    }
    own.extend(theirs);
    *own = disjoint(std::mem::take(own));
    Some(one)
}
