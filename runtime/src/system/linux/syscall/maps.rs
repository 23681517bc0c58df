//! Commands on maps.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{addr_of, addr_of_mut};

use aya_obj::generated::bpf_cmd;

use super::{address, address_mut, attributes, bpf, bpf_fd, kernel_name, length, number};

/// What a new map is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewMap<'a> {
    pub(crate) name: &'a str,
    /// `enum bpf_map_type`.
    pub(crate) kind: u32,
    pub(crate) key: u32,
    pub(crate) value: u32,
    pub(crate) capacity: u32,
    pub(crate) flags: u32,
    pub(crate) inner: Option<BorrowedFd<'a>>,
    /// Type information with the ids of the key's and the value's types.
    pub(crate) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

pub(crate) fn create_map(map: NewMap<'_>) -> io::Result<OwnedFd> {
    let mut create = attributes();
    create.__bindgen_anon_1.map_type = map.kind;
    create.__bindgen_anon_1.key_size = map.key;
    create.__bindgen_anon_1.value_size = map.value;
    create.__bindgen_anon_1.max_entries = map.capacity;
    create.__bindgen_anon_1.map_flags = map.flags;
    create.__bindgen_anon_1.inner_map_fd = map.inner.map_or(0, number);
    create.__bindgen_anon_1.map_name = kernel_name(map.name);
    if let Some((types, key, value)) = map.types {
        create.__bindgen_anon_1.btf_fd = number(types);
        create.__bindgen_anon_1.btf_key_type_id = key;
        create.__bindgen_anon_1.btf_value_type_id = value;
    }
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut create) }
}

pub(crate) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut load = attributes();
    load.__bindgen_anon_7.btf = address(btf);
    load.__bindgen_anon_7.btf_size = length(btf.len())?;
    // SAFETY: `btf` outlives the call.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut load) }
}

pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, address(key), address_mut(value))
}

pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, address(key), address(value))
}

pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_DELETE_ELEM, map, address(key), 0)
}

/// The key after `key`, or the first; `next` has the same length.
pub(crate) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
    element(bpf_cmd::BPF_MAP_GET_NEXT_KEY, map, key.map_or(0, address), address_mut(next))
}

// Callers size keys and values as `BPF_OBJ_GET_INFO_BY_FD` says; `Kernel` keeps these sizes with each map.
fn element(command: bpf_cmd, map: BorrowedFd<'_>, key: u64, value: u64) -> io::Result<()> {
    let mut element = attributes();
    element.__bindgen_anon_2.map_fd = number(map);
    element.__bindgen_anon_2.key = key;
    element.__bindgen_anon_2.__bindgen_anon_1.value = value;
    // SAFETY: key and value are borrowed by the caller for the call.
    unsafe { bpf(command, &mut element) }.map(drop)
}

/// Looks many elements up: from the place `from` (none at first); writes the next place to `to`. Returns how
/// many, and whether these were the last. Minimum kernel 5.6.
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<u64>,
    to: &mut u64,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let place = from.unwrap_or_default();
    let mut many = attributes();
    many.batch.in_batch = if from.is_some() { addr_of!(place) as u64 } else { 0 };
    many.batch.out_batch = addr_of_mut!(*to) as u64;
    many.batch.keys = address_mut(keys);
    many.batch.values = address_mut(values);
    many.batch.count = count;
    many.batch.map_fd = number(map);
    // SAFETY: the buffers hold `count` keys and values, and a place in a hash is 4 bytes.
    let looked = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut many) };
    // SAFETY: what was written above, and by the kernel.
    let count = unsafe { many.batch.count };
    match looked {
        Ok(_) => Ok((count, false)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((count, true)),
        Err(error) => Err(error),
    }
}

/// Sets many elements whose keys and values have 4 bytes. Minimum kernel 5.6.
pub(crate) fn update_batch(map: BorrowedFd<'_>, keys: &[u32], values: &[u32]) -> io::Result<()> {
    let mut many = attributes();
    many.batch.keys = keys.as_ptr() as u64;
    many.batch.values = values.as_ptr() as u64;
    many.batch.count = length(keys.len().min(values.len()))?;
    many.batch.map_fd = number(map);
    // SAFETY: both outlive the call and hold `count` elements.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut many) }.map(drop)
}

/// From now on no process can write it. Minimum kernel 5.2.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut freeze = attributes();
    freeze.__bindgen_anon_2.map_fd = number(map);
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut freeze) }.map(drop)
}
