//! The cgroups that `meshc run` makes: named for the process that made them, and removed by whoever finds it gone.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::member::{Key, Member, Origin};
use crate::members::files;
use crate::members::registry::Registry;
use crate::node::Node;
use crate::system::{Process, System};

fn prefix(instance: &Instance) -> String {
    format!("meshc-{}-", instance.name)
}

/// Makes one for a command of this process, as a member of a workload. The registry's lock is held.
pub(crate) fn make(node: Node<'_, impl System>, workload: &str) -> Result<(PathBuf, Member)> {
    let id = files::new_id(node)?;
    let process = node.system.this_process();
    let name = format!("{}{}-{}-{id}", prefix(node.instance), process.pid, process.start);
    let cgroup = node.instance.cgroup.join(&name);
    node.system.create_dir(&cgroup)?;
    let number = node.system.inode(&cgroup)?.ok_or_else(|| Error::NotACgroup(cgroup.clone()))?;
    let origin = Origin::Run { workload: workload.into(), process };
    let path = node.instance.cgroup_path(&cgroup);
    Ok((cgroup, Member::of_command(id, Key::Cgroup(number), origin, name, path)))
}

/// Whether a member's name is that of a cgroup that `meshc run` made, of any instance.
#[must_use]
pub fn is_of_a_command(member: &str) -> bool {
    let rest = member.strip_prefix("meshc-");
    // The name of the instance may have any of its signs.
    rest.is_some_and(|rest| {
        rest.match_indices('-').any(|(at, _)| maker(rest.get(at + 1..).unwrap_or_default()).is_some())
    })
}

/// The cgroups of commands whose maker has ended and in which nothing lives, with their ids.
pub(crate) fn dead(node: Node<'_, impl System>) -> Result<Vec<(PathBuf, u64)>> {
    let mut dead = Vec::new();
    let prefix = prefix(node.instance);
    for name in node.system.list(&node.instance.cgroup)?.unwrap_or_default() {
        let Some(process) = name.strip_prefix(&prefix).and_then(maker) else { continue };
        let dir = node.instance.cgroup.join(&name);
        if !node.system.is_alive(process)
            && !node.system.is_populated(&dir)?
            && let Some(id) = node.system.inode(&dir)?
        {
            dead.push((dir, id));
        }
    }
    Ok(dead)
}

/// `PID-START-ID`
fn maker(rest: &str) -> Option<Process> {
    let mut numbers = rest.split('-');
    let process = Process { pid: numbers.next()?.parse().ok()?, start: numbers.next()?.parse().ok()? };
    numbers.next()?.parse::<u32>().ok()?;
    numbers.next().is_none().then_some(process)
}

/// Unregisters and removes the cgroups of commands that were killed. The registry's lock is held.
pub(crate) fn sweep<S: System>(registry: &Registry<'_, S>) -> Result<()> {
    for (dir, id) in dead(registry.node)? {
        registry.leave(Key::Cgroup(id))?;
        registry.node.system.remove_dir(&dir)?;
    }
    Ok(())
}

/// The same where nothing is registered any more.
pub(crate) fn sweep_cgroups<S: System>(node: Node<'_, S>) -> Result<()> {
    for (dir, id) in dead(node)? {
        node.system.remove(&node.instance.members().join(Key::Cgroup(id).to_string()))?;
        node.system.remove_dir(&dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cgroups_tell_who_made_them() {
        assert_eq!(maker("12-345-6"), Some(Process { pid: 12, start: 345 }));
        for other in ["12-345", "12-345-6-7", "x-345-6", "12-345-x"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }

    #[test]
    fn commands_are_known_by_the_names_of_their_cgroups() {
        for name in ["meshc-meshc-831-260196-4", "meshc-meshc-blue-1-2-3"] {
            assert!(is_of_a_command(name), "{name}");
        }
        for name in
            ["cart", "meshc-meshc-831-260196", "meshc-1-2-3", "meshc-meshc-1-2-3-x", "a-meshc-meshc-1-2-3"]
        {
            assert!(!is_of_a_command(name), "{name}");
        }
    }
}
