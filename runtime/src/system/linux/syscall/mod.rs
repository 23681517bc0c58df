//! System calls that need `unsafe`: `bpf(2)`, memory that maps lie in, options of sockets, and what is done between
//! fork and exec. Every function is safe to call: it owns or borrows all memory that the kernel reads or writes.

#![expect(unsafe_code, reason = "the one gate: system calls that no safe wrapper covers")]

#[cfg(feature = "acceleration")]
mod acceleration;
mod control;
mod links;
mod mapping;
mod maps;
mod objects;
mod process;
mod programs;
mod recent;
mod sockets;
mod watches;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{BPF_OBJ_NAME_LEN, bpf_attr, bpf_cmd};

#[cfg(feature = "acceleration")]
pub(super) use acceleration::{attach_program, has_lsm_bpf, run_over};
pub use control::Words;
pub(super) use links::{detach, iterator, link, link_interface, replace, target};
pub(super) use mapping::{add_hits, content, fill, holds};
pub(super) use maps::{
    NewMap, create_map, delete, freeze, load_btf, lookup, lookup_batch, next_key, update, update_batch,
};
pub(super) use objects::{info, link_by_id, map_by_id, maps_of, next_link, open_pin, pin, program_by_id};
pub(super) use process::spawn_in;
pub(super) use programs::{NewProgram, ProgramTypes, attached, detach_from_map, load_program};
pub use recent::RecentPlaces;
pub(super) use sockets::netns_cookie;
#[cfg(feature = "acceleration")]
pub(super) use sockets::socket_option;
pub use watches::Watches;

/// Attributes of a command, all 0. A kernel that knows fewer of them takes them where the rest is 0.
fn attributes() -> bpf_attr {
    // SAFETY: plain data; 0 is a value of each field.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// Every address in `attributes` is of memory that the command may read or write as far as it does.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    loop {
        // SAFETY: the attributes are plain data of the length given; the rest is the caller's promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                &raw mut *attributes,
                size_of::<bpf_attr>() as libc::c_uint,
            )
        };
        if result >= 0 {
            return i32::try_from(result).map_err(io::Error::other);
        }
        let error = io::Error::last_os_error();
        // A batch or a program load may be interrupted or asked to come again.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

/// # Safety
/// As [`bpf`]; and the command returns a new descriptor.
unsafe fn bpf_fd(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the command returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as u64
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

/// Names in the kernel are cut to 15 bytes.
fn kernel_name(name: &str) -> [libc::c_char; BPF_OBJ_NAME_LEN as usize] {
    let mut bytes = [0; BPF_OBJ_NAME_LEN as usize];
    for (to, from) in bytes.iter_mut().take(BPF_OBJ_NAME_LEN as usize - 1).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use aya_obj::generated::{bpf_attach_type as at, bpf_map_type};
    use mesh_bpf::map::MAPS;
    use mesh_bpf::program::Hook;

    #[test]
    fn kinds_of_maps_have_the_kernels_numbers() {
        for def in MAPS {
            let named = bpf_map_type::try_from(def.kind as u32).ok().unwrap();
            assert_eq!(format!("{named:?}"), def.kind.c_name());
        }
    }

    #[test]
    fn hooks_have_the_kernels_numbers() {
        for (hook, number) in [
            (Hook::Ingress, at::BPF_CGROUP_INET_INGRESS),
            (Hook::Egress, at::BPF_CGROUP_INET_EGRESS),
            (Hook::SockOps, at::BPF_CGROUP_SOCK_OPS),
            (Hook::Message, at::BPF_SK_MSG_VERDICT),
            (Hook::Connect4, at::BPF_CGROUP_INET4_CONNECT),
            (Hook::Connect6, at::BPF_CGROUP_INET6_CONNECT),
            (Hook::SendMsg4, at::BPF_CGROUP_UDP4_SENDMSG),
            (Hook::SendMsg6, at::BPF_CGROUP_UDP6_SENDMSG),
            (Hook::RecvMsg4, at::BPF_CGROUP_UDP4_RECVMSG),
            (Hook::RecvMsg6, at::BPF_CGROUP_UDP6_RECVMSG),
            (Hook::GetSockOpt, at::BPF_CGROUP_GETSOCKOPT),
            (Hook::Tracepoint, at::BPF_TRACE_RAW_TP),
            (Hook::Security, at::BPF_LSM_MAC),
            (Hook::Iterator, at::BPF_TRACE_ITER),
            (Hook::GetPeerName4, at::BPF_CGROUP_INET4_GETPEERNAME),
            (Hook::GetPeerName6, at::BPF_CGROUP_INET6_GETPEERNAME),
            (Hook::GetSockName4, at::BPF_CGROUP_INET4_GETSOCKNAME),
            (Hook::GetSockName6, at::BPF_CGROUP_INET6_GETSOCKNAME),
            (Hook::SkLookup, at::BPF_SK_LOOKUP),
            (Hook::TcxIngress, at::BPF_TCX_INGRESS),
        ] {
            assert_eq!(hook as u32, number as u32, "{}", hook.word());
        }
    }
}
