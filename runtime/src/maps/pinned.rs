//! The pinned maps: made as a whole, checked before they are used.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_bpf::abi::{Control, FLOW_ABI, LINE};
use mesh_bpf::map::{self, MAPS, MapDef};

use crate::error::{Error, Result};
use crate::node::Node;
use crate::system::{MapInfo, Prepared, System, Word};

/// The control map alone: the part of a set that every version can read.
pub(crate) struct ControlMap<S: System> {
    words: S::Words,
    /// The kernel's id of the map.
    pub(crate) id: u32,
}

impl<S: System> ControlMap<S> {
    /// That of the instance; `None` where nothing is pinned.
    pub(crate) fn open(node: Node<'_, S>) -> Result<Option<Self>> {
        let Some(map) = open_pin(node.system, &node.instance.maps(), &map::CONTROL)? else { return Ok(None) };
        let info = node.system.map_info(&map)?;
        check(&info, &map::CONTROL)?;
        Ok(Some(Self { words: node.system.words(&map)?, id: info.id }))
    }

    pub(crate) fn load(&self, system: &S) -> Control {
        system.load(&self.words)
    }

    /// Sets a word to `new`, whatever it is.
    pub(crate) fn set(&self, system: &S, word: Word, new: u64) -> Result<()> {
        loop {
            let old = value(&self.load(system), word);
            if old == new || system.exchange(&self.words, word, old, new)? {
                return Ok(());
            }
        }
    }

    /// Sets a word to `new` if it is `old`; whether it was.
    pub(crate) fn exchange(&self, system: &S, word: Word, old: u64, new: u64) -> Result<bool> {
        Ok(system.exchange(&self.words, word, old, new)?)
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
pub(crate) struct PinnedMaps<S: System> {
    pub(crate) control: ControlMap<S>,
    pub(crate) tables: S::Map,
    pub(crate) scratch: S::Map,
    pub(crate) endpoints: S::Map,
    pub(crate) cgroups: S::Map,
    pub(crate) own: S::Map,
    pub(crate) cgroup_paths: S::Map,
    pub(crate) exempt_ids: S::Map,
    pub(crate) exempt_cgroups: S::Map,
    /// `None` in a set of an earlier version, until a command adds it; so is the next.
    pub(crate) exempt_ifaces: Option<S::Map>,
    pub(crate) exempt_routes: Option<S::Map>,
    pub(crate) hits: S::Map,
    /// `None` in a set of an earlier version, until a command adds it.
    pub(crate) node_addresses: Option<S::Map>,
    pub(crate) member_counts: Option<S::Map>,
    pub(crate) counters: S::Map,
    pub(crate) watches: S::Map,
    pub(crate) events: S::Map,
    /// `None` in a set of an earlier version, until a command adds it.
    pub(crate) recent: Option<S::Map>,
    /// Whether it lacks none that an earlier version did not have.
    pub(crate) is_complete: bool,
}

impl<S: System> PinnedMaps<S> {
    /// That of the instance, every map checked; `None` where nothing is pinned.
    pub(crate) fn open(node: Node<'_, S>) -> Result<Option<Self>> {
        let dir = node.instance.maps();
        let Some(control) = ControlMap::open(node)? else { return Ok(None) };
        let found = control.load(node.system).flow_abi;
        if found != u64::from(FLOW_ABI) {
            return Err(Error::OtherFlowAbi { found });
        }
        let (mut maps, mut is_complete) = (BTreeMap::new(), true);
        for def in MAPS {
            let map = match open_pin(node.system, &dir, def)? {
                None if def.may_lack => {
                    is_complete = false;
                    continue;
                }
                map => map.ok_or_else(|| incompatible(def, "it is missing".into()))?,
            };
            check(&node.system.map_info(&map)?, def)?;
            maps.insert(def.name, map);
        }
        let node_addresses = maps.remove(map::NODE_ADDRESSES.name);
        let member_counts = maps.remove(map::MEMBER_COUNTS.name);
        let recent = maps.remove(map::RECENT.name);
        let exempt_ifaces = maps.remove(map::EXEMPT_IFACES.name);
        let exempt_routes = maps.remove(map::EXEMPT_ROUTES.name);
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
            exempt_ifaces,
            exempt_routes,
            hits: take(&map::HITS)?,
            node_addresses,
            member_counts,
            counters: take(&map::COUNTERS)?,
            watches: take(&map::WATCHES)?,
            events: take(&map::EVENTS)?,
            recent,
            is_complete,
        }))
    }

    /// Adds to a set that an earlier version made the maps that it may lack. The lock is held. Where programs `are_ours`,
    /// it lacked none, and somebody else took one away.
    pub(crate) fn complete(node: Node<'_, S>, are_ours: bool) -> Result<()> {
        let dir = node.instance.maps();
        for def in MAPS.iter().filter(|def| def.may_lack) {
            if open_pin(node.system, &dir, def)?.is_some() {
                continue;
            }
            if are_ours {
                return Err(incompatible(def, "it is missing".into()));
            }
            node.system.pin_map(&make(node.system, def)?, &dir.join(def.name))?;
        }
        Ok(())
    }

    /// Makes a new set beside its place, and puts it there with one rename.
    pub(crate) fn create(node: Node<'_, S>, prepared: &mut Prepared<S>) -> Result<Self> {
        let dir = node.instance.new_maps();
        node.system.create_dir(&dir)?;
        for def in MAPS {
            let map = prepared.map(def).map_or_else(|| make(node.system, def), Ok)?;
            if def.name == map::CONTROL.name {
                node.system.exchange(&node.system.words(&map)?, Word::FlowAbi, 0, FLOW_ABI.into())?;
            }
            node.system.pin_map(&map, &dir.join(def.name))?;
        }
        node.system.rename(&dir, &node.instance.maps(), false)?;
        let missing = || incompatible(&map::CONTROL, "it is missing".into());
        Self::open(node)?.ok_or_else(missing)
    }

    /// Waits until every program has ended that saw what was live before this generation, which is.
    pub(crate) fn wait_for_readers(&self, system: &S, live: u64, prepared: &mut Prepared<S>) -> Result<()> {
        // A number never comes again in a set.
        let has_waited = prepared.waited() == Some((self.control.id, live));
        if has_waited { Ok(()) } else { self.grace_period(system) }
    }

    /// Waits until every program that runs now has ended: none sees any more what it saw before.
    pub(crate) fn grace_period(&self, system: &S) -> Result<()> {
        let any = system.create_map(&map::INNER, 1, None)?;
        Ok(system.put_maps(&self.scratch, &[(0, &any)])?)
    }
}

/// Removes a set of pins that is not in its place: one that was never finished, or is being removed.
pub(crate) fn sweep(system: &impl System, dir: &Path) -> Result<()> {
    for name in system.list(dir)?.unwrap_or_default() {
        system.remove(&dir.join(name))?;
    }
    Ok(system.remove_dir(dir)?)
}

fn make<S: System>(system: &S, def: &MapDef) -> Result<S::Map> {
    let inner = def.inner.map(|inner| system.create_map(inner, inner.capacity, None)).transpose()?;
    Ok(system.create_map(def, def.capacity, inner.as_ref())?)
}

fn open_pin<S: System>(system: &S, dir: &Path, def: &MapDef) -> Result<Option<S::Map>> {
    Ok(system.open_map(&dir.join(def.name))?)
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
