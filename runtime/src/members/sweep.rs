//! Pods that have gone.

use crate::attach::link::unpin;
use crate::attach::netns_links::{self, LinkOwner};
use crate::error::Result;
use crate::members::registry::Registry;
use crate::system::{System, Target};

/// Removes pods whose namespace is gone, and the rest of those that were killed while they were removed. The
/// registry's lock is held. An interface alone may go: the first of a namespace, loopback, stays as long as that.
pub(crate) fn remove_ended_pods<S: System>(registry: &Registry<'_, S>) -> Result<()> {
    let all = netns_links::links(registry.node)?;
    let is_whole = |place| all.iter().any(|(_, pin, _)| netns_links::owner(pin) == Some((place, true)));
    for (place, pin, link) in &all {
        match (netns_links::owner(pin), place) {
            (Some((_, true)), LinkOwner::Pod(key)) if link.info.target == Target::Gone => {
                registry.leave(*key)?
            }
            (Some((_, false)), _) if !is_whole(*place) => {
                unpin(registry.node.system, &registry.node.instance.pod_links().join(pin))?;
            }
            _ => {}
        }
    }
    Ok(())
}
