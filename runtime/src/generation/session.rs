//! A command that changes something: it holds the lock, and has cleaned up after whoever was killed.

use mesh_bpf::tables::{Manifest, Tables};

use crate::acceleration;
use crate::attach::hooks;
use crate::error::Result;
use crate::maps::live::{Live, live};
use crate::maps::pinned::{ControlMap, PinnedMaps, sweep};
use crate::maps::quota;
use crate::maps::slot;
use crate::members::registry::Registry;
use crate::members::{command_cgroups, sweep};
use crate::node::Node;
use crate::owner::{Holder, Owner};
use crate::runtime::Options;
use crate::state::lock::{create_and_lock, lock};
use crate::state::record::{self, FOUND, Record, hex};
use crate::system::{System, Word};

/// The lock, and what is pinned.
pub(crate) struct Session<'a, S: System> {
    pub(crate) node: Node<'a, S>,
    pub(crate) options: &'a Options,
    pub(crate) maps: Option<PinnedMaps<S>>,
    _lock: S::Lock,
}

impl<'a, S: System> Session<'a, S> {
    /// Takes the lock and finishes or undoes what a killed command left. `None` where the instance has no directory.
    pub(crate) fn begin(node: Node<'a, S>, options: &'a Options) -> Result<Option<Self>> {
        let lock = lock(node, &node.instance.pins(), options.lock_timeout)?;
        lock.map(|lock| Self::locked(node, options, lock)).transpose()
    }

    /// The same; the directory is made where there is none.
    pub(crate) fn create(node: Node<'a, S>, options: &'a Options) -> Result<Self> {
        Self::locked(node, options, create_and_lock(node, &node.instance.pins(), options.lock_timeout)?)
    }

    fn locked(node: Node<'a, S>, options: &'a Options, lock: S::Lock) -> Result<Self> {
        // Its name is information only; without a state directory there is none.
        let _ = tell_holder(node, options);
        let mut session = Self { node, options, maps: None, _lock: lock };
        session.recover()?;
        Ok(session)
    }

    /// The lock alone: for taking away what this version cannot read.
    pub(crate) fn blind(node: Node<'a, S>, options: &'a Options) -> Result<Option<Self>> {
        let lock = lock(node, &node.instance.pins(), options.lock_timeout)?;
        Ok(lock.map(|lock| Self { node, options, maps: None, _lock: lock }))
    }

    fn recover(&mut self) -> Result<()> {
        sweep(self.node.system, &self.node.instance.new_maps())?;
        let Some(control) = ControlMap::open(self.node)? else {
            // Links without maps: the end of a removal.
            acceleration::detach(self.node)?;
            hooks::detach(self.node)?;
            return Ok(self.node.system.remove(&self.node.instance.pending())?);
        };
        let words = control.load(self.node.system);
        if words.claim != 0 {
            control.set(self.node.system, Word::Claim, 0)?;
        }
        match (words.generation, words.paused) {
            // Pins, but nothing that decides or could: an apply or a removal that was never finished.
            (0, 0) => return self.take_down(&control),
            (1.., 1..) => control.set(self.node.system, Word::Paused, 0)?,
            _ => {}
        }
        hooks::sweep(self.node)?;
        self.maps = PinnedMaps::open(self.node)?;
        if self.maps.as_ref().is_some_and(|maps| !maps.is_complete) {
            PinnedMaps::complete(self.node, hooks::are_ours(self.node))?;
            self.maps = PinnedMaps::open(self.node)?;
        }
        self.recover_members()?;
        self.recover_records()
    }

    /// The registry's lock, held while membership and the live generation must not change.
    pub(crate) fn lock_registry(&self) -> Result<Option<S::Lock>> {
        lock(self.node, &self.node.instance.maps(), self.options.lock_timeout)
    }

    fn recover_members(&self) -> Result<()> {
        let Some(maps) = &self.maps else { return Ok(()) };
        let Some(_lock) = self.lock_registry()? else { return Ok(()) };
        let registry = Registry::new(self.node, maps);
        registry.recover()?;
        sweep::remove_ended_pods(&registry)?;
        quota::recount(self.node, maps)?;
        command_cgroups::sweep(&registry)
    }

    /// Makes the records agree with the kernel.
    fn recover_records(&self) -> Result<()> {
        let node = self.node;
        // What cannot be read is told by the commands that need it; others must still work.
        let Ok(Some(live)) = self.live() else { return Ok(()) };
        record::create_dirs(node)?;
        record::mark_paused(self.node, live.paused)?;
        let is_live =
            |record: &Record| record.generation == live.generation && record.digest == hex(live.digest());
        let read = |file| record::read::<Record>(node.system, file).ok().flatten().filter(is_live);
        match (read(&node.instance.current()), read(&node.instance.pending())) {
            (Some(_), _) => node.system.remove(&node.instance.pending())?,
            (None, Some(pending)) => record::settle(node, &pending)?,
            (None, None) => record::settle(
                node,
                &record::new(node, live.generation, hex(live.digest()), (live.owner(), FOUND)),
            )?,
        }
        if node.system.inode(&node.instance.artifacts().join(hex(live.digest())))?.is_none()
            && let Some(maps) = &self.maps
        {
            let tables = slot::read_tables(node.system, maps, live.slot(), &live.manifest);
            // A damaged table is drift, and no policy to keep.
            if let Some(tables) = tables.ok().filter(|tables| tables.digest() == *live.digest()) {
                record::keep_artifact(node, &tables, None, || Ok(()))?;
            }
        }
        Ok(())
    }

    /// What is live.
    pub(crate) fn live(&self) -> Result<Option<Live>> {
        self.maps.as_ref().map_or(Ok(None), |maps| live(self.node.system, maps))
    }

    /// What is live, where its own manifest cannot be read: its number, and what will replace it.
    pub(crate) fn unreadable(&self, new: &Tables) -> Result<Option<Live>> {
        let Some(maps) = &self.maps else { return Ok(None) };
        let words = maps.control.load(self.node.system);
        let manifest = Manifest::read(&new.manifest(words.current_generation(), Owner::Cli.wire()))?;
        Ok(Some(Live { generation: words.current_generation(), paused: words.generation == 0, manifest }))
    }

    /// Removes everything pinned. The words are 0 when this begins, so a killed removal is gone on with by
    /// the next command.
    pub(crate) fn take_down(&self, control: &ControlMap<S>) -> Result<()> {
        control.set(self.node.system, Word::Paused, 0)?;
        control.set(self.node.system, Word::Generation, 0)?;
        let _lock = self.lock_registry()?;
        acceleration::detach(self.node)?;
        hooks::detach(self.node)?;
        self.node.system.rename(&self.node.instance.maps(), &self.node.instance.new_maps(), false)?;
        sweep(self.node.system, &self.node.instance.new_maps())
    }
}

/// Says who holds the lock.
pub(crate) fn tell_holder<S: System>(node: Node<'_, S>, options: &Options) -> Result<()> {
    // Nor is anything written into a directory that is not ours.
    if node.system.inode(&node.instance.state)?.is_none() || record::is_foreign(node)? {
        return Ok(());
    }
    let holder = Holder {
        process: node.system.this_process(),
        command: options.command.clone(),
        since: node.system.wall_clock(),
    };
    record::write(node.system, &node.instance.holder(), &holder, false)
}
