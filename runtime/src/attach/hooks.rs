//! Programs that are loaded once for an instance, and their links, most of them to its cgroup.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi;
use mesh_bpf::program::{Hook, PROGRAMS, Policies, ProgramDef, Role};
use mesh_bpf::tables::TableData;
use serde::{Deserialize, Serialize};

use super::link::Pinned;
use super::{dispatch, netns_links};
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::state::record;
use crate::system::{LinkInfo, ProgramInfo, System, Target};
use crate::warning::Warning;

/// At the end of the name of a pin that is not in its place yet.
const NEW: &str = "-new";

/// Programs that are loaded and perhaps not attached yet.
pub(crate) type Programs<S> = Vec<(&'static ProgramDef, <S as crate::system::Programs>::Program)>;

/// Every pinned link, in the order in which programs are attached; those this version does not know come last.
pub(crate) fn pinned<S: System>(node: Node<'_, S>) -> Result<Vec<Pinned>> {
    let mut links = Vec::new();
    for name in node.system.list(&node.instance.links())?.unwrap_or_default() {
        if let Some(link) = node.system.open_link(&node.instance.links().join(&name))? {
            links.push(Pinned { info: node.system.link_info(&link)?, name });
        }
    }
    links.sort_by_key(|link| place(&link.name));
    Ok(links)
}

fn place(name: &str) -> usize {
    PROGRAMS.iter().position(|def| def.name == name).unwrap_or(PROGRAMS.len())
}

/// The tracepoint that a program is attached to, if it is to one.
pub(crate) fn tracepoint(program: &str) -> Option<&'static str> {
    let def = PROGRAMS.iter().find(|def| def.name == program)?;
    (!def.tracepoint.is_empty()).then_some(def.tracepoint)
}

/// Whether a policy, by its table of profiles, needs a program.
fn is_needed(def: &ProgramDef, profiles: &TableData) -> bool {
    let flag = match def.policies {
        Policies::All => return true,
        Policies::InboundDatagrams => abi::PROFILE_INBOUND_DATAGRAMS,
    };
    profiles.records::<abi::Profile>().iter().any(|profile| profile.flags & flag != 0)
}

/// Those that this policy needs and not every one does.
fn special(profiles: &TableData) -> impl Iterator<Item = &'static ProgramDef> + '_ {
    PROGRAMS.iter().filter(|def| def.policies != Policies::All && is_needed(def, profiles))
}

/// Attaches what this policy needs and not every one does. A warning for each that the kernel refuses.
pub(crate) fn attach_special<S: System>(node: Node<'_, S>, profiles: &TableData) -> Result<Vec<Warning>> {
    let mut refused = Vec::new();
    for def in special(profiles) {
        if has_link(node, def)? {
            continue;
        }
        let attached =
            node.system.load_program(&node.instance.maps(), def).map_err(Error::from).and_then(|program| {
                attach(node, &[(def, program)], profiles)?;
                remember(node)
            });
        match attached {
            Err(Error::System(cause)) if cause.is_refusal() => {
                refused.push(Warning::ProgramRefused { program: drift(def.name), why: cause.to_string() });
            }
            other => other?,
        }
    }
    Ok(refused)
}

/// Detaches what this policy, which is live, does not need.
pub(crate) fn detach_special<S: System>(node: Node<'_, S>, profiles: &TableData) -> Result<()> {
    let is_special = |def: &&ProgramDef| def.policies != Policies::All && !is_needed(def, profiles);
    for def in PROGRAMS.iter().filter(is_special) {
        let pin = node.instance.links().join(def.name);
        let Some(link) = node.system.open_link(&pin)? else { continue };
        node.system.detach(&link)?;
        node.system.remove(&pin)?;
        remember(node)?;
    }
    Ok(())
}

/// That a program is not attached, and what that costs where it is not everything.
pub(crate) fn drift(name: &'static str) -> Drift {
    let def = PROGRAMS.iter().find(|def| def.name == name);
    match def.map(|def| def.policies) {
        Some(Policies::InboundDatagrams) => Drift::DatagramProgramMissing(name),
        Some(Policies::All) | None => Drift::ProgramMissing(name),
    }
}

/// Attaches every program that the policy needs and that is not attached to the instance's cgroup: answering ones
/// first, so that no flow is redirected that cannot be told where it was going.
pub(crate) fn attach<S: System>(
    node: Node<'_, S>,
    programs: &[(&'static ProgramDef, S::Program)],
    profiles: &TableData,
) -> Result<()> {
    let cgroup = node.system.inode(&node.instance.cgroup)?.unwrap_or_default();
    node.system.create_dir(&node.instance.links())?;
    for role in [Role::Answers, Role::Decides] {
        let needed = programs.iter().filter(|(def, _)| def.role == role && is_needed(def, profiles));
        for (def, program) in needed {
            let pin = node.instance.links().join(def.name);
            if let Some(link) = node.system.open_link(&pin)? {
                if is_attached(def, &node.system.link_info(&link)?, cgroup) {
                    continue;
                }
                // Its cgroup is gone: a link without a target answers nobody.
                node.system.remove(&pin)?;
            }
            let link = node.system.attach(program, def.hook, &node.instance.cgroup)?;
            node.system.pin_link(&link, &pin)?;
        }
    }
    Ok(())
}

/// Whether a link attaches its program to what it is for: a tracepoint, nothing, or the instance's cgroup.
fn is_attached(def: &ProgramDef, link: &LinkInfo, cgroup: u64) -> bool {
    !def.hook.is_of_cgroup() || link.target == Target::Cgroup(cgroup)
}

/// Removes what a killed upgrade did not put in its place.
pub(crate) fn sweep<S: System>(node: Node<'_, S>) -> Result<()> {
    for name in node.system.list(&node.instance.links())?.unwrap_or_default() {
        if name.ends_with(NEW) {
            node.system.remove(&node.instance.links().join(name))?;
        }
    }
    Ok(())
}

/// Which build the attached programs are of, as the state directory remembers it. The kernel's ids tell whether
/// that is still true.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Build {
    version: String,
    boot_id: String,
    programs: BTreeMap<String, u32>,
}

fn build<S: System>(node: Node<'_, S>) -> Result<Build> {
    let programs = pinned(node)?.into_iter().map(|link| (link.name, link.info.program));
    Ok(Build {
        version: node.system.programs_version(),
        boot_id: node.instance.boot_id.clone(),
        programs: programs.collect(),
    })
}

/// Whether what is attached is known to be of this build, without loading anything.
pub(crate) fn is_current<S: System>(node: Node<'_, S>) -> Result<bool> {
    let known = record::read::<Build>(node.system, &node.instance.programs()).ok().flatten();
    Ok(known == Some(build(node)?))
}

/// Whether this build was the last to attach its programs in this boot.
pub(crate) fn are_ours<S: System>(node: Node<'_, S>) -> bool {
    let known = record::read::<Build>(node.system, &node.instance.programs()).ok().flatten();
    known.is_some_and(|known| {
        known.version == node.system.programs_version() && known.boot_id == node.instance.boot_id
    })
}

/// Notes that what is attached is of this build.
pub(crate) fn remember<S: System>(node: Node<'_, S>) -> Result<()> {
    record::write(node.system, &node.instance.programs(), &build(node)?, false)
}

/// Puts the programs of this build into links that hold others, without a gap: a link always has a program.
/// Answering ones go first. Returns how many were replaced.
pub(crate) fn upgrade<S: System>(node: Node<'_, S>, programs: &Programs<S>) -> Result<usize> {
    let mut replaced = 0;
    for (def, program) in programs {
        let pin = node.instance.links().join(def.name);
        let Some(link) = node.system.open_link(&pin)? else { continue };
        let info = node.system.link_info(&link)?;
        let old = node.system.program_by_id(info.program)?.map(|program| program.tag);
        if old == Some(node.system.program_info(program)?.tag) {
            continue;
        }
        if def.hook == Hook::Tracepoint {
            // Such a link keeps its program: for a moment both run, and say the same.
            let new = node.instance.links().join(format!("{}{NEW}", def.name));
            node.system.pin_link(&node.system.attach(program, def.hook, &node.instance.cgroup)?, &new)?;
            node.system.rename(&new, &pin, false)?;
            replaced += 1;
        } else if info.target != Target::Gone {
            node.system.replace(&link, program)?;
            replaced += 1;
        }
    }
    Ok(replaced + netns_links::upgrade(node)?)
}

/// Programs on our hooks that are not ours, in the order in which they run: those of our cgroup and above it.
pub(crate) fn foreign<S: System>(node: Node<'_, S>) -> Result<Vec<(Hook, ProgramInfo)>> {
    let ours: Vec<u32> = pinned(node)?.iter().map(|link| link.info.program).collect();
    let mut foreign = Vec::new();
    if !node.is_cgroup()? {
        return Ok(foreign);
    }
    for def in PROGRAMS.iter().filter(|def| def.hook.is_of_cgroup()) {
        for id in node.system.attached(&node.instance.cgroup, def.hook, true)? {
            if !ours.contains(&id) {
                foreign.extend(node.system.program_by_id(id)?.map(|program| (def.hook, program)));
            }
        }
    }
    Ok(foreign)
}

/// Refuses to attach below, beside or above another meshc: flows would be decided twice.
pub(crate) fn check_alone<S: System>(node: Node<'_, S>) -> Result<()> {
    let mut foreign: Vec<ProgramInfo> = foreign(node)?.into_iter().map(|(_, program)| program).collect();
    // Every meshc has a program there.
    for id in node.system.attached_below(&node.instance.cgroup, Hook::Connect4)? {
        foreign.extend(node.system.program_by_id(id)?);
    }
    let named = |program: &ProgramInfo| format!("`{}` (program {})", program.name, program.id);
    let is_mesh = |program: &&ProgramInfo| PROGRAMS.iter().any(|def| def.name == program.name);
    let programs: Vec<String> = foreign.iter().filter(is_mesh).map(named).collect();
    if programs.is_empty() {
        Ok(())
    } else if !lost(node)?.is_empty() {
        Err(Error::LostPins { bpffs: node.instance.bpffs.clone(), programs })
    } else {
        Err(Error::AnotherMesh { cgroup: node.instance.cgroup.clone(), programs })
    }
}

/// Detaches every program, those of pods and then deciding ones (and those of other versions) first.
pub(crate) fn detach<S: System>(node: Node<'_, S>) -> Result<()> {
    netns_links::detach_all(node)?;
    let mut names = node.system.list(&node.instance.links())?.unwrap_or_default();
    names.sort_by_key(|name| std::cmp::Reverse(place(name)));
    for name in names {
        let pin = node.instance.links().join(name);
        if let Some(link) = node.system.open_link(&pin)? {
            node.system.detach(&link)?;
        }
        node.system.remove(&pin)?;
    }
    Ok(node.system.remove_dir(&node.instance.links())?)
}

/// Links of this instance whose pins are gone, since their file system was unmounted or another is mounted over it:
/// those of the programs that the state directory remembers, and those, of pods, whose programs use maps of these. In
/// the order in which they are to be detached.
fn lost<S: System>(node: Node<'_, S>) -> Result<Vec<(S::Link, LinkInfo)>> {
    let known = record::read::<Build>(node.system, &node.instance.programs()).ok().flatten();
    let known = known.filter(|known| known.boot_id == node.instance.boot_id).map(|known| known.programs);
    let Some(known) = known.filter(|known| !known.is_empty()) else { return Ok(Vec::new()) };
    let mut pins: BTreeSet<u32> = pinned(node)?.iter().map(|link| link.info.id).collect();
    pins.extend(netns_links::pinned(node)?.iter().map(|(_, link)| link.info.id));
    let mut maps = BTreeSet::new();
    for &program in known.values() {
        maps.extend(node.system.maps_of(program)?);
    }
    let mut lost = Vec::new();
    for link in node.system.all_links()? {
        let info = node.system.link_info(&link)?;
        let of = known.iter().find(|(_, program)| **program == info.program).map(|(name, _)| place(name));
        let is_of_a_pod = matches!(info.target, Target::Netns(_) | Target::Interface(_));
        let shares =
            || Ok::<_, Error>(node.system.maps_of(info.program)?.iter().any(|map| maps.contains(map)));
        if !pins.contains(&info.id) && (of.is_some() || is_of_a_pod && shares()?) {
            // Pods first, and those that answer last.
            lost.push((of.map_or(usize::MAX, |place| place), link, info));
        }
    }
    lost.sort_by_key(|(place, ..)| std::cmp::Reverse(*place));
    Ok(lost.into_iter().map(|(_, link, info)| (link, info)).collect())
}

/// Detaches what is attached of this instance without a pin; how many. A link to a tracepoint stays until whoever holds
/// the old file system lets it go, and decides nothing.
pub(crate) fn detach_lost<S: System>(node: Node<'_, S>) -> Result<usize> {
    let lost = lost(node)?;
    for (link, _) in &lost {
        node.system.detach(link)?;
    }
    let was_attached =
        |info: &LinkInfo| matches!(info.target, Target::Cgroup(_) | Target::Netns(_) | Target::Interface(_));
    Ok(lost.iter().filter(|(_, info)| was_attached(info)).count())
}

/// Programs that should be attached for the instance, whatever its policy says, and are not.
pub(crate) fn missing<S: System>(node: Node<'_, S>) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for def in PROGRAMS.iter().filter(|def| def.policies == Policies::All) {
        if !has_link(node, def)? {
            missing.push(def.name);
        }
    }
    missing.extend(dispatch::missing(node)?);
    Ok(missing)
}

/// The same, with those that this policy needs and not every one does.
pub(crate) fn missing_for<S: System>(node: Node<'_, S>, profiles: &TableData) -> Result<Vec<&'static str>> {
    let mut all = missing(node)?;
    for def in special(profiles) {
        if !has_link(node, def)? {
            all.push(def.name);
        }
    }
    Ok(all)
}

/// Whether a program is attached where it is to be.
fn has_link<S: System>(node: Node<'_, S>, def: &ProgramDef) -> Result<bool> {
    let cgroup = node.system.inode(&node.instance.cgroup)?.unwrap_or_default();
    Ok(match node.system.open_link(&node.instance.links().join(def.name))? {
        Some(link) => is_attached(def, &node.system.link_info(&link)?, cgroup),
        None => false,
    })
}
