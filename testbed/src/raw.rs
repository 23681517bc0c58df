//! The system calls that no safe crate offers; the only unsafe code of the testbed.
#![expect(
    unsafe_code,
    reason = "fork, pre_exec, bpf(2), raw socket options and the union of ptrace have no safe binding"
)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::ptr;

use rustix::process::Pid;

/// Runs `body` in the child between fork and exec.
///
/// INVARIANT: `body` makes system calls only. The child has one thread of many, so a lock that another one
/// held, the allocator's among them, is never released there.
pub(crate) fn before_exec(
    command: &mut Command,
    body: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: every caller is in this crate and keeps the invariant above.
    unsafe { command.pre_exec(body) };
}

/// Runs `body` in a copy of this process and returns the copy's id; the copy ends when `body` does.
pub(crate) fn fork(body: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: the child has a copy of the memory and one thread. glibc resets its allocator for the child of
    // a process with threads; `body` uses no other lock that a thread of the parent may hold.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
            // SAFETY: ends the child without the parent's exit handlers and destructors.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork returned no process id")),
    }
}

/// Closes what a forked child inherited, but for `keep` and standard input, output and error.
///
/// A socket of another test that stayed open here would never be seen to close there.
pub(crate) fn close_all_but(keep: [RawFd; 2]) {
    let (low, high) = (keep[0].min(keep[1]).cast_unsigned(), keep[0].max(keep[1]).cast_unsigned());
    for (first, last) in [(3, low.saturating_sub(1)), (low + 1, high.saturating_sub(1)), (high + 1, u32::MAX)]
    {
        if first <= last {
            // SAFETY: takes numbers only. The child's copies of the parent's owners of these descriptors are
            // never dropped: the child ends by `_exit`.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// `getsockopt` with any level, option and length; returns what the kernel wrote.
pub(crate) fn socket_option(fd: BorrowedFd<'_>, level: i32, option: i32, length: u32) -> io::Result<Vec<u8>> {
    let mut value = vec![0_u8; length as usize];
    let mut written: libc::socklen_t = length;
    // SAFETY: `value` has `written` bytes, and the kernel writes no more than that.
    let done = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut written)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    value.truncate(written as usize);
    Ok(value)
}

/// The part of `union bpf_attr` that the look-ups by id use: id, next id, flags.
#[repr(C)]
struct IdAttribute {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` uses.
#[repr(C)]
struct InfoAttribute {
    fd: u32,
    length: u32,
    info: u64,
}

const GET_INFO_BY_FD: libc::c_long = 15;

/// The next id after `id`, by one of the commands `BPF_*_GET_NEXT_ID`; none after the last.
pub(crate) fn set_socket_option(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of the value, which outlives the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn next_bpf_id(command: libc::c_long, id: u32) -> io::Result<Option<u32>> {
    let mut attribute = IdAttribute { id, next_id: 0, flags: 0 };
    match bpf(command, &mut attribute) {
        Ok(_) => Ok(Some(attribute.next_id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of the object `id`, by one of the commands `BPF_*_GET_FD_BY_ID`.
pub(crate) fn bpf_fd(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    let fd = bpf(command, &mut IdAttribute { id, next_id: 0, flags: 0 })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel tells about an object: one of `struct bpf_{prog,map,link}_info`, as bytes.
pub(crate) fn bpf_info(fd: BorrowedFd<'_>) -> io::Result<[u8; 256]> {
    let mut info = [0_u8; 256];
    let mut attribute = InfoAttribute {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: 256,
        info: ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    bpf(GET_INFO_BY_FD, &mut attribute)?;
    Ok(info)
}

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<RawFd> {
    // SAFETY: both attribute types are prefixes of `union bpf_attr`, the kernel reads the given size only and
    // takes the rest for zero; a pointer within points to memory that outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attribute), mem::size_of::<T>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(done).map_err(io::Error::other)
}

/// At which side of a system call a traced thread stopped.
pub(crate) enum Side {
    /// Before the call, with its number and arguments.
    Entry { number: i64, arguments: [u64; 6] },
    /// After the call.
    Exit,
}

/// Reads the union of `PTRACE_GET_SYSCALL_INFO`.
pub(crate) fn side(info: &libc::ptrace_syscall_info) -> Option<Side> {
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: `op` says that the kernel filled `entry`; all its bit patterns are numbers.
            let entry = unsafe { info.u.entry };
            Some(Side::Entry { number: entry.nr.cast_signed(), arguments: entry.args })
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => Some(Side::Exit),
        _ => None,
    }
}
