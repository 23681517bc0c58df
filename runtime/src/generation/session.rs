//! A command that changes something: it holds the lock, and has cleaned up after whoever was killed.

use mesh_bpf::tables::{Manifest, Tables};

use crate::attach::accelerators;
use crate::attach::hooks;
use crate::error::Result;
use crate::instance::Instance;
use crate::maps::live::{Live, live};
use crate::maps::room;
use crate::maps::set::{ControlMap, Set, sweep};
use crate::maps::slot;
use crate::members::registry::Registry;
use crate::members::{command_cgroups, sweep};
use crate::owner::{Holder, Owner};
use crate::runtime::Options;
use crate::state::lock::lock;
use crate::state::record::{self, Record, hex};
use crate::system::{System, Word};

/// The lock, and what is pinned.
pub(crate) struct Session<'a, S: System> {
    pub(crate) store: &'a S,
    pub(crate) instance: &'a Instance,
    pub(crate) options: &'a Options,
    pub(crate) set: Option<Set<S>>,
    _lock: S::Lock,
}

impl<'a, S: System> Session<'a, S> {
    /// Takes the lock and finishes or undoes what a killed command left. `None` where the instance has no
    /// directory, unless `make`.
    pub(crate) fn begin(
        store: &'a S,
        instance: &'a Instance,
        options: &'a Options,
        make: bool,
    ) -> Result<Option<Self>> {
        let Some(lock) = lock(store, instance, options, &instance.pins(), make)? else { return Ok(None) };
        // Its name is information only; without a state directory there is none.
        let _ = tell_holder(store, instance, options);
        let mut session = Self { store, instance, options, set: None, _lock: lock };
        session.recover()?;
        Ok(Some(session))
    }

    /// The lock alone: for taking away what this version cannot read.
    pub(crate) fn blind(store: &'a S, instance: &'a Instance, options: &'a Options) -> Result<Option<Self>> {
        let lock = lock(store, instance, options, &instance.pins(), false)?;
        Ok(lock.map(|lock| Self { store, instance, options, set: None, _lock: lock }))
    }

    fn recover(&mut self) -> Result<()> {
        sweep(self.store, &self.instance.new_maps())?;
        let Some(control) = ControlMap::open(self.store, self.instance)? else {
            // Links without maps: the end of a removal.
            accelerators::detach(self.store, self.instance)?;
            hooks::detach(self.store, self.instance)?;
            return Ok(self.store.remove(&self.instance.pending())?);
        };
        let words = control.load(self.store);
        if words.claim != 0 {
            control.set(self.store, Word::Claim, 0)?;
        }
        match (words.generation, words.paused) {
            // Pins, but nothing that decides or could: an apply or a removal that was never finished.
            (0, 0) => return self.take_down(&control),
            (1.., 1..) => control.set(self.store, Word::Paused, 0)?,
            _ => {}
        }
        hooks::sweep(self.store, self.instance)?;
        self.set = Set::open(self.store, self.instance)?;
        self.recover_members()?;
        self.recover_records()
    }

    /// The registry's lock, held while membership and the live generation must not change.
    pub(crate) fn lock_registry(&self) -> Result<Option<S::Lock>> {
        lock(self.store, self.instance, self.options, &self.instance.maps(), false)
    }

    fn recover_members(&self) -> Result<()> {
        let Some(set) = &self.set else { return Ok(()) };
        let Some(_lock) = self.lock_registry()? else { return Ok(()) };
        let registry = Registry { store: self.store, instance: self.instance, set };
        registry.recover()?;
        sweep::remove_ended_pods(&registry)?;
        room::recount(self.store, self.instance, set)?;
        command_cgroups::sweep(&registry)
    }

    /// Makes the records agree with the kernel.
    fn recover_records(&self) -> Result<()> {
        let (store, instance) = (self.store, self.instance);
        // What cannot be read is told by the commands that need it; others must still work.
        let Ok(Some(live)) = self.live() else { return Ok(()) };
        record::create_dirs(store, instance)?;
        self.mark_paused(live.paused)?;
        let is_live =
            |record: &Record| record.generation == live.generation && record.digest == hex(live.digest());
        let read = |file| record::read::<Record>(store, file).ok().flatten().filter(is_live);
        match (read(&instance.current()), read(&instance.pending())) {
            (Some(_), _) => store.remove(&instance.pending())?,
            (None, Some(pending)) => record::settle(store, instance, &pending)?,
            (None, None) => record::settle(store, instance, &self.found(&live))?,
        }
        if store.inode(&instance.artifacts().join(hex(live.digest())))?.is_none()
            && let Some(set) = &self.set
        {
            let tables = slot::read_tables(store, set, live.slot(), &live.manifest);
            // A damaged table is drift, and no policy to keep.
            if let Some(tables) = tables.ok().filter(|tables| tables.digest() == *live.digest()) {
                record::keep_artifact(store, instance, &tables, None, || Ok(()))?;
            }
        }
        Ok(())
    }

    /// Remembers for the next boot whether the mesh is paused.
    pub(crate) fn mark_paused(&self, paused: bool) -> Result<()> {
        let file = self.instance.paused();
        match (paused, self.store.inode(&file)?.is_some()) {
            (true, false) => Ok(self.store.write(&file, b"", true)?),
            (false, true) => Ok(self.store.remove(&file)?),
            _ => Ok(()),
        }
    }

    /// A record of what the kernel holds, where the state directory knew nothing of it.
    fn found(&self, live: &Live) -> Record {
        Record {
            generation: live.generation,
            digest: hex(live.digest()),
            owner: live.owner(),
            applied: self.store.wall_clock(),
            boot_id: self.instance.boot_id.clone(),
            origin: "found in the kernel".into(),
        }
    }

    /// What is live.
    pub(crate) fn live(&self) -> Result<Option<Live>> {
        self.set.as_ref().map_or(Ok(None), |set| live(self.store, set))
    }

    /// What is live, where its own manifest cannot be read: its number, and what will replace it.
    pub(crate) fn unreadable(&self, new: &Tables) -> Result<Option<Live>> {
        let Some(set) = &self.set else { return Ok(None) };
        let words = set.control.load(self.store);
        let manifest = Manifest::read(&new.manifest(words.current_generation(), Owner::Cli.wire()))?;
        Ok(Some(Live { generation: words.current_generation(), paused: words.generation == 0, manifest }))
    }

    /// Removes everything pinned. The words are 0 when this begins, so a killed removal is gone on with by
    /// the next command.
    pub(crate) fn take_down(&self, control: &ControlMap<S>) -> Result<()> {
        control.set(self.store, Word::Paused, 0)?;
        control.set(self.store, Word::Generation, 0)?;
        let _lock = self.lock_registry()?;
        accelerators::detach(self.store, self.instance)?;
        hooks::detach(self.store, self.instance)?;
        self.store.rename(&self.instance.maps(), &self.instance.new_maps(), false)?;
        sweep(self.store, &self.instance.new_maps())
    }
}

/// Says who holds the lock.
pub(crate) fn tell_holder<S: System>(store: &S, instance: &Instance, options: &Options) -> Result<()> {
    // Nor is anything written into a directory that is not ours.
    if store.inode(&instance.state)?.is_none() || record::is_foreign(store, instance)? {
        return Ok(());
    }
    let holder =
        Holder { process: store.this_process(), command: options.command.clone(), since: store.wall_clock() };
    record::write(store, &instance.holder(), &holder, false)
}
