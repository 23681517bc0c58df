//! The last decisions of the node, whoever looked when they were made.
//!
//! The programs keep them in the map `recent`, where a bit of the control words says so. There are places for each kind of
//! decision, and the oldest of a kind makes room: connections, datagrams, and what was denied do not push out each other.
//! Nothing is written to the disk but whether they are kept.

use std::time::Duration;

use mesh_bpf::abi::{self, Event, Recent};

use super::event::{Decided, Recalled};
use super::filter::{Filter, VerdictFilter};
use super::names::Names;
use crate::commands::rulesets;
use crate::error::{Error, Result};
use crate::generation::session::Session;
use crate::maps::pinned::PinnedMaps;
use crate::maps::recent::{self, is_kept};
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::System;
use crate::system::linux::Kernel;

impl Runtime<Kernel> {
    /// What is kept of decisions that were made up to this long ago. Takes no lock, and no place among the observers.
    ///
    /// # Errors
    /// Where no policy is live, or none are kept.
    pub fn recall(&self, filter: &Filter, since: Duration) -> Result<Recalled> {
        self.needs_programs("`observe --since`", rulesets::STATUS_TELLS)?;
        let maps = PinnedMaps::open(self.node())?.ok_or(Error::NoPolicy)?;
        if maps.control.load(&self.system).current_generation() == 0 {
            return Err(Error::NoPolicy);
        }
        recall(self, &maps, &mut Names::default(), filter, since).map(|(recalled, _)| recalled)
    }
}

impl<S: System> Runtime<S> {
    /// From now on the programs keep the last decisions, or do not: of what is live, and of what will be.
    ///
    /// # Errors
    /// Where the state directory cannot be written, or the kernel does not answer.
    pub fn keep_decisions(&self, wanted: bool) -> Result<()> {
        if wanted {
            self.needs_programs("`--keep-decisions on`", rulesets::STATUS_TELLS)?;
        }
        let node = self.node();
        record::create_dirs(node)?;
        let session = Session::begin(node, &self.options)?;
        recent::note(node, Some(wanted))?;
        session.and_then(|session| session.maps).map_or(Ok(()), |maps| recent::follow(node, &maps))
    }
}

/// What is kept, and the events that it was read from.
pub(super) fn recall(
    runtime: &Runtime<Kernel>,
    maps: &PinnedMaps<Kernel>,
    names: &mut Names,
    filter: &Filter,
    since: Duration,
) -> Result<(Recalled, Vec<Event>)> {
    let system = &runtime.system;
    let map = maps.recent.as_ref().filter(|_| is_kept(system, &maps.control)).ok_or(Error::NothingKept)?;
    let places = system.recent_places(map)?;
    let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let from = system.nanoseconds().saturating_sub(since);
    let (mut found, mut whole_since) = (Vec::new(), None);
    for kind in (0..abi::RECENT_KINDS).filter(|&kind| may_have(filter, kind)) {
        let kept = places.read(kind);
        if places.count(kind) > u64::from(abi::RECENT_PLACES) {
            let oldest = kept.iter().map(|it| it.event.time).min();
            whole_since = whole_since.max(oldest.filter(|&oldest| oldest > from));
        }
        found.extend(kept.into_iter().filter(|it| it.event.time >= from));
    }
    found.sort_by_key(|it| it.event.time);
    names.set_clock(runtime);
    let mut decisions = Vec::new();
    for Recent { event, times, .. } in &found {
        let decided = Decided { times: *times, ..names.decided(runtime, event)? };
        // The programs know members by name too, but did not look at names here.
        let is_named = filter.member.is_none() || decided.member.is_some();
        if is_named && filter.wants(&decided) {
            decisions.push(decided);
        }
    }
    let whole_since = whole_since.map(|time| names.wall_clock(time));
    let events = found.into_iter().map(|it| it.event).collect();
    Ok((Recalled { decisions, whole_since }, events))
}

/// Whether what is wanted may be among decisions of a kind.
fn may_have(filter: &Filter, kind: u32) -> bool {
    let is_wanted = |wanted: fn(VerdictFilter) -> bool| {
        filter.verdicts.is_empty() || filter.verdicts.iter().any(|&verdict| wanted(verdict))
    };
    match kind {
        abi::RECENT_DENIED => is_wanted(|verdict| verdict == VerdictFilter::Denied),
        _ => {
            filter.protocol.is_none_or(|protocol| protocol as u32 == kind)
                && is_wanted(|verdict| verdict != VerdictFilter::Denied)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_bpf::flow::Protocol;

    #[test]
    fn only_kinds_that_may_have_what_is_wanted_are_read() {
        let kinds = |verdicts: &[VerdictFilter], protocol| {
            let filter = Filter { verdicts: verdicts.to_vec(), protocol, ..Filter::default() };
            (0..abi::RECENT_KINDS).filter(|&kind| may_have(&filter, kind)).collect::<Vec<_>>()
        };
        let (tcp, udp) = (Protocol::Tcp as u32, Protocol::Udp as u32);
        assert_eq!(kinds(&[], None), [tcp, udp, abi::RECENT_DENIED]);
        assert_eq!(kinds(&[VerdictFilter::Denied], None), [abi::RECENT_DENIED]);
        assert_eq!(kinds(&[VerdictFilter::Exempt], None), [tcp, udp]);
        assert_eq!(kinds(&[], Some(Protocol::Udp)), [udp, abi::RECENT_DENIED]);
    }
}
