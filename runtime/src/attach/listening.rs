//! Sockets that listened before a program was there to note them are looked for; a connection must not find a program
//! and no sidecar.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_bpf::abi;
use mesh_bpf::map::{MISSED_SOCKETS, QUOTAS};
use mesh_bpf::program::{Hook, Inbound, PROGRAMS};

use super::dispatch;
use crate::error::Result;
use crate::member::Key;
use crate::node::Node;
use crate::system::System;

/// The map of the network namespaces in which listening sockets were missed; none before there is one.
pub(crate) fn missed<S: System>(node: Node<'_, S>) -> Result<Option<S::Map>> {
    Ok(node.system.open_map(&node.instance.maps().join(MISSED_SOCKETS.name))?)
}

/// Whether some of the sockets that listen in a network namespace are not known: there were too many.
pub(crate) fn has_missed<S: System>(node: Node<'_, S>, cookie: u64) -> Result<bool> {
    let Some(map) = missed(node)? else { return Ok(false) };
    Ok(node.system.lookup(&map, &cookie.to_ne_bytes())?.is_some())
}

/// Looks for the sockets that were missed: others may be gone.
pub(crate) fn look_again<S: System>(
    node: Node<'_, S>,
    cookie: u64,
    netns: impl FnOnce() -> Result<Option<PathBuf>>,
) -> Result<()> {
    if has_missed(node, cookie)?
        && let Some(netns) = netns()?
    {
        look(node, &netns, cookie)?;
    }
    Ok(())
}

/// Looks for all sockets that listen in a network namespace. What is missed now is noted again.
pub(crate) fn look<S: System>(node: Node<'_, S>, netns: &Path, cookie: u64) -> Result<()> {
    if let Some(map) = missed(node)? {
        node.system.delete(&map, &cookie.to_ne_bytes())?;
    }
    for def in PROGRAMS.iter().filter(|def| def.hook == Hook::Iterator) {
        if let Some(iterator) = node.system.open_link(&node.instance.links().join(def.name))? {
            node.system.iterate(&iterator, netns, cookie)?;
        }
    }
    Ok(())
}

/// Forgets what the programs counted of a pod's listening sockets.
pub(crate) fn forget<S: System>(node: Node<'_, S>, key: Key) -> Result<()> {
    let Key::Netns(cookie) = key else { return Ok(()) };
    if let Some(map) = missed(node)? {
        node.system.delete(&map, &cookie.to_ne_bytes())?;
    }
    if let Some(map) = node.system.open_map(&node.instance.maps().join(QUOTAS.name))? {
        for who in 0..2 {
            let quota = abi::QuotaKey { of: cookie, who, kind: abi::QUOTA_OF_LISTENERS };
            node.system.delete(&map, bytemuck::bytes_of(&quota))?;
        }
    }
    Ok(())
}

pub(crate) fn link<S: System>(
    node: Node<'_, S>,
    by: Inbound,
    netns: &Path,
    cookie: u64,
) -> Result<Vec<S::Link>> {
    look(node, netns, cookie)?;
    node.system.create_dir(&node.instance.pod_links())?;
    dispatch::ensure_target(node, by, false, None)?;
    let program = node.system.load_entry(&node.instance.maps(), cookie, by)?;
    Ok(node.system.attach_netns(&program, by, netns, cookie, &BTreeSet::new())?)
}
