//! Who is a member, by the files of the state directory: the same files as where programs decide, and in place of an
//! entry in a map of the kernel a ruleset in the member's network namespace.

use std::io;

use super::live::{Live, live};
use super::load::{self, Version};
use super::scene::Stage;
use super::target::Target;
use crate::error::{Error, Result};
use crate::member::{Key, Member};
use crate::members::{command_cgroups, files, reserved_ports};
use crate::node::Node;
use crate::state::record;
use crate::system::{SysError, System};

/// Registers a pod, or registers it again as it is now. What its ruleset decides it decides when this returns. Where it
/// fails, [`recover`] makes everything what it was.
pub(crate) fn join<S: System>(node: Node<'_, S>, member: &Member, live: Option<&Live>) -> Result<()> {
    let joining = node.instance.moving().join(member.key.to_string());
    node.system.write(&joining, &record::json(&joining, member)?, false)?;
    if let Some(live) = live
        && !bring(node, member, live)?
    {
        let gone = io::Error::from_raw_os_error(libc::ENOENT);
        let place = format!("the network namespace of {}", member.name);
        return Err(SysError::new("entering", place, gone).into());
    }
    reserved_ports::keep(node, member, true)?;
    Ok(node.system.rename(&joining, &files::place(node, member.key), false)?)
}

/// Loads what is live into a pod's namespace; `false` where that cannot be found.
pub(crate) fn bring<S: System>(node: Node<'_, S>, member: &Member, live: &Live) -> Result<bool> {
    let Some(target) = Target::of(node, member)? else { return Ok(false) };
    let stage = Stage::new(node, &live.tables, &live.membership)?;
    match stage.pod(member)? {
        Some(scene) => {
            load::load(node, &target, &scene, (&stage, Version::of_live(live)), false)?;
        }
        None => load::unload(node, &target)?,
    }
    Ok(true)
}

/// Makes the host's ruleset that of the members by cgroup that there are.
pub(crate) fn bring_host<S: System>(node: Node<'_, S>, live: &Live) -> Result<bool> {
    let Some(target) = Target::host(node)? else { return Ok(false) };
    let stage = Stage::new(node, &live.tables, &live.membership)?;
    let version = Version::of_live(live);
    load::load(node, &target, &stage.host(node)?, (&stage, version), false)
}

/// Removes an endpoint.
pub(crate) fn leave<S: System>(node: Node<'_, S>, key: Key) -> Result<()> {
    let place = files::place(node, key);
    if node.system.inode(&place)?.is_some() {
        node.system.rename(&place, &node.instance.moving().join(key.to_string()), false)?;
    }
    forget(node, key)
}

/// Finishes what a killed or failed command began, as where programs decide: who was a member is what it was, and who was
/// to become one, or was leaving, goes.
pub(crate) fn recover<S: System>(node: Node<'_, S>) -> Result<()> {
    for name in node.system.list(&node.instance.moving())?.unwrap_or_default() {
        let Ok(key) = name.parse::<Key>() else { continue };
        match record::read::<Member>(node.system, &files::place(node, key))? {
            Some(member) => {
                // One whose namespace has ended is swept.
                if let Some(live) = live_if_kept(node)? {
                    bring(node, &member, &live)?;
                }
                reserved_ports::keep(node, &member, true)?;
                node.system.remove(&node.instance.moving().join(&name))?;
            }
            None => forget(node, key)?,
        }
    }
    Ok(())
}

/// What is live, as far as its policy is known.
pub(crate) fn live_if_kept<S: System>(node: Node<'_, S>) -> Result<Option<Live>> {
    match live(node) {
        Err(Error::PolicyLost(_)) => Ok(None),
        live => live,
    }
}

/// Whatever is loaded for it goes, its file last.
fn forget<S: System>(node: Node<'_, S>, key: Key) -> Result<()> {
    let file = node.instance.moving().join(key.to_string());
    let member = record::read::<Member>(node.system, &file).ok().flatten();
    match (&member, key) {
        (Some(member), Key::Netns(_)) => match Target::of(node, member)? {
            Some(target) => match load::unload(node, &target) {
                // It ended just now.
                Err(Error::System(cause)) if cause.has_ended() => {
                    load::forget(node, Some(key))?;
                }
                unloaded => unloaded?,
            },
            None => load::forget(node, Some(key))?,
        },
        (_, Key::Cgroup(_)) => {
            if let Some(live) = live_if_kept(node)? {
                bring_host(node, &live)?;
            }
        }
        (None, Key::Netns(_)) => load::forget(node, Some(key))?,
    }
    match member {
        Some(member) => {
            reserved_ports::release(node, &member)?;
            files::keep_left(node, &member, &file)
        }
        None => Ok(node.system.remove(&file)?),
    }
}

/// Unregisters and removes the cgroups of commands that were killed.
pub(crate) fn sweep_commands<S: System>(node: Node<'_, S>) -> Result<()> {
    for (dir, id) in command_cgroups::dead(node)? {
        leave(node, Key::Cgroup(id))?;
        node.system.remove_dir(&dir)?;
    }
    Ok(())
}
