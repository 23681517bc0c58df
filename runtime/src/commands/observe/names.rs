//! What the numbers of an event mean.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_bpf::abi::{self, Event};
use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::tables::Tables;
use mesh_bpf::text::process_name;
use mesh_bpf::unpack::unpack;

use super::event::{Decided, Peer, ProcessInfo, Reason};
use crate::commands::status::hits::each_item;
use crate::error::Result;
use crate::member::Member;
use crate::members::files;
use crate::runtime::Runtime;
use crate::state::record::hex;
use crate::system::linux::Kernel;

/// Policies by generation and members by id, as far as they came up.
#[derive(Debug, Default)]
pub(super) struct Names {
    policies: BTreeMap<u64, Option<Policy>>,
    members: BTreeMap<u32, Option<Member>>,
    /// Who has an address; none where several do.
    owners: BTreeMap<IpAddr, Option<u32>>,
    /// Workloads of members by generation, as far as they came up.
    workloads: BTreeMap<(u64, u32), Option<String>>,
    /// Microseconds since 1970 at the boot.
    boot: u64,
}

/// What an observer needs of a policy.
#[derive(Debug)]
struct Policy {
    digest: String,
    image: MapImage,
    workloads: Vec<String>,
    membership: Membership,
    /// Source and address of every item, by the key of its counter.
    items: BTreeMap<u64, (usize, Prefix)>,
}

/// Policies that are kept in memory at once: who applies all day long is observed all the same.
const POLICIES: usize = 4;

/// The two clocks are read one after the other; what differs by no more microseconds is no change of them.
const JITTER: u64 = 1_000;

impl Names {
    /// Reads the policy of a generation, unless that was done or tried before.
    pub(super) fn learn(&mut self, runtime: &Runtime<Kernel>, generation: u64) -> Result<()> {
        if self.policies.contains_key(&generation) {
            return Ok(());
        }
        let live = runtime.live()?.filter(|live| live.generation == generation);
        let policy = match live {
            Some(live) => {
                let image = unpack(&live.tables).ok();
                image.map(|image| Policy::new(hex(&live.tables.digest()), &live.tables, image))
            }
            None => {
                let kept = runtime.kept(generation).ok();
                kept.map(|(record, tables, image)| Policy::new(record.digest, &tables, image))
            }
        };
        self.policies.insert(generation, policy);
        // What is told of the past goes through generations from the oldest on.
        while self.policies.len() > POLICIES {
            let oldest = self.policies.keys().copied().find(|&it| it != generation);
            let Some(oldest) = oldest else { break };
            self.policies.remove(&oldest);
            self.workloads.retain(|&(generation, _), _| generation != oldest);
        }
        Ok(())
    }

    /// Reads the members, unless this one is known.
    fn learn_member(&mut self, runtime: &Runtime<Kernel>, id: u32) -> Result<()> {
        if self.members.contains_key(&id) {
            return Ok(());
        }
        let node = runtime.node();
        let members = files::members(node)?;
        let mut left = files::left(node)?;
        self.owners.clear();
        for member in &members {
            for &address in member.own().iter().filter(|address| is_global(**address)) {
                let owner = self.owners.entry(address).or_insert(Some(member.id));
                if *owner != Some(member.id) {
                    *owner = None;
                }
            }
        }
        // An address that nobody has is still called by who had it last.
        left.sort_by_key(|member| std::cmp::Reverse(member.id));
        for member in &left {
            for &address in member.own().iter().filter(|address| is_global(**address)) {
                self.owners.entry(address).or_insert(Some(member.id));
            }
        }
        self.members.extend(left.into_iter().chain(members).map(|member| (member.id, Some(member))));
        // Nobody knows it any more: it is not looked for again.
        self.members.entry(id).or_default();
        Ok(())
    }

    /// What an event tells.
    pub(super) fn decided(&mut self, runtime: &Runtime<Kernel>, event: &Event) -> Result<Decided> {
        self.learn(runtime, event.generation)?;
        self.learn_member(runtime, event.member)?;
        self.set_clock(runtime);
        let inbound = event.direction != 0;
        let (peer, own) = (ip(event.address), ip(event.local));
        let (source, destination) = if inbound { (peer, own) } else { (own, peer) };
        Ok(Decided {
            time: self.wall_clock(event.time),
            times: 1,
            workload: self.workloads(event.generation).get(event.workload as usize).cloned(),
            member: self.member(event.member).map(|member| member.name.clone()),
            process: (event.pid != 0).then(|| ProcessInfo {
                pid: event.pid,
                uid: event.uid,
                name: process_name(&event.comm),
            }),
            direction: if inbound { Direction::Inbound } else { Direction::Outbound },
            protocol: if event.protocol == 0 { Protocol::Tcp } else { Protocol::Udp },
            source: (source, Some(event.from_port).filter(|&port| port != 0)),
            destination: (destination, event.port),
            peer: peer.and_then(|address| self.peer(event.generation, address)),
            verdict: match event.verdict {
                abi::VERDICT_REDIRECTED => {
                    Verdict::Redirected { port: event.sidecar_port, transparent: false }
                }
                abi::VERDICT_DENIED => Verdict::Denied,
                _ => Verdict::Excluded,
            },
            reason: self.reason(event.generation, event.item),
            generation: event.generation,
            digest: self.policy(event.generation).map(|policy| policy.digest.clone()),
            netns: event.netns,
        })
    }

    /// Where on the wall clock the boot was. It stays where it is while nobody sets that clock, so that times are in the
    /// order of the decisions.
    pub(super) fn set_clock(&mut self, runtime: &Runtime<Kernel>) {
        let boot = runtime.system.booted();
        if boot.abs_diff(self.boot) > JITTER {
            self.boot = boot;
        }
    }

    /// Microseconds since 1970, by nanoseconds since boot.
    pub(super) const fn wall_clock(&self, nanoseconds: u64) -> u64 {
        self.boot + nanoseconds / 1000
    }

    /// The member that has an address.
    fn peer(&mut self, generation: u64, address: IpAddr) -> Option<Peer> {
        let id = (*self.owners.get(&address)?)?;
        let member = self.members.get(&id)?.as_ref()?;
        let policy = self.policies.get(&generation).and_then(Option::as_ref);
        let workload = self.workloads.entry((generation, id)).or_insert_with(|| {
            let found = member.workload(&policy?.membership).ok().flatten();
            found.map(|workload| workload.name.clone())
        });
        Some(Peer { workload: workload.clone(), member: member.name.clone() })
    }

    fn policy(&self, generation: u64) -> Option<&Policy> {
        self.policies.get(&generation)?.as_ref()
    }

    pub(super) fn workloads(&self, generation: u64) -> &[String] {
        self.policy(generation).map_or(&[], |policy| &policy.workloads)
    }

    fn member(&self, id: u32) -> Option<&Member> {
        self.members.get(&id)?.as_ref()
    }

    fn reason(&self, generation: u64, item: u64) -> Reason {
        let Some(policy) = self.policy(generation) else { return Reason::Unknown };
        let Some(&(source, prefix)) = policy.items.get(&item) else { return Reason::Unknown };
        let Some(source) = policy.image.sources.get(source) else { return Reason::Unknown };
        let text = if source.kind == SourceKind::BuiltIn { source.head.clone() } else { source.text(prefix) };
        Reason::Item { kind: source.kind, scope: source.scope.clone(), text, key: item }
    }
}

impl Policy {
    fn new(digest: String, tables: &Tables, image: MapImage) -> Self {
        let mut items = BTreeMap::new();
        each_item(&image, |source, prefix, key| {
            items.insert(key, (source, prefix));
        });
        let workloads = image.workloads.iter().map(|workload| workload.name.clone()).collect();
        // Where it cannot be read, nobody at the other end is known by name.
        let membership = Membership::read(tables.get(Table::Names)).unwrap_or_default();
        Self { digest, image, workloads, membership, items }
    }
}

/// An address of an event; none where it is not known.
fn ip(words: [u32; 4]) -> Option<IpAddr> {
    if words == [0; 4] {
        return None;
    }
    let bytes: [u8; 16] = bytemuck::cast(words);
    Some(IpAddr::from(bytes).to_canonical())
}

/// Whether it is one pod's alone, as far as addresses are.
fn is_global(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_loopback()
}
