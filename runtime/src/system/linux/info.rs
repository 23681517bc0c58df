//! What the kernel says of its objects.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::syscall;
use crate::system::{MapInfo, ProgramInfo, Target};

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

pub(super) fn name_at(bytes: &[u8], at: usize) -> String {
    let name = bytes.get(at..at + 16).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// `struct bpf_map_info`: type, id, key, value, capacity, flags, name.
pub(super) fn map_info(fd: &OwnedFd) -> io::Result<MapInfo> {
    let mut bytes = [0; 40];
    syscall::info(fd.as_fd(), &mut bytes)?;
    let word = |index: usize| u32_at(&bytes, index * 4);
    Ok(MapInfo {
        kind: word(0),
        id: word(1),
        key: word(2),
        value: word(3),
        capacity: word(4),
        flags: word(5),
        name: name_at(&bytes, 24),
    })
}

/// `struct bpf_prog_info`: type, id, tag, …, name at 64.
pub(super) fn program_info(fd: &OwnedFd) -> io::Result<ProgramInfo> {
    let mut bytes = [0; 80];
    syscall::info(fd.as_fd(), &mut bytes)?;
    Ok(ProgramInfo { id: u32_at(&bytes, 4), tag: u64_at(&bytes, 8).to_ne_bytes(), name: name_at(&bytes, 64) })
}

/// `struct bpf_link_info`: type (`enum bpf_link_type`), id, program, …, and from 16 what it is attached to.
pub(super) fn target(bytes: &[u8]) -> Target {
    match (u32_at(bytes, 0), u64_at(bytes, 16), u32_at(bytes, 16)) {
        (3, 0, _) | (5 | 11, _, 0) => Target::Gone,
        (3, cgroup, _) => Target::Cgroup(cgroup),
        (4, ..) => Target::Iterator,
        (5, _, netns) => Target::Netns(netns.into()),
        (11, _, interface) => Target::Interface(interface),
        _ => Target::Other,
    }
}
