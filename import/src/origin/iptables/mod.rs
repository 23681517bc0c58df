//! Rules of `iptables` and `nft`, as their own programs list them: what they do to the connections of a member.
//!
//! Rules of both families are walked ([`walk`]), put in one order, and who goes straight in any case is made exempt.

mod nft;
mod ruleset;
mod save;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_bpf::flow::Direction;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::source::{FileId, Sources, Span};

use self::ruleset::{Family, Hook, Rule, Ruleset, refused};
use self::walk::{Fates, Made, OF_AN_INTERFACE, Walked, one_of, walk};
use super::{Fate, Found, leaves_alone};
use crate::chain::{Layer, Owner, Rule as Part, Verdict, resolve};
use crate::settings::{Became, Chain, Exempt, Report};

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a member's own go straight.",
    "What comes from elsewhere to a port that only outbound redirects lead to is denied.",
    "Where the rules of one family alone are given, the other is as that. `--as-it-behaves` leaves it alone.",
];

/// Chains that meshes make, and what reads the settings that these are made of.
const MESHES: [(&str, &str, &str); 6] = [
    ("ISTIO_OUTPUT", "Istio", "istio"),
    ("PROXY_INIT_OUTPUT", "Linkerd", "linkerd"),
    ("KUMA_MESH_OUTBOUND", "Kuma", "kuma"),
    ("MESH_OUTBOUND", "Kuma", "kuma"),
    ("OSM_PROXY_OUTBOUND", "OSM", "osm"),
    ("CONSUL_PROXY_OUTPUT", "Consul", "consul"),
];

/// Rules that a comment names, of those that are written for one reason.
const NAMED: usize = 6;

/// Reads listings, and what they come to.
///
/// # Errors
/// Where a file is no such listing, or has no end.
pub fn read(sources: &Sources, as_it_behaves: bool, report: &mut Report) -> Result<Found, Vec<Diagnostic>> {
    let mut ruleset = Ruleset::default();
    let mut errors = Vec::new();
    let mut is_nft = false;
    for (id, source) in sources.iter() {
        let is_json = source.text.trim_start().starts_with(['{', '[']);
        is_nft |= is_json;
        let read = if is_json {
            nft::read(id, &source.name, &source.text, &mut ruleset)
        } else {
            save::read(id, &source.name, &source.text, &mut ruleset)
                .map_err(|bad| refused(bad.span, &bad.why))
        };
        errors.extend(read.err());
    }
    if errors.is_empty() && ruleset.chains.is_empty() {
        let nowhere = Span { file: FileId::new(0), start: 0, end: 0 };
        errors.extend(sources.iter().take(1).map(|_| refused(nowhere, "there is no table in it")));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let Some(chain) = chain(&ruleset, as_it_behaves, report) else {
        let first = ruleset.rules().find_map(|(_, rule)| rule.setting.span);
        let why = "its chains lead into each other without end, or into more rules than a policy could have";
        return Err(first.map(|span| refused(span, why)).into_iter().collect());
    };
    let title = if is_nft { "nftables" } else { "iptables" };
    Ok(Found {
        title,
        mesh: "iptables",
        fates: vec![Fate::Member(chain)],
        namespaces: BTreeMap::new(),
        opt_out: None,
        differences: DIFFERENCES,
    })
}

/// What a member is under; `None` where there is no end of it.
fn chain(ruleset: &Ruleset, as_it_behaves: bool, report: &mut Report) -> Option<Chain> {
    let mut fates = Fates::new();
    let mut layers = Vec::new();
    let mut interfaces: Vec<Vec<(String, *const Rule)>> = Vec::new();
    for direction in [Direction::Outbound, Direction::Inbound] {
        let mut walked = |family| walk(ruleset, family, direction, &mut fates);
        let (v4, v6) = (walked(Family::V4), walked(Family::V6));
        if v4.is_endless || v6.is_endless {
            return None;
        }
        let is_there = |family: Family| {
            let of = |chain: &&ruleset::Chain| chain.family == family || chain.family == Family::Both;
            ruleset.chains.values().filter(of).any(|chain| !chain.rules.is_empty())
        };
        interfaces.push(both_have(&v4, &v6, is_there(Family::V4), is_there(Family::V6)));
        layers.extend(match (is_there(Family::V4), is_there(Family::V6)) {
            (true, true) => merged(v4.made, v6.made),
            (true, false) => alone(v4.made, as_it_behaves.then_some("::/0"), direction),
            (false, true) => alone(v6.made, as_it_behaves.then_some("0.0.0.0/0"), direction),
            (false, false) => Vec::new(),
        });
    }
    let mut chain = Chain::default();
    exempt_interfaces(ruleset, &interfaces, &mut fates, &mut chain);
    exempt_owners(&mut layers, &mut fates, &mut chain);
    needed(&mut layers, &mut fates);
    chain.layers = layers.into_iter().map(cited).collect();
    resolve(&chain.layers)?;
    tell(ruleset, &fates, report, &mut chain);
    Some(chain)
}

/// A layer with what its comment says of the rules that it was joined with.
fn cited(made: Made) -> Layer {
    let mut layer = made.layer;
    let more = made.by.len().saturating_sub(1);
    if more > 0 {
        let rules = if more == 1 { "rule" } else { "rules" };
        layer.cite = format!("{}, and {more} {rules} more", layer.cite);
    }
    layer
}

/// Layers of one family, with none for the other, or one that leaves the other alone.
fn alone(made: Vec<Made>, other: Option<&str>, direction: Direction) -> Vec<Made> {
    let rules = other.into_iter().flat_map(leaves_alone).filter(|rule| rule.direction == direction);
    let cite = "no rules of this family are given";
    let first = rules.map(|rule| Made { layer: Layer { rule, cite: cite.to_owned() }, by: BTreeSet::new() });
    first.chain(made).collect()
}

/// Layers of both families, in an order that is right for each. Those that are the same in both are one.
fn merged(v4: Vec<Made>, v6: Vec<Made>) -> Vec<Made> {
    let same = |a: &Made, b: &Made| a.layer.rule == b.layer.rule && a.layer.rule.addresses.is_empty();
    // The longest run of layers that both have: how long it is from each pair on.
    let width = v6.len() + 1;
    let mut longest = vec![0_u32; (v4.len() + 1) * width];
    let at = |i: usize, j: usize| i * width + j;
    let get = |longest: &[u32], i: usize, j: usize| longest.get(at(i, j)).copied().unwrap_or(0);
    for (i, a) in v4.iter().enumerate().rev() {
        for (j, b) in v6.iter().enumerate().rev() {
            let most = if same(a, b) {
                get(&longest, i + 1, j + 1) + 1
            } else {
                get(&longest, i + 1, j).max(get(&longest, i, j + 1))
            };
            if let Some(place) = longest.get_mut(at(i, j)) {
                *place = most;
            }
        }
    }
    let mut merged: Vec<Made> = Vec::new();
    let mut put = |mut made: Made, family: Option<&str>| {
        if made.layer.rule.addresses.is_empty() {
            made.layer.rule.addresses.extend(family.and_then(|family| family.parse::<IpNet>().ok()));
        }
        if let Some(last) = merged.last_mut()
            && let Some(one) = one_of(&last.layer.rule, &made.layer.rule)
        {
            last.layer.rule = one;
            last.by.extend(made.by);
            return;
        }
        merged.push(made);
    };
    let (mut i, mut j) = (0, 0);
    let (mut v4, mut v6) = (v4.into_iter().peekable(), v6.into_iter().peekable());
    loop {
        match (v4.peek(), v6.peek()) {
            (Some(a), Some(b)) if same(a, b) => {
                let of_v6 = v6.next().map(|made| made.by).unwrap_or_default();
                if let Some(mut made) = v4.next() {
                    made.by.extend(&of_v6);
                    put(made, None);
                }
                (i, j) = (i + 1, j + 1);
            }
            (Some(_), b) if b.is_none() || get(&longest, i + 1, j) >= get(&longest, i, j + 1) => {
                v4.next().into_iter().for_each(|made| put(made, Some("0.0.0.0/0")));
                i += 1;
            }
            (_, Some(_)) => {
                v6.next().into_iter().for_each(|made| put(made, Some("::/0")));
                j += 1;
            }
            (_, None) => break,
        }
    }
    merged
}

/// Interfaces that are left alone in each family that has rules.
fn both_have(v4: &Walked, v6: &Walked, has_v4: bool, has_v6: bool) -> Vec<(String, *const Rule)> {
    let names =
        |walked: &Walked| walked.interfaces.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
    let (of_v4, of_v6) = (names(v4), names(v6));
    let all = v4.interfaces.iter().chain(&v6.interfaces);
    all.filter(|(name, _)| (!has_v4 || of_v4.contains(name)) && (!has_v6 || of_v6.contains(name)))
        .cloned()
        .collect()
}

/// Makes interfaces exempt that are left alone in both directions.
fn exempt_interfaces(
    ruleset: &Ruleset,
    directions: &[Vec<(String, *const Rule)>],
    fates: &mut Fates,
    chain: &mut Chain,
) {
    let [out, into] = directions else { return };
    let mut names: BTreeMap<&str, &Rule> = BTreeMap::new();
    for (_, rule) in ruleset.rules() {
        let place = std::ptr::from_ref(rule);
        let of = |list: &[(String, *const Rule)]| {
            list.iter().find(|(_, by)| *by == place).map(|(name, _)| name.clone())
        };
        let Some(name) = of(out).or_else(|| of(into)) else { continue };
        let in_both = [out, into].iter().all(|list| list.iter().any(|(other, _)| *other == name));
        fates.entry(place).or_insert(Some(OF_AN_INTERFACE));
        if in_both {
            fates.insert(place, None);
            let known = out.iter().find(|(other, _)| *other == name);
            if let Some((name, _)) = known {
                names.entry(name).or_insert(rule);
            }
        }
    }
    for (name, rule) in names {
        chain.exempts.push((Exempt::Interfaces(vec![name.to_owned()]), rule.setting.cite()));
    }
}

/// Makes users and groups exempt that go straight whatever they open. Where there is none, but some whom rules leave alone
/// after others have decided, these are: they are whose traffic is to come from a sidecar.
fn exempt_owners(layers: &mut Vec<Made>, fates: &mut Fates, chain: &mut Chain) {
    let out = |made: &&Made| made.layer.rule.direction == Direction::Outbound;
    let is_one = |owner: &Owner| {
        let lists = [owner.users.is_empty(), owner.groups.is_empty(), owner.cgroups.is_empty()];
        lists.iter().filter(|is_empty| !**is_empty).count() == 1 && owner.cgroups.is_empty()
    };
    let candidates: Vec<(Owner, String)> = (layers.iter().filter(out))
        .filter(|made| made.layer.rule.verdict == Verdict::Exclude && is_one(&made.layer.rule.owner))
        .flat_map(|made| {
            let owner = &made.layer.rule.owner;
            let users = owner.users.iter().map(|id| Owner::users(vec![*id]));
            let groups = owner.groups.iter().map(|id| Owner::groups(vec![*id]));
            users.chain(groups).map(|owner| (owner, made.layer.cite.clone())).collect::<Vec<_>>()
        })
        .collect();
    let mut exempt: Vec<(Owner, String)> =
        candidates.iter().filter(|(owner, _)| goes_straight(layers, owner)).cloned().collect();
    let redirects = layers
        .iter()
        .filter(out)
        .any(|made| made.layer.rule.verdict.is_redirect() && made.layer.rule.owner.is_all());
    if exempt.is_empty() && redirects {
        let all = |owner: &Owner, cite: &str| {
            let bare = layers.iter().find(|made| made.layer.rule.owner == *owner && made.layer.cite == cite);
            bare.is_some_and(|made| made.layer.rule.ports.is_empty() && made.layer.rule.addresses.is_empty())
        };
        exempt = candidates.into_iter().filter(|(owner, cite)| all(owner, cite)).collect();
        for (_, cite) in &exempt {
            chain
                .notes
                .push(format!("{cite}: exempt from all rules, also from those that come before this one"));
        }
    }
    let mut seen = BTreeSet::new();
    let mut passed: BTreeSet<*const Rule> = BTreeSet::new();
    for (owner, cite) in exempt {
        if !seen.insert(owner.clone()) {
            continue;
        }
        // No rule decides about them any more.
        layers.retain_mut(|made| {
            let of = &mut made.layer.rule.owner;
            let (users, groups) = (of.users.len(), of.groups.len());
            of.users.retain(|id| !owner.users.contains(id));
            of.groups.retain(|id| !owner.groups.contains(id));
            let is_left = (users == 0 || !of.users.is_empty()) && (groups == 0 || !of.groups.is_empty());
            if !is_left && made.layer.rule.verdict != Verdict::Exclude {
                passed.extend(&made.by);
            }
            is_left
        });
        let users = owner.users.iter().map(|id| Exempt::Uid(*id));
        let groups = owner.groups.iter().map(|id| Exempt::Gid(*id));
        chain.exempts.extend(users.chain(groups).map(|exempt| (exempt, cite.clone())));
    }
    left_out(&passed, "it is about those alone who are exempt here from all rules", layers, fates);
}

/// Notes why rules are not written whose layers were left out, unless others of theirs are left.
fn left_out(rules: &BTreeSet<*const Rule>, why: &'static str, layers: &[Made], fates: &mut Fates) {
    for rule in rules.iter().filter(|rule| !layers.iter().any(|made| made.by.contains(*rule))) {
        fates.insert(*rule, Some(why));
    }
}

/// Whether nothing happens to what these open.
fn goes_straight(layers: &[Made], owner: &Owner) -> bool {
    let all = Part::tcp(Direction::Outbound, Verdict::Exclude).both().owner(owner.clone());
    layers.iter().enumerate().all(|(at, made)| {
        let rule = &made.layer.rule;
        if rule.verdict == Verdict::Exclude {
            return true;
        }
        let Some(own) = rule.both_of(&all) else { return true };
        let before = layers.iter().take(at).map(|made| &made.layer.rule);
        let mut left = vec![own];
        for before in before.filter(|before| before.verdict == Verdict::Exclude) {
            left = left.iter().flat_map(|rule| rule.without(before)).collect();
        }
        left.is_empty()
    })
}

/// Leaves out what leaves alone what nothing behind it would catch.
fn needed(layers: &mut Vec<Made>, fates: &mut Fates) {
    let mut needless: BTreeSet<*const Rule> = BTreeSet::new();
    let mut at = layers.len();
    while at > 0 {
        at -= 1;
        let Some(made) = layers.get(at) else { continue };
        let rule = &made.layer.rule;
        let mut behind = layers.iter().skip(at + 1).map(|made| &made.layer.rule);
        let catches = |other: &Part| other.verdict != Verdict::Exclude && other.both_of(rule).is_some();
        if rule.verdict == Verdict::Exclude && !behind.any(catches) {
            needless.extend(&made.by);
            layers.remove(at);
        }
    }
    left_out(&needless, "what it leaves alone goes straight in any case", layers, fates);
}

/// What became of each rule: in the report, and in comments by the reason.
fn tell(ruleset: &Ruleset, fates: &Fates, report: &mut Report, chain: &mut Chain) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for ((_, _, name), of) in &ruleset.chains {
        known.extend(MESHES.iter().find(|(own, ..)| own == name).map(|(own, ..)| *own));
        for rule in &of.rules {
            let passing = matches!(of.hook, Some((Hook::Elsewhere, _)));
            let nobody = if passing {
                "nothing is decided there about a connection of a member"
            } else {
                "no new connection of a member comes to it"
            };
            match fates.get(&std::ptr::from_ref(rule)).copied().unwrap_or(Some(nobody)) {
                None => report.add(&rule.setting, Became::Rule, ""),
                Some(why) => {
                    report.add(&rule.setting, Became::Comment, why);
                    reasons.entry(why).or_default().push(rule.setting.cite());
                }
            }
        }
    }
    for (why, rules) in reasons {
        let some: Vec<&str> = rules.iter().take(NAMED).map(String::as_str).collect();
        let more = rules.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        chain.notes.push(format!("{}{more}: {why}", some.join(", ")));
    }
    for (own, title, word) in MESHES.iter().filter(|(own, ..)| known.contains(own)) {
        chain.notes.push(format!(
            "{own}: {title} made these rules; `meshc import {word}` reads the settings that they are made of, and keeps the \
             pods apart"
        ));
    }
}
