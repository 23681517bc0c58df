//! Locks that processes wait for, in turn.
//!
//! `flock` gives a free lock to whoever asks first, and a process that gives it back and wants it again is always
//! first. So a lock has a queue, which is another lock: it is held only while its holder waits for the lock itself.
//! Who has just given the lock back finds the queue held, and waits like others.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::node::Node;
use crate::state::record;
use crate::system::{Locked, System};

/// Milliseconds that the first in the queue sleeps before it asks for the lock again.
const NEXT_POLL: u64 = 1;
/// Milliseconds that others sleep before they ask for the queue again.
const QUEUE_POLL: u64 = 5;

/// Takes a directory's lock, waiting so many milliseconds. `None` where there is no such directory.
pub(crate) fn lock<S: System>(node: Node<'_, S>, dir: &Path, timeout: u64) -> Result<Option<S::Lock>> {
    let mut waiter = Waiter::new(node, timeout);
    let _turn = waiter.queue(dir)?;
    waiter.lock(dir)
}

/// The same; the directory is made where there is none.
pub(crate) fn create_and_lock<S: System>(node: Node<'_, S>, dir: &Path, timeout: u64) -> Result<S::Lock> {
    let mut waiter = Waiter::new(node, timeout);
    node.system.create_dir(dir)?;
    let _turn = waiter.queue(dir)?;
    loop {
        match waiter.lock(dir)? {
            Some(lock) => return Ok(lock),
            None => node.system.create_dir(dir)?,
        }
    }
}

/// The directory whose lock is the queue of another's: each lock has its own, since the holder of the instance's
/// takes the registry's.
fn queue(instance: &Instance, dir: &Path) -> PathBuf {
    let is_of_all = dir == instance.pins() || dir == instance.rulesets();
    if is_of_all { instance.state.clone() } else { instance.links() }
}

struct Waiter<'a, S: System> {
    node: Node<'a, S>,
    /// When it gives up: milliseconds after it began.
    timeout: u64,
    began: u64,
    /// Whether somebody else was before it.
    waited: bool,
}

impl<'a, S: System> Waiter<'a, S> {
    fn new(node: Node<'a, S>, timeout: u64) -> Self {
        Self { node, timeout, began: node.system.clock(), waited: false }
    }

    /// The first place in the queue of a directory's lock. `None` where there is no queue: then nobody is kept waiting
    /// in order.
    fn queue(&mut self, dir: &Path) -> Result<Option<S::Lock>> {
        loop {
            match self.node.system.lock(&queue(self.node.instance, dir))? {
                Locked::Held(turn) => return Ok(Some(turn)),
                Locked::Gone => return Ok(None),
                Locked::Busy => self.sleep(QUEUE_POLL)?,
            }
        }
    }

    /// The lock itself; `None` where the directory is not there, nor was when this began.
    fn lock(&mut self, dir: &Path) -> Result<Option<S::Lock>> {
        loop {
            match self.node.system.lock(dir)? {
                Locked::Held(lock) => return Ok(Some(lock)),
                Locked::Gone if self.waited => return Err(Error::DetachedMeanwhile),
                Locked::Gone => return Ok(None),
                Locked::Busy => self.sleep(NEXT_POLL)?,
            }
        }
    }

    fn sleep(&mut self, milliseconds: u64) -> Result<()> {
        let Node { system, instance } = self.node;
        if system.clock().saturating_sub(self.began) >= self.timeout {
            let holder = record::read(system, &instance.holder()).ok().flatten();
            return Err(Error::Held { holder, now: system.wall_clock() });
        }
        system.sleep(milliseconds);
        self.waited = true;
        Ok(())
    }
}
