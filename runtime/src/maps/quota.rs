//! How much of the maps of connections that are being opened each member takes.
//!
//! The programs count what they note and give it back with the entry. A count that is higher than what is there would
//! keep a member's connections from their sidecar for good, so whoever begins a command looks for one.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi::{self, ExemptFlow, Flow, Quota, QuotaKey};
use mesh_bpf::map::{self, MapDef};

use crate::drift::{Drift, Full};
use crate::error::Result;
use crate::maps::pinned::PinnedMaps;
use crate::node::Node;
use crate::system::System;

/// How often is looked before a count is taken for wrong: connections come and go meanwhile.
const LOOKS: usize = 3;

/// A map of connections that are being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opening {
    /// Those that go to a sidecar.
    Redirected,
    /// Those of exempt identities within their member.
    Exempt,
}

impl Opening {
    const ALL: [Self; 2] = [Self::Redirected, Self::Exempt];

    const fn kind(self) -> u32 {
        match self {
            Self::Redirected => abi::QUOTA_OF_HANDOVER,
            Self::Exempt => abi::QUOTA_OF_EXEMPT,
        }
    }

    const fn map(self) -> &'static MapDef {
        match self {
            Self::Redirected => &map::HANDOVER,
            Self::Exempt => &map::EXEMPT_FLOWS,
        }
    }

    /// The member that an entry is of, and the user whose quota it takes, too.
    fn owner(self, value: &[u8]) -> Option<(u32, Option<u32>)> {
        match self {
            Self::Redirected => {
                let flow: Flow = bytemuck::try_pod_read_unaligned(value).ok()?;
                Some((flow.member, (flow.flags & abi::FLOW_BY_USER != 0).then_some(flow.uid)))
            }
            Self::Exempt => {
                let flow: ExemptFlow = bytemuck::try_pod_read_unaligned(value).ok()?;
                Some((flow.member, (flow.user != u32::MAX).then_some(flow.user)))
            }
        }
    }
}

/// The quota of a member's connections, or of one user's among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    opening: Opening,
    member: u32,
    user: Option<u32>,
}

impl Whose {
    /// None for a quota of sockets that listen.
    fn of(key: &[u8]) -> Option<Self> {
        let key: QuotaKey = bytemuck::try_pod_read_unaligned(key).ok()?;
        let opening = Opening::ALL.into_iter().find(|it| it.kind() == key.kind & !abi::QUOTA_BY_USER)?;
        let user = (key.kind & abi::QUOTA_BY_USER != 0).then_some(key.who);
        Some(Self { opening, member: u32::try_from(key.of).ok()?, user })
    }

    fn key(self) -> QuotaKey {
        let kind = self.opening.kind() | if self.user.is_some() { abi::QUOTA_BY_USER } else { 0 };
        QuotaKey { of: self.member.into(), who: self.user.unwrap_or_default(), kind }
    }

    const fn most(self) -> i64 {
        match self.user {
            None => abi::QUOTA_CONNECTIONS as i64,
            Some(_) => abi::QUOTA_CONNECTIONS_USER as i64,
        }
    }

    /// Less than this is in the way of nobody.
    const fn tolerance(self) -> i64 {
        self.most() / 8
    }
}

/// What the quotas of connections count. A quota is signed: see [`Quota`].
fn taken<S: System>(system: &S, quotas: &S::Map) -> Result<BTreeMap<Whose, i64>> {
    let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let quota: Quota = bytemuck::try_pod_read_unaligned(value).ok()?;
        Some((Whose::of(key)?, quota.taken.cast_signed().into()))
    };
    Ok(system.entries(quotas)?.iter().filter_map(read).collect())
}

/// What is there of those.
fn noted<S: System>(node: Node<'_, S>, opening: Opening) -> Result<BTreeMap<Whose, i64>> {
    let mut noted = BTreeMap::new();
    let Some(map) = node.system.open_map(&node.instance.maps().join(opening.map().name))? else {
        return Ok(noted);
    };
    for (_, value) in node.system.entries(&map)? {
        let Some((member, user)) = opening.owner(&value) else { continue };
        *noted.entry(Whose { opening, member, user: None }).or_default() += 1;
        if user.is_some() {
            *noted.entry(Whose { opening, member, user }).or_default() += 1;
        }
    }
    Ok(noted)
}

/// By how much more than is there each quota has counted, at the least.
fn surplus<S: System>(node: Node<'_, S>, quotas: &S::Map) -> Result<BTreeMap<Whose, i64>> {
    let mut least = taken(node.system, quotas)?;
    for _ in 0..LOOKS {
        least.retain(|whose, surplus| *surplus > whose.tolerance());
        let openings: BTreeSet<Opening> = least.keys().map(|whose| whose.opening).collect();
        if openings.is_empty() {
            break;
        }
        let (before, mut there) = (taken(node.system, quotas)?, BTreeMap::new());
        for opening in openings {
            there.extend(noted(node, opening)?);
        }
        let after = taken(node.system, quotas)?;
        for (whose, surplus) in &mut least {
            let count = |all: &BTreeMap<Whose, i64>| all.get(whose).copied().unwrap_or_default();
            *surplus = (*surplus).min(count(&before).min(count(&after)) - count(&there));
        }
    }
    least.retain(|whose, surplus| *surplus > whose.tolerance());
    Ok(least)
}

/// Takes from each quota what it has counted and is not there, and removes those of members that are none any more.
pub(crate) fn recount<S: System>(node: Node<'_, S>, maps: &PinnedMaps<S>) -> Result<()> {
    let Some(quotas) = node.system.open_map(&node.instance.maps().join(map::QUOTAS.name))? else {
        return Ok(());
    };
    let counted = taken(node.system, &quotas)?;
    if counted.is_empty() {
        return Ok(());
    }
    for (whose, surplus) in surplus(node, &quotas)? {
        let key = whose.key();
        let now = taken(node.system, &quotas)?.get(&whose).copied().unwrap_or_default();
        let right = i32::try_from(now - surplus).unwrap_or_default().cast_unsigned();
        node.system.update(
            &quotas,
            bytemuck::bytes_of(&key),
            bytemuck::bytes_of(&Quota { taken: right, reserve: 0 }),
        )?;
    }
    let mut numbers = BTreeSet::new();
    for map in [&maps.endpoints, &maps.cgroups] {
        let members = node.system.entries(map)?.into_iter();
        numbers.extend(
            members
                .filter_map(|(_, value)| bytemuck::try_pod_read_unaligned(&value).ok())
                .map(|it: abi::Member| it.id),
        );
    }
    let named = node.system.entries(&maps.cgroup_paths)?.into_iter();
    numbers.extend(
        named
            .filter_map(|(_, value)| bytemuck::try_pod_read_unaligned(&value).ok())
            .map(|it: abi::NamedCgroup| it.becomes.id),
    );
    for whose in counted.keys().filter(|whose| !numbers.contains(&whose.member)) {
        node.system.delete(&quotas, bytemuck::bytes_of(&whose.key()))?;
    }
    Ok(())
}

/// A quota that is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullQuota {
    opening: Opening,
    user: Option<u32>,
    connections: i64,
}

impl FullQuota {
    /// That the member of this name has it.
    pub(crate) fn of(self, member: &str) -> Drift {
        let full = Full { member: member.to_owned(), user: self.user, connections: self.connections };
        match self.opening {
            Opening::Redirected => Drift::RedirectedFull(full),
            Opening::Exempt => Drift::ExemptFull(full),
        }
    }
}

/// The quotas that are full, by the member's number.
pub(crate) fn full<S: System>(node: Node<'_, S>) -> Result<BTreeMap<u32, Vec<FullQuota>>> {
    let mut full: BTreeMap<u32, Vec<FullQuota>> = BTreeMap::new();
    let Some(quotas) = node.system.open_map(&node.instance.maps().join(map::QUOTAS.name))? else {
        return Ok(full);
    };
    let taken = taken(node.system, &quotas)?.into_iter();
    for (Whose { opening, member, user }, connections) in
        taken.filter(|(whose, count)| *count >= whose.most())
    {
        full.entry(member).or_default().push(FullQuota { opening, user, connections });
    }
    Ok(full)
}
