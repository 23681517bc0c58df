//! Locks that processes wait for, in turn.
//!
//! `flock` gives a free lock to whoever asks first, and a process that gives it back and wants it again is always
//! first. So a lock has a queue, which is another lock: it is held only while its holder waits for the lock itself.
//! Who has just given the lock back finds the queue held, and waits like others.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::runtime::Options;
use crate::state::record;
use crate::system::{Locked, System};

/// Milliseconds that the first in the queue sleeps before it asks for the lock again.
const NEXT_POLL: u64 = 1;
/// Milliseconds that others sleep before they ask for the queue again.
const QUEUE_POLL: u64 = 5;

/// Takes a directory's lock, waiting as long as the options say. `None` where there is no such directory.
pub(crate) fn lock<S: System>(
    store: &S,
    instance: &Instance,
    options: &Options,
    dir: &Path,
    make: bool,
) -> Result<Option<S::Lock>> {
    let wait = Wait { store, instance, options, began: store.clock() };
    if make {
        store.create_dir(dir)?;
    }
    let mut waited = false;
    let _turn = loop {
        match store.lock(&queue(instance, dir))? {
            Locked::Held(turn) => break Some(turn),
            // Without it, nobody is kept waiting in order.
            Locked::Gone => break None,
            Locked::Busy => wait.sleep(QUEUE_POLL)?,
        }
        waited = true;
    };
    loop {
        match store.lock(dir)? {
            Locked::Held(lock) => return Ok(Some(lock)),
            Locked::Gone if waited => return Err(Error::DetachedMeanwhile),
            Locked::Gone if !make => return Ok(None),
            Locked::Gone => store.create_dir(dir)?,
            Locked::Busy => {
                wait.sleep(NEXT_POLL)?;
                waited = true;
            }
        }
    }
}

/// The directory whose lock is the queue of another's: each lock has its own, since the holder of the instance's
/// takes the registry's.
fn queue(instance: &Instance, dir: &Path) -> PathBuf {
    if dir == instance.pins() { instance.state.clone() } else { instance.links() }
}

struct Wait<'a, S: System> {
    store: &'a S,
    instance: &'a Instance,
    options: &'a Options,
    began: u64,
}

impl<S: System> Wait<'_, S> {
    fn sleep(&self, milliseconds: u64) -> Result<()> {
        let Self { store, instance, options, began } = self;
        if store.clock().saturating_sub(*began) >= options.lock_timeout {
            let holder = record::read(*store, &instance.holder()).ok().flatten();
            return Err(Error::Held { holder, now: store.wall_clock() });
        }
        store.sleep(milliseconds);
        Ok(())
    }
}
