//! The compiled output changes only where the meaning does, and an edit of one item changes few lines: held over
//! random policies and random edits.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is the test")]

#[path = "../src/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_bpf::image::{MapImage, SourceId};
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_compiler::compile::compile;
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::resolve::{Location, NoImports};
use proptest::prelude::*;
use similar::{ChangeTag, TextDiff};

use random::Random;

/// A policy that can be edited.
#[derive(Clone, Debug)]
struct Policy {
    /// Names and addresses.
    sets: Vec<(String, Vec<String>)>,
    /// Names and ports.
    port_sets: Vec<(String, Vec<String>)>,
    /// Rules at top level.
    top: Vec<Rule>,
    /// Rules of the mesh.
    mesh: Vec<Rule>,
    workloads: Vec<(String, Vec<Rule>)>,
}

#[derive(Clone, Debug)]
struct Rule {
    verb: &'static str,
    direction: &'static str,
    /// A set's name, or `tcp`, `udp` or `any` and ports.
    ports: String,
    /// A set's name, or prefixes.
    addresses: Vec<String>,
}

impl Rule {
    fn text(&self) -> String {
        let Self { verb, direction, ports, addresses } = self;
        let preposition = if *direction == "outbound" { "to" } else { "from" };
        let mut text = format!("{verb} {direction} {ports}").trim_end().to_owned();
        if !addresses.is_empty() {
            write!(text, " {preposition} {}", addresses.join(", ")).unwrap();
        }
        if verb.ends_with("redirect") {
            text.push_str(if *direction == "outbound" { " -> 15001" } else { " -> 15003" });
        }
        text
    }
}

impl Policy {
    fn text(&self) -> String {
        let mut text = "exempt uid 1500\nredirect outbound -> 15001\n".to_owned();
        for rule in &self.top {
            writeln!(text, "{}", rule.text()).unwrap();
        }
        for (name, addresses) in &self.sets {
            writeln!(text, "set {name} = {}", addresses.join(", ")).unwrap();
        }
        for (name, ports) in &self.port_sets {
            writeln!(text, "set {name} = tcp {}", ports.join(", ")).unwrap();
        }
        text.push_str("mesh shop {\n");
        for rule in &self.mesh {
            writeln!(text, "  {}", rule.text()).unwrap();
        }
        for (name, rules) in &self.workloads {
            writeln!(text, "  workload {name} {{\n    namespace of-{name}").unwrap();
            for rule in rules {
                writeln!(text, "    {}", rule.text()).unwrap();
            }
            text.push_str("  }\n");
        }
        text + "}\n"
    }

    /// All lists of rules.
    fn scopes(&mut self) -> Vec<&mut Vec<Rule>> {
        let workloads = self.workloads.iter_mut().map(|(_, rules)| rules);
        [&mut self.top, &mut self.mesh].into_iter().chain(workloads).collect()
    }

    fn rename_set(&mut self, old: &str, new: &str) {
        let sets = self.sets.iter_mut().chain(&mut self.port_sets);
        for (name, _) in sets.filter(|(name, _)| name == old) {
            *name = new.to_owned();
        }
        for rule in self.scopes().into_iter().flatten() {
            for word in rule.addresses.iter_mut().chain([&mut rule.ports]).filter(|word| *word == old) {
                *word = new.to_owned();
            }
        }
    }
}

impl Random {
    /// Mostly apart from all others, sometimes within others or around them.
    fn prefix(&mut self) -> String {
        let (high, low) = (self.below(4), self.below(200));
        match self.below(12) {
            0 => format!("10.{high}.0.0/16"),
            1 => format!("10.{high}.{low}.7"),
            2 => format!("fd00:{high}:{low}::/48"),
            _ => format!("10.{high}.{low}.0/24"),
        }
    }

    fn prefixes(&mut self, count: usize) -> Vec<String> {
        let mut all: Vec<String> = (0..count).map(|_| self.prefix()).collect();
        all.sort();
        all.dedup();
        all
    }

    fn ports(&mut self) -> String {
        let port = 1 + self.below(60) * 100;
        let protocol = self.of(&["tcp", "tcp", "udp", "any"]);
        match self.below(8) {
            0 => String::new(),
            1 => protocol.to_owned(),
            2 => "databases".to_owned(),
            3 => format!("{protocol} not {port}"),
            4 => format!("{protocol} {port}-{}", port + 50),
            5 => format!("{protocol} {port}, {}", port + 7),
            _ => format!("{protocol} {port}"),
        }
    }

    fn rule(&mut self, sets: usize) -> Rule {
        let addresses = match self.below(4) {
            0 => vec![format!("set{}", self.below(sets))],
            1 => {
                let count = 1 + self.below(3);
                self.prefixes(count)
            }
            _ => Vec::new(),
        };
        let verb = self.of(&["exclude", "exclude", "deny", "redirect", "always deny"]);
        let direction = self.of(&["outbound", "outbound", "inbound"]);
        let ports = if verb == "redirect" && direction == "inbound" { "tcp".into() } else { self.ports() };
        Rule { verb, direction, ports, addresses }
    }

    fn policy(&mut self) -> Policy {
        let sets = 1 + self.below(3);
        let rules = |random: &mut Self, most: usize| -> Vec<Rule> {
            (0..random.below(most + 1)).map(|_| random.rule(sets)).collect()
        };
        Policy {
            sets: (0..sets)
                .map(|set| {
                    let count = self.of(&[1, 3, 8, 60]);
                    (format!("set{set}"), self.prefixes(count))
                })
                .collect(),
            port_sets: vec![("databases".into(), vec!["3306".into(), "5432".into(), "6379-6380".into()])],
            top: rules(self, 4),
            mesh: rules(self, 8),
            workloads: (0..1 + self.below(5))
                .map(|workload| (format!("w{workload}"), rules(self, 3)))
                .collect(),
        }
    }

    /// The policy with one item edited, and what was done.
    fn edited(&mut self, policy: &Policy) -> (Policy, String) {
        let mut new = policy.clone();
        let set = self.below(new.sets.len());
        let scope = self.below(2 + new.workloads.len());
        let (prefix, rule) = (self.prefix(), self.rule(policy.sets.len()));
        let kind = self.below(8);
        let list = &mut new.sets[set].1;
        let at = self.below(list.len());
        let done = match kind {
            0 => {
                list.push(prefix);
                "a prefix more in a set"
            }
            1 if list.len() > 1 => {
                list.remove(at);
                "a prefix less in a set"
            }
            2 => {
                list[at] = prefix;
                "another prefix in a set"
            }
            3 => {
                new.port_sets[0].1.push("7000".into());
                "a port more in a set"
            }
            4 => {
                new.scopes()[scope].push(rule);
                "a rule more"
            }
            5 => {
                new.scopes()[scope].pop();
                "a rule less"
            }
            6 => {
                if let Some(rule) = new.scopes()[scope].last_mut() {
                    rule.ports = "tcp 8443".into();
                }
                "another port of a rule"
            }
            _ => {
                if let Some(rule) = new.scopes()[scope].last_mut() {
                    rule.addresses = vec![prefix];
                }
                "another address of a rule"
            }
        };
        (new, done.to_owned())
    }
}

/// In the place of a protocol: the prefix is there because of the item, which need not decide anything.
const MADE: usize = 2;

/// Own or not, prefix, protocol, ports.
type Box = (bool, Prefix, usize, PortRange);

struct Compiled {
    image: MapImage,
    sets: Sets,
}

impl Compiled {
    fn text(&self) -> String {
        emit(&self.image, &self.sets)
    }

    /// Which flows each item decides, and which prefixes it is credited with, by the profile and its direction.
    fn decided(&self) -> BTreeMap<(&str, usize, SourceId), BTreeSet<Box>> {
        let mut decided: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for profile in &self.image.profiles {
            for (direction, side) in profile.sides.iter().enumerate() {
                let own = side.own.iter().map(|node| (true, node));
                for (own, node) in side.tree.iter().map(|node| (false, node)).chain(own) {
                    let made = (own, node.prefix, MADE, PortRange::ALL);
                    decided.entry((profile.name.as_str(), direction, node.source)).or_default().insert(made);
                    for (protocol, table) in node.ports.iter().enumerate() {
                        for (range, decision) in self.image.port_table(*table).unwrap().ranges() {
                            let key = (profile.name.as_str(), direction, decision.source);
                            decided.entry(key).or_default().insert((own, node.prefix, protocol, range));
                        }
                    }
                }
            }
        }
        decided
    }

    /// How many items decide other flows, or are credited with other prefixes, here than there.
    fn items_that_differ(&self, other: &Self) -> usize {
        let by_credit = |of: &Self| -> BTreeMap<_, _> {
            let credit = |source| of.image.source(source).credit(Prefix::Any);
            let decided = of.decided().into_iter();
            decided
                .map(|((name, direction, source), flows)| {
                    ((name.to_owned(), direction, credit(source)), flows)
                })
                .collect()
        };
        let (here, there) = (by_credit(self), by_credit(other));
        let keys: BTreeSet<_> = here.keys().chain(there.keys()).collect();
        keys.into_iter().filter(|key| here.get(key) != there.get(key)).count()
    }

    /// Lines of the sections of a profile.
    fn lines_of(&self, profile: &str) -> usize {
        let text = self.text();
        let quoted = format!("\"{profile}\"");
        let is_of = |section: &&str| section.lines().next().unwrap_or_default().contains(&quoted);
        text.split("\n\n").filter(is_of).map(|section| section.lines().count() + 1).sum()
    }
}

/// `None` for a policy that is refused.
fn compiled(policy: &Policy) -> Option<Compiled> {
    let place = Location { key: "a".into(), name: "a.mesh".into() };
    let done = compile(vec![(place, policy.text().into_bytes())], &mut NoImports, None);
    let sets = Sets::of(&done.resolution.program);
    Some(Compiled { image: done.compiled?.image, sets })
}

fn changed(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(old, new);
    let changes = diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal);
    changes.map(|change| format!("{}{change}", change.tag())).collect()
}

/// Whether a line is a prefix alone.
fn is_of_list(line: &str) -> bool {
    let inside = line.get(1..).and_then(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    inside.is_some_and(|text| text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/')))
}

/// Lines that may change for each item that decides other flows than before, or is credited with other prefixes: its
/// rule and its entries, before and after, and what is told beside them.
const LINES: usize = 6;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_of_one_item_changes_few_lines(seed in 1u64..) {
        let mut random = Random::new(seed);
        let old = random.policy();
        let (new, done) = random.edited(&old);
        let (Some(before), Some(after)) = (compiled(&old), compiled(&new)) else { return Ok(()) };
        let changed = changed(&before.text(), &after.text());
        let names = |of: &Compiled| -> BTreeSet<String> {
            of.image.profiles.iter().map(|profile| profile.name.clone()).collect()
        };
        let (old_names, new_names) = (names(&before), names(&after));
        // A workload with its first rule of its own gets a profile of its own, one with none is of its mesh's again.
        let gone: usize = old_names.difference(&new_names).map(|name| before.lines_of(name)).sum();
        let come: usize = new_names.difference(&old_names).map(|name| after.lines_of(name)).sum();
        let items = before.items_that_differ(&after);
        // What a part of a set decides apart from the rest is a list, and comes and goes with that.
        let told: Vec<&String> = changed.iter().filter(|line| !is_of_list(line)).collect();
        prop_assert!(
            told.len() <= LINES * (1 + items) + gone + come,
            "{done} changes {} lines for {items} items:\n{}\n{}\n{}",
            told.len(), changed.concat(), old.text(), new.text()
        );
    }

    #[test]
    fn texts_differ_exactly_where_images_do(seed in 1u64..) {
        let mut random = Random::new(seed);
        let old = random.policy();
        let (new, done) = random.edited(&old);
        let (Some(before), Some(after)) = (compiled(&old), compiled(&new)) else { return Ok(()) };
        let none = Sets::default();
        let bare = (emit(&before.image, &none), emit(&after.image, &none));
        prop_assert_eq!(bare.0 == bare.1, before.image == after.image, "{} {}", done, old.text());
        let is_same = before.image == after.image && before.sets == after.sets;
        prop_assert_eq!(before.text() == after.text(), is_same, "{} {}", done, old.text());
    }

    #[test]
    fn a_rename_moves_lines_and_rewrites_no_others(seed in 1u64..) {
        let mut random = Random::new(seed);
        let old = random.policy();
        let mut new = old.clone();
        let (from, to) = (["w0", "set0", "databases"][random.below(3)], ["aaa", "zzz"][random.below(2)]);
        new.rename_set(from, to);
        if let Some((name, _)) = new.workloads.iter_mut().find(|(name, _)| name == from) {
            *name = to.to_owned();
        }
        let (Some(before), Some(after)) = (compiled(&old), compiled(&new)) else { return Ok(()) };
        let sorted = |text: &str| {
            let mut words: Vec<char> = text.chars().collect();
            words.sort_unstable();
            words
        };
        // A name that sorts elsewhere moves within its line too.
        let lines = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(sorted).collect();
            lines.sort_unstable();
            lines
        };
        let renamed = before.text().replace(from, to);
        prop_assert_eq!(lines(&renamed), lines(&after.text()), "{} to {}\n{}", from, to, old.text());
        let named = before.text().lines().filter(|line| line.contains(from)).count();
        let changed = changed(&before.text(), &after.text());
        let moved = changed.iter().filter(|line| !line.contains(from) && !line.contains(to)).count();
        if from != "w0" {
            prop_assert!(changed.len() - moved <= 2 * named, "{}", changed.concat());
        }
    }
}

/// Twelve workloads with rules of their own, 53 rules, and a set of 300 prefixes that begins with this one.
fn large(lowest: &str) -> Policy {
    let rule =
        |verb, ports: String, addresses: Vec<String>| Rule { verb, direction: "outbound", ports, addresses };
    let inbound =
        |port: usize| Rule { direction: "inbound", ..rule("exclude", format!("tcp {port}"), Vec::new()) };
    let partners = || vec!["partners".to_owned()];
    let prefixes = (1..300).map(|nth| format!("10.{}.{}.0/24", nth / 16, nth % 16 * 16));
    let mut mesh: Vec<Rule> =
        (0..12).map(|nth| rule("exclude", format!("tcp {}", 9000 + nth * 3), Vec::new())).collect();
    mesh.extend((0..4).map(|nth| {
        let addresses = vec![format!("172.16.{nth}.0/24"), format!("172.17.{nth}.0/24")];
        rule("exclude", format!("tcp {}", 7000 + nth), addresses)
    }));
    mesh.push(rule("exclude", "databases".into(), partners()));
    mesh.push(rule("deny", "tcp 25".into(), Vec::new()));
    mesh.push(rule("deny", "udp 123".into(), partners()));
    mesh.extend((9090..9095).map(inbound));
    let own = |nth: usize| {
        let deny = rule("deny", "tcp 80".into(), vec![format!("192.168.{nth}.0/24")]);
        vec![rule("exclude", format!("tcp {}", 11000 + nth), Vec::new()), deny]
    };
    Policy {
        sets: vec![("partners".into(), [lowest.to_owned()].into_iter().chain(prefixes).collect())],
        port_sets: vec![("databases".into(), vec!["3306".into(), "5432".into(), "6379-6380".into()])],
        top: vec![
            rule("redirect", "udp 53".into(), Vec::new()),
            rule("deny", "udp 443".into(), Vec::new()),
            rule("always deny", String::new(), vec!["169.254.169.254".into()]),
            rule("exclude", "tcp 22".into(), Vec::new()),
        ],
        mesh,
        workloads: (0..12).map(|nth| (format!("w{nth:02}"), own(nth))).collect(),
    }
}

#[test]
fn a_large_policy_is_read_by_people() {
    let policy = large("10.0.0.0/24");
    let rules = policy.text().lines().filter(|line| line.contains("bound ")).count();
    assert_eq!((policy.workloads.len(), rules), (12, 53));
    let text = compiled(&policy).unwrap().text();
    let (people, entries) = text.split_once("\n# entries: ").unwrap();
    let lines = (people.lines().count(), entries.lines().count());
    assert!(lines.0 < 1000 && lines.1 < 1000, "{lines:?}");
}

#[test]
fn another_lowest_prefix_of_a_set_is_one_line() {
    let texts = ["10.0.0.0/24", "9.255.0.0/24"].map(|lowest| compiled(&large(lowest)).unwrap().text());
    let changed = changed(&texts[0], &texts[1]);
    assert_eq!(changed, ["-    \"10.0.0.0/24\",\n", "+    \"9.255.0.0/24\",\n"]);
}

#[test]
fn another_prefix_of_a_long_list_is_a_line_and_its_name() {
    let policy = |last: usize| {
        let mut policy = large("10.0.0.0/24");
        let addresses = (0..last).map(|nth| format!("172.20.{nth}.0/24")).collect();
        let rule = Rule { verb: "exclude", direction: "outbound", ports: "tcp 4000".into(), addresses };
        policy.workloads[0].1.push(rule);
        compiled(&policy).unwrap().text()
    };
    let changed = changed(&policy(40), &policy(41));
    // The prefix, the name where the list is, in the rule and in the entry.
    assert_eq!(changed.len(), 1 + 2 * 3, "{}", changed.concat());
}
