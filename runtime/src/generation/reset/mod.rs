//! Established connections keep the path that was decided when they were opened. Those of them that the live
//! policy decides otherwise are closed where that is asked for.

mod offered;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use mesh_bpf::abi::{self, FLOW_EXEMPT, FLOW_TRANSPARENT};
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::map::{CLIENT_FLOWS, LISTENING, MapDef, Table};
use mesh_bpf::membership::Membership;
use mesh_bpf::sim::Sim;
use mesh_bpf::tables::Tables;

use self::offered::Sidecar;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::maps::set::Set;
use crate::members::registry::{self, Key, Member};
use crate::system::{Noted, Store};

/// Closes the connections of members that `tables`, which are live, decide otherwise than when they were
/// opened; how many.
pub(crate) fn close_changed<S: Store>(
    store: &S,
    instance: &Instance,
    set: &Set<S>,
    tables: &Tables,
) -> Result<usize> {
    let open = |def: &MapDef| store.open_map(&instance.maps().join(def.name));
    let (Some(flows), Some(listening)) = (open(&CLIENT_FLOWS)?, open(&LISTENING)?) else { return Ok(0) };
    // Programs that read the word before the commit may still be about to keep what they decided.
    set.grace_period(store)?;
    let judge = Judge::new(store, instance, set, tables)?;
    let mut changed = Vec::new();
    for (noted, socket) in store.connections(&flows, &listening)? {
        let otherwise = match &noted {
            Noted::Opened(flow) => judge.decides_otherwise(flow),
            Noted::Accepted(accepted) => judge.offers_otherwise(accepted)?,
        };
        if otherwise {
            changed.push(socket);
        }
    }
    Ok(if changed.is_empty() { 0 } else { store.close(&changed)? })
}

/// The live policy, asked about connections that were decided before.
struct Judge<'a, S: Store> {
    store: &'a S,
    instance: &'a Instance,
    set: &'a Set<S>,
    sim: Sim<'a>,
    profiles: &'a [abi::Profile],
    policy: Membership,
    members: BTreeMap<Key, Member>,
    /// Members by the number that flows are noted with.
    numbers: BTreeMap<u32, Key>,
    /// Paths of the cgroups that the policy exempts and of those below them, by id.
    exempt: BTreeMap<u64, String>,
    /// Whether they listen, as far as that was looked up.
    sidecars: RefCell<BTreeMap<Sidecar, bool>>,
}

impl<'a, S: Store> Judge<'a, S> {
    fn new(store: &'a S, instance: &'a Instance, set: &'a Set<S>, tables: &'a Tables) -> Result<Self> {
        let policy = Membership::read(tables.get(Table::Names))?;
        let mut exempt = BTreeMap::new();
        for (_, path, _) in &policy.exempt_cgroups {
            find_below(store, instance, path, &mut exempt)?;
        }
        let members = registry::members(store, instance)?.into_iter();
        let members: BTreeMap<Key, Member> = members.map(|member| (member.key, member)).collect();
        let numbers = members.values().map(|member| (member.id, member.key)).collect();
        let sim = Sim::new(tables).map_err(Error::Damaged)?;
        let profiles = tables.get(Table::Profiles).records();
        Ok(Self {
            store,
            instance,
            set,
            sim,
            profiles,
            policy,
            members,
            numbers,
            exempt,
            sidecars: RefCell::default(),
        })
    }

    /// Of a member that has left since nobody knows what would be decided, and of an exempt process no rule
    /// decides: their connections stay.
    fn decides_otherwise(&self, kept: &abi::Flow) -> bool {
        let Some(member) = self.numbers.get(&kept.member).and_then(|key| self.members.get(key)) else {
            return false;
        };
        if kept.flags & FLOW_EXEMPT != 0 || kept.protocol != 0 || kept.direction != 0 {
            return false;
        }
        self.verdict(member, kept).is_some_and(|verdict| verdict != path(kept))
    }

    fn verdict(&self, member: &Member, kept: &abi::Flow) -> Option<Verdict> {
        let Some(workload) = member.workload(&self.policy).ok()? else { return Some(Verdict::Excluded) };
        let address = destination(kept);
        let flow = Flow {
            direction: Direction::Outbound,
            protocol: Protocol::Tcp,
            address,
            port: kept.original_port,
            own: member.addresses.contains(&address),
        };
        let identity = Identity {
            uid: Some(kept.uid),
            gid: Some(kept.gid),
            cgroup: self.exempt.get(&kept.cgroup).cloned(),
        };
        Some(self.sim.decide(workload.profile, &flow, &identity)?.verdict())
    }
}

/// What was decided when it was opened.
const fn path(kept: &abi::Flow) -> Verdict {
    match kept.sidecar_port {
        0 => Verdict::Excluded,
        port => Verdict::Redirected { port, transparent: kept.flags & FLOW_TRANSPARENT != 0 },
    }
}

fn destination(kept: &abi::Flow) -> IpAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(kept.original) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn find_below<S: Store>(
    store: &S,
    instance: &Instance,
    path: &str,
    found: &mut BTreeMap<u64, String>,
) -> Result<()> {
    let folder = instance.cgroup_folder(path);
    let Some(id) = store.inode(&folder)? else { return Ok(()) };
    found.insert(id, path.to_owned());
    for name in store.list(&folder)?.unwrap_or_default() {
        let below = format!("{path}/{name}");
        // A cgroup's own files are no cgroups.
        if store.inode(&instance.cgroup_folder(&below).join("cgroup.procs"))?.is_some() {
            find_below(store, instance, &below, found)?;
        }
    }
    Ok(())
}
