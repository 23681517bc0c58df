//! `membership-overlap`: one endpoint could fall in two workloads, and neither selects it more narrowly.
//!
//! Places (addresses, cgroups) are compared by a sweep over the sorted places, so that each meets only
//! those that it lies in; conditions are compared only where no named value keeps two workloads apart.
//! Selectors of different kinds (an address against a label) are left to the inventory.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::{Subject, cgroup_covers};

use super::conditions::Conditions;
use super::empty_workload::contradiction;
use crate::diag::{Code, Diagnostic, quote};
use crate::hir::{AddressItem, Program, Workload, WorkloadId};
use crate::resolve::{Places, Resolution};
use crate::source::Span;

/// Below this many workloads comparing all of them is quicker than sorting them apart.
const FEW: usize = 16;

pub(super) fn check(resolution: &Resolution, diagnostics: &mut Vec<Diagnostic>) {
    let program = &resolution.program;
    let members: Vec<Member<'_>> = (0u32..)
        .map(WorkloadId)
        .zip(&program.workloads)
        .filter(|(id, _)| !resolution.lost.workloads.contains(id))
        .filter(|(_, workload)| {
            !workload.selector_spans.is_empty() && contradiction(&workload.selector).is_none()
        })
        .map(|(id, workload)| Member {
            workload,
            conditions: Conditions::of(&[&workload.selector]),
            places: resolution.places.get(&id),
        })
        .collect();
    let mut overlaps = Overlaps { program, found: BTreeSet::new(), diagnostics };
    overlaps.of_conditions(&members);
    overlaps.of_addresses(&members);
    overlaps.of_cgroups(&members);
}

/// A workload that can have members.
struct Member<'p> {
    workload: &'p Workload,
    conditions: Conditions<'p>,
    places: Option<&'p Places>,
}

impl Member<'_> {
    fn has_places(&self) -> bool {
        !(self.workload.selector.addresses.is_empty() && self.workload.selector.cgroups.is_empty())
    }

    /// Whether conditions alone keep them apart, or make one narrower than the other.
    fn stands_to(&self, other: &Self) -> Standing {
        let (one, two) = (&self.workload.selector, &other.workload.selector);
        match (one.asks_all_of(two), two.asks_all_of(one)) {
            _ if Conditions::of(&[one, two]).contradiction().is_some() => Standing::Apart,
            (true, true) => Standing::Equal,
            (true, false) => Standing::Narrower,
            (false, true) => Standing::Wider,
            (false, false) => Standing::Crossing,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Apart,
    Equal,
    Narrower,
    Wider,
    Crossing,
}

struct Overlaps<'p, 'd> {
    program: &'p Program,
    /// Pairs that were reported, and workloads for which one was.
    found: BTreeSet<Span>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'p> Overlaps<'p, '_> {
    /// Workloads without places: `any`, and those of conditions alone.
    fn of_conditions(&mut self, members: &[Member<'p>]) {
        let all: Vec<&Member<'p>> = members.iter().filter(|member| !member.has_places()).collect();
        let mut pairs = Vec::new();
        comparable(&all, &mut Vec::new(), &mut pairs);
        for (one, two) in pairs {
            if matches!(one.stands_to(two), Standing::Equal | Standing::Crossing) {
                let example = Conditions::of(&[&one.workload.selector, &two.workload.selector]).example();
                let lines = |member: &Member<'_>| member.workload.selector_spans.clone();
                self.report(one, two, &example, (lines(one), lines(two)));
            }
        }
    }

    fn of_addresses(&mut self, members: &[Member<'p>]) {
        let mut places: BTreeMap<Prefix, Vec<(&Member<'p>, Span)>> = BTreeMap::new();
        for member in members {
            let mut seen = BTreeSet::new();
            for &AddressItem { prefix, span, .. } in member.places.iter().flat_map(|places| &places.addresses)
            {
                if seen.insert(prefix) {
                    places.entry(prefix).or_default().push((member, span));
                }
            }
        }
        let example = |prefix: &Prefix| {
            prefix.first().map_or_else(String::new, |first| format!("an endpoint at {first}"))
        };
        self.sweep(&places, |wide, narrow| wide.covers(*narrow), example);
    }

    fn of_cgroups(&mut self, members: &[Member<'p>]) {
        let mut places: BTreeMap<Vec<&'p str>, Vec<(&Member<'p>, Span)>> = BTreeMap::new();
        for member in members {
            let mut seen = BTreeSet::new();
            for (path, span) in member.places.iter().flat_map(|places| &places.cgroups) {
                if seen.insert(path) {
                    places.entry(path.split('/').collect()).or_default().push((member, *span));
                }
            }
        }
        let example = |path: &Vec<&str>| format!("a process in {}", quote(&path.join("/")));
        self.sweep(&places, |wide, narrow| cgroup_covers(&wide.join("/"), &narrow.join("/")), example);
    }

    /// Compares each place with those that it lies in. In the order of the map a place comes before all
    /// that lie in it, so those are a stack.
    fn sweep<P: Ord>(
        &mut self,
        places: &BTreeMap<P, Vec<(&Member<'p>, Span)>>,
        covers: impl Fn(&P, &P) -> bool,
        example: impl Fn(&P) -> String,
    ) {
        let mut around: Vec<(&P, &[(&Member<'p>, Span)])> = Vec::new();
        for (place, here) in places {
            while around.last().is_some_and(|(wide, _)| !covers(wide, place)) {
                around.pop();
            }
            for &(narrow, span) in here {
                for &(wide, wide_span) in around.iter().flat_map(|(_, members)| *members) {
                    if matches!(narrow.stands_to(wide), Standing::Wider | Standing::Crossing)
                        && !same(narrow, wide)
                    {
                        self.report(wide, narrow, &example(place), (vec![wide_span], vec![span]));
                    }
                }
            }
            self.same_place(here, &example(place));
            around.push((place, here));
        }
    }

    /// Workloads that name one place: their conditions must set them apart.
    fn same_place(&mut self, here: &[(&Member<'p>, Span)], example: &str) {
        if here.len() < 2 {
            return;
        }
        let members: Vec<&Member<'p>> = here.iter().map(|(member, _)| *member).collect();
        let mut pairs = Vec::new();
        comparable(&members, &mut Vec::new(), &mut pairs);
        for (one, two) in pairs {
            if matches!(one.stands_to(two), Standing::Equal | Standing::Crossing) {
                let span = |member: &Member<'_>| {
                    here.iter().filter(|(other, _)| same(other, member)).map(|(_, span)| *span).collect()
                };
                self.report(one, two, example, (span(one), span(two)));
            }
        }
    }

    /// Reports each workload once, with the first that it overlaps.
    fn report(&mut self, one: &Member<'p>, two: &Member<'p>, example: &str, lines: (Vec<Span>, Vec<Span>)) {
        let (one, two, lines) = if one.workload.span < two.workload.span {
            (one.workload, two.workload, lines)
        } else {
            (two.workload, one.workload, (lines.1, lines.0))
        };
        if !self.found.insert(two.span) {
            return;
        }
        let message =
            format!("one endpoint could fall in both {} and {}", self.name(one, two), self.name(two, one));
        let label = format!("{example}, for example");
        let diagnostic = Diagnostic::new(Code::MembershipOverlap, message);
        let diagnostic =
            lines.1.into_iter().fold(diagnostic, |diagnostic, span| diagnostic.label(span, label.clone()));
        let diagnostic = lines
            .0
            .into_iter()
            .fold(diagnostic, |diagnostic, span| diagnostic.also(span, "is selected here too"));
        self.diagnostics.push(diagnostic.help(
            "make one of them narrower (a longer prefix, a deeper cgroup, the same conditions and more), or keep them apart",
        ));
    }

    /// A workload's name, with its mesh where the other is in another.
    fn name(&self, workload: &Workload, other: &Workload) -> String {
        if workload.mesh == other.mesh {
            return quote(&workload.name);
        }
        let mesh = self.program.meshes.get(workload.mesh.index()).map_or("", |mesh| mesh.name.as_str());
        format!("{} of mesh {}", quote(&workload.name), quote(mesh))
    }
}

fn same(one: &Member<'_>, two: &Member<'_>) -> bool {
    one.workload.span == two.workload.span
}

/// All pairs that no named value keeps apart. `done` are the subjects by which they were sorted already.
fn comparable<'m, 'p>(
    members: &[&'m Member<'p>],
    done: &mut Vec<&'p Subject>,
    pairs: &mut Vec<(&'m Member<'p>, &'m Member<'p>)>,
) {
    let subject = if members.len() > FEW { commonest(members, done) } else { None };
    let Some(subject) = subject else {
        for (i, one) in members.iter().enumerate() {
            pairs.extend(members.iter().skip(i + 1).map(|two| (*one, *two)));
        }
        return;
    };
    let mut with: BTreeMap<&str, Vec<&'m Member<'p>>> = BTreeMap::new();
    let mut without = Vec::new();
    for member in members {
        match member.conditions.values(subject) {
            Some(values) => values.iter().for_each(|value| with.entry(value).or_default().push(member)),
            None => without.push(*member),
        }
    }
    done.push(subject);
    for group in with.values() {
        comparable(group, done, pairs);
        pairs.extend(group.iter().flat_map(|one| without.iter().map(move |two| (*one, *two))));
    }
    comparable(&without, done, pairs);
    done.pop();
}

/// The subject by which most of them can be told apart, if it tells more than a few.
fn commonest<'p>(members: &[&Member<'p>], done: &[&Subject]) -> Option<&'p Subject> {
    let mut counts: BTreeMap<&'p Subject, usize> = BTreeMap::new();
    for subject in members.iter().flat_map(|member| member.conditions.subjects()) {
        *counts.entry(subject).or_default() += 1;
    }
    (counts.into_iter())
        .filter(|(subject, count)| !done.contains(subject) && *count > FEW / 2)
        .max_by_key(|(_, count)| *count)
        .map(|(subject, _)| subject)
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::{diagnostics, expect, expect_overlap};

    #[test]
    fn a_longer_prefix_is_narrower_and_an_equal_one_overlaps() {
        expect_overlap("address 10.0.0.0/8", "address 10.1.0.0/16", false);
        expect_overlap("address 10.0.0.0/8", "address 11.0.0.0/8", false);
        expect_overlap("address 10.0.0.0/8, 1.1.1.1", "address 2.2.2.2, 1.1.1.1", true);
        expect_overlap("address fd00::/8", "address fd00::/8", true);
    }

    #[test]
    fn a_deeper_cgroup_is_narrower_and_an_equal_one_overlaps() {
        expect_overlap("cgroup \"/a\"", "cgroup \"/a/b\"", false);
        expect_overlap("cgroup \"/a\"", "cgroup \"/ab\"", false);
        expect_overlap("cgroup \"/a\"", "cgroup \"/a\"", true);
    }

    #[test]
    fn the_same_conditions_and_more_are_narrower() {
        expect_overlap("namespace shop", "namespace shop; label app = cart", false);
        expect_overlap("namespace shop", "namespace bank", false);
        expect_overlap("label app = cart", "label app = cart, till", false);
        expect_overlap("label app", "label app = cart", false);
        expect_overlap("not label tier = debug", "label tier = web", false);
        expect_overlap("label app", "not label app", false);
        expect_overlap("namespace shop", "label app = cart", true);
        expect_overlap("label app = cart, till", "label app = till, shelf", true);
        expect_overlap("namespace shop", "namespace shop", true);
        expect_overlap("namespace-label k", "namespace-label k = v", false);
        expect_overlap("namespace-label k = v", "not namespace-label k = v", false);
        expect_overlap("namespace-label k = v", "namespace-label k = w", false);
        expect_overlap("namespace-label k = v", "namespace-label k = v; label app = cart", false);
        // A label of the namespace says nothing about the pod's own, and nothing about the namespace's name.
        expect_overlap("namespace-label k = v", "label k = w", true);
        expect_overlap("namespace-label k = v", "namespace shop", true);
        expect_overlap("namespace-label k = v", "namespace-label j = v", true);
    }

    #[test]
    fn any_is_wider_than_all_and_there_is_one() {
        expect_overlap("any", "namespace shop", false);
        expect_overlap("any", "address 1.1.1.1", false);
        expect_overlap("any", "any", true);
    }

    #[test]
    fn different_kinds_are_left_to_the_inventory() {
        expect_overlap("address 1.1.1.1", "label app = cart", false);
        expect_overlap("cgroup \"/a\"", "address 1.1.1.1", false);
    }

    #[test]
    fn a_longer_prefix_with_fewer_conditions_is_not_nested() {
        expect_overlap("address 10.0.0.0/8; label a", "address 10.1.0.0/16", true);
        expect_overlap("address 10.0.0.0/8", "address 10.1.0.0/16; label a", false);
        expect_overlap("address 10.0.0.0/8; label a = x", "address 10.0.0.0/8; label a = y", false);
        expect_overlap("address 10.0.0.0/8; label a = x", "address 10.0.0.0/8", false);
    }

    #[test]
    fn both_places_and_a_witness_are_shown() {
        expect(
            "mesh m { workload a { address 1.1.1.1, 2.2.2.2 } }\nmesh n { workload a { address 2.2.2.2 } }",
            &[(
                "membership-overlap",
                "one endpoint could fall in both `a` of mesh `m` and `a` of mesh `n`",
                &["2.2.2.2", "2.2.2.2"],
            )],
        );
        let (_, found) = diagnostics("mesh m { workload a { namespace s, t }\n workload b { label k = v } }");
        assert_eq!(found[0].labels[0].text, "an endpoint with namespace `s`, label `k` = `v`, for example");
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "the test takes time")]
    fn a_hundred_thousand_workloads_are_told_apart_quickly() {
        let by_address: String = (0..50_000)
            .map(|i| format!("workload a{i} {{ address 10.{}.{}.{} }}\n", i >> 16, i >> 8 & 255, i & 255))
            .collect();
        let by_label: String = (0..50_000)
            .map(|i| format!("workload l{i} {{ namespace n{}; label app = v{i} }}\n", i % 7))
            .collect();
        let start = std::time::Instant::now();
        let (_, found) = diagnostics(&format!("mesh m {{\n{by_address}{by_label}}}\n"));
        assert_eq!(found, []);
        assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
    }
}
