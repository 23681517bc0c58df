//! What the kernel holds, as far as it can be read. Nothing here takes a lock or changes anything.

pub(crate) mod acceleration;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use mesh_bpf::abi::{Counter, HIT_LINES, HITS_A_LINE, POLICY_ABI};
use mesh_bpf::image::MapImage;
use mesh_bpf::item::counter_key;
use mesh_bpf::map::{self, MAPS, MapKind, Table};
use mesh_bpf::membership::Membership;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::program::Hook;
use mesh_bpf::tables::{Manifest, Tables};

use self::acceleration::Acceleration;
use crate::attach::accelerators;
use crate::attach::hooks;
use crate::attach::inbound;
use crate::attach::inbound::Place;
use crate::commands::confirm::{self, Waiting};
use crate::commands::failed::Failed;
use crate::commands::rescue;
use crate::error::{Error, Result};
use crate::generation::session::{Live, held, live, membership};
use crate::maps::set::{ControlMap, Set};
use crate::maps::slot;
use crate::members::registry::{self, Member, Origin};
use crate::runtime::Options;
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::state::record::{self, Owner, Record, hex};
use crate::system::{ProgramInfo, Store, Target};

/// How often a reader begins anew before it takes what it gets.
const RETRIES: usize = 20;

/// Milliseconds that a look at drift waits for whoever is joining or leaving.
const SETTLING: u64 = 2_000;

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is in the kernel.
    None,
    /// A generation decides.
    Active,
    /// A generation is kept, and does not decide.
    Paused,
    /// An apply or a removal was killed; the next command goes on with it.
    Unfinished,
}

impl State {
    /// The word in `status`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Unfinished => "unfinished",
        }
    }
}

/// The part of a status that can be read from what any version left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether a policy decides.
    pub state: State,
    /// The live or paused generation; 0 for none.
    pub generation: u64,
    /// The policy's digest, in hexadecimal; empty for none.
    pub digest: String,
    /// Who applied it.
    pub owner: Owner,
    /// The policy ABI of its tables; ours where there are none.
    pub policy_abi: u32,
    /// The generation that a writer is building, or was when it was killed; 0 for none.
    pub claim: u64,
}

/// A program and where it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// The name of its link.
    pub name: String,
    /// The kernel's id of the program.
    pub id: u32,
    /// The cgroup, the file of a pod's network namespace, or `host`; none where that is gone.
    pub attached_to: Option<PathBuf>,
}

/// A member and what it falls under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The pod's name, or the unit's.
    pub name: String,
    /// Its workload under the live policy.
    pub workload: Option<String>,
    /// The addresses that selectors ask for.
    pub addresses: Vec<IpAddr>,
    /// Its own addresses.
    pub own: Vec<IpAddr>,
    /// Its cgroup, for a host workload.
    pub cgroup: Option<String>,
}

/// How full a map is, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// The map; `table …` for a policy table, whose elements are lines.
    pub name: String,
    /// Elements in use.
    pub entries: u64,
    /// Elements that fit.
    pub capacity: u64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// State, generation, digest, owner.
    pub head: Head,
    /// The record of the live generation.
    pub record: Option<Record>,
    /// Names of the meshes.
    pub meshes: Vec<String>,
    /// Programs, in the order in which they were attached.
    pub programs: Vec<ProgramStatus>,
    /// Members by key.
    pub members: Vec<MemberStatus>,
    /// Occupancy of the maps.
    pub maps: Vec<Occupancy>,
    /// Decisions by the key of the item's counter: see [`items`].
    pub hits: BTreeMap<u64, u64>,
    /// Early returns and events of the programs.
    pub counters: Vec<(Counter, u64)>,
    /// What acceleration did so far.
    pub acceleration: Acceleration,
    /// What is not as the live policy says, in words.
    pub drift: Vec<String>,
    /// Programs on our hooks that are not ours, by hook, in the order in which they run.
    pub foreign: Vec<(Hook, ProgramInfo)>,
    /// Observers that the programs report to.
    pub observers: u32,
    /// The generation that waits to be confirmed, if any.
    pub waiting: Option<Waiting>,
    /// Pods that could not be attached, the latest last.
    pub failed: Vec<Failed>,
}

/// The policy that the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePolicy {
    /// Its number.
    pub generation: u64,
    /// It is kept, and decides nothing.
    pub paused: bool,
    /// Who applied it.
    pub owner: Owner,
    /// Its tables, byte for byte as they were applied.
    pub tables: Tables,
}

/// An item with how often it decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHits {
    /// Index into the image's sources.
    pub source: usize,
    /// The item's address.
    pub prefix: Prefix,
    /// Decisions since the maps were made.
    pub hits: u64,
}

impl<S: Store> Runtime<S> {
    /// State, generation, digest and owner, whichever version applied.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn head(&self) -> Result<Head> {
        let (store, instance) = (&self.store, &self.instance);
        let mut head = Head {
            state: State::None,
            generation: 0,
            digest: String::new(),
            owner: Owner::Cli,
            policy_abi: POLICY_ABI,
            claim: 0,
        };
        let Some(control) = ControlMap::open(store, instance)? else {
            if store.list(&instance.pins())?.is_some_and(|names| !names.is_empty()) {
                head.state = State::Unfinished;
            }
            return Ok(head);
        };
        let words = control.load(store);
        head.generation = held(&words);
        head.claim = words.claim;
        head.state = match (words.generation, words.paused) {
            (0, 0) => State::Unfinished,
            (0, _) => State::Paused,
            _ => State::Active,
        };
        if head.generation != 0
            && let Some(tables) = store.open_map(&instance.maps().join(map::TABLES_MAP.name))?
            && let Some(header) = slot::header(store, &tables, map::slot(head.generation))?
        {
            head.digest = hex(&header.digest);
            head.owner = Owner::from_wire(header.owner);
            head.policy_abi = header.policy_abi;
        }
        Ok(head)
    }

    /// Everything that `status` shows.
    ///
    /// # Errors
    /// Where the kernel does not answer. What another version applied is shown as far as its head.
    pub fn status(&self) -> Result<Status> {
        let found = self.steadily(|| self.look())?;
        if found.drift.is_empty() {
            return Ok(found);
        }
        // Perhaps it is no drift: what joins or leaves at this moment is between two of its steps. Nothing does
        // while the registry is locked, and where somebody else has it for long, what was seen is the answer.
        let options =
            Options { lock_timeout: SETTLING.min(self.options.lock_timeout), ..self.options.clone() };
        match lock(&self.store, &self.instance, &options, &self.instance.maps(), false) {
            Err(Error::Held { .. }) => Ok(found),
            // What was detached meanwhile is looked at all the same.
            _lock => self.steadily(|| self.look()),
        }
    }

    /// Reads without a lock: where something was committed meanwhile, a slot may have been filled anew under
    /// us, and all is read again.
    fn steadily<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let generation = || {
            let control = ControlMap::open(&self.store, &self.instance)?;
            Ok::<_, Error>(control.map(|control| held(&control.load(&self.store))))
        };
        for _ in 1..RETRIES {
            let before = generation()?;
            let found = read();
            if generation()? == before {
                return found;
            }
        }
        read()
    }

    fn look(&self) -> Result<Status> {
        let (store, instance) = (&self.store, &self.instance);
        let mut status = Status {
            head: self.head()?,
            record: record::read(store, &instance.current()).ok().flatten(),
            meshes: Vec::new(),
            programs: programs(store, instance)?,
            members: Vec::new(),
            maps: Vec::new(),
            hits: BTreeMap::new(),
            counters: Vec::new(),
            acceleration: Acceleration {
                stuck: rescue::stuck(store, instance)?,
                ..acceleration::read(store, instance)?
            },
            drift: Vec::new(),
            foreign: hooks::foreign(store, instance)?,
            observers: 0,
            waiting: confirm::read(store, instance).ok().flatten(),
            failed: self.failed()?,
        };
        let set = match Set::open(store, instance) {
            Ok(Some(set)) => set,
            Ok(None) => return Ok(status),
            Err(error) => return of_another_version(status, error),
        };
        status.observers = set.control.load(store).observe.count_ones();
        status.maps = occupancy(store, instance)?;
        status.hits = store.hits(&set.hits)?.into_iter().collect();
        status.maps.push(Occupancy {
            name: map::HITS.name.into(),
            entries: status.hits.len() as u64,
            capacity: (HIT_LINES as usize * HITS_A_LINE) as u64,
        });
        for (item, count) in slot::uncollected(store, &set.tables)? {
            *status.hits.entry(item).or_default() += count;
        }
        let counters = sums(store, &set.counters)?;
        status.counters = (Counter::ALL.iter())
            .map(|&counter| (counter, counters.get(&(counter as u64)).copied().unwrap_or_default()))
            .collect();
        let live = match live(store, &set) {
            Err(error) => return of_another_version(status, error),
            live => live?,
        };
        if let Some(live) = live {
            status.maps.extend(tables(&live.manifest));
            // Where its selectors cannot be read, that is drift, and nobody knows who falls under what.
            let policy = membership(store, &set, &live).unwrap_or_default();
            status.drift = drift(self, &set, &live)?;
            let members = registry::members(store, instance)?;
            // A cgroup that only the policy before named keeps its entry until the next command, and is no
            // member any more.
            status.members = (members.iter())
                .map(|member| (member, shown(member, &policy)))
                .filter(|(member, shown)| member.origin != Origin::Selector || shown.workload.is_some())
                .map(|(_, shown)| shown)
                .collect();
            status.meshes = policy.meshes;
        }
        Ok(status)
    }

    /// The folders of the cgroups that the live policy names, whether they are there or not.
    ///
    /// # Errors
    /// As [`Runtime::live`].
    pub fn named_cgroups(&self) -> Result<Vec<PathBuf>> {
        self.steadily(|| {
            let store = &self.store;
            let Some(set) = Set::open(store, &self.instance)? else { return Ok(Vec::new()) };
            let Some(live) = live(store, &set)? else { return Ok(Vec::new()) };
            let policy = membership(store, &set, &live)?;
            let members = policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups);
            let exempt = policy.exempt_cgroups.iter().map(|(_, path, _)| path);
            Ok(members.chain(exempt).map(|path| self.instance.cgroup_folder(path)).collect())
        })
    }

    /// The policy that the kernel holds, read back.
    ///
    /// # Errors
    /// Where the kernel does not answer, or holds what another version applied.
    pub fn live(&self) -> Result<Option<LivePolicy>> {
        self.steadily(|| {
            let store = &self.store;
            let Some(set) = Set::open(store, &self.instance)? else { return Ok(None) };
            let Some(live) = live(store, &set)? else { return Ok(None) };
            let tables = slot::read_tables(store, &set, live.slot(), &live.manifest)?;
            let Live { generation, paused, .. } = live;
            Ok(Some(LivePolicy { generation, paused, owner: live.owner(), tables }))
        })
    }
}

/// What another version left is shown as far as its head, with the reason why there is no more.
fn of_another_version(mut status: Status, error: Error) -> Result<Status> {
    if !error.is_of_another_version() {
        return Err(error);
    }
    status.drift.push(error.to_string());
    Ok(status)
}

fn programs<S: Store>(store: &S, instance: &crate::instance::Instance) -> Result<Vec<ProgramStatus>> {
    let cgroup = store.inode(&instance.cgroup)?;
    let here = |link: &hooks::Pinned| match (hooks::tracepoint(&link.name), link.info.target) {
        (Some(tracepoint), _) => Some(tracepoint.into()),
        (None, Target::Cgroup(id)) => (Some(id) == cgroup).then(|| instance.cgroup.clone()),
        // It is run when a pod comes, and waits at its pin.
        (None, Target::Iterator) => Some(instance.links()),
        _ => None,
    };
    let mut programs: Vec<ProgramStatus> = (hooks::pinned(store, instance)?.into_iter())
        .map(|link| ProgramStatus { attached_to: here(&link), id: link.info.program, name: link.name })
        .collect();
    let members = registry::members(store, instance)?;
    let netns = |key| {
        let member = members.iter().find(|member| member.key == key);
        member.and_then(|member| member.netns.clone())
    };
    for (place, link) in inbound::pinned(store, instance)? {
        let netns = match place {
            Place::Pod(key) => netns(key),
            Place::Host => Some("host".into()),
        };
        programs.push(ProgramStatus {
            attached_to: netns.filter(|_| link.info.target != Target::Gone),
            id: link.info.program,
            name: link.name,
        });
    }
    Ok(programs)
}

fn shown(member: &Member, policy: &Membership) -> MemberStatus {
    MemberStatus {
        name: member.name.clone(),
        workload: member.workload(policy).ok().flatten().map(|workload| workload.name.clone()),
        addresses: member.addresses.clone(),
        own: member.own().to_vec(),
        cgroup: member.cgroup.clone(),
    }
}

fn occupancy<S: Store>(store: &S, instance: &crate::instance::Instance) -> Result<Vec<Occupancy>> {
    let mut maps = Vec::new();
    for def in MAPS.iter().filter(|def| matches!(def.kind, MapKind::Hash | MapKind::SockHash)) {
        if let Some(map) = store.open_map(&instance.maps().join(def.name))? {
            let entries = store.entries(&map)?.len() as u64;
            maps.push(Occupancy { name: def.name.into(), entries, capacity: def.capacity.into() });
        }
    }
    Ok(maps)
}

fn tables(manifest: &Manifest) -> impl Iterator<Item = Occupancy> + '_ {
    Table::ALL.into_iter().skip(1).map(|table| {
        let lines = manifest.table(table).bytes.div_ceil(mesh_bpf::abi::LINE as u64);
        let capacity = mesh_bpf::pack::MAX_LINES as u64;
        Occupancy { name: format!("table {}", table.word()), entries: lines, capacity }
    })
}

/// Counters by key, added up over CPUs. Keys have 4 or 8 bytes.
pub(crate) fn sums<S: Store>(store: &S, map: &S::Map) -> Result<BTreeMap<u64, u64>> {
    let number = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    };
    let sum = |value: &[u8]| value.chunks_exact(8).map(number).fold(0, u64::wrapping_add);
    Ok((store.entries(map)?.iter()).map(|(key, value)| (number(key), sum(value))).collect())
}

/// What differs from what was applied: tables, programs, members.
fn drift<S: Store>(runtime: &Runtime<S>, set: &Set<S>, live: &Live) -> Result<Vec<String>> {
    let (store, instance) = (&runtime.store, &runtime.instance);
    let mut drift = Vec::new();
    for table in Table::ALL.into_iter().skip(1) {
        let intact = slot::read_table(store, set, live.slot(), &live.manifest, table)
            .is_ok_and(|data| data.digest() == live.manifest.table(table).digest);
        if !intact {
            drift.push(format!("the table `{}` is not what was applied", table.word()));
        }
    }
    for name in hooks::missing(store, instance)? {
        drift.push(format!("the program `{name}` is not attached"));
    }
    drift.extend(inbound::host_fault(store, instance, &set.control)?);
    let profiles = slot::read_table(store, set, live.slot(), &live.manifest, Table::Profiles);
    if profiles.is_ok_and(|profiles| accelerators::wanted_by(profiles.bytes())) {
        for name in accelerators::missing(store, instance)? {
            drift.push(format!("the program `{name}` is not attached: nothing is accelerated"));
        }
    }
    if let Ok(policy) = membership(store, set, live) {
        drift.extend(registry::drift(store, instance, set, live.slot(), &policy)?);
    }
    Ok(drift)
}

/// Which items the counters are of. Counters of items that the image does not have (of earlier
/// generations) are left out.
#[must_use]
pub fn items(image: &MapImage, hits: &BTreeMap<u64, u64>) -> Vec<ItemHits> {
    let mut found: BTreeMap<(usize, Prefix), u64> = BTreeMap::new();
    if hits.is_empty() {
        return Vec::new();
    }
    each_item(image, |source, prefix, key| {
        if let Some(&hits) = hits.get(&key) {
            found.insert((source, prefix), hits);
        }
    });
    found.into_iter().map(|((source, prefix), hits)| ItemHits { source, prefix, hits }).collect()
}

/// Source, address and key of the counter of every item that decides something; of some more than once.
pub(crate) fn each_item(image: &MapImage, mut note: impl FnMut(usize, Prefix, u64)) {
    let hashes: Vec<u64> = image.sources.iter().map(mesh_bpf::image::Source::stable_hash).collect();
    // An exempt identity has no address, and its counter no prefix.
    for (source, &hash) in hashes.iter().enumerate() {
        note(source, Prefix::Any, hash);
    }
    for nodes in
        image.profiles.iter().flat_map(|profile| &profile.sides).flat_map(|side| [&side.tree, &side.own])
    {
        let parents = mesh_bpf::image::parents(nodes);
        for (index, node) in nodes.iter().enumerate() {
            for table in node.ports.iter().filter_map(|&id| image.port_table(id)) {
                for (_, decision) in &table.stretches {
                    let mut at = index;
                    for _ in 0..decision.up {
                        at = parents.get(at).copied().flatten().map_or(at, |parent| parent as usize);
                    }
                    let source = decision.source.0 as usize;
                    if let (Some(&hash), Some(item)) = (hashes.get(source), nodes.get(at)) {
                        note(source, item.prefix, counter_key(hash, item.prefix));
                    }
                }
            }
        }
    }
}
