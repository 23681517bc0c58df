//! Ports that sidecars listen on, kept out of what a pod's own connections take: a connection that goes out from such a
//! port would keep a sidecar that is started later from listening there.
//!
//! The kernel has a list for that in each network namespace, which others may write, too. What meshc added is noted by
//! pod beside the files of the members, so that it takes away no more.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mesh_bpf::abi::{self, Decision, VERDICT_REDIRECTED, VERDICT_TRANSPARENT};
use mesh_bpf::map::Table;
use mesh_bpf::tables::Tables;
use serde::{Deserialize, Serialize};

use crate::attach::pod;
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::member::{Key, Member};
use crate::members::files;
use crate::node::Node;
use crate::state::record;
use crate::system::{SysError, System};

/// Below `/proc/sys`.
const LIST: &str = "net/ipv4/ip_local_reserved_ports";
const WANTED: &str = "sidecar-ports";
const NOTE: &str = "reserved-";

/// What was done to a pod's list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// What was to be in it.
    wanted: BTreeSet<u16>,
    /// What was not there before.
    added: BTreeSet<u16>,
}

/// The ports that a policy redirects to.
pub(crate) fn ports(tables: &Tables) -> BTreeSet<u16> {
    let nodes = tables.get(Table::Nodes).records::<abi::Node>().iter().flat_map(|node| node.decision);
    let by_port = tables.get(Table::Decisions).records::<Decision>().iter().copied();
    let redirects =
        nodes.chain(by_port).filter(|one| one.verdict & !VERDICT_TRANSPARENT == VERDICT_REDIRECTED);
    redirects.map(|one| one.port).collect()
}

/// Notes what is to be kept free in every pod.
pub(crate) fn want(node: Node<'_, impl System>, ports: &BTreeSet<u16>) -> Result<()> {
    let file = node.instance.members().join(WANTED);
    if record::read::<BTreeSet<u16>>(node.system, &file)?.as_ref() == Some(ports) {
        return Ok(());
    }
    record::write(node.system, &file, ports, false)
}

/// Brings the lists of all pods in line; those that were, and `again` says no other, are not looked at.
pub(crate) fn keep_all(node: Node<'_, impl System>, again: bool) -> Result<()> {
    for member in files::members(node)? {
        keep(node, &member, again)?;
    }
    Ok(())
}

/// The same of one pod.
pub(crate) fn keep(node: Node<'_, impl System>, member: &Member, again: bool) -> Result<()> {
    let Key::Netns(cookie) = member.key else { return Ok(()) };
    let note = note(node.instance, member.key);
    let before = record::read::<Note>(node.system, &note)?.unwrap_or_default();
    let wanted = wanted(node)?;
    if before.wanted == wanted && !again {
        return Ok(());
    }
    let Some(netns) = pod::find(node.system, member, cookie)? else { return Ok(()) };
    let done = node.system.netns_setting(&netns, cookie, LIST).map_err(Error::from).and_then(|text| {
        let found = parsed(&text);
        let others: BTreeSet<u16> = found.difference(&before.added).copied().collect();
        let added: BTreeSet<u16> = wanted.difference(&others).copied().collect();
        let list = others.union(&added).copied().collect();
        let done = Note { wanted, added };
        if list != found {
            // Whoever is killed now leaves nothing behind that is not noted, and what is noted as not done yet.
            let begun = Note { wanted: BTreeSet::new(), added: done.added.clone() };
            record::write(node.system, &note, &begun, false)?;
            node.system.set_netns_setting(&netns, cookie, LIST, &printed(&list))?;
        }
        if list != found || done != before {
            record::write(node.system, &note, &done, false)?;
        }
        Ok(())
    });
    unless_it_cannot(done)
}

/// Takes what was added from a pod's list.
pub(crate) fn release(node: Node<'_, impl System>, member: &Member) -> Result<()> {
    let Key::Netns(cookie) = member.key else { return Ok(()) };
    let note = note(node.instance, member.key);
    let Some(before) = record::read::<Note>(node.system, &note)? else { return Ok(()) };
    if let Some(netns) = pod::find(node.system, member, cookie)? {
        let done = node.system.netns_setting(&netns, cookie, LIST).map_err(Error::from).and_then(|text| {
            let found = parsed(&text);
            let rest: BTreeSet<u16> = found.difference(&before.added).copied().collect();
            if rest != found {
                node.system.set_netns_setting(&netns, cookie, LIST, &printed(&rest))?;
            }
            Ok(())
        });
        unless_it_cannot(done)?;
    }
    Ok(node.system.remove(&note)?)
}

/// The same of all pods.
pub(crate) fn release_all(node: Node<'_, impl System>) -> Result<()> {
    for member in files::members(node)? {
        release(node, &member)?;
    }
    Ok(node.system.remove(&node.instance.members().join(WANTED))?)
}

/// Which ports a pod's connections may take that its sidecars need.
pub(crate) fn drift_of(node: Node<'_, impl System>, member: &Member) -> Result<Option<Drift>> {
    let (Key::Netns(cookie), wanted) = (member.key, wanted(node)?) else { return Ok(None) };
    if wanted.is_empty() {
        return Ok(None);
    }
    let Some(netns) = pod::find(node.system, member, cookie)? else { return Ok(None) };
    let found = match node.system.netns_setting(&netns, cookie, LIST) {
        Ok(text) => parsed(&text),
        // It ended just now.
        Err(cause) if cause.has_ended() => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    let ports: Vec<u16> = wanted.difference(&found).copied().collect();
    Ok((!ports.is_empty()).then(|| Drift::PodPortsNotReserved { pod: member.name.clone(), ports }))
}

pub(crate) fn wanted(node: Node<'_, impl System>) -> Result<BTreeSet<u16>> {
    Ok(record::read(node.system, &node.instance.members().join(WANTED))?.unwrap_or_default())
}

fn note(instance: &Instance, key: Key) -> PathBuf {
    instance.members().join(format!("{NOTE}{key}"))
}

/// A list that cannot be written keeps nobody out of the mesh: `status` tells of it. A pod that ended has none.
fn unless_it_cannot(done: Result<()>) -> Result<()> {
    match done {
        Err(Error::System(cause)) if cause.has_ended() || is_read_only(&cause) => Ok(()),
        other => other,
    }
}

fn is_read_only(cause: &SysError) -> bool {
    matches!(cause.errno(), Some(libc::EROFS | libc::EACCES | libc::EPERM))
}

/// The ports of a list as the kernel prints it: `4140,15001-15006`.
fn parsed(text: &str) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for stretch in text.trim().split(',') {
        let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            ports.extend(first..=last);
        }
    }
    ports
}

fn printed(ports: &BTreeSet<u16>) -> String {
    let mut stretches: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match stretches.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => stretches.push((port, port)),
        }
    }
    let texts = stretches
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    // An empty line empties the list.
    texts.collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_printed_as_the_kernel_does() {
        for (text, ports) in
            [("\n", vec![]), ("4140,15001-15003,65535\n", vec![4140, 15001, 15002, 15003, 65535])]
        {
            let ports: BTreeSet<u16> = ports.into_iter().collect();
            assert_eq!((parsed(text), printed(&ports)), (ports, text.to_owned()));
        }
    }
}
