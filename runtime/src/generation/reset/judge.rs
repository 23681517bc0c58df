//! The live policy, asked about connections that members opened.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use mesh_bpf::abi::{
    self, FLOW_EXEMPT, FLOW_OF_KERNEL, FLOW_TRANSPARENT, InterfaceKey, ROUTE_BITS, RouteKey,
};
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::words;
use mesh_bpf::sim::Sim;
use mesh_bpf::tables::Tables;

use crate::error::{Error, Result};
use crate::maps::pinned::PinnedMaps;
use crate::member::{Key, Member};
use crate::members::{files, node_addresses};
use crate::node::Node;
use crate::system::System;

/// The live policy, asked about connections that were decided before.
pub(super) struct Judge<'a, S: System> {
    pub(super) node: Node<'a, S>,
    pub(super) maps: &'a PinnedMaps<S>,
    pub(super) sim: Sim<'a>,
    pub(super) profiles: &'a [abi::Profile],
    pub(super) policy: Membership,
    pub(super) members: BTreeMap<Key, Member>,
    /// Members by the number that flows are noted with.
    pub(super) numbers: BTreeMap<u32, Key>,
    /// Paths of the cgroups that the policy exempts or puts into classes, and of those below them, by id.
    pub(super) named: BTreeMap<u64, String>,
    /// The slot of the policy.
    pub(super) slot: u32,
    /// The node's own addresses.
    pub(super) nodes: BTreeSet<IpAddr>,
    /// Whether they listen, as far as that was looked up.
    pub(super) sidecars: RefCell<BTreeMap<Sidecar, bool>>,
}

impl<'a, S: System> Judge<'a, S> {
    pub(super) fn new(node: Node<'a, S>, maps: &'a PinnedMaps<S>, tables: &'a Tables) -> Result<Self> {
        let policy = Membership::read(tables.get(Table::Names))?;
        let mut named = BTreeMap::new();
        for path in policy.named_cgroups() {
            find_below(node, path, &mut named)?;
        }
        let members = files::members(node)?.into_iter();
        let members: BTreeMap<Key, Member> = members.map(|member| (member.key, member)).collect();
        let numbers = members.values().map(|member| (member.id, member.key)).collect();
        let sim = Sim::new(tables).map_err(Error::Damaged)?;
        let profiles = tables.get(Table::Profiles).records();
        let slot = mesh_bpf::map::slot(maps.control.load(node.system).current_generation());
        let nodes = node_addresses::known(node.system, maps)?;
        Ok(Self {
            slot,
            node,
            maps,
            sim,
            profiles,
            policy,
            members,
            numbers,
            named,
            nodes,
            sidecars: RefCell::default(),
        })
    }

    /// Of a member that has left since nobody knows what would be decided, and of an exempt process no rule
    /// decides: their connections stay.
    pub(super) fn decides_otherwise(&self, kept: &abi::Flow) -> bool {
        let Some(member) = self.numbers.get(&kept.member).and_then(|key| self.members.get(key)) else {
            return false;
        };
        if kept.flags & FLOW_EXEMPT != 0 || kept.protocol != 0 || kept.direction != 0 {
            return false;
        }
        // Where the programs cannot be asked, it stays.
        let verdict = self.verdict(member, kept).ok().flatten();
        verdict.is_some_and(|verdict| verdict != path(kept))
    }

    /// Whether the programs would leave alone what a member sends to an address: by the interface that its socket is bound
    /// to, else by where its routes lead.
    pub(super) fn goes_by_exempt(&self, member: &Member, device: u32, address: IpAddr) -> Result<bool> {
        if self.policy.exempt_interfaces.is_empty() {
            return Ok(false);
        }
        let (slot, member) = (self.slot, member.id);
        let key = InterfaceKey { member, slot, index: device };
        let (map, key) = if device == 0 {
            let v6 = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let key = RouteKey { bits: ROUTE_BITS + 128, member, slot, address: words(v6.to_bits()) };
            (&self.maps.exempt_routes, bytemuck::bytes_of(&key).to_vec())
        } else {
            (&self.maps.exempt_ifaces, bytemuck::bytes_of(&key).to_vec())
        };
        let Some(map) = map else { return Ok(false) };
        let source = self.node.system.lookup(map, &key)?;
        Ok(source.is_some_and(|source| source != [0; 4]))
    }

    fn verdict(&self, member: &Member, kept: &abi::Flow) -> Result<Option<Verdict>> {
        let Some(workload) = member.workload(&self.policy)? else { return Ok(Some(Verdict::Excluded)) };
        let address = destination(kept);
        if self.goes_by_exempt(member, kept.device, address)? {
            return Ok(Some(Verdict::Excluded));
        }
        let flow = Flow {
            direction: Direction::Outbound,
            protocol: Protocol::Tcp,
            address,
            port: kept.original_port,
            own: member.addresses.contains(&address),
        };
        let node = self.nodes.contains(&address);
        // Of what the kernel itself opened nobody knows for whom.
        let identity = match kept.flags & FLOW_OF_KERNEL {
            0 => Identity {
                uid: Some(kept.uid),
                gid: Some(kept.gid),
                cgroup: self.named.get(&kept.cgroup).cloned(),
                interface: None,
                node,
            },
            _ => Identity { node, ..Identity::default() },
        };
        Ok(self.sim.decide(workload.profile, &flow, &identity).map(|decided| decided.verdict()))
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

fn find_below<S: System>(node: Node<'_, S>, path: &str, found: &mut BTreeMap<u64, String>) -> Result<()> {
    let dir = node.instance.cgroup_dir(path);
    let Some(id) = node.system.inode(&dir)? else { return Ok(()) };
    found.insert(id, path.to_owned());
    for name in node.system.list(&dir)?.unwrap_or_default() {
        let below = format!("{path}/{name}");
        // A cgroup's own files are no cgroups.
        if node.system.inode(&node.instance.cgroup_dir(&below).join("cgroup.procs"))?.is_some() {
            find_below(node, &below, found)?;
        }
    }
    Ok(())
}

/// Sockets that listen on a port, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sidecar {
    pub(super) netns: u64,
    pub(super) port: u16,
    pub(super) family: u8,
}
