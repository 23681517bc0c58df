//! The generation that is live, as its maps say.

use mesh_bpf::map::{self, Table};
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::{Digest, Manifest, TableData};

use crate::error::{Error, Result};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot;
use crate::owner::Owner;
use crate::system::System;

/// What is live, by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// Its number.
    pub(crate) generation: u64,
    /// It is kept, and decides nothing.
    pub(crate) paused: bool,
    /// The manifest of its slot.
    pub(crate) manifest: Manifest,
}

impl Live {
    pub(crate) const fn slot(&self) -> u32 {
        map::slot(self.generation)
    }

    pub(crate) const fn digest(&self) -> &Digest {
        &self.manifest.header.digest
    }

    pub(crate) const fn owner(&self) -> Owner {
        Owner::from_wire(self.manifest.header.owner)
    }
}

/// What is live in an open set.
pub(crate) fn live<S: System>(system: &S, maps: &PinnedMaps<S>) -> Result<Option<Live>> {
    let control = maps.control.load(system);
    let generation = control.current_generation();
    if generation == 0 {
        return Ok(None);
    }
    let manifest = slot::manifest(system, maps, map::slot(generation))?;
    Ok(Some(Live { generation, paused: control.generation == 0, manifest }))
}

/// The compiled selectors of what is live.
pub(crate) fn membership<S: System>(system: &S, maps: &PinnedMaps<S>, live: &Live) -> Result<Membership> {
    Ok(Membership::read(&names(system, maps, live)?)?)
}

/// The table of names of what is live, as it was applied.
pub(crate) fn names<S: System>(system: &S, maps: &PinnedMaps<S>, live: &Live) -> Result<TableData> {
    let names = slot::read_table(system, maps, live.slot(), &live.manifest, Table::Names)?;
    if names.digest() != live.manifest.table(Table::Names).digest {
        return Err(Error::NotAsApplied(Table::Names.word()));
    }
    Ok(names)
}
