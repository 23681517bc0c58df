//! An open map.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mesh_bpf::map::{MapDef, MapKind};

use super::info::map_info;
use super::{storage_btf, syscall};
use crate::system::MapInfo;

/// An open map, with what is needed to size buffers for it.
#[derive(Debug)]
pub struct KernelMap {
    pub(super) fd: OwnedFd,
    pub(super) info: MapInfo,
}

pub(super) fn open(fd: OwnedFd) -> io::Result<KernelMap> {
    Ok(KernelMap { info: map_info(&fd)?, fd })
}

pub(super) fn create(def: &MapDef, capacity: u32, inner: Option<&KernelMap>) -> io::Result<KernelMap> {
    let types = match def.kind {
        MapKind::SkStorage => Some(syscall::load_btf(&storage_btf::storage(def.value))?),
        _ => None,
    };
    open(syscall::create_map(syscall::NewMap {
        name: def.name,
        kind: def.kind as u32,
        key: def.key,
        value: def.value,
        capacity,
        flags: def.flags,
        inner: inner.map(|inner| inner.fd.as_fd()),
        types: types.as_ref().map(|types| (types.as_fd(), storage_btf::KEY, storage_btf::VALUE)),
    })?)
}

/// Puts maps into a map of maps, by one call.
pub(super) fn put_maps(outer: &KernelMap, elements: &[(u32, &KernelMap)]) -> io::Result<()> {
    let keys: Vec<u32> = elements.iter().map(|&(key, _)| key).collect();
    let values: Vec<u32> = elements.iter().map(|(_, map)| map.fd.as_raw_fd().unsigned_abs()).collect();
    syscall::update_batch(outer.fd.as_fd(), &keys, &values)
}
