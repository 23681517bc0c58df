//! Links in network namespaces: whose each is, and how inbound traffic there is decided.

use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;

use super::dispatch;
use super::link::{Pinned, unpin};
use crate::error::Result;
use crate::instance::Instance;
use crate::maps::pinned::ControlMap;
use crate::member::Key;
use crate::node::Node;
use crate::system::{System, Target};

/// The pin of the host's link, beside those of pods.
pub(crate) const HOST: &str = "host";
/// How the host's is decided, whatever the pods' mode: its interfaces come and go with its pods.
pub(crate) const HOST_MODE: Inbound = Inbound::SkLookup;

/// Whose link it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkOwner {
    /// A pod's.
    Pod(Key),
    /// The host's.
    Host,
}

/// The pin of a pod's link: one has the pod's name, and where there are more, they are numbered.
pub(crate) fn pin(instance: &Instance, key: Key, number: usize) -> PathBuf {
    let name = if number == 0 { key.to_string() } else { format!("{key}-{number}") };
    instance.pod_links().join(name)
}

/// Whose pin it is, and whether it is the first of that place.
pub(crate) fn owner(name: &str) -> Option<(LinkOwner, bool)> {
    if name == HOST {
        return Some((LinkOwner::Host, true));
    }
    let numbered = || Some((LinkOwner::Pod(name.rsplit_once('-')?.0.parse().ok()?), false));
    name.parse().map_or_else(|()| numbered(), |key| Some((LinkOwner::Pod(key), true)))
}

/// The interface that a pinned link is attached to; none where it has gone.
pub(crate) fn interface(system: &impl System, pin: &Path) -> Result<Option<u32>> {
    let Some(link) = system.open_link(pin)? else { return Ok(None) };
    Ok(match system.link_info(&link)?.target {
        Target::Interface(number) => Some(number),
        _ => None,
    })
}

/// The same for all pods.
pub(crate) fn detach_all(node: Node<'_, impl System>) -> Result<()> {
    let dir = node.instance.pod_links();
    for name in node.system.list(&dir)?.unwrap_or_default() {
        unpin(node.system, &dir.join(name))?;
    }
    Ok(node.system.remove_dir(&dir)?)
}

/// Every link.
pub(crate) fn pinned(node: Node<'_, impl System>) -> Result<Vec<(LinkOwner, Pinned)>> {
    Ok(links(node)?.into_iter().map(|(place, _, pinned)| (place, pinned)).collect())
}

/// Every link, with the name of its pin.
pub(crate) fn links(node: Node<'_, impl System>) -> Result<Vec<(LinkOwner, String, Pinned)>> {
    let mut links = Vec::new();
    for pin in node.system.list(&node.instance.pod_links())?.unwrap_or_default() {
        let Some((place, _)) = owner(&pin) else { continue };
        if let Some(link) = node.system.open_link(&node.instance.pod_links().join(&pin))? {
            let info = node.system.link_info(&link)?;
            let by = mode(info.target).unwrap_or(node.instance.inbound);
            links.push((place, pin, Pinned { name: by.program().name.into(), info }));
        }
    }
    Ok(links)
}

/// In which mode a link decides; none where what it was attached to is gone.
pub(crate) const fn mode(target: Target) -> Option<Inbound> {
    match target {
        Target::Netns(_) => Some(Inbound::SkLookup),
        Target::Interface(_) => Some(Inbound::Tc),
        _ => None,
    }
}

/// Puts the programs of this build in the place of others, without a gap. Returns how many were replaced.
pub(crate) fn upgrade<S: System>(node: Node<'_, S>) -> Result<usize> {
    let mut replaced = 0;
    for by in Inbound::ALL {
        if dispatch::target(node.system, &dispatch::map(node, by)?)?.is_some()
            && dispatch::ensure_target(node, by, true, None)?
        {
            replaced += 1;
        }
        replaced += upgrade_mode(node, by)?;
    }
    Ok(replaced)
}

pub(crate) fn upgrade_mode<S: System>(node: Node<'_, S>, by: Inbound) -> Result<usize> {
    let mut links = links(node)?;
    links.retain(|(_, _, link)| mode(link.info.target) == Some(by));
    let host = ControlMap::open(node)?.map_or(0, |control| control.load(node.system).host);
    let mut replaced = 0;
    for (place, pin, pinned) in links {
        let cookie = match place {
            LinkOwner::Pod(Key::Netns(cookie)) => cookie,
            LinkOwner::Pod(Key::Cgroup(_)) => continue,
            LinkOwner::Host => host,
        };
        let old = node.system.program_by_id(pinned.info.program)?.map(|program| program.tag);
        // The cookie is in its instructions, so each pod's is compared with its own.
        let new = node.system.load_entry(&node.instance.maps(), cookie, by)?;
        if old == Some(node.system.program_info(&new)?.tag) {
            continue;
        }
        if let Some(link) = node.system.open_link(&node.instance.pod_links().join(pin))? {
            node.system.replace(&link, &new)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Whether a pod has its program, in the instance's mode or in that which serves everywhere.
pub(crate) fn has_program(node: Node<'_, impl System>, key: Key) -> Result<bool> {
    let attached = attached_mode(node, key)?;
    Ok(attached == Some(node.instance.inbound) || attached == Some(Inbound::SkLookup))
}

/// How a pod is decided; none where it is not.
pub(crate) fn attached_mode(node: Node<'_, impl System>, key: Key) -> Result<Option<Inbound>> {
    Ok(match node.system.open_link(&pin(node.instance, key, 0))? {
        Some(link) => mode(node.system.link_info(&link)?.target),
        None => None,
    })
}

pub(crate) fn is_attached(system: &impl System, pin: &Path, by: Inbound) -> Result<bool> {
    Ok(match system.open_link(pin)? {
        Some(link) => mode(system.link_info(&link)?.target) == Some(by),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_tell_whose_they_are() {
        assert_eq!(owner("netns-12"), Some((LinkOwner::Pod(Key::Netns(12)), true)));
        assert_eq!(owner("netns-12-3"), Some((LinkOwner::Pod(Key::Netns(12)), false)));
        assert_eq!(owner("host"), Some((LinkOwner::Host, true)));
        assert_eq!(owner("other"), None);
    }
}
