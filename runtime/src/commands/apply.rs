//! Makes a policy live: builds the free slot, and commits with one compare-and-swap.

use mesh_bpf::map::{Table, slot};
use mesh_bpf::membership::Membership;
use mesh_bpf::program::Inbound;
use mesh_bpf::tables::{TableData, Tables};

use crate::attach::accelerators;
use crate::attach::accelerators::Counting;
use crate::attach::hooks;
use crate::attach::inbound;
use crate::attach::inbound::Led;
use crate::commands::confirm::{self, Waiting};
use crate::commands::rescue;
use crate::commands::run;
use crate::error::{Error, Result};
use crate::generation::reset;
use crate::generation::session::{Live, Session, live, membership, tell_holder};
use crate::maps::set::{ControlMap, Set, sweep};
use crate::maps::slot as slots;
use crate::members::registry;
use crate::members::registry::{Refreshed, Registry};
use crate::members::reserved_ports;
use crate::runtime::Runtime;
use crate::state::record::{self, Owner, Record};
use crate::system::linux::Kernel;
use crate::system::{Store, Word};

/// Generations that the state folder remembers.
const KEPT: usize = 20;

/// A policy to make live.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Its tables.
    pub tables: &'a Tables,
    /// Who applies it.
    pub owner: Owner,
    /// Go on although somebody else applied what is live.
    pub override_owner: bool,
    /// The generation it was planned against, 0 for none; with `None` whatever is live.
    pub expected: Option<u64>,
    /// Write all tables anew and attach what is missing, even where nothing seems to differ.
    pub repair: bool,
    /// Do not let it decide: keep it for `resume`. Where the mesh is paused, it stays so in any case; where a
    /// policy decides, this changes nothing.
    pub paused: bool,
    /// Milliseconds after which it is taken back unless it is confirmed: see [`Runtime::expire`].
    pub confirm_within: Option<u64>,
    /// Where another version's maps or tables are in the kernel, which this one cannot take over: begin anew,
    /// with a moment in which nothing is intercepted.
    pub drop_flows: bool,
    /// Close established connections that it decides otherwise than when they were opened.
    pub reset_changed: bool,
    /// Where it came from, in words: for the history.
    pub origin: &'a str,
}

impl<'a> Apply<'a> {
    /// A plain apply from the command line.
    #[must_use]
    pub const fn of(tables: &'a Tables) -> Self {
        Self {
            tables,
            owner: Owner::Cli,
            override_owner: false,
            expected: None,
            repair: false,
            paused: false,
            confirm_within: None,
            drop_flows: false,
            reset_changed: false,
            origin: "apply",
        }
    }
}

impl Runtime<Kernel> {
    /// Begins what an apply needs whatever its policy says, beside whatever is done until then. Where nothing is in the
    /// kernel, it makes maps and programs: nobody else sees them, and they end with this process, where nothing is
    /// applied after all. Otherwise it waits for the programs that run. Nothing where an apply would be refused.
    pub fn prepare(&self) {
        let maps = self.instance.maps();
        match self.store.inode(&maps) {
            Ok(Some(_)) => self.store.wait_ahead(&maps),
            Ok(None) => {
                let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                if cpus > 1 && self.check_place().is_ok() && self.check_fixed().is_ok() {
                    self.store.make_ahead(self.instance.inbound);
                }
            }
            Err(_) => {}
        }
    }
}

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The live generation.
    pub generation: u64,
    /// The policy's digest, in hexadecimal.
    pub digest: String,
    /// Whether there is a new generation. Not where the same policy was live.
    pub changed: bool,
    /// The mesh is paused, and `resume` brings this generation back.
    pub paused: bool,
    /// Programs that were replaced by those of this build.
    pub upgraded: usize,
    /// Tables that were written, with their bytes; the others were taken over.
    pub written: Vec<(&'static str, usize)>,
    /// Members whose entries were written or removed.
    pub members_changed: usize,
    /// Cgroups that the policy names and that are not there.
    pub missing_cgroups: Vec<String>,
    /// Milliseconds until the free slot could be written, to write it, and to commit.
    pub milliseconds: [u64; 3],
    /// Established connections that were closed; none where that was not asked for.
    pub closed: Option<usize>,
    /// It is live, but something after the commit failed, or drifted.
    pub warnings: Vec<String>,
}

impl<S: Store> Runtime<S> {
    /// Makes a policy live. The same policy again changes nothing but what drifted among its members.
    ///
    /// # Errors
    /// Then what was live is live, entire.
    pub fn apply(&self, request: Apply<'_>) -> Result<Applied> {
        let began = self.store.clock();
        self.check_place()?;
        if request.drop_flows {
            self.drop_other_version(&request)?;
        }
        let session = Session::begin(&self.store, &self.instance, &self.options, true)?;
        let session = session.ok_or(Error::DetachedMeanwhile)?;
        let applied = self.apply_locked(&session, &request, began);
        if applied.is_err() && session.set.is_none() {
            // The folder was made for its lock. Otherwise the next command sweeps it.
            let _ = self.store.remove_folder(&self.instance.pins());
        }
        let applied = applied?;
        self.change_way(&session)?;
        Ok(applied)
    }

    /// Where another way is asked for than the last apply's, pods that are there are decided by it from now on.
    /// What is kept says so last: whoever is killed before is gone on with by the next apply.
    fn change_way(&self, session: &Session<'_, S>) -> Result<()> {
        let (store, instance) = (&self.store, &self.instance);
        let kept = record::read::<String>(store, &instance.way())?;
        let wanted = instance.inbound.word();
        if kept.as_deref().unwrap_or(Inbound::default().word()) == wanted {
            return Ok(());
        }
        let Some(set) = Set::open(store, instance)? else { return Ok(()) };
        let _registry = session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
        Registry { store, instance, set: &set }.attach_pods()?;
        record::write(store, &instance.way(), &wanted.to_owned(), false)
    }

    /// Takes away what another version left, if this one cannot go on with it.
    fn drop_other_version(&self, request: &Apply<'_>) -> Result<()> {
        let (store, instance) = (&self.store, &self.instance);
        let Some(session) = Session::blind(store, instance, &self.options)? else { return Ok(()) };
        let Some(control) = ControlMap::open(store, instance)? else { return Ok(()) };
        let open = || Set::open(store, instance)?.map_or(Ok(None), |set| live(store, &set));
        match open() {
            Err(error) if error.is_of_another_version() => {}
            other => return other.map(drop),
        }
        // Every version can read who applied what, and under which number.
        let head = self.head()?;
        check_owner(Some(head.owner).filter(|_| head.generation != 0), request)?;
        if let Some(expected) = request.expected.filter(|&expected| expected != head.generation) {
            return Err(Error::Stale { expected, live: head.generation });
        }
        session.take_down(&control)
    }

    /// Brings members in line with what is live: cgroups that were made since, or made anew, are registered, and
    /// so is whoever should be and is not; pods' own addresses are those of their interfaces. `None` where nothing is live.
    ///
    /// # Errors
    /// Then what was live is live.
    pub fn refresh(&self) -> Result<Option<Applied>> {
        let session = Session::begin(&self.store, &self.instance, &self.options, false)?;
        let Some(session) = session else { return Ok(None) };
        let (Some(set), Some(live)) = (&session.set, session.live()?) else { return Ok(None) };
        adopt(&session, set, &live, true).map(Some)
    }

    fn apply_locked(&self, session: &Session<'_, S>, request: &Apply<'_>, began: u64) -> Result<Applied> {
        let live = match session.live() {
            // Tables of another version are no damage: programs of this one must never see them.
            Err(other @ Error::OtherAbi { found: 1.. }) => return Err(other),
            Err(_) if request.repair => session.unreadable(request.tables)?,
            live => live?,
        };
        check_basis(live.as_ref(), request)?;
        if live.is_none() {
            hooks::check_alone(&self.store, &self.instance)?;
        }
        self.check_capacity(request.tables)?;
        self.check_memory(request.tables, live.is_none())?;
        if request.reset_changed && !self.store.can_close()? {
            return Err(Error::CannotClose);
        }
        record::make_folders(&self.store, &self.instance)?;
        registry::make_folder(&self.store, &self.instance)?;
        if live.is_none() {
            let _ = tell_holder(&self.store, &self.instance, &self.options);
        }
        match (&live, &session.set) {
            (Some(live), Some(set)) if *live.digest() == request.tables.digest() && !request.repair => {
                adopt(session, set, live, false).map(|applied| self.reset(set, request, applied))
            }
            (Some(live), Some(set)) => {
                let applied = Put { session, set, live: Some(live), request, began }.run();
                if applied.is_err() {
                    // Otherwise the next command does it.
                    let _ = set.control.set(&self.store, Word::Claim, 0);
                }
                applied.map(|applied| self.reset(set, request, applied))
            }
            _ => first(session, request, began),
        }
    }
}

impl<S: Store> Runtime<S> {
    /// Closes what the policy, now live, decides otherwise, where that is asked for. A policy that is paused
    /// decides nothing.
    fn reset(&self, set: &Set<S>, request: &Apply<'_>, mut applied: Applied) -> Applied {
        if request.reset_changed && !applied.paused {
            match reset::close_changed(&self.store, &self.instance, set, request.tables) {
                Ok(closed) => applied.closed = Some(closed),
                Err(error) => applied.warnings.push(format!("connections were not closed: {error}")),
            }
        }
        applied
    }
}

fn check_basis(live: Option<&Live>, request: &Apply<'_>) -> Result<()> {
    let generation = live.map_or(0, |live| live.generation);
    if let Some(expected) = request.expected.filter(|&expected| expected != generation) {
        return Err(Error::Stale { expected, live: generation });
    }
    check_owner(live.map(Live::owner), request)
}

fn check_owner(owner: Option<Owner>, request: &Apply<'_>) -> Result<()> {
    match owner {
        // An agent follows its cluster; it does not ask.
        Some(Owner::Agent) if request.owner == Owner::Cli && !request.override_owner => {
            Err(Error::Owned(Owner::Agent))
        }
        Some(Owner::Cli) if request.owner == Owner::Agent && !request.override_owner => {
            Err(Error::Owned(Owner::Cli))
        }
        _ => Ok(()),
    }
}

/// The first apply: makes maps and loads programs. What fails here leaves nothing behind.
fn first<S: Store>(session: &Session<'_, S>, request: &Apply<'_>, began: u64) -> Result<Applied> {
    let set = Set::create(session.store, session.instance)
        .inspect_err(|_| drop(sweep(session.store, &session.instance.new_maps())))?;
    let applied = Put { session, set: &set, live: None, request, began }.run();
    applied.inspect_err(|_| drop(session.take_down(&set.control)))
}

/// The same policy again: cgroups that were made since are registered, and pods' interfaces looked at where that is
/// asked for. An apply leaves that to `status`, `--repair` and the agent: it takes a while for each pod.
fn adopt<S: Store>(session: &Session<'_, S>, set: &Set<S>, live: &Live, follows: bool) -> Result<Applied> {
    let profiles = slots::read_table(session.store, set, live.slot(), &live.manifest, Table::Profiles)?;
    let (upgraded, led) = upgrade(session, &profiles)?;
    let _registry = session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
    let policy = membership(session.store, set, live)?;
    let registry = Registry { store: session.store, instance: session.instance, set };
    // What the freed slot's readers may still look up goes only after they have ended.
    if registry.has_stale(&policy)? {
        set.grace_period(session.store)?;
    }
    let policies = in_slot(live.slot(), Some(&policy), None);
    let mut refreshed = registry.refresh(policies)?;
    if follows {
        refreshed.changed += registry.follow(policies)?;
    }
    if led == Led::Newly {
        refreshed.lost = registry.attach_pods()?;
    }
    reserved_ports::keep_all(session.store, session.instance, follows)?;
    let missing = hooks::missing(session.store, session.instance)?;
    if accelerators::wanted_by(profiles.bytes()) {
        accelerate(session, upgraded > 0)?;
    }
    Ok(Applied {
        generation: live.generation,
        digest: record::hex(live.digest()),
        paused: live.paused,
        upgraded,
        members_changed: refreshed.changed,
        missing_cgroups: refreshed.missing,
        warnings: lost(&refreshed.lost).chain(undecided(led)).chain(gone(&missing)).collect(),
        ..Applied::default()
    })
}

/// Replaces programs of another build. Costs nothing where they are known to be of this one.
fn upgrade<S: Store>(session: &Session<'_, S>, profiles: &TableData) -> Result<(usize, Led)> {
    let Session { store, instance, .. } = *session;
    // Another way may be asked for than before.
    let led = inbound::lead_for(store, instance, profiles)?;
    // What this build attached and is gone was taken away by somebody: that is drift, and for `--repair`.
    if hooks::is_current(store, instance)?
        || (hooks::are_ours(store, instance) && !hooks::missing(store, instance)?.is_empty())
    {
        return Ok((0, led));
    }
    let programs = store.load_programs(&instance.maps())?;
    // A later build may have programs that an earlier one did not.
    hooks::attach(store, instance, &programs)?;
    let replaced = hooks::upgrade(store, instance, &programs)?;
    hooks::remember(store, instance)?;
    Ok((replaced, led))
}

/// What is not decided, in words.
fn undecided(led: Led) -> Option<String> {
    match led {
        Led::Undecided(why) => Some(why),
        Led::Decided | Led::Newly => None,
    }
}

/// What acceleration does not promise on kernels that ask no program before a splice.
const SPLICE: &str = "this kernel lets nobody refuse a `splice` (`meshc doctor`: the security module bpf): the first \
                      time that a program turns to it in mid-connection, bytes may wait for it without end; \
                      `meshc status` tells, and the program is not accelerated any more. Do not accelerate \
                      proxies that are set up to splice";

/// What `FIONREAD` tells where nothing may be written into a process.
const NOTICED: &str = "FIONREAD counts wrong on accelerated connections of this kernel, and since it is locked down, \
                       that cannot be repaired (`meshc doctor`): the first time that a program which reads by it \
                       (nginx) is told too little, it may wait in vain, until the agent or an `apply` helps it; later \
                       connections to that port are not accelerated. `meshc status` tells";

/// The same where not even that can be seen.
const MISCOUNTED: &str = "FIONREAD counts wrong on accelerated connections of this kernel, and that can be neither \
                          repaired nor noticed (`meshc doctor`): a program that reads by it may wait in vain. Do not \
                          accelerate towards nginx";

/// Sees to it that acceleration is carried out.
fn accelerate<S: Store>(session: &Session<'_, S>, anew: bool) -> Result<()> {
    let Session { store, instance, .. } = *session;
    if !anew && accelerators::missing(store, instance)?.is_empty() {
        return Ok(());
    }
    accelerators::attach(store, instance)
}

fn gone(missing: &[&str]) -> Vec<String> {
    let warning =
        |name| format!("the program `{name}` is not attached any more; `apply --repair` attaches it");
    missing.iter().map(warning).collect()
}

fn lost(pods: &[String]) -> impl Iterator<Item = String> + '_ {
    let warning = |name| {
        format!(
            "the network namespace of the pod `{name}` cannot be found; what is offered to it is not decided"
        )
    };
    pods.iter().map(warning)
}

/// What a slot's policy and the other's say, in slot order.
pub(crate) const fn in_slot<'a>(
    slot: u32,
    this: Option<&'a Membership>,
    other: Option<&'a Membership>,
) -> [Option<&'a Membership>; 2] {
    if slot == 0 { [this, other] } else { [other, this] }
}

/// One new generation.
struct Put<'a, S: Store> {
    session: &'a Session<'a, S>,
    set: &'a Set<S>,
    live: Option<&'a Live>,
    request: &'a Apply<'a>,
    began: u64,
}

impl<S: Store> Put<'_, S> {
    fn run(&self) -> Result<Applied> {
        let Self { session: Session { store, instance, .. }, set, .. } = *self;
        let generation = self.next_generation()?;
        let needs_programs = self.live.is_none() || self.request.repair;
        let programs = if needs_programs { store.load_programs(&instance.maps())? } else { Vec::new() };
        let profiles = self.request.tables.get(Table::Profiles);
        let policy = Membership::read(self.request.tables.get(Table::Names))?;
        inbound::lead_host(*store, instance, profiles, &policy)?;
        let (mut upgraded, mut led) = (0, Led::Decided);
        if let Some(live) = self.live {
            (upgraded, led) = upgrade(self.session, profiles)?;
            // Nobody knows when a killed process committed: readers of what was live before may run.
            set.wait_for_readers(*store, live.generation)?;
        }
        if !set.control.exchange(*store, Word::Claim, 0, generation)? {
            return Err(Error::Held { holder: None, now: store.wall_clock() });
        }
        let ready = store.clock();
        // The slot's grace period passes while the policy is written to the disk.
        let tables = self.request.tables;
        let (digest, written) = record::keep_artifact(*store, instance, tables, || self.fill(generation))?;
        let record = self.record(generation, digest);
        record::write(*store, &instance.pending(), &record, true)?;
        self.wait_for_confirmation(generation)?;
        let filled = store.clock();
        if needs_programs {
            if self.live.is_none() {
                led = inbound::lead_for(*store, instance, profiles)?;
            }
            hooks::attach(*store, instance, &programs)?;
            if self.live.is_some() {
                upgraded += hooks::upgrade(*store, instance, &programs)?;
            }
            hooks::remember(*store, instance)?;
        }
        let accelerates = accelerators::wanted(self.request.tables);
        if accelerates {
            accelerate(self.session, upgraded > 0 || self.request.repair)?;
        }
        let refreshed = self.commit(generation, led == Led::Newly)?;
        let mut warnings: Vec<String> = lost(&refreshed.lost)
            .chain(undecided(led))
            .chain(refreshed.unprotected)
            .chain(self.settle(generation, &record))
            .collect();
        if accelerates {
            match accelerators::counting(*store, instance)? {
                Counting::Noticed => warnings.push(NOTICED.into()),
                Counting::Wrong => warnings.push(MISCOUNTED.into()),
                Counting::Unused | Counting::Right | Counting::Repaired => {}
            }
            match rescue::rescue(*store, instance) {
                Ok(helped) => warnings.extend(helped.iter().map(ToString::to_string)),
                // The policy is live all the same.
                Err(error) => warnings.push(error.to_string()),
            }
            if !accelerators::refuses_splice(*store, instance)? {
                warnings.push(SPLICE.into());
            }
        }
        if !accelerates {
            warnings.extend(accelerators::retire(*store, instance).err().map(|error| error.to_string()));
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
            milliseconds: [ready - self.began, filled - ready, store.clock() - filled],
            // Nothing was decided before a first apply.
            closed: self.request.reset_changed.then_some(0),
            warnings,
        })
    }

    fn is_paused(&self) -> bool {
        self.live.map_or(self.request.paused, |live| live.paused)
    }

    /// Notes that this generation is to be taken back; written before it is live, so that it is not forgotten.
    fn wait_for_confirmation(&self, generation: u64) -> Result<()> {
        let Session { store, instance, .. } = *self.session;
        let Some(within) = self.request.confirm_within else { return Ok(()) };
        let waiting = Waiting {
            generation,
            back_to: self.live.map_or(0, |live| live.generation),
            deadline: store.clock().saturating_add(within),
            boot_id: instance.boot_id.clone(),
        };
        record::write(store, &instance.confirm(), &waiting, true)
    }

    /// One more than the last, in the other slot.
    fn next_generation(&self) -> Result<u64> {
        let live = self.live.map_or(0, |live| live.generation);
        let history = record::history(self.session.store, self.session.instance)?;
        let last = history.last().map_or(0, |record| record.generation).max(live);
        Ok(if live != 0 && slot(last + 1) == slot(live) { last + 2 } else { last + 1 })
    }

    /// Fills the free slot. Tables that are as they were are taken over.
    fn fill(&self, generation: u64) -> Result<Vec<(&'static str, usize)>> {
        let store = self.session.store;
        let manifest = self.request.tables.manifest(generation, self.request.owner.wire());
        let (mut maps, mut written) = (Vec::new(), Vec::new());
        for table in Table::ALL {
            let data = if table == Table::Manifest { &manifest } else { self.request.tables.get(table) };
            let map = match self.unchanged(table, data)? {
                Some(map) => map,
                None => {
                    written.push((table.word(), data.padded().len()));
                    slots::make(store, table, data)?
                }
            };
            maps.push((table.index(slot(generation)), map));
        }
        let elements: Vec<(u32, &S::Map)> = maps.iter().map(|(index, map)| (*index, map)).collect();
        slots::put(store, self.set, &elements)?;
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
        slots::table(self.session.store, &self.set.tables, live.slot(), table)
    }

    fn record(&self, generation: u64, digest: String) -> Record {
        let Session { store, instance, .. } = *self.session;
        Record {
            generation,
            digest,
            owner: self.request.owner,
            applied: store.wall_clock(),
            boot_id: instance.boot_id.clone(),
            origin: self.request.origin.to_owned(),
        }
    }

    /// Classifies the members for the new slot, and switches: both under the registry's lock, so no
    /// endpoint comes or goes between.
    fn commit(&self, generation: u64, newly_led: bool) -> Result<Refreshed> {
        let Session { store, instance, .. } = *self.session;
        let _registry = self.session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
        let new = Membership::read(self.request.tables.get(Table::Names))?;
        let old = match self.live.map(|live| membership(store, self.set, live)) {
            // Its selectors cannot be read: members keep what they have under it.
            Some(Err(_)) if self.request.repair => None,
            old => old.transpose()?,
        };
        let registry = Registry { store, instance, set: self.set };
        let policies = in_slot(slot(generation), Some(&new), old.as_ref());
        let mut refreshed = registry.refresh(policies)?;
        if self.request.repair {
            registry.remove_unknown()?;
        }
        if self.live.is_none() || self.request.repair {
            refreshed.changed += registry.follow(policies)?;
        }
        if self.live.is_none() || self.request.repair || newly_led {
            refreshed.lost = registry.attach_pods()?;
        }
        let profiles = self.request.tables.get(Table::Profiles);
        refreshed.unprotected = inbound::attach_host_for(store, instance, &self.set.control, profiles, &new)?;
        let live = self.live.map_or(0, |live| live.generation);
        let word = if self.is_paused() { Word::Paused } else { Word::Generation };
        if self.set.control.exchange(store, word, live, generation)? {
            Ok(refreshed)
        } else {
            let now = crate::generation::session::held(&self.set.control.load(store));
            Err(Error::Stale { expected: live, live: now })
        }
    }

    /// Takes away what the policy before asked for and this one does not. A command that begins meanwhile waits: it
    /// must not lose what it finds.
    fn leave_host(&self) -> Result<()> {
        let Session { store, instance, .. } = *self.session;
        let _registry = self.session.lock_registry()?;
        run::leave_host(&Registry { store, instance, set: self.set })
    }

    /// Keeps the ports of sidecars from the pods' own connections.
    fn reserve(&self) -> Result<()> {
        let Session { store, instance, .. } = *self.session;
        let _registry = self.session.lock_registry()?;
        reserved_ports::want(store, instance, &reserved_ports::ports(self.request.tables))?;
        reserved_ports::keep_all(store, instance, self.request.repair)
    }

    /// Tidies up after the commit. What fails is repaired by the next command.
    fn settle(&self, generation: u64, record: &Record) -> Vec<String> {
        let Session { store, instance, .. } = *self.session;
        let control = &self.set.control;
        let commits = control.load(store).commits;
        let done = (control.set(store, Word::Commits, commits + 1))
            .and_then(|()| control.exchange(store, Word::Claim, generation, 0))
            .and_then(|_| record::settle(store, instance, record))
            .and_then(|()| match confirm::read(store, instance)? {
                Some(waiting) if waiting.generation != generation => Ok(store.remove(&instance.confirm())?),
                _ => Ok(()),
            })
            .and_then(|()| self.leave_host())
            .and_then(|()| self.reserve())
            .and_then(|()| record::prune(store, instance, KEPT));
        let missing = hooks::missing(store, instance).unwrap_or_default();
        done.err().map(|error| error.to_string()).into_iter().chain(gone(&missing)).collect()
    }
}
