//! The pinned maps: made as a whole, checked before they are used.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_bpf::abi::{Control, FLOW_ABI, LINE};
use mesh_bpf::map::{self, MAPS, MapDef};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::system::{MapInfo, Prepared, System, Word};

/// The control map alone: the part of a set that every version can read.
pub(crate) struct ControlMap<S: System> {
    words: S::Words,
    /// The kernel's id of the map.
    pub(crate) id: u32,
}

impl<S: System> ControlMap<S> {
    /// That of the instance; `None` where nothing is pinned.
    pub(crate) fn open(store: &S, instance: &Instance) -> Result<Option<Self>> {
        let Some(map) = open_pin(store, &instance.maps(), &map::CONTROL)? else { return Ok(None) };
        let info = store.map_info(&map)?;
        check(&info, &map::CONTROL)?;
        Ok(Some(Self { words: store.words(&map)?, id: info.id }))
    }

    pub(crate) fn load(&self, store: &S) -> Control {
        store.load(&self.words)
    }

    /// Sets a word to `new`, whatever it is.
    pub(crate) fn set(&self, store: &S, word: Word, new: u64) -> Result<()> {
        loop {
            let old = value(&self.load(store), word);
            if old == new || store.exchange(&self.words, word, old, new)? {
                return Ok(());
            }
        }
    }

    /// Sets a word to `new` if it is `old`; whether it was.
    pub(crate) fn exchange(&self, store: &S, word: Word, old: u64, new: u64) -> Result<bool> {
        Ok(store.exchange(&self.words, word, old, new)?)
    }
}

const fn value(control: &Control, word: Word) -> u64 {
    match word {
        Word::Generation => control.generation,
        Word::Claim => control.claim,
        Word::Paused => control.paused,
        Word::Observe => control.observe,
        Word::Commits => control.commits,
        Word::FlowAbi => control.flow_abi,
        Word::Host => control.host,
        Word::Acceleration => control.acceleration,
    }
}

/// All maps of the instance that user space works with.
pub(crate) struct Set<S: System> {
    pub(crate) control: ControlMap<S>,
    pub(crate) tables: S::Map,
    pub(crate) scratch: S::Map,
    pub(crate) endpoints: S::Map,
    pub(crate) cgroups: S::Map,
    pub(crate) own: S::Map,
    pub(crate) cgroup_paths: S::Map,
    pub(crate) exempt_ids: S::Map,
    pub(crate) exempt_cgroups: S::Map,
    pub(crate) hits: S::Map,
    pub(crate) counters: S::Map,
    pub(crate) watches: S::Map,
    pub(crate) events: S::Map,
}

impl<S: System> Set<S> {
    /// That of the instance, every map checked; `None` where nothing is pinned.
    pub(crate) fn open(store: &S, instance: &Instance) -> Result<Option<Self>> {
        let dir = instance.maps();
        let Some(control) = ControlMap::open(store, instance)? else { return Ok(None) };
        let found = control.load(store).flow_abi;
        if found != u64::from(FLOW_ABI) {
            return Err(Error::OtherFlowAbi { found });
        }
        let mut maps = BTreeMap::new();
        for def in MAPS {
            let missing = || incompatible(def, "it is missing".into());
            let map = open_pin(store, &dir, def)?.ok_or_else(missing)?;
            check(&store.map_info(&map)?, def)?;
            maps.insert(def.name, map);
        }
        let mut take =
            |def: &MapDef| maps.remove(def.name).ok_or_else(|| incompatible(def, "it is missing".into()));
        Ok(Some(Self {
            control,
            tables: take(&map::TABLES_MAP)?,
            scratch: take(&map::SCRATCH)?,
            endpoints: take(&map::ENDPOINTS)?,
            cgroups: take(&map::CGROUPS)?,
            own: take(&map::OWN)?,
            cgroup_paths: take(&map::CGROUP_PATHS)?,
            exempt_ids: take(&map::EXEMPT_IDS)?,
            exempt_cgroups: take(&map::EXEMPT_CGROUPS)?,
            hits: take(&map::HITS)?,
            counters: take(&map::COUNTERS)?,
            watches: take(&map::WATCHES)?,
            events: take(&map::EVENTS)?,
        }))
    }

    /// Makes a new set beside its place, and puts it there with one rename.
    pub(crate) fn create(store: &S, instance: &Instance, prepared: &mut Prepared<S>) -> Result<Self> {
        let dir = instance.new_maps();
        store.create_dir(&dir)?;
        for def in MAPS {
            let map = prepared.map(def).map_or_else(|| make(store, def), Ok)?;
            if def.name == map::CONTROL.name {
                store.exchange(&store.words(&map)?, Word::FlowAbi, 0, FLOW_ABI.into())?;
            }
            store.pin_map(&map, &dir.join(def.name))?;
        }
        store.rename(&dir, &instance.maps(), false)?;
        let missing = || incompatible(&map::CONTROL, "it is missing".into());
        Self::open(store, instance)?.ok_or_else(missing)
    }

    /// Waits until every program has ended that saw what was live before this generation, which is.
    pub(crate) fn wait_for_readers(&self, store: &S, live: u64, prepared: &mut Prepared<S>) -> Result<()> {
        // A number never comes again in a set.
        let has_waited = prepared.waited() == Some((self.control.id, live));
        if has_waited { Ok(()) } else { self.grace_period(store) }
    }

    /// Waits until every program that runs now has ended: none sees any more what it saw before.
    pub(crate) fn grace_period(&self, store: &S) -> Result<()> {
        let any = store.create_map(&map::INNER, 1, None)?;
        Ok(store.put_maps(&self.scratch, &[(0, &any)])?)
    }
}

/// Removes a set of pins that is not in its place: one that was never finished, or is being removed.
pub(crate) fn sweep(store: &impl System, dir: &Path) -> Result<()> {
    for name in store.list(dir)?.unwrap_or_default() {
        store.remove(&dir.join(name))?;
    }
    Ok(store.remove_dir(dir)?)
}

fn make<S: System>(store: &S, def: &MapDef) -> Result<S::Map> {
    let inner = def.inner.map(|inner| store.create_map(inner, inner.capacity, None)).transpose()?;
    Ok(store.create_map(def, def.capacity, inner.as_ref())?)
}

fn open_pin<S: System>(store: &S, dir: &Path, def: &MapDef) -> Result<Option<S::Map>> {
    Ok(store.open_map(&dir.join(def.name))?)
}

fn incompatible(def: &MapDef, what: String) -> Error {
    Error::Incompatible { map: def.name.into(), what }
}

/// Whether a pinned map is what the programs of this version expect. The kernel checks none of this when a
/// program refers to a map.
fn check(found: &MapInfo, def: &MapDef) -> Result<()> {
    let expected = [
        ("kind", found.kind, def.kind as u32),
        ("key size", found.key, def.key),
        ("value size", found.value, def.value),
        ("capacity", found.capacity, def.capacity),
        ("flags", found.flags, def.flags),
    ];
    match expected.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((what, found, expected)) => {
            Err(incompatible(def, format!("its {what} is {found}, not {expected}")))
        }
    }
}

/// One control word structure is one line.
const _: () = assert!(size_of::<Control>() == LINE);
