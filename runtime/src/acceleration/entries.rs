//! Entries of the maps that programs write.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytemuck::{AnyBitPattern, try_pod_read_unaligned};
use mesh_bpf::text::process_name;

use crate::error::Result;
use crate::node::Node;
use crate::system::System;

pub(crate) fn values<T: AnyBitPattern, S: System>(node: Node<'_, S>, name: &str) -> Result<Vec<(u64, T)>> {
    entries(node, name)
}

pub(crate) fn entries<K: AnyBitPattern, T: AnyBitPattern, S: System>(
    node: Node<'_, S>,
    name: &str,
) -> Result<Vec<(K, T)>> {
    let Some(map) = node.system.open_map(&node.instance.maps().join(name))? else { return Ok(Vec::new()) };
    let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
        Some((try_pod_read_unaligned(&key).ok()?, try_pod_read_unaligned(&value).ok()?))
    };
    Ok(node.system.entries(&map)?.into_iter().filter_map(entry).collect())
}

/// The name of a task, which zeros end.
pub(crate) fn name(bytes: [u8; 16]) -> String {
    process_name(&bytes)
}

pub(crate) fn address(words: [u32; 4], port: u16) -> SocketAddr {
    let bytes: [u8; 16] = bytemuck::cast(words);
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), port)
}
