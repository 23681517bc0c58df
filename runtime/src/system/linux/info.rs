//! What the kernel says of its objects.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::{bpf_map_info, bpf_prog_info};

use super::syscall;
use crate::system::{MapInfo, ProgramInfo};

fn name(name: &[libc::c_char]) -> String {
    let bytes: Vec<u8> =
        name.iter().take_while(|&&byte| byte != 0).flat_map(|byte| byte.to_ne_bytes()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn map_info(fd: &OwnedFd) -> io::Result<MapInfo> {
    let found: bpf_map_info = syscall::info(fd.as_fd())?;
    Ok(MapInfo {
        kind: found.type_,
        id: found.id,
        key: found.key_size,
        value: found.value_size,
        capacity: found.max_entries,
        flags: found.map_flags,
        name: name(&found.name),
    })
}

pub(super) fn program_info(fd: &OwnedFd) -> io::Result<ProgramInfo> {
    let found: bpf_prog_info = syscall::info(fd.as_fd())?;
    Ok(ProgramInfo { id: found.id, tag: found.tag, name: name(&found.name) })
}
