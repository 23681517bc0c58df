//! What has no address: selectors, exemptions, `on`, acceleration.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::image::{IdRange, MapImage, ProfileId, Source, SourceId};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_hir::item;
use mesh_hir::region::{applies, real_ports};
use mesh_hir::{AccelerationForm, Event, Exempted, Program, WorkloadId};

use super::disproof::{Disproof, plain};

/// Every workload is there with its selectors, and no other.
pub(super) fn workloads(program: &Program, image: &MapImage) -> Result<(), Box<Disproof>> {
    let expected: Vec<_> = (0u32..)
        .map(WorkloadId)
        .zip(&program.workloads)
        .map(|(id, workload)| (name_of(program, id), &workload.selector))
        .collect();
    let found: Vec<_> = image.workloads.iter().map(|one| (one.name.clone(), &one.selector)).collect();
    let meshes: Vec<&String> = program.meshes.iter().map(|mesh| &mesh.name).collect();
    if expected != found || meshes != image.meshes.iter().collect::<Vec<_>>() {
        return Err(plain("the workloads of the policy", "others"));
    }
    Ok(())
}

/// The exemptions of a workload, and what `on` says for it.
pub(super) fn profile(
    program: &Program,
    image: &MapImage,
    workload: WorkloadId,
    profile: ProfileId,
) -> Result<(), Box<Disproof>> {
    let found = image.profile(profile).ok_or_else(|| plain("a profile", "none"))?;
    let mut written: Vec<(Source, &Exempted)> = (program.exempts.iter())
        .filter_map(|exempt| Some((program.scopes.get(exempt.scope.index())?, exempt)))
        .filter(|(scope, _)| applies(scope, workload))
        .map(|(scope, exempt)| (item::exempt_source(&scope.name, &exempt.who), &exempt.who))
        .collect();
    written.sort_by(|a, b| (&a.0.head, &a.0.scope).cmp(&(&b.0.head, &b.0.scope)));
    let uids = |who: &Exempted| if let Exempted::Uid(range) = who { Some(*range) } else { None };
    let gids = |who: &Exempted| if let Exempted::Gid(range) = who { Some(*range) } else { None };
    ids(image, "uid", &written, uids, &found.exempt.uids)?;
    ids(image, "gid", &written, gids, &found.exempt.gids)?;
    let cgroups = |who: &Exempted| if let Exempted::Cgroup(path) = who { Some(path.clone()) } else { None };
    texts(image, "the exempt cgroups of the policy", &written, cgroups, &found.exempt.cgroups)?;
    let interfaces =
        |who: &Exempted| if let Exempted::Interface(name) = who { Some(name.clone()) } else { None };
    texts(image, "the exempt interfaces of the policy", &written, interfaces, &found.exempt.interfaces)?;
    for (event, refuses) in [
        (Event::MissingSidecar, found.missing_sidecar_refuse),
        (Event::FailedAttach, found.failed_attach_refuse),
    ] {
        if refuses != should_refuse(program, workload, event) {
            return Err(plain("what `on` says in the policy", "something else"));
        }
    }
    Ok(())
}

/// Every path or name that is written is there, by the least text that writes it, and no other.
fn texts(
    image: &MapImage,
    expected: &str,
    written: &[(Source, &Exempted)],
    text_of: impl Fn(&Exempted) -> Option<String>,
    found: &[(String, SourceId)],
) -> Result<(), Box<Disproof>> {
    let mut texts: BTreeMap<String, &Source> = BTreeMap::new();
    for (source, who) in written {
        if let Some(text) = text_of(who) {
            texts.entry(text).or_insert(source);
        }
    }
    let held = found.iter().map(|(text, source)| (text.clone(), image.source(*source)));
    if texts.into_iter().eq(held) { Ok(()) } else { Err(plain(expected, "others")) }
}

/// Every id is exempt by the least text that covers it, or not at all.
fn ids(
    image: &MapImage,
    kind: &str,
    written: &[(Source, &Exempted)],
    range_of: impl Fn(&Exempted) -> Option<IdRange>,
    found: &[(IdRange, SourceId)],
) -> Result<(), Box<Disproof>> {
    let claims: Vec<(IdRange, &Source)> =
        written.iter().filter_map(|(source, who)| Some((range_of(who)?, source))).collect();
    // What begins or ends at each id: claims by their place, and what the tables hold.
    let mut events: BTreeMap<u64, Vec<(bool, usize)>> = BTreeMap::new();
    for (place, (range, _)) in claims.iter().enumerate() {
        events.entry(range.first.into()).or_default().push((true, place));
        events.entry(u64::from(range.last) + 1).or_default().push((false, place));
    }
    for (range, _) in found {
        events.entry(range.first.into()).or_default();
        events.entry(u64::from(range.last) + 1).or_default();
    }
    let mut covering = BTreeSet::new();
    for (id, changes) in events {
        for (begins, place) in changes {
            if begins {
                covering.insert(place)
            } else {
                covering.remove(&place)
            };
        }
        let Ok(id) = u32::try_from(id) else { continue };
        let expected = covering.first().and_then(|&place| claims.get(place)).map(|claim| claim.1);
        let after = found.partition_point(|(range, _)| range.first <= id);
        let held = after.checked_sub(1).and_then(|at| found.get(at));
        let held = held.filter(|(range, _)| id <= range.last).map(|(_, source)| image.source(*source));
        if expected != held {
            let text = |source: Option<&Source>| {
                source.map_or_else(|| "no exemption".to_owned(), |s| s.head.clone())
            };
            let expected = format!("{} for {kind} {id}", text(expected));
            return Err(plain(expected, text(held)));
        }
    }
    Ok(())
}

/// The innermost `on` wins, of equally inner ones `refuse`; without any it is `refuse`.
fn should_refuse(program: &Program, workload: WorkloadId, event: Event) -> bool {
    let mut answers: Vec<(&mesh_hir::Scope, bool)> = Vec::new();
    for on in program.ons.iter().filter(|on| on.event == event) {
        let Some(scope) = program.scopes.get(on.scope.index()).filter(|scope| applies(scope, workload))
        else {
            continue;
        };
        if answers.iter().any(|(other, _)| scope.covers(other) && !other.covers(scope)) {
            continue;
        }
        answers.retain(|(other, _)| !other.covers(scope) || scope.covers(other));
        answers.push((scope, on.refuse));
    }
    answers.is_empty() || answers.iter().any(|(_, refuse)| *refuse)
}

/// Which sides of which statements a workload is on: 0 for `local`, else 1 and 2.
type Sides = Vec<(usize, u8)>;

/// Every port of every workload and of every pair is accelerated exactly where a statement says so.
pub(super) fn accelerations(program: &Program, image: &MapImage) -> Result<(), Box<Disproof>> {
    let mut sides: Vec<Sides> = vec![Vec::new(); program.workloads.len()];
    let mut note = |members: &[WorkloadId], statement: usize, side: u8| {
        for member in members {
            if let Some(sides) = sides.get_mut(member.index()) {
                sides.push((statement, side));
            }
        }
    };
    for (statement, acceleration) in program.accelerations.iter().enumerate() {
        match &acceleration.form {
            AccelerationForm::Local(members) => note(members, statement, 0),
            AccelerationForm::Between(ones, others) => {
                note(ones, statement, 1);
                note(others, statement, 2);
            }
        }
    }
    // Workloads that no statement tells apart are alike, if they share a profile too.
    let alike: BTreeSet<(ProfileId, Sides)> = (0u32..)
        .zip(sides)
        .filter_map(|(id, sides)| Some((profile_of(program, image, WorkloadId(id))?, sides)))
        .collect();
    for (id, one) in &alike {
        let found = image.profile(*id).map(|profile| &profile.acceleration);
        let found = found.ok_or_else(|| plain("a profile", "none"))?;
        let local = one.iter().filter(|(_, side)| *side == 0).map(|&(statement, _)| statement);
        same_ports(program, local, &found.local)?;
        for (peer, other) in &alike {
            let between = one
                .iter()
                .filter(|(_, side)| *side != 0)
                .filter(|(statement, side)| other.contains(&(*statement, 3 - side)));
            let held = found.peers.get(peer).map_or(&[][..], Vec::as_slice);
            same_ports(program, between.map(|&(statement, _)| statement), held)?;
        }
    }
    Ok(())
}

fn same_ports(
    program: &Program,
    statements: impl Iterator<Item = usize>,
    found: &[(PortRange, SourceId)],
) -> Result<(), Box<Disproof>> {
    let expected: PortSet = statements
        .filter_map(|statement| program.accelerations.get(statement))
        .flat_map(|statement| &statement.ports)
        .flat_map(|item| real_ports(&item.ports).ranges().to_vec())
        .collect();
    let found: PortSet = found.iter().map(|&(range, _)| range).collect();
    if expected == found {
        Ok(())
    } else {
        Err(plain(format!("acceleration of tcp {expected}"), format!("of tcp {found}")))
    }
}

/// The image's workload of the program's.
fn name_of(program: &Program, id: WorkloadId) -> String {
    let workload = program.workloads.get(id.index());
    let mesh = workload.and_then(|workload| program.meshes.get(workload.mesh.index()));
    match (mesh, workload) {
        (Some(mesh), Some(workload)) => format!("{}/{}", mesh.name, workload.name),
        _ => String::new(),
    }
}

/// The profile of a program's workload.
fn profile_of(program: &Program, image: &MapImage, id: WorkloadId) -> Option<ProfileId> {
    image.workload(&name_of(program, id)).map(|workload| workload.profile)
}
