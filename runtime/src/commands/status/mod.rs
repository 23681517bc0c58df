//! What the kernel holds, as far as it can be read. Nothing here takes a lock or changes anything.

mod drift;
pub(crate) mod hits;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mesh_bpf::abi::{Counter, HIT_LINES, HITS_A_LINE, OBSERVE_RECENT, POLICY_ABI};
use mesh_bpf::map::{self, MAPS, MapKind, Table};
use mesh_bpf::membership::Membership;
use mesh_bpf::program::Hook;
use mesh_bpf::tables::{Manifest, Tables};

use self::drift::drift;
use self::hits::sums;
use crate::acceleration::{self, Acceleration};
use crate::attach::hooks;
use crate::attach::link::Pinned;
use crate::attach::netns_links::{self, LinkOwner};
use crate::commands::failed::Failed;
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::generation::confirmation::PendingConfirmation;
use crate::maps::live::{Live, live, membership};
use crate::maps::pinned::{ControlMap, PinnedMaps};
use crate::maps::{recent, slot};
use crate::member::{Member, Origin};
use crate::members::counts::Counted;
use crate::members::decisions::Decisions;
use crate::members::files;
use crate::members::interfaces::ExemptInterfaces;
use crate::members::registry::Registry;
use crate::node::Node;
use crate::owner::Owner;
use crate::rulesets;
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::state::record::{self, Record, hex};
use crate::system::{ProgramInfo, System, Target};

/// How often a reader starts over before it takes what it gets.
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

impl Default for Head {
    /// Where nothing is in the kernel.
    fn default() -> Self {
        Self {
            state: State::None,
            generation: 0,
            digest: String::new(),
            owner: Owner::Cli,
            policy_abi: POLICY_ABI,
            claim: 0,
        }
    }
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
    /// Which interfaces of its network namespace the live policy exempts; `None` where it exempts none of its workload.
    pub exempt: Option<ExemptInterfaces>,
    /// What was decided for it since it falls under its workload; `None` where an earlier build's programs decide.
    pub decisions: Option<Decisions>,
}

/// A workload of the live policy that has members, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// `mesh/workload`.
    pub name: String,
    /// How many fall under it.
    pub members: usize,
    /// What was decided for its members, those that were counted in; `None` where an earlier build's programs decide.
    pub decisions: Option<Decisions>,
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

/// What a network namespace has, where nftables decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesetStatus {
    /// The pod, or `host`.
    pub namespace: String,
    /// The generation that its ruleset is of; none where it has none.
    pub generation: Option<u64>,
    /// It decides nothing.
    pub paused: bool,
    /// The number of the last commit there, to any table.
    pub commits: u32,
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
    /// Rulesets by namespace, the host's first; none where programs decide.
    pub rulesets: Vec<RulesetStatus>,
    /// Members by key.
    pub members: Vec<MemberStatus>,
    /// Workloads by name.
    pub workloads: Vec<WorkloadStatus>,
    /// Occupancy of the maps.
    pub maps: Vec<Occupancy>,
    /// Decisions by the key of the item's counter: see [`items`].
    pub hits: BTreeMap<u64, u64>,
    /// Early returns and events of the programs.
    pub counters: Vec<(Counter, u64)>,
    /// What acceleration did so far; `None` in a build that has none.
    pub acceleration: Option<Acceleration>,
    /// What is not as the live policy says.
    pub drift: Vec<Drift>,
    /// Programs on our hooks that are not ours, by hook, in the order in which they run.
    pub foreign: Vec<(Hook, ProgramInfo)>,
    /// Observers that the programs report to.
    pub observers: u32,
    /// Whether the programs keep the last decisions.
    pub keeps_decisions: bool,
    /// The generation that waits to be confirmed, if any.
    pub waiting: Option<PendingConfirmation>,
    /// Pods that could not be attached, the latest last.
    pub failed: Vec<Failed>,
}

impl Status {
    /// With a head alone.
    pub(super) fn of(head: Head) -> Self {
        Self {
            head,
            record: None,
            meshes: Vec::new(),
            programs: Vec::new(),
            rulesets: Vec::new(),
            members: Vec::new(),
            workloads: Vec::new(),
            maps: Vec::new(),
            hits: BTreeMap::new(),
            counters: Vec::new(),
            acceleration: None,
            drift: Vec::new(),
            foreign: Vec::new(),
            observers: 0,
            keeps_decisions: false,
            waiting: None,
            failed: Vec::new(),
        }
    }
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

impl<S: System> Runtime<S> {
    /// State, generation, digest and owner, whichever version applied.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn head(&self) -> Result<Head> {
        if self.is_by_rulesets() {
            return self.head_rulesets();
        }
        let node = self.node();
        let mut head = Head::default();
        let Some(control) = ControlMap::open(node)? else {
            if node.system.list(&node.instance.pins())?.is_some_and(|names| !names.is_empty()) {
                head.state = State::Unfinished;
            }
            return Ok(head);
        };
        let words = control.load(node.system);
        head.generation = words.current_generation();
        head.claim = words.claim;
        head.state = match (words.generation, words.paused) {
            (0, 0) => State::Unfinished,
            (0, _) => State::Paused,
            _ => State::Active,
        };
        if head.generation != 0
            && let Some(tables) = node.system.open_map(&node.instance.maps().join(map::TABLES_MAP.name))?
            && let Some(header) = slot::header(node.system, &tables, map::slot(head.generation))?
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
        if self.is_by_rulesets() {
            return self.settled(&self.instance.rulesets(), || self.status_rulesets());
        }
        self.settled(&self.instance.maps(), || self.steadily(|| self.look()))
    }

    /// A status; where it tells of drift, that of a moment at which nobody changes anything.
    fn settled(&self, dir: &Path, look: impl Fn() -> Result<Status>) -> Result<Status> {
        let found = look()?;
        if found.drift.is_empty() {
            return Ok(found);
        }
        // Perhaps it is no drift: what joins or leaves at this moment is between two of its steps. Nothing does
        // while the registry is locked, and where somebody else has it for long, what was seen is the answer.
        let patience = SETTLING.min(self.options.lock_timeout);
        match lock(self.node(), dir, patience) {
            Err(Error::Held { .. }) => Ok(found),
            // What was detached meanwhile is looked at all the same.
            _lock => look(),
        }
    }

    /// Reads without a lock: where something was committed meanwhile, a slot may have been filled again under
    /// us, and all is read again.
    fn steadily<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let generation = || {
            let control = ControlMap::open(self.node())?;
            Ok::<_, Error>(control.map(|control| control.load(&self.system).current_generation()))
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

    /// Decisions by the key of the item's counter: see [`items`](hits::items). Nothing where nothing is live.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hits(&self) -> Result<BTreeMap<u64, u64>> {
        if self.is_by_rulesets() {
            return rulesets::hits::all(self.node());
        }
        let Some(maps) = PinnedMaps::open(self.node())? else { return Ok(BTreeMap::new()) };
        let mut hits = self.system.hits(&maps.hits)?.into_iter().collect();
        uncollected(&self.system, &maps, &mut hits)?;
        Ok(hits)
    }

    fn look(&self) -> Result<Status> {
        let node = self.node();
        let mut status = Status {
            record: record::read(node.system, &node.instance.current()).ok().flatten(),
            programs: programs(node)?,
            acceleration: acceleration::status(node)?,
            foreign: hooks::foreign(node)?,
            waiting: self.pending().ok().flatten(),
            failed: self.failed()?,
            ..Status::of(self.head()?)
        };
        let maps = match PinnedMaps::open(node) {
            Ok(Some(maps)) => maps,
            Ok(None) => return Ok(status),
            Err(error) => return of_another_version(status, error),
        };
        let observers = maps.control.load(node.system).observe & !OBSERVE_RECENT;
        status.observers = observers.count_ones();
        status.keeps_decisions = recent::is_kept(node.system, &maps.control);
        status.maps = occupancy(node)?;
        status.hits = node.system.hits(&maps.hits)?.into_iter().collect();
        status.maps.push(Occupancy {
            name: map::HITS.name.into(),
            entries: status.hits.len() as u64,
            capacity: (HIT_LINES as usize * HITS_A_LINE) as u64,
        });
        uncollected(node.system, &maps, &mut status.hits)?;
        let counters = sums(node.system, &maps.counters)?;
        status.counters = (Counter::ALL.iter())
            .map(|&counter| (counter, counters.get(&(counter as u64)).copied().unwrap_or_default()))
            .collect();
        let live = match live(node.system, &maps) {
            Err(error) => return of_another_version(status, error),
            live => live?,
        };
        if let Some(live) = live {
            status.maps.extend(tables(&live.manifest));
            // Where its selectors cannot be read, that is drift, and nobody knows who falls under what.
            let policy = membership(node.system, &maps, &live).unwrap_or_default();
            status.drift = drift(node, &maps, &live)?;
            let members = files::members(node)?;
            let counted = Counted::read(node, &maps)?;
            // A cgroup that only the policy before named keeps its entry until the next command, and is no
            // member any more.
            let registry = Registry::new(node, &maps);
            for member in &members {
                let shown = shown(member, &policy, counted.as_ref());
                if member.origin != Origin::Selector || shown.workload.is_some() {
                    let exempt = registry.exempt_interfaces_of(member, &policy)?;
                    status.members.push(MemberStatus { exempt, ..shown });
                }
            }
            status.workloads = workloads(&policy, &status.members, counted.as_ref());
            status.meshes = policy.meshes;
        }
        Ok(status)
    }

    /// The directories of the cgroups that the live policy names, whether they are there or not.
    ///
    /// # Errors
    /// As [`Runtime::live`].
    pub fn named_cgroups(&self) -> Result<Vec<PathBuf>> {
        if self.is_by_rulesets() {
            let named = self.named_by_live_rulesets()?;
            return Ok(named.iter().map(|path| self.instance.cgroup_dir(path)).collect());
        }
        self.steadily(|| {
            let system = &self.system;
            let Some(maps) = PinnedMaps::open(self.node())? else { return Ok(Vec::new()) };
            let Some(live) = live(system, &maps)? else { return Ok(Vec::new()) };
            let policy = membership(system, &maps, &live)?;
            let members = policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups);
            Ok(members.chain(policy.named_cgroups()).map(|path| self.instance.cgroup_dir(path)).collect())
        })
    }

    /// The policy that the kernel holds, read back.
    ///
    /// # Errors
    /// Where the kernel does not answer, or holds what another version applied.
    pub fn live(&self) -> Result<Option<LivePolicy>> {
        if self.is_by_rulesets() {
            return self.live_rulesets();
        }
        self.steadily(|| {
            let system = &self.system;
            let Some(maps) = PinnedMaps::open(self.node())? else { return Ok(None) };
            let Some(live) = live(system, &maps)? else { return Ok(None) };
            let tables = slot::read_tables(system, &maps, live.slot(), &live.manifest)?;
            let Live { generation, paused, .. } = live;
            Ok(Some(LivePolicy { generation, paused, owner: live.owner(), tables }))
        })
    }
}

/// Adds what was counted and is not collected yet.
fn uncollected<S: System>(system: &S, maps: &PinnedMaps<S>, hits: &mut BTreeMap<u64, u64>) -> Result<()> {
    for (item, count) in slot::uncollected(system, &maps.tables)? {
        *hits.entry(item).or_default() += count;
    }
    Ok(())
}

/// What another version left is shown as far as its head, with the reason why there is no more.
fn of_another_version(mut status: Status, error: Error) -> Result<Status> {
    if !error.is_of_another_version() {
        return Err(error);
    }
    status.drift.push(Drift::unreadable(&error));
    Ok(status)
}

fn programs<S: System>(node: Node<'_, S>) -> Result<Vec<ProgramStatus>> {
    let cgroup = node.system.inode(&node.instance.cgroup)?;
    let here = |link: &Pinned| match (hooks::tracepoint(&link.name), link.info.target) {
        (Some(tracepoint), _) => Some(tracepoint.into()),
        (None, Target::Cgroup(id)) => (Some(id) == cgroup).then(|| node.instance.cgroup.clone()),
        // It is run when a pod comes, and waits at its pin.
        (None, Target::Iterator) => Some(node.instance.links()),
        _ => None,
    };
    let mut programs: Vec<ProgramStatus> = (hooks::pinned(node)?.into_iter())
        .map(|link| ProgramStatus { attached_to: here(&link), id: link.info.program, name: link.name })
        .collect();
    let members = files::members(node)?;
    let netns = |key| {
        let member = members.iter().find(|member| member.key == key);
        member.and_then(|member| member.netns.clone())
    };
    for (place, link) in netns_links::pinned(node)? {
        let netns = match place {
            LinkOwner::Pod(key) => netns(key),
            LinkOwner::Host => Some("host".into()),
        };
        programs.push(ProgramStatus {
            attached_to: netns.filter(|_| link.info.target != Target::Gone),
            id: link.info.program,
            name: link.name,
        });
    }
    Ok(programs)
}

pub(super) fn shown(member: &Member, policy: &Membership, counted: Option<&Counted>) -> MemberStatus {
    let workload = member.workload(policy).ok().flatten().map(|workload| workload.name.clone());
    let decisions = |counted: &Counted| Some(counted.of_member(member.id, workload.as_deref()?));
    MemberStatus {
        name: member.name.clone(),
        decisions: counted.and_then(decisions),
        workload,
        addresses: member.addresses.clone(),
        own: member.own().to_vec(),
        cgroup: member.cgroup.clone(),
        exempt: None,
    }
}

pub(super) fn workloads(
    policy: &Membership,
    members: &[MemberStatus],
    counted: Option<&Counted>,
) -> Vec<WorkloadStatus> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for workload in members.iter().filter_map(|member| member.workload.as_deref()) {
        *sizes.entry(workload).or_default() += 1;
    }
    let all = policy.workloads.iter().map(|workload| WorkloadStatus {
        name: workload.name.clone(),
        members: sizes.get(workload.name.as_str()).copied().unwrap_or_default(),
        decisions: counted.map(|counted| counted.of_workload(&workload.name)),
    });
    all.filter(|it| it.members > 0 || it.decisions.is_some_and(|counts| counts != Decisions::default()))
        .collect()
}

fn occupancy<S: System>(node: Node<'_, S>) -> Result<Vec<Occupancy>> {
    let mut maps = Vec::new();
    for def in MAPS.iter().filter(|def| {
        matches!(def.kind, MapKind::Hash | MapKind::PerCpuHash | MapKind::LpmTrie | MapKind::SockHash)
    }) {
        if let Some(map) = node.system.open_map(&node.instance.maps().join(def.name))? {
            let entries = node.system.entries(&map)?.len() as u64;
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
