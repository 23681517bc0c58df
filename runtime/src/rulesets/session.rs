//! A command that changes something: it holds the lock, and has finished or undone what whoever was killed left.

use mesh_nft::Marker;

use super::datagrams;
use super::live::{self, Live, host_marker, is_of, record_of};
use super::load;
use super::namespaces;
use super::registry;
use super::target::Target;
use crate::error::{Error, Result};
use crate::generation::session::tell_holder;
use crate::members::files;
use crate::node::Node;
use crate::owner::Owner;
use crate::runtime::Options;
use crate::state::lock::{create_and_lock, lock};
use crate::state::record::{self, FOUND, Record};
use crate::system::System;

/// The file, beside those of the members, that is there while namespaces are brought from one version to another.
const CHANGING: &str = "changing";

/// The lock.
pub(crate) struct Session<'a, S: System> {
    pub(crate) node: Node<'a, S>,
    _lock: S::Lock,
}

impl<'a, S: System> Session<'a, S> {
    /// Takes the lock and finishes or undoes what a killed command left. `None` where nothing was ever applied.
    pub(crate) fn begin(node: Node<'a, S>, options: &Options) -> Result<Option<Self>> {
        let lock = lock(node, &node.instance.rulesets(), options.lock_timeout)?;
        lock.map(|lock| Self::locked(node, options, lock)).transpose()
    }

    /// The same; what is needed for it is made where it is not there.
    pub(crate) fn create(node: Node<'a, S>, options: &Options) -> Result<Self> {
        record::create_dirs(node)?;
        Self::locked(node, options, create_and_lock(node, &node.instance.rulesets(), options.lock_timeout)?)
    }

    /// The lock alone: for taking everything away.
    pub(crate) fn begin_blind(node: Node<'a, S>, options: &Options) -> Result<Option<Self>> {
        let lock = lock(node, &node.instance.rulesets(), options.lock_timeout)?;
        Ok(lock.map(|lock| Self { node, _lock: lock }))
    }

    fn locked(node: Node<'a, S>, options: &Options, lock: S::Lock) -> Result<Self> {
        // Its name is information only.
        let _ = tell_holder(node, options);
        files::create_dir(node)?;
        let session = Self { node, _lock: lock };
        session.recover()?;
        Ok(session)
    }

    fn recover(&self) -> Result<()> {
        let node = self.node;
        let marker = host_marker(node)?;
        self.recover_records(marker.as_ref())?;
        registry::recover(node)?;
        registry::sweep_commands(node)?;
        if node.system.inode(&self.changing())?.is_some() {
            match &marker {
                Some(marker) => match self.align(marker) {
                    // Whoever applies another policy goes on without it.
                    Err(Error::PolicyLost(_)) => return Ok(()),
                    aligned => aligned?,
                },
                None => namespaces::unload_pods(node)?,
            }
            self.is_done()?;
        }
        Ok(())
    }

    /// Brings every namespace in line with the host's.
    fn align(&self, marker: &Marker) -> Result<()> {
        match live::policy(self.node, marker) {
            Ok(live) => namespaces::align(self.node, &live).map(drop),
            // What is not known can be stopped all the same.
            Err(_) if marker.paused => namespaces::pause_all(self.node),
            Err(error) => Err(error),
        }
    }

    /// Makes the records agree with the kernel.
    fn recover_records(&self, marker: Option<&Marker>) -> Result<()> {
        let node = self.node;
        let Some(marker) = marker else {
            return Ok(node.system.remove(&node.instance.pending())?);
        };
        record::mark_paused(self.node, marker.paused)?;
        let read = |file| record::read::<Record>(node.system, file).ok().flatten();
        let is_live = |record: &Record| is_of(record, marker);
        match (read(&node.instance.current()).filter(is_live), read(&node.instance.pending()).filter(is_live))
        {
            (Some(_), _) => Ok(node.system.remove(&node.instance.pending())?),
            (None, Some(pending)) => record::settle(node, &pending),
            (None, None) => {
                let found = record_of(node, marker)?.unwrap_or_else(|| {
                    record::new(node, marker.generation, live::beginning(marker), (Owner::Cli, FOUND))
                });
                record::settle(node, &found)
            }
        }
    }

    fn changing(&self) -> std::path::PathBuf {
        self.node.instance.members().join(CHANGING)
    }

    /// From now on, until [`Session::is_done`], namespaces may have different versions.
    pub(crate) fn begins(&self) -> Result<()> {
        Ok(self.node.system.write(&self.changing(), b"", false)?)
    }

    /// All have the host's.
    pub(crate) fn is_done(&self) -> Result<()> {
        Ok(self.node.system.remove(&self.changing())?)
    }

    /// What is live.
    pub(crate) fn live(&self) -> Result<Option<Live>> {
        live::live(self.node)
    }

    /// Stops what decides, or brings it back: the host first. `None` where nothing is live; else the generation, and
    /// whether it was not already so.
    pub(crate) fn switch(&self, paused: bool) -> Result<Option<(u64, bool)>> {
        let node = self.node;
        let Some(marker) = host_marker(node)? else { return Ok(None) };
        if marker.paused == paused {
            return Ok(Some((marker.generation, false)));
        }
        self.begins()?;
        if paused {
            namespaces::pause_all(node)?;
            datagrams::forget_redirected(node);
        } else {
            let live = Live { paused, ..live::policy(node, &marker)? };
            namespaces::align(node, &live)?;
        }
        record::mark_paused(self.node, paused)?;
        self.is_done()?;
        Ok(Some((marker.generation, true)))
    }

    /// Takes the table of every namespace away: the host's first.
    pub(crate) fn take_down(&self) -> Result<bool> {
        let node = self.node;
        let Some(host) = Target::host(node)? else { return Ok(false) };
        let was_there = live::marker(node, &host)?.is_some();
        // A purge that was killed may have taken it.
        files::create_dir(node)?;
        self.begins()?;
        load::unload(node, &host)?;
        namespaces::unload_pods(node)?;
        super::hits::forget(node)?;
        super::target::forget_host(node)?;
        self.is_done()?;
        Ok(was_there)
    }
}
