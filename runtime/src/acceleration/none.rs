//! A build without acceleration: policies that accelerate are refused, and of what another build did nothing is told.

use mesh_bpf::map::ACCELERATED;

use super::{Acceleration, detach};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::stuck_reader::StuckReader;
use crate::system::{SysError, System};
use crate::warning::Warning;

pub(crate) const fn check() -> Result<()> {
    Err(Error::WithoutAcceleration)
}

pub(crate) const fn enforce<S: System>(_: Node<'_, S>, _: bool) -> Result<()> {
    check()
}

/// Of a policy that accelerates, which is refused before.
pub(crate) const fn warnings<S: System>(_: Node<'_, S>) -> Result<Vec<Warning>> {
    Ok(Vec::new())
}

/// Detaches what another build attached, whatever is open: this build's programs do not see chosen connections end.
pub(crate) fn retire<S: System>(node: Node<'_, S>) -> Result<()> {
    if node.system.list(&node.instance.accelerators())?.is_none() {
        return Ok(());
    }
    detach(node)
}

pub(crate) const fn missing<S: System>(_: Node<'_, S>) -> Result<Vec<&'static str>> {
    Ok(Vec::new())
}

pub(crate) const fn status<S: System>(_: Node<'_, S>) -> Result<Option<Acceleration>> {
    Ok(None)
}

pub(crate) const fn works<S: System>(_: Node<'_, S>) -> Result<bool> {
    Ok(false)
}

pub(crate) const fn rescue<S: System>(_: Node<'_, S>) -> Result<Vec<StuckReader>> {
    Ok(Vec::new())
}

/// How many sockets hold unread bytes of the fast path. None does where none is in the map of sockets, which another
/// build may have filled: the program that looks at them is in such a build alone.
pub(crate) fn unread<S: System>(node: Node<'_, S>) -> Result<Option<usize>> {
    let Some(sockets) = node.system.open_map(&node.instance.maps().join(ACCELERATED.name))? else {
        return Ok(None);
    };
    if node.system.entries(&sockets)?.is_empty() {
        return Ok(Some(0));
    }
    let why = std::io::Error::other("this build of meshc has no acceleration");
    Err(Error::UnreadUnknown(SysError::new("asking for", "unread bytes", why)))
}

pub(crate) fn drain<S: System>(node: Node<'_, S>) -> Result<usize> {
    Ok(unread(node)?.unwrap_or(0))
}
