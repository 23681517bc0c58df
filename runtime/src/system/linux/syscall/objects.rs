//! Commands on objects of every kind: pins, ids, and what the kernel says of them.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_cmd, bpf_link_info, bpf_map_info, bpf_prog_info};

use super::{address, attributes, bpf, bpf_fd, length, number};

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut pin = attributes();
    pin.__bindgen_anon_4.pathname = address(path.as_bytes_with_nul());
    pin.__bindgen_anon_4.bpf_fd = number(object);
    // SAFETY: the path outlives the call and ends with a zero.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut pin) }.map(drop)
}

pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut open = attributes();
    open.__bindgen_anon_4.pathname = address(path.as_bytes_with_nul());
    // SAFETY: the path outlives the call and ends with a zero.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut open) }
}

pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)
}

pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)
}

/// Minimum kernel 5.8.
pub(crate) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(bpf_cmd::BPF_LINK_GET_FD_BY_ID, id)
}

fn by_id(command: bpf_cmd, id: u32) -> io::Result<OwnedFd> {
    let mut open = attributes();
    open.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    // SAFETY: no addresses.
    unsafe { bpf_fd(command, &mut open) }
}

/// The id of the next link of the kernel after this one. Minimum kernel 5.8.
pub(crate) fn next_link(id: u32) -> io::Result<u32> {
    let mut next = attributes();
    next.__bindgen_anon_6.__bindgen_anon_1.start_id = id;
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_LINK_GET_NEXT_ID, &mut next) }?;
    // SAFETY: the kernel wrote it.
    Ok(unsafe { next.__bindgen_anon_6.next_id })
}

/// What the kernel says of a kind of object.
///
/// # Safety
/// Plain data, of which 0 is a value, as `BPF_OBJ_GET_INFO_BY_FD` fills it.
pub(crate) unsafe trait Described: Copy {}

// SAFETY: they are the kernel's own structures.
unsafe impl Described for bpf_map_info {}
// SAFETY: as above.
unsafe impl Described for bpf_prog_info {}
// SAFETY: as above.
unsafe impl Described for bpf_link_info {}

/// What the kernel says of an object; what an older one does not know of it is 0.
pub(crate) fn info<T: Described>(object: BorrowedFd<'_>) -> io::Result<T> {
    // SAFETY: 0 is a value of it, and no address in it leads anywhere.
    let mut found = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { ask(object, &mut found) }.map(|()| found)
}

/// # Safety
/// Every address in `found` is of memory that the kernel may write as far as `found` says.
unsafe fn ask<T: Described>(object: BorrowedFd<'_>, found: &mut T) -> io::Result<()> {
    let mut ask = attributes();
    ask.info.bpf_fd = number(object);
    ask.info.info_len = length(size_of::<T>())?;
    ask.info.info = &raw mut *found as u64;
    // SAFETY: the kernel writes `info_len` bytes at the most; the rest is the caller's promise.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut ask) }.map(drop)
}

/// Ids of the maps that a program uses.
pub(crate) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut count = 0;
    loop {
        let mut ids = vec![0u32; count];
        // SAFETY: plain data.
        let mut found: bpf_prog_info = unsafe { std::mem::zeroed() };
        found.nr_map_ids = length(count)?;
        found.map_ids = ids.as_mut_ptr() as u64;
        // SAFETY: the kernel writes no more ids than the number that is there.
        unsafe { ask(program, &mut found) }?;
        let there = found.nr_map_ids as usize;
        if there <= count {
            ids.truncate(there);
            return Ok(ids);
        }
        count = there;
    }
}
