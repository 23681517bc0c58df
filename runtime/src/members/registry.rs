//! The registry: which endpoints are members, outside the generations.
//!
//! An endpoint is one entry in a kernel map, with the profile that it falls under in each slot, and one file
//! of the state directory with what its workload is chosen by (name, labels, addresses). A pod that comes or
//! goes is never a generation. Files of another boot mean nothing, since cookies and ids start over.
//!
//! A file is named for its key. While the endpoint joins, changes or leaves, what it is to become, or was, is in a
//! directory of its own. The next command finds that there: who was a member stays what it was, and everybody else
//! goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::abi::{self, MEMBER_SPREADS, NO_PROFILE, OwnKey};
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::words;
use mesh_bpf::program::Inbound;

use crate::attach::{listening, netns_links, pod};
use crate::error::{Error, Result};
use crate::maps::live::{self, membership};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot::PerSlot;
use crate::member::{Key, Member, Origin};
use crate::members::decisions::Decisions;
use crate::members::{addresses, files, reserved_ports};
use crate::node::Node;
use crate::state::record;
use crate::system::{HOST_NETNS, Sources, SysError, System};
use crate::warning::Warning;

/// What the policies of the two slots say of members.
pub(crate) type Policies<'a> = PerSlot<&'a Membership>;

/// Where a member's connections come from, and in which network namespace that holds; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whence {
    netns: u64,
    sources: Sources,
}

/// What is registered, and what the two slots' policies say of it.
pub(crate) struct Registry<'a, S: System> {
    pub(crate) node: Node<'a, S>,
    pub(crate) maps: &'a PinnedMaps<S>,
    /// What members had counted that left since; it is kept when the registry ends.
    pub(super) left: RefCell<BTreeMap<u64, Decisions>>,
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
    /// What services of the host go without.
    pub(crate) unprotected: Option<Warning>,
}

impl<'a, S: System> Registry<'a, S> {
    /// That of these maps. The lock is held.
    pub(crate) const fn new(node: Node<'a, S>, maps: &'a PinnedMaps<S>) -> Self {
        Self { node, maps, left: RefCell::new(BTreeMap::new()) }
    }

    /// Registers an endpoint: its profile in each slot is what that slot's policy says. Where there is a policy,
    /// inbound traffic to a pod is decided when this returns; before the first one, its apply sees to that. Where it
    /// fails, [`Registry::recover`] makes everything what it was.
    pub(crate) fn join(&self, member: &Member, policies: Policies<'_>) -> Result<()> {
        let place = self.node.instance.members().join(member.key.to_string());
        let joining = self.node.instance.moving().join(member.key.to_string());
        self.node.system.write(&joining, &record::json(&joining, member)?, false)?;
        let before = record::read::<Member>(self.node.system, &place)?;
        self.exempt_interfaces(member, policies)?;
        self.put(member, policies, None)?;
        self.own(member, before.as_ref())?;
        if policies.into_iter().any(|policy| policy.is_some()) && !self.attach_pod(member)? {
            let gone = std::io::Error::from_raw_os_error(libc::ENOENT);
            return Err(
                SysError::new("entering", format!("the network namespace of {}", member.name), gone).into()
            );
        }
        reserved_ports::keep(self.node, member, true)?;
        Ok(self.node.system.rename(&joining, &place, false)?)
    }

    /// Gives a member other labels, and with them the profile that it falls under then. What else it is stays, and so
    /// do its addresses and programs. Where it fails, [`Registry::recover`] makes everything what it was.
    pub(crate) fn change(&self, member: &Member, policies: Policies<'_>) -> Result<()> {
        let joining = self.node.instance.moving().join(member.key.to_string());
        self.node.system.write(&joining, &record::json(&joining, member)?, false)?;
        self.exempt_interfaces(member, policies)?;
        self.put(member, policies, None)?;
        Ok(self.node.system.rename(&joining, &files::place(self.node, member.key), false)?)
    }

    /// Removes an endpoint.
    pub(crate) fn leave(&self, key: Key) -> Result<()> {
        let place = self.node.instance.members().join(key.to_string());
        if self.node.system.inode(&place)?.is_some() {
            self.node.system.rename(&place, &self.node.instance.moving().join(key.to_string()), false)?;
        }
        self.forget(key)
    }

    /// Finishes what a killed or failed command began. Who was a member before it is what it was, and who was to
    /// become one, or was leaving, is removed.
    pub(crate) fn recover(&self) -> Result<()> {
        for name in self.node.system.list(&self.node.instance.moving())?.unwrap_or_default() {
            let Ok(key) = name.parse() else { continue };
            match record::read(self.node.system, &self.node.instance.members().join(&name))? {
                Some(member) => self.reinstate(&member)?,
                None => self.forget(key)?,
            }
        }
        Ok(())
    }

    /// Makes the kernel hold a member as its file says, and forgets what it was to become.
    pub(super) fn reinstate(&self, member: &Member) -> Result<()> {
        let moving = self.node.instance.moving().join(member.key.to_string());
        let read = || {
            let Some(live) = live::live(self.node.system, self.maps)? else { return Ok(None) };
            Ok(Some((live.slot(), membership(self.node.system, self.maps, &live)?)))
        };
        let policy = match read() {
            Err(error @ Error::System(_)) => return Err(error),
            // Whoever repairs what cannot be read gives everybody a profile again.
            other => other.ok().flatten(),
        };
        let slot = policy.as_ref().map_or(0, |(slot, _)| *slot);
        let policies = PerSlot::of(slot, policy.as_ref().map(|(_, policy)| policy), None);
        self.exempt_interfaces(member, policies)?;
        self.put(member, policies, None)?;
        // What could not be written whole was not begun.
        let other = record::read::<Member>(self.node.system, &moving).ok().flatten();
        self.own(member, other.as_ref())?;
        if policy.is_some() {
            // One whose namespace has ended is swept.
            self.attach_pod(member)?;
            reserved_ports::keep(self.node, member, true)?;
        }
        Ok(self.node.system.remove(&moving)?)
    }

    /// Makes a member's own addresses those of the kernel, in the place of what it was, or was to become.
    pub(super) fn own(&self, member: &Member, instead_of: Option<&Member>) -> Result<()> {
        let own = own_keys(member);
        let before = instead_of.map(own_keys).unwrap_or_default();
        for address in before.iter().filter(|address| !own.contains(address)) {
            self.node.system.delete(&self.maps.own, bytemuck::bytes_of(address))?;
        }
        for address in own {
            self.node.system.update(
                &self.maps.own,
                bytemuck::bytes_of(&address),
                &member.id.to_ne_bytes(),
            )?;
        }
        Ok(())
    }

    /// Whatever is known of it is removed, its file last.
    pub(super) fn forget(&self, key: Key) -> Result<()> {
        let (map, number) = self.place(key);
        let found = self.found(key)?;
        self.node.system.delete(map, &number.to_ne_bytes())?;
        pod::detach(self.node, key)?;
        listening::forget(self.node, key)?;
        let file = self.node.instance.moving().join(key.to_string());
        let member = record::read::<Member>(self.node.system, &file).ok().flatten();
        if let Some(found) = found {
            self.count_no_more(found.id, member.as_ref())?;
            self.forget_interfaces(found.id)?;
        }
        if let Some(member) = member {
            reserved_ports::release(self.node, &member)?;
            for address in own_keys(&member) {
                self.node.system.delete(&self.maps.own, bytemuck::bytes_of(&address))?;
            }
            return files::keep_left(self.node, &member, &file);
        }
        Ok(self.node.system.remove(&file)?)
    }

    pub(super) const fn place(&self, key: Key) -> (&S::Map, u64) {
        match key {
            Key::Netns(cookie) => (&self.maps.endpoints, cookie),
            Key::Cgroup(id) => (&self.maps.cgroups, id),
        }
    }

    /// Writes the kernel's entry of a member, if it differs; whether it did.
    pub(super) fn put(&self, member: &Member, policies: Policies<'_>, host: Option<Whence>) -> Result<bool> {
        let (map, number) = self.place(member.key);
        let found = self.found(member.key)?;
        let entry = entry(member, found, policies, self.whence(member, host)?)?;
        self.count(&entry, policies)?;
        if found == Some(entry) {
            return Ok(false);
        }
        self.node.system.update(map, &number.to_ne_bytes(), bytemuck::bytes_of(&entry))?;
        Ok(true)
    }

    /// Brings the kernel's entries in line with both slots' policies: cgroups that they name are
    /// registered, and every member gets its profile in each slot. Members that one policy no longer
    /// names keep an entry as long as the other does: removing it would change what the other decides.
    pub(crate) fn refresh(&self, policies: Policies<'_>) -> Result<Refreshed> {
        let mut refreshed = Refreshed::default();
        // First the paths: a cgroup that is made from here on joins by itself, and others are found below.
        let host = self.host()?;
        let ids = self.name_cgroups(policies, host, &mut refreshed)?;
        let (paths, missing) = self.cgroups_of(policies)?;
        refreshed.missing = missing;
        let mut members = files::members(self.node)?;
        for stale in members.extract_if(.., |member| is_stale(member, &paths)) {
            self.leave(stale.key)?;
            refreshed.changed += 1;
        }
        let known: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
        for (path, &id) in &paths {
            let key = Key::Cgroup(id);
            if !known.contains(&key) {
                let number = ids.get(path).copied();
                let number = number.map_or_else(|| files::new_id(self.node), Ok)?;
                self.join(&Member::selected(number, key, path), policies)?;
                refreshed.changed += 1;
            }
        }
        refreshed.changed += self.exempt_all_interfaces(&members, &ids, policies)?;
        for member in &members {
            refreshed.changed += usize::from(self.put(member, policies, Some(host))?);
        }
        refreshed.changed += self.own_addresses(&members)?;
        self.exempt_ids(policies, &ids, &mut refreshed)?;
        for (slot, policy) in (0u32..).zip(policies) {
            let Some(policy) = policy else { continue };
            refreshed.changed += self.exempt(slot, policy, &ids)?;
        }
        self.tidy_counts(policies)?;
        refreshed.missing.sort();
        refreshed.missing.dedup();
        Ok(refreshed)
    }

    /// Gives every pod its program: those that came before there was a policy have none. Returns the names of
    /// those whose namespace cannot be found.
    pub(crate) fn attach_pods(&self) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for member in files::members(self.node)? {
            if !self.attach_pod(&member)? {
                lost.push(member.name);
            }
        }
        Ok(lost)
    }

    /// Brings what is known of the pods' own addresses in line with their interfaces. How many had others.
    pub(crate) fn follow(&self, policies: Policies<'_>) -> Result<usize> {
        let mut changed = 0;
        for member in files::members(self.node)? {
            if let Some(member) = addresses::moved(self.node.system, &member)? {
                self.join(&member, policies)?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Makes inbound traffic to a member be decided; `false` where its namespace cannot be found. Its redirected
    /// connections are spread over many addresses as long as a program sees to it that they reach a sidecar on one.
    pub(super) fn attach_pod(&self, member: &Member) -> Result<bool> {
        if self.node.instance.inbound != Inbound::SkLookup {
            self.set_spreads(member.key, false)?;
        }
        let attached = pod::attach(self.node, member)?;
        // Where the kernel refuses the program, it goes without.
        let has_program = attached && netns_links::has_program(self.node, member.key)?;
        self.set_spreads(member.key, has_program && self.node.instance.inbound == Inbound::SkLookup)?;
        Ok(attached)
    }

    pub(super) fn set_spreads(&self, key: Key, spreads: bool) -> Result<()> {
        let (map, number) = self.place(key);
        let Some(mut entry) = self.found(key)?.filter(|_| matches!(key, Key::Netns(_))) else {
            return Ok(());
        };
        let flags = if spreads { entry.flags | MEMBER_SPREADS } else { entry.flags & !MEMBER_SPREADS };
        if entry.flags != flags {
            entry.flags = flags;
            self.node.system.update(map, &number.to_ne_bytes(), bytemuck::bytes_of(&entry))?;
        }
        Ok(())
    }

    /// The kernel's entry of a member.
    pub(super) fn found(&self, key: Key) -> Result<Option<abi::Member>> {
        let (map, number) = self.place(key);
        let found = self.node.system.lookup(map, &number.to_ne_bytes())?;
        Ok(found.and_then(|bytes| bytemuck::try_pod_read_unaligned(&bytes).ok()))
    }

    /// What the kernel's entries say of where connections come from that processes of the host open.
    pub(super) fn host(&self) -> Result<Whence> {
        let netns = Path::new(HOST_NETNS);
        let chosen = self.node.system.netns_sources(netns)?;
        let sources = Sources::of(chosen, &self.node.system.netns_addresses(netns)?);
        Ok(Whence { netns: self.node.system.netns_cookie(netns)?, sources })
    }

    /// The same of a member; `host` is what holds for processes of the host.
    pub(super) fn whence(&self, member: &Member, host: Option<Whence>) -> Result<Whence> {
        Ok(match (member.key, member.sources, host) {
            (Key::Cgroup(_), _, Some(host)) => host,
            (Key::Cgroup(_), _, None) => self.host()?,
            (Key::Netns(netns), Some(sources), _) => Whence { netns, sources },
            (Key::Netns(_), None, _) => Whence::default(),
        })
    }

    /// Removes the kernel's entries that no file knows.
    pub(crate) fn remove_unknown(&self) -> Result<()> {
        let members = files::members(self.node)?;
        let known: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
        for key in self.keys()?.into_iter().filter(|key| !known.contains(key)) {
            let (map, number) = self.place(key);
            self.node.system.delete(map, &number.to_ne_bytes())?;
        }
        Ok(())
    }

    /// Every endpoint that the kernel has an entry of.
    pub(super) fn keys(&self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for (map, key) in
            [(&self.maps.endpoints, Key::Netns as fn(u64) -> Key), (&self.maps.cgroups, Key::Cgroup)]
        {
            let entries = self.node.system.entries(map)?.into_iter();
            keys.extend(entries.map(|(number, _)| key(number.try_into().map_or(0, u64::from_ne_bytes))));
        }
        Ok(keys)
    }

    /// Makes the kernel know the pods' own addresses, and no others.
    pub(super) fn own_addresses(&self, members: &[Member]) -> Result<usize> {
        self.align(&self.maps.own, own_entries(members), |_| true)
    }

    /// Makes a map hold what is wanted, and none else of its entries that are ours. How many were changed.
    pub(super) fn align(
        &self,
        map: &S::Map,
        mut wanted: BTreeMap<Vec<u8>, Vec<u8>>,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<usize> {
        let mut changed = 0;
        for (key, value) in self.node.system.entries(map)? {
            match wanted.get(&key) {
                Some(wanted_value) if *wanted_value == value => drop(wanted.remove(&key)),
                Some(_) => {}
                None if is_ours(&key) => {
                    self.node.system.delete(map, &key)?;
                    changed += 1;
                }
                None => {}
            }
        }
        for (key, value) in &wanted {
            self.node.system.update(map, key, value)?;
            changed += 1;
        }
        Ok(changed)
    }
}

/// What the kernel's entry of a member must be. The profile of a slot whose policy is not given stays:
/// somebody may still be deciding by it.
pub(super) fn entry(
    member: &Member,
    found: Option<abi::Member>,
    policies: Policies<'_>,
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

/// The keys of a pod's own addresses; a host workload has none but loopback.
pub(super) fn own_keys(member: &Member) -> Vec<OwnKey> {
    let Key::Netns(netns) = member.key else { return Vec::new() };
    let mapped = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => *v6,
    };
    (member.own().iter()).map(|address| OwnKey { netns, address: words(mapped(address).to_bits()) }).collect()
}

/// What the kernel must know of the pods' own addresses.
pub(super) fn own_entries(members: &[Member]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (members.iter())
        .flat_map(|member| own_keys(member).into_iter().map(|key| (key, member.id)))
        .map(|(key, id)| (bytemuck::bytes_of(&key).to_vec(), id.to_ne_bytes().to_vec()))
        .collect()
}

/// Whether it was registered for a path that no policy names any more, or that is another cgroup now.
pub(super) fn is_stale(member: &Member, paths: &BTreeMap<String, u64>) -> bool {
    let id = member.cgroup.as_ref().and_then(|path| paths.get(path));
    member.origin == Origin::Selector && id.map(|&id| Key::Cgroup(id)) != Some(member.key)
}
