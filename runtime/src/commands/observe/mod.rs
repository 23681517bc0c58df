//! Decisions as they happen.
//!
//! Every observer has a ring buffer and a watch of its own: what it wants, and until when it is there. The
//! programs look at the watches only while a bit of the control words says that there are some. An observer
//! renews its lease all the time; one that was killed does not, and the first decision after that turns its
//! bit off. Its ring buffer goes when the next observer comes, or with `detach --all`.
//!
//! Beside them the programs keep the last decisions, for whoever comes later: see `recent`.

mod event;
mod filter;
mod names;
mod recent;

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mesh_bpf::abi::{self, Event};
use mesh_bpf::map;

pub use event::{Decided, ObserverEvent, Peer, ProcessInfo, Reason, Recalled};
pub use filter::{Filter, VerdictFilter};

use crate::commands::rulesets;
use crate::error::{Error, Result};
use crate::maps::pinned::PinnedMaps;
use crate::maps::recent::turn;
use crate::runtime::Runtime;
use crate::system::linux::{Kernel, Ring, Watches};
use crate::system::{Maps, SysError};
use names::Names;

/// How long an observer counts as there without renewing its lease: nanoseconds.
const LEASE: u64 = 4_000_000_000;
/// How long it waits between two renewals: nanoseconds.
const RENEWAL: u64 = 1_000_000_000;

/// Reads decisions. Others may do so at the same time.
pub struct Observer<'a> {
    runtime: &'a Runtime<Kernel>,
    maps: PinnedMaps<Kernel>,
    watches: Watches,
    buffer: u32,
    ring: Ring,
    reader: usize,
    lease: u64,
    lost: u64,
    filter: Filter,
    names: Names,
    generation: u64,
    /// Decisions that were recalled and may be told once more.
    recalled: Vec<Event>,
    end: OwnedFd,
}

impl fmt::Debug for Observer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("reader", &self.reader)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Runtime<Kernel> {
    /// Begins to observe, with a buffer of this many bytes: a power of two, whole pages. From now on `SIGINT`
    /// and `SIGTERM` do not end this process: the observer says that they came. Takes no lock.
    ///
    /// # Errors
    /// Where no policy is live, or as many observers run as may.
    pub fn observe(&self, filter: Filter, buffer: u32) -> Result<Observer<'_>> {
        self.needs_programs("`observe`", rulesets::STATUS_TELLS)?;
        let system = &self.system;
        let maps = PinnedMaps::open(self.node())?.ok_or(Error::NoPolicy)?;
        if maps.control.load(system).current_generation() == 0 {
            return Err(Error::NoPolicy);
        }
        let watches = system.watches(&maps.watches)?;
        sweep(system, &maps, &watches)?;
        let place = claim(system, &maps, &watches, buffer)?;
        let mut observer = Observer {
            runtime: self,
            maps,
            watches,
            buffer,
            ring: place.ring,
            reader: place.reader,
            lease: place.lease,
            lost: 0,
            filter,
            names: Names::default(),
            generation: 0,
            recalled: Vec::new(),
            end: system.endings()?,
        };
        observer.begin()?;
        Ok(observer)
    }
}

impl Observer<'_> {
    /// Whether the live policy has a workload of the name that the filter has, if it has one.
    #[must_use]
    pub fn knows_workload(&self) -> bool {
        let names = self.names.workloads(self.generation);
        self.filter
            .workload
            .as_deref()
            .is_none_or(|wanted| names.iter().any(|name| filter::is_called(name, wanted)))
    }

    /// What is kept of decisions that were made up to this long ago. What comes next is none of them.
    ///
    /// # Errors
    /// Where none are kept, or the kernel does not answer.
    pub fn recall(&mut self, since: Duration) -> Result<Recalled> {
        let Self { runtime, maps, filter, names, .. } = self;
        let (recalled, events) = recent::recall(runtime, maps, names, filter, since)?;
        self.recalled = events;
        Ok(recalled)
    }

    /// What there is to tell next; waits for it, but not for longer than this.
    ///
    /// # Errors
    /// Where the mesh was detached, or the kernel does not answer.
    pub fn wait(&mut self, patience: Duration) -> Result<ObserverEvent> {
        let now = self.runtime.system.nanoseconds();
        let until = now.saturating_add(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let now = self.runtime.system.nanoseconds();
            if now + LEASE >= self.lease + RENEWAL && !self.renew(now)? {
                return Ok(ObserverEvent::Gap);
            }
            if let Some(event) = self.ring.next() {
                if let Some(told) = self.recalled.iter().position(|it| *it == event) {
                    self.recalled.swap_remove(told);
                    continue;
                }
                let decided = self.names.decided(self.runtime, &event)?;
                if self.filter.wants(&decided) {
                    return Ok(ObserverEvent::Decision(Box::new(decided)));
                }
                continue;
            }
            // Only now: those that were lost came after those that were read.
            let lost = self.watches.lost(self.reader);
            if lost > self.lost {
                let more = lost - self.lost;
                self.lost = lost;
                return Ok(ObserverEvent::Lost(more));
            }
            if now >= until {
                return Ok(ObserverEvent::Silence);
            }
            let failed = |cause| SysError::new("waiting for", "decisions", cause);
            let milliseconds = (until - now).min(RENEWAL).div_ceil(1_000_000);
            if self.ring.wait(&self.end, milliseconds).map_err(failed)? {
                return Ok(ObserverEvent::Ended);
            }
        }
    }

    /// Says what is wanted, and turns the programs' eyes to it.
    fn begin(&mut self) -> Result<()> {
        self.watches.set(self.reader, &self.filter.watch());
        self.lost = 0;
        self.follow()?;
        turn(&self.runtime.system, &self.maps.control, bit(self.reader), true)
    }

    /// Tells the programs which workload is wanted, as the live generation counts them.
    fn follow(&mut self) -> Result<()> {
        let generation = self.maps.control.load(&self.runtime.system).current_generation();
        if generation == self.generation {
            return Ok(());
        }
        self.generation = generation;
        self.names.learn(self.runtime, generation)?;
        let subject = self.filter.subject(generation, self.names.workloads(generation));
        self.watches.set_subject(self.reader, subject);
        Ok(())
    }

    /// Renews the lease; false where it came too late, and something may have been missed.
    fn renew(&mut self, now: u64) -> Result<bool> {
        let system = &self.runtime.system;
        let control = system.open_map(&self.runtime.instance.maps().join(map::EVENTS.name))?;
        let control = control.map(|map| system.map_info(&map)).transpose()?;
        if control.map(|info| info.id) != Some(system.map_info(&self.maps.events)?.id) {
            return Err(Error::DetachedMeanwhile);
        }
        if self.watches.exchange_lease(self.reader, self.lease, now + LEASE) {
            let expired = now >= self.lease;
            self.lease = now + LEASE;
            let off = store_bits(system, &self.maps) & bit(self.reader) == 0;
            turn(system, &self.maps.control, bit(self.reader), true)?;
            self.follow()?;
            return Ok(!expired && !off);
        }
        // Somebody else has our place: take another.
        let place = claim(system, &self.maps, &self.watches, self.buffer)?;
        (self.ring, self.reader, self.lease, self.generation) = (place.ring, place.reader, place.lease, 0);
        self.begin()?;
        Ok(false)
    }
}

impl Drop for Observer<'_> {
    fn drop(&mut self) {
        let _ = release(&self.runtime.system, &self.maps, &self.watches, self.reader, self.lease);
    }
}

/// A place among the observers.
struct Subscription {
    ring: Ring,
    reader: usize,
    lease: u64,
}

const fn bit(reader: usize) -> u64 {
    1 << reader
}

fn store_bits(system: &Kernel, maps: &PinnedMaps<Kernel>) -> u64 {
    maps.control.load(system).observe
}

/// Takes a place whose lease is at an end. Its bit goes off first, and putting the ring buffer waits for a
/// grace period: then no program looks at the watch any more, and it can be written.
fn claim(system: &Kernel, maps: &PinnedMaps<Kernel>, watches: &Watches, buffer: u32) -> Result<Subscription> {
    let (map, ring) = system.ring(buffer)?;
    let now = system.nanoseconds();
    let lease = now + LEASE;
    let free = |&reader: &usize| {
        let old = watches.lease(reader);
        old <= now && watches.exchange_lease(reader, old, lease)
    };
    let reader = (0..abi::WATCHES).find(free).ok_or(Error::ManyObservers)?;
    turn(system, &maps.control, bit(reader), false)?;
    system.put_maps(&maps.events, &[(number(reader), &map)])?;
    Ok(Subscription { ring, reader, lease })
}

/// Gives a place up, if it is still ours.
fn release(
    system: &Kernel,
    maps: &PinnedMaps<Kernel>,
    watches: &Watches,
    reader: usize,
    lease: u64,
) -> Result<()> {
    // A lease of our own making keeps others away until the ring buffer is gone.
    let leaving = system.nanoseconds() + LEASE;
    if !watches.exchange_lease(reader, lease, leaving) {
        return Ok(());
    }
    turn(system, &maps.control, bit(reader), false)?;
    system.delete(&maps.events, &number(reader).to_ne_bytes())?;
    watches.exchange_lease(reader, leaving, 0);
    Ok(())
}

/// Removes the ring buffers of observers that were killed.
fn sweep(system: &Kernel, maps: &PinnedMaps<Kernel>, watches: &Watches) -> Result<()> {
    for reader in 0..abi::WATCHES {
        let lease = watches.lease(reader);
        if lease != 0 && lease < system.nanoseconds() {
            release(system, maps, watches, reader, lease)?;
        }
    }
    Ok(())
}

fn number(reader: usize) -> u32 {
    u32::try_from(reader).unwrap_or(u32::MAX)
}
