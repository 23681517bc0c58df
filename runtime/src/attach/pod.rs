//! Inbound traffic to pods: a program in each pod's network namespace.
//!
//! The hook there knows neither namespace nor process, so every pod has a program of its own that holds the
//! pod's cookie and is pinned by the pod's key. It goes on to the program that decides for all pods, which an instance
//! has once and keeps in a map. That one looks up what the registry says of the pod, so a pod that is
//! not registered any more is decided by nobody, whether or not its program is still there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;

use super::dispatch;
use super::link::unpin;
use super::listening;
use super::netns_links::{attached_mode, has_program, interface, pin};
use crate::drift::Drift;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::node::Node;
use crate::system::System;

/// Makes inbound traffic to a pod be decided. Sockets that listen there already come first: a connection must
/// not find a program and no sidecar. `false` where the pod's namespace cannot be found.
pub(crate) fn attach<S: System>(node: Node<'_, S>, member: &Member) -> Result<bool> {
    let Key::Netns(cookie) = member.key else { return Ok(true) };
    if dispatch::is_undecided(node)? {
        return Ok(true);
    }
    let attached = attached_mode(node, member.key)?;
    // What does not depend on the namespace is known without looking for it.
    if attached == Some(node.instance.inbound) && node.instance.inbound == Inbound::SkLookup {
        listening::look_again(node, cookie, || find(node.system, member, cookie))?;
        return Ok(true);
    }
    let Some(netns) = find(node.system, member, cookie)? else {
        // Whoever is there decides as long as the namespace lives somewhere.
        if attached == Some(node.instance.inbound) {
            return Ok(true);
        }
        detach(node, member.key)?;
        return Ok(false);
    };
    let mode = mode_for(node, &netns, cookie)?;
    if attached == Some(mode) {
        listening::look_again(node, cookie, || Ok(Some(netns)))?;
        return attach_new_interfaces(node, member, cookie).map(|()| true);
    }
    let links = listening::link(node, mode, &netns, cookie)?;
    // Whatever is left of an attach that was killed, or of another mode.
    detach(node, member.key)?;
    // The first comes last: where it is there, all are.
    for (number, link) in links.iter().enumerate().rev() {
        let pin = pin(node.instance, member.key, number);
        node.system.remove(&pin)?;
        node.system.pin_link(link, &pin)?;
    }
    Ok(true)
}

/// Attaches a pod's program to the interfaces that the pod got since it was attached.
fn attach_new_interfaces<S: System>(node: Node<'_, S>, member: &Member, cookie: u64) -> Result<()> {
    let Some((netns, covered)) = unattached_interfaces(node, member)? else { return Ok(()) };
    let program = node.system.load_entry(&node.instance.maps(), cookie, node.instance.inbound)?;
    let mut number = 1;
    for link in node.system.attach_netns(&program, node.instance.inbound, &netns, cookie, &covered)? {
        // The place of an interface that has gone is free.
        while interface(node.system, &pin(node.instance, member.key, number))?.is_some() {
            number += 1;
        }
        let pin = pin(node.instance, member.key, number);
        node.system.remove(&pin)?;
        node.system.pin_link(&link, &pin)?;
    }
    Ok(())
}

/// How a pod is to be decided: the instance's mode, but not by tc where addresses are translated. There the kernel takes
/// away what tc gives to a listening socket.
fn mode_for(node: Node<'_, impl System>, netns: &Path, cookie: u64) -> Result<Inbound> {
    let by_tc = node.instance.inbound == Inbound::Tc && !node.system.translates(netns, cookie)?;
    Ok(if by_tc { Inbound::Tc } else { Inbound::SkLookup })
}

/// Where a pod has interfaces without its program: the file of its namespace, and the interfaces that have it.
fn unattached_interfaces<S: System>(
    node: Node<'_, S>,
    member: &Member,
) -> Result<Option<(PathBuf, BTreeSet<u32>)>> {
    let Key::Netns(cookie) = member.key else { return Ok(None) };
    if attached_mode(node, member.key)? != Some(Inbound::Tc) {
        return Ok(None);
    }
    let Some(netns) = find(node.system, member, cookie)? else { return Ok(None) };
    let mut covered = BTreeSet::new();
    for number in 0.. {
        let pin = pin(node.instance, member.key, number);
        if node.system.inode(&pin)?.is_none() {
            break;
        }
        covered.extend(interface(node.system, &pin)?);
    }
    let has_all = node.system.interfaces(&netns, cookie)?.iter().all(|number| covered.contains(number));
    Ok((!has_all).then_some((netns, covered)))
}

/// What a pod lacks.
pub(crate) fn drift_of(node: Node<'_, impl System>, member: &Member) -> Result<Option<Drift>> {
    if !matches!(member.key, Key::Netns(_)) || dispatch::is_undecided(node)? {
        return Ok(None);
    }
    let name = || member.name.clone();
    if !has_program(node, member.key)? {
        return Ok(Some(Drift::PodProgramMissing(name())));
    }
    if translates_by_tc(node, member)? {
        return Ok(Some(Drift::PodTranslates(name())));
    }
    if unattached_interfaces(node, member)?.is_some() {
        return Ok(Some(Drift::PodInterfaceMissed(name())));
    }
    let Key::Netns(cookie) = member.key else { return Ok(None) };
    let missed = listening::has_missed(node, cookie)?;
    Ok(missed.then(|| Drift::PodSocketsUnknown(name())))
}

/// Whether a pod that is decided by tc has got rules since by which the kernel ignores it.
fn translates_by_tc<S: System>(node: Node<'_, S>, member: &Member) -> Result<bool> {
    let Key::Netns(cookie) = member.key else { return Ok(false) };
    if attached_mode(node, member.key)? != Some(Inbound::Tc) {
        return Ok(false);
    }
    let netns = find(node.system, member, cookie)?;
    netns.map_or(Ok(false), |netns| Ok(node.system.translates(&netns, cookie)?))
}

/// The file that the pod was attached by, or another one for its namespace, where that file has gone or stands
/// for another by now.
pub(crate) fn find(system: &impl System, member: &Member, cookie: u64) -> Result<Option<PathBuf>> {
    if let Some(netns) = &member.netns
        && system.netns_cookie(netns).is_ok_and(|found| found == cookie)
    {
        return Ok(Some(netns.clone()));
    }
    Ok(system.find_netns(cookie)?)
}

/// Lets all inbound traffic of a pod reach it.
pub(crate) fn detach(node: Node<'_, impl System>, key: Key) -> Result<()> {
    unpin(node.system, &pin(node.instance, key, 0))?;
    for number in 1.. {
        let pin = pin(node.instance, key, number);
        if node.system.inode(&pin)?.is_none() {
            break;
        }
        unpin(node.system, &pin)?;
    }
    Ok(())
}
