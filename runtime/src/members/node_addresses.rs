//! The node's own addresses, which programs look up where the policy asks whether the node is at the other end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use mesh_bpf::abi::{self, NODE_ADDRESSES, NodeAddress, PROFILE_FROM_NODE, PROFILE_TO_NODE};
use mesh_bpf::map::{self, Table};
use mesh_bpf::pack::words;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::tables::TableData;

use super::registry::Registry;
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::maps::live::Live;
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot;
use crate::system::System;

/// Whether a policy, by its table of profiles, asks for them.
pub(crate) fn are_asked(profiles: &TableData) -> bool {
    let profiles: &[abi::Profile] = profiles.records();
    profiles.iter().any(|profile| profile.flags & (PROFILE_TO_NODE | PROFILE_FROM_NODE) != 0)
}

/// The same of the live policy.
pub(crate) fn are_asked_live<S: System>(system: &S, maps: &PinnedMaps<S>, live: &Live) -> Result<bool> {
    slot::read_table(system, maps, live.slot(), &live.manifest, Table::Profiles).map(|it| are_asked(&it))
}

/// Those that the node has, in order. What is apart is reached by no rule about the node.
pub(crate) fn found(system: &impl System) -> Result<BTreeSet<IpAddr>> {
    let all = system.node_addresses()?;
    Ok(all.into_iter().filter(|&address| Prefix::host(address).apart().is_none()).collect())
}

/// Those that the kernel knows.
pub(crate) fn known<S: System>(system: &S, maps: &PinnedMaps<S>) -> Result<BTreeSet<IpAddr>> {
    let Some(map) = &maps.node_addresses else { return Ok(BTreeSet::new()) };
    let address = |key: &[u8]| {
        let bytes: [u8; 16] = key.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    };
    Ok(system.entries(map)?.iter().filter_map(|(key, _)| address(key)).collect())
}

/// In what those that the kernel knows are not those that the node has.
pub(crate) fn drift<S: System>(system: &S, maps: &PinnedMaps<S>) -> Result<Vec<Drift>> {
    let (found, known) = (found(system)?, known(system, maps)?);
    if found.len() > NODE_ADDRESSES as usize {
        return Ok(vec![Drift::NodeAddressesMany(NODE_ADDRESSES as usize)]);
    }
    let added = found.difference(&known).map(|&address| Drift::NodeAddressAdded(address));
    Ok(added.chain(known.difference(&found).map(|&address| Drift::NodeAddressLost(address))).collect())
}

impl<S: System> Registry<'_, S> {
    /// Makes the kernel know the node's addresses, and no others. How many were changed.
    pub(crate) fn node_addresses(&self) -> Result<usize> {
        let what = || "it is missing".into();
        let missing = || Error::Incompatible { map: map::NODE_ADDRESSES.name.into(), what: what() };
        let map = self.maps.node_addresses.as_ref().ok_or_else(missing)?;
        let entry = |address: IpAddr| {
            let bits = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            let key = NodeAddress { address: words(bits) };
            (bytemuck::bytes_of(&key).to_vec(), 1u32.to_ne_bytes().to_vec())
        };
        let found = found(self.node.system)?.into_iter().take(NODE_ADDRESSES as usize);
        let wanted: BTreeMap<Vec<u8>, Vec<u8>> = found.map(entry).collect();
        self.align(map, wanted, |_| true)
    }
}
