//! Where each rule stands: what all workloads share in the mesh, what several share in a `for`, the rest in their blocks.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};

use crate::chain::{Dead, Layer, Resolved, Rule, Verdict, lies_apart, prefix, resolve, short};
use crate::settings::{Chain, Exempt};

/// Something that stands in a policy, with what a comment says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// A comment of its own.
    Note(String),
    /// Who is exempt.
    Exempt(Exempt),
    /// A rule. Where it stands for what two others have in common, these.
    Rule(Box<(Rule, Option<(Rule, Rule)>)>),
}

impl Line {
    fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Rule(rule) => Some(&rule.0),
            Self::Note(_) | Self::Exempt(_) => None,
        }
    }
}

/// A line and its comment.
pub type Cited = (Line, String);

/// Everything at its place.
#[derive(Debug, Default)]
pub struct Placed {
    /// Of all workloads.
    pub mesh: Vec<Cited>,
    /// Of several.
    pub shared: Vec<(BTreeSet<usize>, Vec<Cited>)>,
    /// Of one each.
    pub own: Vec<Vec<Cited>>,
}

/// Places what the workloads are under: the chain of each.
pub fn place(chains: &[Chain], of: &[usize]) -> Placed {
    let catch_alls = [Direction::Outbound, Direction::Inbound].map(|direction| usual(chains, of, direction));
    let made: Vec<Made> = chains.iter().map(|chain| make(chain, &catch_alls)).collect();
    let mut sets: BTreeMap<&Line, (BTreeSet<usize>, BTreeSet<&str>, usize)> = BTreeMap::new();
    for (workload, &chain) in of.iter().enumerate() {
        let Some(made) = made.get(chain) else { continue };
        for (at, (line, cite)) in made.lines.iter().enumerate() {
            let (set, cites, order) = sets.entry(line).or_default();
            set.insert(workload);
            cites.insert(cite);
            *order = (*order).max(at);
        }
    }
    let based = |direction: Direction| -> BTreeSet<usize> {
        let is_based = |chain: &usize| made.get(*chain).is_some_and(|made| made.based.contains(&direction));
        of.iter().enumerate().filter(|(_, chain)| is_based(chain)).map(|(at, _)| at).collect()
    };
    let (out, into) = (based(Direction::Outbound), based(Direction::Inbound));
    let everybody: BTreeSet<usize> = (0..of.len()).collect();
    let everywhere = |line: &Line, set: &BTreeSet<usize>| -> bool {
        if set.len() == of.len() {
            return true;
        }
        let Line::Rule(rule) = line else { return false };
        let (rule, meets) = &**rule;
        let based = if rule.direction == Direction::Outbound { &out } else { &into };
        let rest: Vec<usize> = everybody.difference(set).copied().collect();
        if meets.is_some() || !rest.iter().all(|one| based.contains(one)) {
            return false;
        }
        // Where nothing else is redirected a block says so, and a redirect of the mesh does not reach into it. What the mesh
        // excludes changes nothing there unless the block redirects some of it.
        rule.verdict.is_redirect()
            || rest.iter().filter_map(|&one| made.get(*of.get(one)?)).all(|made| {
                let rules = made.lines.iter().filter_map(|(line, _)| line.rule());
                rules.filter(|own| own.verdict.is_redirect()).all(|own| own.both_of(rule).is_none())
            })
    };
    let scope = |line: &Line, set: &BTreeSet<usize>| -> BTreeSet<usize> {
        if everywhere(line, set) { everybody.clone() } else { set.clone() }
    };
    let scopes: BTreeMap<&Line, BTreeSet<usize>> =
        sets.iter().map(|(line, (set, ..))| (*line, scope(line, set))).collect();
    let mut placed = Placed { own: vec![Vec::new(); of.len()], ..Placed::default() };
    let mut by_set: BTreeMap<BTreeSet<usize>, Vec<(usize, Cited)>> = BTreeMap::new();
    let mut needless = BTreeSet::new();
    for line in sets.keys() {
        if is_needless(line, &scopes, &needless) {
            needless.insert(*line);
        }
    }
    for (line, (set, cites, order)) in &sets {
        if needless.contains(line) {
            continue;
        }
        let set = scopes.get(line).unwrap_or(set).clone();
        by_set.entry(set).or_default().push((*order, ((*line).clone(), cited(cites))));
    }
    for (set, mut lines) in by_set {
        lines.sort();
        let lines = lines.into_iter().map(|(_, line)| line).collect();
        if set == everybody {
            placed.mesh = lines;
        } else if set.len() > 1 {
            placed.shared.push((set, lines));
        } else if let Some(own) = set.first().and_then(|&one| placed.own.get_mut(one)) {
            *own = lines;
        }
    }
    placed
}

/// Items of a rule up to which others are looked at that make it needless.
const LOOKED_AT: usize = 64;

/// Whether what a line says, where it stands for what two rules have in common, is said by another rule of the first of
/// them that stands as near as the second: that rule wins by itself.
fn is_needless(line: &Line, scopes: &BTreeMap<&Line, BTreeSet<usize>>, needless: &BTreeSet<&Line>) -> bool {
    let Line::Rule(rule) = line else { return false };
    let (meeting, Some((high, low))) = &**rule else { return false };
    if meeting.size() > LOOKED_AT || low.size() > LOOKED_AT {
        return false;
    }
    // The second itself stands for nothing else, or it would not be looked at.
    let low_line = Line::Rule(Box::new((low.clone(), None)));
    let (Some(own), Some(of_low)) = (scopes.get(line), scopes.get(&low_line)) else { return false };
    let stands_for_it = |other: &Line, scope: &BTreeSet<usize>| {
        let Line::Rule(other_rule) = other else { return false };
        let (other_rule, other_meets) = &**other_rule;
        let is_of_high = match other_meets {
            None => other_rule == high,
            Some((first, _)) => first == high,
        };
        is_of_high
            && other != line
            && !needless.contains(other)
            && own.is_subset(scope)
            && scope.is_subset(of_low)
            && other_rule.size() <= LOOKED_AT
            && other_rule.covers(meeting)
            && low.covers(&other_rule.of_protocols(&meeting.protocols))
    };
    scopes.iter().any(|(other, scope)| stands_for_it(other, scope))
}

/// What comments say of one rule, where settings of several names or values make it.
fn cited(cites: &BTreeSet<&str>) -> String {
    let some: Vec<&str> = cites.iter().take(2).copied().collect();
    let more = cites.len().saturating_sub(2);
    let more = if more > 0 { format!(", and {more} more ways to say it") } else { String::new() };
    format!("{}{more}", some.join("; "))
}

/// What is said of what a block excludes at the end, where the mesh redirects everything.
const BASE: &str = "nothing else is redirected here";

/// What a chain makes.
struct Made {
    lines: Vec<Cited>,
    /// Directions in which a block says that nothing else is redirected.
    based: Vec<Direction>,
}

/// The catch-all of most workloads, which the mesh has.
fn usual(chains: &[Chain], of: &[usize], direction: Direction) -> Option<Rule> {
    let mut counts: BTreeMap<&Rule, usize> = BTreeMap::new();
    for rule in of.iter().filter_map(|&chain| catch_all(chains.get(chain)?, direction)) {
        *counts.entry(rule).or_default() += 1;
    }
    let (rule, count) = counts.into_iter().max_by_key(|&(_, count)| count)?;
    (count * 2 >= of.len() || count > 1).then(|| rule.clone())
}

fn catch_all(chain: &Chain, direction: Direction) -> Option<&Rule> {
    let rules = chain.layers.iter().map(|layer| &layer.rule).filter(|rule| rule.direction == direction);
    rules.rev().find(|rule| rule.is_catch_all() && rule.verdict.is_redirect())
}

fn make(chain: &Chain, usual: &[Option<Rule>]) -> Made {
    let (mut layers, notes) = without_apart(&chain.layers);
    let mut based = Vec::new();
    for usual in usual.iter().flatten() {
        if catch_all(chain, usual.direction).is_none() {
            let rule = Rule { verdict: Verdict::Exclude, ..usual.clone() }.both();
            layers.push(Layer { rule, cite: BASE.to_owned() });
            based.push(usual.direction);
        }
    }
    let (resolved, dead) = resolve(&layers).unwrap_or_default();
    let mut lines: Vec<Cited> =
        chain.notes.iter().map(|note| (Line::Note(note.clone()), String::new())).collect();
    lines.extend(notes.into_iter().map(|note| (Line::Note(note), String::new())));
    lines.extend(dead.iter().map(|dead| (Line::Note(told(dead)), String::new())));
    lines.extend(chain.exempts.iter().map(|(exempt, cite)| (Line::Exempt(exempt.clone()), cite.clone())));
    for Resolved { rule, cite, meets } in &resolved {
        let rule_at = |at: usize| resolved.get(at).map(|resolved| resolved.rule.clone());
        let of_base = meets.and_then(|(high, low)| {
            let is_base = resolved.get(low)?.cite == BASE;
            resolved.get(high).filter(|_| is_base).map(|high| high.cite.clone())
        });
        let meets = meets.and_then(|(high, low)| Some((rule_at(high)?, rule_at(low)?)));
        lines.push((Line::Rule(Box::new((rule.clone(), meets))), of_base.unwrap_or_else(|| cite.clone())));
    }
    Made { lines, based }
}

/// Layers without addresses that go straight unless a rule names them: nothing is to be excluded there, and a redirect would
/// catch what no mesh means.
fn without_apart(layers: &[Layer]) -> (Vec<Layer>, Vec<String>) {
    let mut kept = Vec::new();
    let mut notes = Vec::new();
    for layer in layers {
        let mut layer = layer.clone();
        let (apart, rest): (Vec<IpNet>, Vec<IpNet>) =
            layer.rule.addresses.iter().partition(|net| lies_apart(net));
        if !apart.is_empty() {
            let items: Vec<String> = apart.iter().map(prefix).collect();
            let cite = &layer.cite;
            let why = "loopback, multicast and link-local addresses go straight unless a rule redirects them";
            notes.push(format!("{} of {cite} is not written: {why}", few(&items, 0)));
            if rest.is_empty() {
                continue;
            }
        }
        layer.rule.addresses = rest;
        kept.push(layer);
    }
    (kept, notes)
}

fn told(dead: &Dead) -> String {
    let what =
        if dead.items.is_empty() { String::new() } else { format!("{} of ", few(&dead.items, dead.more)) };
    format!("{what}{} is not written: {} covers it and comes first", short(&dead.cite), short(&dead.by))
}

fn few(items: &[String], more: usize) -> String {
    let more = more.saturating_add(items.len().saturating_sub(5));
    let some: Vec<&str> = items.iter().take(5).map(String::as_str).collect();
    if more > 0 { format!("{} and {more} more", some.join(", ")) } else { some.join(", ") }
}

/// Whether UDP is redirected without a port by any of these.
pub fn redirects_all_udp(chains: &[Chain]) -> bool {
    let rules = chains.iter().flat_map(|chain| &chain.layers).map(|layer| &layer.rule);
    rules.clone().any(|rule| {
        rule.verdict.is_redirect() && rule.protocols.contains(&Protocol::Udp) && rule.ports.is_empty()
    })
}
