//! Which connections of which profiles are accelerated. Accelerations add up.

use std::collections::BTreeMap;

use mesh_bpf::image::{Acceleration, ProfileId, Source, SourceId};
use mesh_bpf::ports::PortRange;

use super::parties::Parties;
use super::profiles::Class;
use crate::hir::region::real_ports;
use crate::hir::{AccelerationForm, Ports, WorkloadId};
use crate::ir::count;

/// What is accelerated in each profile. New sources go to the end of `sources`.
pub(crate) fn accelerations(
    parties: &Parties,
    classes: &[Class],
    sources: &mut Vec<Source>,
) -> Vec<Acceleration> {
    let first = sources.len();
    sources.extend(parties.statements.iter().map(|statement| statement.source.clone()));
    let id = |index: usize| SourceId(count(first + index));
    let mut drafts: Vec<Draft<'_>> = classes.iter().map(|_| Draft::default()).collect();
    for (index, statement) in parties.statements.iter().enumerate() {
        let claim = Claim { ports: &statement.ports, source: &statement.source, id: id(index) };
        match &statement.form {
            AccelerationForm::Local(members) => {
                for profile in within(classes, members) {
                    if let Some(draft) = drafts.get_mut(profile) {
                        draft.local.push(claim);
                    }
                }
            }
            AccelerationForm::Between(ones, others) => {
                let (ones, others) = (within(classes, ones), within(classes, others));
                for (one, other) in ones
                    .iter()
                    .flat_map(|one| others.iter().flat_map(move |other| [(one, other), (other, one)]))
                {
                    if let Some(draft) = drafts.get_mut(*one) {
                        draft.peers.entry(ProfileId(count(*other))).or_default().push(claim);
                    }
                }
            }
        }
    }
    drafts.into_iter().map(Draft::finish).collect()
}

#[derive(Clone, Copy)]
struct Claim<'a> {
    ports: &'a Ports,
    source: &'a Source,
    id: SourceId,
}

#[derive(Default)]
struct Draft<'a> {
    local: Vec<Claim<'a>>,
    peers: BTreeMap<ProfileId, Vec<Claim<'a>>>,
}

impl Draft<'_> {
    fn finish(self) -> Acceleration {
        let peers = self.peers.into_iter().map(|(peer, claims)| (peer, credit(claims)));
        // `not 1-65535` is no port: tables have no peer without one.
        let peers = peers.filter(|(_, ports)| !ports.is_empty()).collect();
        Acceleration { local: credit(self.local), peers }
    }
}

/// Each port goes to the claim with the least text.
fn credit(mut claims: Vec<Claim<'_>>) -> Vec<(PortRange, SourceId)> {
    claims.sort_by(|a, b| a.source.cmp(b.source));
    claims.dedup_by(|a, b| a.source == b.source);
    let mut free = real_ports(&Ports::All);
    let mut credited = Vec::new();
    for claim in claims {
        let ports = real_ports(claim.ports);
        credited.extend(free.intersection(&ports).ranges().iter().map(|&range| (range, claim.id)));
        free = free.intersection(&ports.complement());
    }
    credited.sort_unstable();
    credited
}

/// Indices of the profiles whose workloads are in a set: all of them are, or none.
fn within(classes: &[Class], members: &[WorkloadId]) -> Vec<usize> {
    let first_is_in =
        |class: &Class| class.members.first().is_some_and(|member| members.binary_search(member).is_ok());
    (classes.iter().enumerate()).filter(|(_, class)| first_is_in(class)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use crate::analysis::fixture::image;
    use crate::fixture::Fixture;
    use crate::hir::Ports;
    use mesh_bpf::ports::PortRange;

    #[test]
    fn each_port_is_credited_to_the_statement_with_the_least_text() {
        let mut fixture = Fixture::new(&["a", "b"]);
        let range = |first, last| Ports::Range(PortRange { first, last });
        fixture
            .exempt("m", "uid 1500")
            .exempt("m", "gid 1500")
            .accelerate("local a,b", range(10, 30))
            .accelerate("local a", range(20, 40))
            .accelerate("a <-> b", range(50, 60));
        let image = image(&fixture.program);
        let text = |list: &[(PortRange, _)]| -> Vec<String> {
            list.iter().map(|&(range, source)| format!("{range} by {}", image.source(source).head)).collect()
        };
        let [a, b] = ["m/a", "m/b"].map(|name| image.workload(name).unwrap().profile);
        let accelerated = |profile| &image.profile(profile).unwrap().acceleration;
        let (all, alone) = ("accelerate local tcp 10-30", "accelerate local for a tcp 20-40");
        assert_eq!(text(&accelerated(a).local), [format!("10-19 by {all}"), format!("20-40 by {alone}")]);
        assert_eq!(text(&accelerated(b).local), [format!("10-30 by {all}")]);
        for (one, other) in [(a, b), (b, a)] {
            let peers = &accelerated(one).peers;
            assert_eq!(peers.keys().copied().collect::<Vec<_>>(), [other]);
            assert_eq!(text(&peers[&other]), ["50-60 by accelerate a <-> b tcp 50-60"]);
        }
    }
}
