//! A new generation: fills the free slot, and commits with one compare-and-swap.

use mesh_bpf::map::{Table, slot};
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::TableData;

use crate::acceleration;
use crate::attach::dispatch::DispatchState;
use crate::attach::{dispatch, hooks, host};
use crate::error::{Error, Result};
use crate::generation::confirmation;
use crate::generation::host as host_program;
use crate::generation::request::{Applied, Apply};
use crate::generation::session::Session;
use crate::maps::live::{Live, membership};
use crate::maps::pinned::{PinnedMaps, sweep};
use crate::maps::recent;
use crate::maps::slot::{self as slots, PerSlot};
use crate::members::registry::{Refreshed, Registry};
use crate::members::{files, node_addresses, reserved_ports};
use crate::state::record::{self, Record};
use crate::system::{Prepared, System, Word};
use crate::warning::Warning;

/// The first apply: makes maps and loads programs. What fails here leaves nothing behind.
pub(crate) fn publish_first<S: System>(
    session: &Session<'_, S>,
    request: &Apply<'_, S>,
    prepared: &mut Prepared<S>,
    began: u64,
) -> Result<Applied> {
    let maps = PinnedMaps::create(session.node, prepared)
        .inspect_err(|_| drop(sweep(session.node.system, &session.node.instance.new_maps())))?;
    let applied = Publish { session, maps: &maps, live: None, request, began }.run(prepared);
    applied.inspect_err(|_| drop(session.take_down(&maps.control)))
}

/// The same policy again: cgroups that were made since are registered, and pods' interfaces looked at where that is
/// asked for. An apply leaves that to `status`, `--repair` and the agent: it takes a while for each pod.
pub(crate) fn reapply_unchanged<S: System>(
    session: &Session<'_, S>,
    maps: &PinnedMaps<S>,
    live: &Live,
    follows: bool,
) -> Result<Applied> {
    let profiles =
        slots::read_table(session.node.system, maps, live.slot(), &live.manifest, Table::Profiles)?;
    let accelerates = acceleration::wanted(profiles.bytes());
    if accelerates {
        acceleration::check()?;
    }
    let (upgraded, state) = upgrade(session, &profiles)?;
    let _registry = session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
    let policy = membership(session.node.system, maps, live)?;
    let registry = Registry::new(session.node, maps);
    // What the freed slot's readers may still look up goes only after they have ended.
    if registry.has_stale(&policy)? {
        maps.grace_period(session.node.system)?;
    }
    let policies = PerSlot::of(live.slot(), Some(&policy), None);
    let mut refreshed = registry.refresh(policies)?;
    if follows {
        refreshed.changed += registry.follow(policies)?;
    }
    if node_addresses::are_asked(&profiles) {
        refreshed.changed += registry.node_addresses()?;
    }
    if state == DispatchState::Newly {
        refreshed.lost = registry.attach_pods()?;
    }
    reserved_ports::keep_all(session.node, follows)?;
    let missing = hooks::missing_for(session.node, &profiles)?;
    if accelerates {
        acceleration::enforce(session.node, upgraded > 0)?;
    }
    Ok(Applied {
        generation: live.generation,
        digest: record::hex(live.digest()),
        paused: live.paused,
        upgraded,
        members_changed: refreshed.changed,
        missing_cgroups: refreshed.missing,
        warnings: lost(&refreshed.lost).chain(undecided(state)).chain(gone(&missing)).collect(),
        ..Applied::default()
    })
}

/// One new generation.
pub(crate) struct Publish<'a, S: System> {
    pub(crate) session: &'a Session<'a, S>,
    pub(crate) maps: &'a PinnedMaps<S>,
    pub(crate) live: Option<&'a Live>,
    pub(crate) request: &'a Apply<'a, S>,
    pub(crate) began: u64,
}

impl<S: System> Publish<'_, S> {
    pub(crate) fn run(&self, prepared: &mut Prepared<S>) -> Result<Applied> {
        let Self { session, maps, .. } = *self;
        let node = session.node;
        let profiles = self.request.tables.get(Table::Profiles);
        let accelerates = acceleration::wanted(profiles.bytes());
        if accelerates {
            acceleration::check()?;
        }
        let generation = self.next_generation()?;
        let needs_programs = self.live.is_none() || self.request.repair;
        let control = maps.control.id;
        let programs = match needs_programs {
            true => prepared
                .programs(control)
                .map_or_else(|| node.system.load_programs(&node.instance.maps()), Ok)?,
            false => Vec::new(),
        };
        let policy = Membership::read(self.request.tables.get(Table::Names))?;
        let members = files::members_by_cgroup(node)?;
        host::ensure_dispatch(node, profiles, &policy, &members)?;
        let (mut upgraded, mut state) = (0, DispatchState::Decided);
        if let Some(live) = self.live {
            (upgraded, state) = upgrade(self.session, profiles)?;
            // Nobody knows when a killed process committed: readers of what was live before may run.
            maps.wait_for_readers(node.system, live.generation, prepared)?;
        }
        if !maps.control.exchange(node.system, Word::Claim, 0, generation)? {
            return Err(Error::Held { holder: None, now: node.system.wall_clock() });
        }
        let ready = node.system.clock();
        // The slot's grace period passes while the policy is written to the disk.
        let Apply { tables, lines, .. } = *self.request;
        let fill = || self.fill(generation);
        let (digest, written) = record::keep_artifact(node, tables, lines, fill)?;
        let record =
            self.request.announce(node, generation, digest, self.live.map_or(0, |live| live.generation))?;
        // Nothing may fail once it is live.
        record::keep_placement(node)?;
        recent::note(node, self.request.keep_decisions)?;
        let filled = node.system.clock();
        if needs_programs {
            if self.live.is_none() {
                let loaded = prepared.inbound(control, node.instance.inbound);
                state = dispatch::ensure_target_for_policy(node, profiles, loaded)?;
            }
            hooks::attach(node, &programs, profiles)?;
            if self.live.is_some() {
                upgraded += hooks::upgrade(node, &programs)?;
            }
            hooks::remember(node)?;
        }
        let refused = hooks::attach_special(node, profiles)?;
        if accelerates {
            acceleration::enforce(node, upgraded > 0 || self.request.repair)?;
        }
        let refreshed = self.commit(generation, state == DispatchState::Newly)?;
        let mut warnings: Vec<Warning> = lost(&refreshed.lost)
            .chain(undecided(state))
            .chain(refreshed.unprotected)
            .chain(refused)
            .chain(self.settle(generation, &record))
            .collect();
        if accelerates {
            warnings.extend(acceleration::warnings(node)?);
        } else if let Err(error) = acceleration::retire(node) {
            warnings.push(Warning::AcceleratorsLeft((&error).into()));
        }
        Ok(Applied {
            generation,
            digest: record.digest.clone(),
            changed: true,
            paused: self.is_paused(),
            upgraded,
            written,
            members_changed: refreshed.changed,
            missing_cgroups: refreshed.missing,
            milliseconds: [ready - self.began, filled - ready, node.system.clock() - filled],
            // Nothing was decided before a first apply.
            closed: self.request.reset_changed.then_some(0),
            warnings,
            ..Applied::default()
        })
    }

    fn is_paused(&self) -> bool {
        self.live.map_or(self.request.paused, |live| live.paused)
    }

    /// One more than the last, in the other slot.
    fn next_generation(&self) -> Result<u64> {
        let live = self.live.map_or(0, |live| live.generation);
        let history = record::history(self.session.node)?;
        let last = history.last().map_or(0, |record| record.generation).max(live);
        Ok(if live != 0 && slot(last + 1) == slot(live) { last + 2 } else { last + 1 })
    }

    /// Fills the free slot. Tables that are as they were are taken over.
    fn fill(&self, generation: u64) -> Result<Vec<(&'static str, usize)>> {
        let system = self.session.node.system;
        let manifest = self.request.tables.manifest(generation, self.request.owner.wire());
        let (mut maps, mut written) = (Vec::new(), Vec::new());
        for table in Table::ALL {
            let data = if table == Table::Manifest { &manifest } else { self.request.tables.get(table) };
            let map = match self.unchanged(table, data)? {
                Some(map) => map,
                None => {
                    written.push((table.word(), data.padded().len()));
                    slots::make(system, table, data)?
                }
            };
            maps.push((table.index(slot(generation)), map));
        }
        let elements: Vec<(u32, &S::Map)> = maps.iter().map(|(index, map)| (*index, map)).collect();
        slots::put(system, self.maps, &elements)?;
        Ok(written)
    }

    /// The live map of a table, if it holds the same.
    fn unchanged(&self, table: Table, data: &TableData) -> Result<Option<S::Map>> {
        let Some(live) = self.live.filter(|_| !self.request.repair) else { return Ok(None) };
        let described = live.manifest.table(table);
        if table == Table::Manifest
            || described.digest != data.digest()
            || described.bytes != data.bytes().len() as u64
        {
            return Ok(None);
        }
        slots::table(self.session.node.system, &self.maps.tables, live.slot(), table)
    }

    /// Classifies the members for the new slot, and switches: both under the registry's lock, so no
    /// endpoint comes or goes between.
    fn commit(&self, generation: u64, newly_decided: bool) -> Result<Refreshed> {
        let node = self.session.node;
        let _registry = self.session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
        let new = Membership::read(self.request.tables.get(Table::Names))?;
        let old = match self.live.map(|live| membership(node.system, self.maps, live)) {
            // Its selectors cannot be read: members keep what they have under it.
            Some(Err(_)) if self.request.repair => None,
            old => old.transpose()?,
        };
        let registry = Registry::new(node, self.maps);
        let policies = PerSlot::of(slot(generation), Some(&new), old.as_ref());
        let mut refreshed = registry.refresh(policies)?;
        if self.request.repair {
            registry.remove_unknown()?;
        }
        if self.live.is_none() || self.request.repair {
            refreshed.changed += registry.follow(policies)?;
        }
        if self.live.is_none() || self.request.repair || newly_decided {
            refreshed.lost = registry.attach_pods()?;
        }
        let profiles = self.request.tables.get(Table::Profiles);
        if node_addresses::are_asked(profiles) {
            refreshed.changed += registry.node_addresses()?;
        }
        let members = files::members_by_cgroup(node)?;
        refreshed.unprotected = host::attach_if_wanted(node, &self.maps.control, profiles, &new, &members)?;
        let live = self.live.map_or(0, |live| live.generation);
        let word = if self.is_paused() { Word::Paused } else { Word::Generation };
        if self.maps.control.exchange(node.system, word, live, generation)? {
            Ok(refreshed)
        } else {
            let now = self.maps.control.load(node.system).current_generation();
            Err(Error::Stale { expected: live, live: now })
        }
    }

    /// Takes away what the policy before asked for and this one does not. A command that begins meanwhile waits: it
    /// must not lose what it finds.
    fn leave_host(&self) -> Result<()> {
        let node = self.session.node;
        let _registry = self.session.lock_registry()?;
        host_program::leave(&Registry::new(node, self.maps))
    }

    /// Keeps the ports of sidecars from the pods' own connections.
    fn reserve(&self) -> Result<()> {
        let node = self.session.node;
        let _registry = self.session.lock_registry()?;
        reserved_ports::want(node, &reserved_ports::ports(self.request.tables))?;
        reserved_ports::keep_all(node, self.request.repair)
    }

    /// Tidies up after the commit. What fails is repaired by the next command.
    fn settle(&self, generation: u64, record: &Record) -> Vec<Warning> {
        let node = self.session.node;
        let control = &self.maps.control;
        let commits = control.load(node.system).commits;
        let done = (control.set(node.system, Word::Commits, commits + 1))
            .and_then(|()| control.exchange(node.system, Word::Claim, generation, 0))
            .and_then(|_| record::settle(node, record))
            .and_then(|()| confirmation::supersede(node, generation))
            .and_then(|()| self.leave_host())
            .and_then(|()| self.reserve())
            .and_then(|()| hooks::detach_special(node, self.request.tables.get(Table::Profiles)))
            .and_then(|()| record::prune(node));
        let missing = hooks::missing(node).unwrap_or_default();
        let failed = done.err().map(|error| Warning::NotSettled((&error).into()));
        failed.into_iter().chain(gone(&missing)).collect()
    }
}

/// Replaces programs of another build. Costs nothing where they are known to be of this one.
fn upgrade<S: System>(session: &Session<'_, S>, profiles: &TableData) -> Result<(usize, DispatchState)> {
    let node = session.node;
    // Another way may be asked for than before.
    let state = dispatch::ensure_target_for_policy(node, profiles, None)?;
    // What this build attached and is gone was taken away by somebody: that is drift, and for `--repair`.
    if hooks::is_current(node)? || (hooks::are_ours(node) && !hooks::missing(node)?.is_empty()) {
        return Ok((0, state));
    }
    let programs = node.system.load_programs(&node.instance.maps())?;
    // A later build may have programs that an earlier one did not.
    hooks::attach(node, &programs, profiles)?;
    let replaced = hooks::upgrade(node, &programs)?;
    hooks::remember(node)?;
    Ok((replaced, state))
}

/// What is not decided.
fn undecided(state: DispatchState) -> Option<Warning> {
    match state {
        DispatchState::Undecided(warning) => Some(warning),
        DispatchState::Decided | DispatchState::Newly => None,
    }
}

/// What a repair would attach.
fn gone(missing: &[&'static str]) -> impl Iterator<Item = Warning> {
    missing.iter().map(|name| Warning::Drift(hooks::drift(name)))
}

fn lost(pods: &[String]) -> impl Iterator<Item = Warning> {
    pods.iter().cloned().map(Warning::PodNamespaceMissing)
}
