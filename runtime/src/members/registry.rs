//! The registry: which endpoints are members, outside the generations.
//!
//! An endpoint is one entry in a kernel map, with the profile that it falls under in each slot, and one file
//! of the state folder with what its workload is chosen by (name, labels, addresses). A pod that comes or
//! goes is never a generation. Files of another boot mean nothing, since cookies and ids start anew.
//!
//! A file is named for its key. While the endpoint joins, changes or leaves, what it is to become, or was, is in a
//! folder of its own. The next command finds that there: who was a member stays what it was, and everybody else goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mesh_bpf::abi::{self, CgroupPath, ExemptKey, MEMBER_SPREADS, NO_PROFILE, NamedCgroup, OwnKey};
use mesh_bpf::membership::{Ambiguous, Membership};
use mesh_bpf::pack::words;
use mesh_bpf::program::Inbound;
use mesh_bpf::selector::Endpoint;
use serde::{Deserialize, Serialize};

use crate::attach::inbound;
use crate::commands::apply::in_slot;
use crate::error::{Error, Result};
use crate::generation::session::{self, membership};
use crate::instance::Instance;
use crate::maps::room;
use crate::maps::set::Set;
use crate::members::reserved_ports;
use crate::state::record;
use crate::system::{Fault, Process, Sources, Step, Store};

const NEXT_ID: &str = "next-id";

/// So many addresses of a pod's interfaces count as its own: whoever may give itself addresses must not fill what
/// all pods' are kept in.
const FOLLOWED: usize = 1024;

/// How the programs know an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// A pod: the cookie of its network namespace.
    Netns(u64),
    /// A host workload: its cgroup's id.
    Cgroup(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(cookie) => write!(f, "netns-{cookie}"),
            Self::Cgroup(id) => write!(f, "cgroup-{id}"),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, number) = text.split_once('-').ok_or(())?;
        let number = number.parse().map_err(drop)?;
        match kind {
            "netns" => Ok(Self::Netns(number)),
            "cgroup" => Ok(Self::Cgroup(number)),
            _ => Err(()),
        }
    }
}

/// Why an endpoint is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A policy names its cgroup.
    Selector,
    /// `meshc run --as` made it.
    Run {
        /// The workload that it runs as.
        workload: String,
        /// The process that removes it.
        process: Process,
    },
    /// It was attached.
    Attached,
}

/// A pod as its container runtime knows it. One pod may be joined to several networks, each by an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The id of the container, or of the pod's sandbox.
    pub container: String,
    /// Kubernetes' UID of the pod.
    #[serde(default)]
    pub uid: Option<String>,
    /// By name, as it is called inside.
    pub interfaces: BTreeMap<String, Interface>,
}

impl Sandbox {
    /// The addresses of all its interfaces.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interfaces.values().flat_map(|interface| &interface.addresses).copied();
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// One of a pod's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name of the network that it joins.
    pub network: String,
    /// The addresses that it was given.
    pub addresses: Vec<IpAddr>,
}

/// A registered endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number in the programs' events; never used again in this boot.
    pub id: u32,
    /// How the programs know it.
    pub key: Key,
    /// Why it is here.
    pub origin: Origin,
    /// The pod's name, or the unit's.
    pub name: String,
    /// The Kubernetes namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Labels by key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The service account it runs as.
    #[serde(default)]
    pub service_account: Option<String>,
    /// Annotations by key: for people, no policy asks for them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its addresses as it was attached: what selectors ask for. What a pod does to its interfaces afterwards must
    /// not choose its policy.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The addresses of its interfaces as they were last seen; none where those that it was attached with were given
    /// by hand, and stay its own whatever it has.
    #[serde(default)]
    pub followed: Option<Vec<IpAddr>>,
    /// Where its connections to others come from; none where it is not known, or where the host says so.
    #[serde(default)]
    pub sources: Option<Sources>,
    /// The file that stood for its network namespace when it was attached.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// What its container runtime knows it by.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Absolute cgroup v2 path, for a host workload.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Member {
    /// Its own addresses.
    #[must_use]
    pub fn own(&self) -> &[IpAddr] {
        self.followed.as_deref().unwrap_or(&self.addresses)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            service_account: self.service_account.clone(),
            addresses: self.addresses.clone(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// The workload that it falls under.
    ///
    /// # Errors
    /// Where two select it and neither is narrower.
    pub fn workload<'a>(
        &self,
        membership: &'a Membership,
    ) -> Result<Option<&'a mesh_bpf::image::Workload>, Ambiguous> {
        match &self.origin {
            Origin::Run { workload, .. } => Ok(membership.workload(workload)),
            Origin::Attached => membership.classify(&self.endpoint()),
            // Only a workload that names a cgroup has processes of the host as members: below a path that
            // is registered for the other slot, `any` must not begin to hold.
            Origin::Selector => Ok((membership.classify(&self.endpoint())?)
                .filter(|workload| !workload.selector.cgroups.is_empty())),
        }
    }

    /// The profile that it falls under, and the place of its workload among all of them.
    fn profile(&self, membership: Option<&Membership>) -> Result<(u32, u32), Ambiguous> {
        let workload = membership.map_or(Ok(None), |membership| self.workload(membership))?;
        let place = |wanted: &mesh_bpf::image::Workload| {
            let mut all = (0u32..).zip(membership.iter().flat_map(|membership| &membership.workloads));
            all.find(|(_, workload)| workload.name == wanted.name).map_or(NO_PROFILE, |(place, _)| place)
        };
        Ok(workload.map_or((NO_PROFILE, NO_PROFILE), |workload| (workload.profile.0, place(workload))))
    }
}

/// Where a member's connections come from, and in which network namespace that holds; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default)]
struct Whence {
    netns: u64,
    sources: Sources,
}

/// What is registered, and what the two slots' policies say of it.
pub(crate) struct Registry<'a, S: Store> {
    pub(crate) store: &'a S,
    pub(crate) instance: &'a Instance,
    pub(crate) set: &'a Set<S>,
}

/// What a refresh changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refreshed {
    /// Entries of the kernel's maps that were written or removed.
    pub(crate) changed: usize,
    /// Cgroups that a policy names and that are not there.
    pub(crate) missing: Vec<String>,
    /// Pods whose namespace cannot be found.
    pub(crate) lost: Vec<String>,
    /// What services of the host go without, in words.
    pub(crate) unprotected: Option<String>,
}

/// Every endpoint that is registered in this boot, by key.
pub(crate) fn members<S: Store>(store: &S, instance: &Instance) -> Result<Vec<Member>> {
    members_with(store, instance, |_| true)
}

/// Those that are known by their cgroup. The others, of which there may be many more, are not read.
pub(crate) fn members_by_cgroup<S: Store>(store: &S, instance: &Instance) -> Result<Vec<Member>> {
    members_with(store, instance, |key| matches!(key, Key::Cgroup(_)))
}

fn members_with<S: Store>(
    store: &S,
    instance: &Instance,
    is_wanted: impl Fn(Key) -> bool,
) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for name in store.list(&instance.members())?.unwrap_or_default() {
        if name.parse::<Key>().is_ok_and(&is_wanted) {
            members.extend(record::read::<Member>(store, &instance.members().join(name))?);
        }
    }
    members.sort_by_key(|member| member.key);
    Ok(members)
}

/// A number that no endpoint had in this boot.
pub(crate) fn new_id<S: Store>(store: &S, instance: &Instance) -> Result<u32> {
    let file = instance.members().join(NEXT_ID);
    let id = record::read::<u32>(store, &file)?.unwrap_or(1);
    record::write(store, &file, &(id.saturating_add(1)), false)?;
    Ok(id)
}

/// Makes the folder of this boot's members, and forgets those of others.
pub(crate) fn make_folder<S: Store>(store: &S, instance: &Instance) -> Result<()> {
    let folder = instance.members();
    if store.inode(&instance.moving())?.is_some() {
        return Ok(());
    }
    let Some(all) = folder.parent() else { return Ok(()) };
    store.make_folder(all)?;
    for boot in store.list(all)?.unwrap_or_default() {
        record::forget_boot(store, &all.join(boot))?;
    }
    store.make_folder(&folder)?;
    Ok(store.make_folder(&instance.moving())?)
}

impl<S: Store> Registry<'_, S> {
    /// Registers an endpoint: its profile in each slot is what that slot's policy says. Where there is a policy,
    /// what is offered to a pod is decided when this returns; before the first one, its apply sees to that. Where it
    /// fails, [`Registry::recover`] makes everything what it was.
    pub(crate) fn join(&self, member: &Member, policies: [Option<&Membership>; 2]) -> Result<()> {
        let place = self.instance.members().join(member.key.to_string());
        let joining = self.instance.moving().join(member.key.to_string());
        self.store.write(&joining, &record::json(&joining, member)?, false)?;
        let before = record::read::<Member>(self.store, &place)?;
        self.put(member, policies, None)?;
        self.own(member, before.as_ref())?;
        if policies.iter().any(Option::is_some) && !self.attach_pod(member)? {
            let gone = std::io::Error::from_raw_os_error(libc::ENOENT);
            return Err(
                Fault::new("entering", format!("the network namespace of {}", member.name), gone).into()
            );
        }
        reserved_ports::keep(self.store, self.instance, member, true)?;
        Ok(self.store.rename(&joining, &place, false)?)
    }

    /// Removes an endpoint.
    pub(crate) fn leave(&self, key: Key) -> Result<()> {
        let place = self.instance.members().join(key.to_string());
        if self.store.inode(&place)?.is_some() {
            self.store.rename(&place, &self.instance.moving().join(key.to_string()), false)?;
        }
        self.forget(key)
    }

    /// Finishes what a killed or failed command began. Who was a member before it is what it was, and who was to
    /// become one, or was leaving, is removed.
    pub(crate) fn recover(&self) -> Result<()> {
        for name in self.store.list(&self.instance.moving())?.unwrap_or_default() {
            let Ok(key) = name.parse() else { continue };
            match record::read(self.store, &self.instance.members().join(&name))? {
                Some(member) => self.reinstate(&member)?,
                None => self.forget(key)?,
            }
        }
        Ok(())
    }

    /// Makes the kernel hold a member as its file says, and forgets what it was to become.
    fn reinstate(&self, member: &Member) -> Result<()> {
        let moving = self.instance.moving().join(member.key.to_string());
        let read = || {
            let Some(live) = session::live(self.store, self.set)? else { return Ok(None) };
            Ok(Some((live.slot(), membership(self.store, self.set, &live)?)))
        };
        let policy = match read() {
            Err(error @ Error::Step(_)) => return Err(error),
            // Whoever repairs what cannot be read gives everybody a profile anew.
            other => other.ok().flatten(),
        };
        let slot = policy.as_ref().map_or(0, |(slot, _)| *slot);
        self.put(member, in_slot(slot, policy.as_ref().map(|(_, policy)| policy), None), None)?;
        // What could not be written whole was not begun.
        let other = record::read::<Member>(self.store, &moving).ok().flatten();
        self.own(member, other.as_ref())?;
        if policy.is_some() {
            // One whose namespace has ended is swept.
            self.attach_pod(member)?;
            reserved_ports::keep(self.store, self.instance, member, true)?;
        }
        Ok(self.store.remove(&moving)?)
    }

    /// Makes a member's own addresses those of the kernel, in the place of what it was, or was to become.
    fn own(&self, member: &Member, instead_of: Option<&Member>) -> Result<()> {
        let own = own_keys(member);
        let before = instead_of.map(own_keys).unwrap_or_default();
        for address in before.iter().filter(|address| !own.contains(address)) {
            self.store.delete(&self.set.own, bytemuck::bytes_of(address))?;
        }
        for address in own {
            self.store.update(&self.set.own, bytemuck::bytes_of(&address), &member.id.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Whatever is known of it is removed, its file last.
    fn forget(&self, key: Key) -> Result<()> {
        let (map, number) = self.place(key);
        self.store.delete(map, &number.to_ne_bytes())?;
        inbound::detach(self.store, self.instance, key)?;
        inbound::forget(self.store, self.instance, key)?;
        let file = self.instance.moving().join(key.to_string());
        if let Ok(Some(member)) = record::read::<Member>(self.store, &file) {
            reserved_ports::release(self.store, self.instance, &member)?;
            for address in own_keys(&member) {
                self.store.delete(&self.set.own, bytemuck::bytes_of(&address))?;
            }
        }
        Ok(self.store.remove(&file)?)
    }

    const fn place(&self, key: Key) -> (&S::Map, u64) {
        match key {
            Key::Netns(cookie) => (&self.set.endpoints, cookie),
            Key::Cgroup(id) => (&self.set.cgroups, id),
        }
    }

    /// Writes the kernel's entry of a member, if it differs; whether it did.
    fn put(&self, member: &Member, policies: [Option<&Membership>; 2], host: Option<Whence>) -> Result<bool> {
        let (map, number) = self.place(member.key);
        let found = self.found(member.key)?;
        let entry = entry(member, found, policies, self.whence(member, host)?)?;
        if found == Some(entry) {
            return Ok(false);
        }
        self.store.update(map, &number.to_ne_bytes(), bytemuck::bytes_of(&entry))?;
        Ok(true)
    }

    /// Brings the kernel's entries in line with both slots' policies: cgroups that they name are
    /// registered, and every member gets its profile in each slot. Members that one policy no longer
    /// names keep an entry as long as the other does: removing it would change what the other decides.
    pub(crate) fn refresh(&self, policies: [Option<&Membership>; 2]) -> Result<Refreshed> {
        let mut refreshed = Refreshed::default();
        // First the paths: a cgroup that is made from here on joins by itself, and others are found below.
        let host = self.host()?;
        let ids = self.name_cgroups(policies, host, &mut refreshed)?;
        let (paths, missing) = self.cgroups_of(policies)?;
        refreshed.missing = missing;
        let mut members = members(self.store, self.instance)?;
        for stale in members.extract_if(.., |member| is_stale(member, &paths)) {
            self.leave(stale.key)?;
            refreshed.changed += 1;
        }
        let known: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
        for (path, &id) in &paths {
            let key = Key::Cgroup(id);
            if !known.contains(&key) {
                let number = ids.get(path).copied();
                let number = number.map_or_else(|| new_id(self.store, self.instance), Ok)?;
                self.join(&selected(number, key, path), policies)?;
                refreshed.changed += 1;
            }
        }
        for member in &members {
            refreshed.changed += usize::from(self.put(member, policies, Some(host))?);
        }
        refreshed.changed += self.own_addresses(&members)?;
        self.exempt_ids(policies, &ids, &mut refreshed)?;
        for (slot, policy) in (0u32..).zip(policies) {
            let Some(policy) = policy else { continue };
            refreshed.changed += self.exempt(slot, policy, &ids)?;
        }
        refreshed.missing.sort();
        refreshed.missing.dedup();
        Ok(refreshed)
    }

    /// Gives every pod its program: those that came before there was a policy have none. Returns the names of
    /// those whose namespace cannot be found.
    pub(crate) fn attach_pods(&self) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for member in members(self.store, self.instance)? {
            if !self.attach_pod(&member)? {
                lost.push(member.name);
            }
        }
        Ok(lost)
    }

    /// Brings what is known of the pods' own addresses in line with their interfaces. How many had others.
    pub(crate) fn follow(&self, policies: [Option<&Membership>; 2]) -> Result<usize> {
        let mut changed = 0;
        for member in members(self.store, self.instance)? {
            if let Some(member) = moved(self.store, &member)? {
                self.join(&member, policies)?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Makes what is offered to a member be decided; `false` where its namespace cannot be found. Its redirected
    /// connections are spread over many addresses as long as a program sees to it that they reach a sidecar on one.
    fn attach_pod(&self, member: &Member) -> Result<bool> {
        if self.instance.inbound != Inbound::SkLookup {
            self.set_spreads(member.key, false)?;
        }
        let attached = inbound::attach(self.store, self.instance, member)?;
        // Where the kernel refuses the program, it goes without.
        let has_program = attached && inbound::has_program(self.store, self.instance, member.key)?;
        self.set_spreads(member.key, has_program && self.instance.inbound == Inbound::SkLookup)?;
        Ok(attached)
    }

    fn set_spreads(&self, key: Key, spreads: bool) -> Result<()> {
        let (map, number) = self.place(key);
        let Some(mut entry) = self.found(key)?.filter(|_| matches!(key, Key::Netns(_))) else {
            return Ok(());
        };
        let flags = if spreads { entry.flags | MEMBER_SPREADS } else { entry.flags & !MEMBER_SPREADS };
        if entry.flags != flags {
            entry.flags = flags;
            self.store.update(map, &number.to_ne_bytes(), bytemuck::bytes_of(&entry))?;
        }
        Ok(())
    }

    /// The kernel's entry of a member.
    fn found(&self, key: Key) -> Result<Option<abi::Member>> {
        let (map, number) = self.place(key);
        let found = self.store.lookup(map, &number.to_ne_bytes())?;
        Ok(found.and_then(|bytes| bytemuck::try_pod_read_unaligned(&bytes).ok()))
    }

    /// What the kernel's entries say of where connections come from that processes of the host open.
    fn host(&self) -> Result<Whence> {
        let netns = Path::new(inbound::HOST_NETNS);
        let chosen = self.store.netns_sources(netns)?;
        let sources = Sources::of(chosen, &self.store.netns_addresses(netns)?);
        Ok(Whence { netns: self.store.netns_cookie(netns)?, sources })
    }

    /// The same of a member; `host` is what holds for processes of the host.
    fn whence(&self, member: &Member, host: Option<Whence>) -> Result<Whence> {
        Ok(match (member.key, member.sources, host) {
            (Key::Cgroup(_), _, Some(host)) => host,
            (Key::Cgroup(_), _, None) => self.host()?,
            (Key::Netns(netns), Some(sources), _) => Whence { netns, sources },
            (Key::Netns(_), None, _) => Whence::default(),
        })
    }

    /// Whether a refresh for one policy would remove members.
    pub(crate) fn has_stale(&self, policy: &Membership) -> Result<bool> {
        let (paths, _) = self.cgroups_of([Some(policy), None])?;
        Ok(members(self.store, self.instance)?.iter().any(|member| is_stale(member, &paths)))
    }

    /// The cgroups that the policies name, by path with their ids, and those that are not there.
    fn cgroups_of(&self, policies: [Option<&Membership>; 2]) -> Result<(BTreeMap<String, u64>, Vec<String>)> {
        let workloads = policies.into_iter().flatten().flat_map(|policy| &policy.workloads);
        let paths: BTreeSet<&String> = workloads.flat_map(|workload| &workload.selector.cgroups).collect();
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        for path in paths {
            match self.store.inode(&self.instance.cgroup_folder(path))? {
                Some(id) => drop(found.insert(path.clone(), id)),
                None => missing.push(path.clone()),
            }
        }
        Ok((found, missing))
    }

    /// Removes the kernel's entries that no file knows.
    pub(crate) fn remove_unknown(&self) -> Result<()> {
        let members = members(self.store, self.instance)?;
        let known: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
        for key in self.keys()?.into_iter().filter(|key| !known.contains(key)) {
            let (map, number) = self.place(key);
            self.store.delete(map, &number.to_ne_bytes())?;
        }
        Ok(())
    }

    /// In what the kernel's entry of a member is not what the live policy says, in words.
    pub(crate) fn fault(&self, member: &Member, slot: u32, policy: &Membership) -> Result<Option<String>> {
        let name = &member.name;
        let Some(found) = self.found(member.key)? else {
            return Ok(Some(format!("the member `{name}` has no entry in the kernel")));
        };
        let (profile, _) = member.profile(Some(policy)).unwrap_or((NO_PROFILE, NO_PROFILE));
        let whence = self.whence(member, None)?;
        let expected = entry(member, Some(found), in_slot(slot, Some(policy), None), whence).unwrap_or(found);
        if found.profile.get(slot as usize) != Some(&profile) {
            return Ok(Some(format!("the member `{name}` does not have the profile of its workload")));
        }
        // A cgroup that is made at a path which a policy names joins by itself, with the number of that path.
        let expected = match member.key {
            Key::Netns(_) => expected,
            Key::Cgroup(_) => abi::Member { id: found.id, ..expected },
        };
        if found != expected {
            return Ok(Some(format!("the kernel's entry of the member `{name}` is not what is registered")));
        }
        inbound::fault(self.store, self.instance, member)
    }

    /// Every endpoint that the kernel has an entry of.
    fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for (map, key) in
            [(&self.set.endpoints, Key::Netns as fn(u64) -> Key), (&self.set.cgroups, Key::Cgroup)]
        {
            let entries = self.store.entries(map)?.into_iter();
            keys.extend(entries.map(|(number, _)| key(number.try_into().map_or(0, u64::from_ne_bytes))));
        }
        Ok(keys)
    }

    /// Makes the kernel know the pods' own addresses, and no others.
    fn own_addresses(&self, members: &[Member]) -> Result<usize> {
        self.align(&self.set.own, own_entries(members), |_| true)
    }

    /// Tells the kernel what a cgroup becomes that is made at a path which a policy names. Returns the ids of
    /// the paths.
    fn name_cgroups(
        &self,
        policies: [Option<&Membership>; 2],
        host: Whence,
        refreshed: &mut Refreshed,
    ) -> Result<BTreeMap<String, u32>> {
        let map = &self.set.cgroup_paths;
        let mut known: BTreeMap<Vec<u8>, NamedCgroup> = BTreeMap::new();
        for (key, value) in self.store.entries(map)? {
            known.extend(bytemuck::try_pod_read_unaligned(&value).ok().map(|value| (key, value)));
        }
        let mut ids = BTreeMap::new();
        for (path, named) in named(policies) {
            let key = CgroupPath::of(&path);
            let found = key.and_then(|key| known.remove(bytemuck::bytes_of(&key)));
            let id = match found {
                Some(found) => found.becomes.id,
                None => new_id(self.store, self.instance)?,
            };
            let before = found.map(|found| found.becomes);
            let becomes = entry(&selected(id, Key::Cgroup(0), &path), before, policies, host)?;
            let entry = NamedCgroup { becomes, ..named };
            // One with a path too long for the kernel's table joins with the next apply.
            if let Some(key) = key.filter(|_| found != Some(entry)) {
                self.store.update(map, bytemuck::bytes_of(&key), bytemuck::bytes_of(&entry))?;
                refreshed.changed += 1;
            }
            ids.insert(path, id);
        }
        for key in known.keys() {
            self.store.delete(map, key)?;
            refreshed.changed += 1;
        }
        Ok(ids)
    }

    /// Brings the ids of exempt cgroups in line with the policies.
    fn exempt_ids(
        &self,
        policies: [Option<&Membership>; 2],
        ids: &BTreeMap<String, u32>,
        refreshed: &mut Refreshed,
    ) -> Result<()> {
        let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let exempt = policies.into_iter().flatten().flat_map(|policy| &policy.exempt_cgroups);
        let paths: BTreeSet<&String> = exempt.map(|(_, path, _)| path).collect();
        for path in paths {
            match (self.store.inode(&self.instance.cgroup_folder(path))?, ids.get(path)) {
                (Some(cgroup), Some(id)) => {
                    wanted.insert(cgroup.to_ne_bytes().to_vec(), id.to_ne_bytes().to_vec());
                }
                _ => refreshed.missing.push(path.clone()),
            }
        }
        refreshed.changed += self.align(&self.set.exempt_ids, wanted, |_| true)?;
        Ok(())
    }

    /// Brings the exemptions of one slot in line with its policy.
    fn exempt(&self, slot: u32, policy: &Membership, ids: &BTreeMap<String, u32>) -> Result<usize> {
        let mut wanted = BTreeMap::new();
        for (profile, path, source) in &policy.exempt_cgroups {
            if let Some(&id) = ids.get(path) {
                let key = ExemptKey { path: id.into(), profile: profile.0, slot };
                wanted.insert(bytemuck::bytes_of(&key).to_vec(), source.0.to_ne_bytes().to_vec());
            }
        }
        let is_ours =
            |key: &[u8]| bytemuck::try_pod_read_unaligned::<ExemptKey>(key).is_ok_and(|key| key.slot == slot);
        self.align(&self.set.exempt_cgroups, wanted, is_ours)
    }

    /// Makes a map hold what is wanted, and none else of its entries that are ours. How many were changed.
    fn align(
        &self,
        map: &S::Map,
        mut wanted: BTreeMap<Vec<u8>, Vec<u8>>,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<usize> {
        let mut changed = 0;
        for (key, value) in self.store.entries(map)? {
            match wanted.get(&key) {
                Some(wanted_value) if *wanted_value == value => drop(wanted.remove(&key)),
                Some(_) => {}
                None if is_ours(&key) => {
                    self.store.delete(map, &key)?;
                    changed += 1;
                }
                None => {}
            }
        }
        for (key, value) in &wanted {
            self.store.update(map, key, value)?;
            changed += 1;
        }
        Ok(changed)
    }
}

/// The cgroup paths that policies name, and whether their processes are members or exempt.
fn named(policies: [Option<&Membership>; 2]) -> BTreeMap<String, NamedCgroup> {
    let mut paths: BTreeMap<String, NamedCgroup> = BTreeMap::new();
    for policy in policies.into_iter().flatten() {
        for path in policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups) {
            paths.entry(path.clone()).or_default().member = 1;
        }
        for (_, path, _) in &policy.exempt_cgroups {
            paths.entry(path.clone()).or_default().exempt = 1;
        }
    }
    paths
}

/// What the kernel's entry of a member must be. The profile of a slot whose policy is not given stays:
/// somebody may still be deciding by it.
fn entry(
    member: &Member,
    found: Option<abi::Member>,
    policies: [Option<&Membership>; 2],
    whence: Whence,
) -> Result<abi::Member> {
    let mut entry = abi::Member {
        profile: found.map_or([NO_PROFILE; 2], |found| found.profile),
        workload: found.map_or([NO_PROFILE; 2], |found| found.workload),
        id: member.id,
        name: abi::name_hash(&member.name),
        own: own_keys(member).iter().fold(0, |bits, key| bits | abi::own_bit(key.address)),
        netns: whence.netns,
        source4: whence.sources.v4.map_or(0, |v4| u32::from_ne_bytes(v4.octets())),
        source6: whence.sources.v6.map_or([0; 4], |v6| words(v6.to_bits())),
        flags: found.map_or(0, |found| found.flags),
    };
    let slots = entry.profile.iter_mut().zip(&mut entry.workload);
    for ((profile, workload), policy) in slots.zip(policies) {
        if policy.is_some() {
            (*profile, *workload) = member.profile(policy)?;
        }
    }
    Ok(entry)
}

/// Members whose entries are not what the live policy says, in words; and cgroups that it names which are
/// gone, or were made again and are not registered.
pub(crate) fn drift<S: Store>(
    store: &S,
    instance: &Instance,
    set: &Set<S>,
    slot: u32,
    policy: &Membership,
) -> Result<Vec<String>> {
    let mut drift = Vec::new();
    let registry = Registry { store, instance, set };
    let (paths, missing) = registry.cgroups_of([Some(policy), None])?;
    drift.extend(missing.iter().map(|path| format!("the cgroup `{path}` does not exist")));
    let mut known: BTreeSet<Key> = paths.values().copied().map(Key::Cgroup).collect();
    let mut members = members(store, instance)?;
    known.extend(members.iter().map(|member| member.key));
    // A cgroup that was made again joined by itself, and its member's record is of the one before.
    members.retain(|member| !is_stale(member, &paths));
    let recorded: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
    let unrecorded = paths.iter().filter(|(_, id)| !recorded.contains(&Key::Cgroup(**id)));
    members.extend(unrecorded.map(|(path, &id)| selected(0, Key::Cgroup(id), path)));
    let full = room::full(store, instance)?;
    for member in &members {
        drift.extend(registry.fault(member, slot, policy)?);
        let number = registry.found(member.key)?.map_or(member.id, |found| found.id);
        let words = full.get(&number).into_iter().flatten();
        drift.extend(words.map(|words| format!("the member `{}` {words}", member.name)));
        drift.extend(moves(store, member)?);
        drift.extend(reserved_ports::fault(store, instance, member)?);
    }
    for key in registry.keys()?.into_iter().filter(|key| !known.contains(key)) {
        drift.push(format!("the kernel has a member `{key}` that is not registered"));
    }
    let wanted = own_entries(&members);
    let own: BTreeMap<Vec<u8>, Vec<u8>> = store.entries(&set.own)?.into_iter().collect();
    for member in &members {
        if own_keys(member).iter().any(|key| {
            let key = bytemuck::bytes_of(key);
            own.get(key) != wanted.get(key)
        }) {
            drift.push(format!("the kernel does not know all addresses of the member `{}`", member.name));
        }
    }
    let strange = own.keys().filter(|key| !wanted.contains_key(*key)).count();
    if strange > 0 {
        drift.push(format!("the kernel knows {strange} addresses that no member has"));
    }
    for name in store.list(&instance.moving())?.unwrap_or_default() {
        if let Ok(key) = name.parse::<Key>() {
            drift.push(format!(
                "a command that ended was attaching, changing or detaching `{key}`; the next one finishes it"
            ));
        }
    }
    Ok(drift)
}

/// The addresses of the interfaces in a network namespace, as far as they count.
pub(crate) fn followed(store: &impl Store, netns: &Path) -> Step<Vec<IpAddr>> {
    let mut found = store.netns_addresses(netns)?;
    found.truncate(FOLLOWED);
    Ok(found)
}

/// A pod as it is, where its addresses are followed, and they or where its connections come from are not what is known of
/// it. One whose namespace has ended is for whoever sweeps.
pub(crate) fn moved(store: &impl Store, member: &Member) -> Result<Option<Member>> {
    let (Key::Netns(cookie), Some(known)) = (member.key, &member.followed) else { return Ok(None) };
    let Some(netns) = inbound::find(store, member, cookie)? else { return Ok(None) };
    let look = || Ok::<_, Fault>((followed(store, &netns)?, store.netns_sources(&netns)?));
    match look() {
        Ok((found, chosen)) => {
            let sources = Some(Sources::of(chosen, &found));
            let moved = found != *known || sources != member.sources;
            Ok(moved.then(|| Member { followed: Some(found), sources, ..member.clone() }))
        }
        // It ended just now.
        Err(fault) if fault.errno() == Some(libc::ENOENT) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// In what a pod's addresses are not those that are known of it, in words. Addresses of one link come and go with it,
/// and nobody routes to them.
fn moves(store: &impl Store, member: &Member) -> Result<Vec<String>> {
    let name = &member.name;
    let mut said = Vec::new();
    if member.followed.as_ref().is_some_and(|known| known.len() >= FOLLOWED) {
        said.push(format!("the pod `{name}` has too many addresses: {FOLLOWED} of them count as its own"));
    }
    let Some(now) = moved(store, member)? else { return Ok(said) };
    let of_a_link = |address: &&IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let set = |all: &[IpAddr]| all.iter().filter(|one| !of_a_link(one)).copied().collect::<BTreeSet<_>>();
    let (found, known) = (set(now.own()), set(member.own()));
    if found == known && now.sources != member.sources {
        said.push(format!(
            "connections of the pod `{name}` come from another of its addresses than is known"
        ));
    }
    let came = found.difference(&known).map(|address| {
        format!("the pod `{name}` got the address {address}, which is not known to be its own")
    });
    let gone = known
        .difference(&found)
        .map(|address| format!("the pod `{name}` has lost the address {address}, which counts as its own"));
    said.extend(came.chain(gone));
    Ok(said)
}

/// Whether it was registered for a path that no policy names any more, or that is another cgroup now.
fn is_stale(member: &Member, paths: &BTreeMap<String, u64>) -> bool {
    let id = member.cgroup.as_ref().and_then(|path| paths.get(path));
    member.origin == Origin::Selector && id.map(|&id| Key::Cgroup(id)) != Some(member.key)
}

fn selected(id: u32, key: Key, path: &str) -> Member {
    Member {
        id,
        key,
        origin: Origin::Selector,
        name: path.rsplit('/').next().unwrap_or(path).to_owned(),
        namespace: None,
        labels: BTreeMap::new(),
        service_account: None,
        annotations: BTreeMap::new(),
        addresses: Vec::new(),
        followed: None,
        netns: None,
        sources: None,
        sandbox: None,
        cgroup: Some(path.to_owned()),
    }
}

/// The keys of a pod's own addresses; a host workload has none but loopback.
fn own_keys(member: &Member) -> Vec<OwnKey> {
    let Key::Netns(netns) = member.key else { return Vec::new() };
    let mapped = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => *v6,
    };
    (member.own().iter()).map(|address| OwnKey { netns, address: words(mapped(address).to_bits()) }).collect()
}

/// What the kernel must know of the pods' own addresses.
fn own_entries(members: &[Member]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (members.iter())
        .flat_map(|member| own_keys(member).into_iter().map(|key| (key, member.id)))
        .map(|(key, id)| (bytemuck::bytes_of(&key).to_vec(), id.to_ne_bytes().to_vec()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_file_names() {
        for key in [Key::Netns(5), Key::Cgroup(u64::MAX)] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!("moving".parse::<Key>().is_err() && "netns-5.new".parse::<Key>().is_err());
    }
}
