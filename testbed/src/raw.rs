//! The system calls that no safe crate offers; the only unsafe code of the testbed.
#![expect(
    unsafe_code,
    reason = "fork, pre_exec, bpf(2), io_uring, raw socket options and the union of ptrace have no safe binding"
)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Lets this process and what it starts have no socket of `NETLINK_NETFILTER`, as a kernel without netfilter has none.
pub(crate) fn refuse_netfilter() -> io::Result<()> {
    let jump = |code: u32, value: u32, otherwise: u8| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: otherwise,
        k: value,
    };
    let load = |offset: u32| jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
    let equals =
        |value: u32, otherwise: u8| jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, otherwise);
    let answer = |value: u32| jump(libc::BPF_RET | libc::BPF_K, value, 0);
    // `struct seccomp_data`: the call's number, then its arguments from byte 16 on; numbers are in their low words.
    let mut program = [
        load(0),
        equals(libc::SYS_socket as u32, 5),
        load(16),
        equals(libc::AF_NETLINK.cast_unsigned(), 3),
        load(32),
        equals(libc::NETLINK_NETFILTER.cast_unsigned(), 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.cast_unsigned()),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let len = program.len() as u16;
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies `len` instructions from `program`, which outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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

/// The part of `struct io_uring_sqe` that is used here, 64 bytes as all of it.
#[repr(C)]
struct RingEntry {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    call_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct RingParameters {
    submissions: u32,
    completions: u32,
    flags: u32,
    others: [u32; 7],
    submitted: RingOffsets,
    completed: RingOffsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`: where things are in a ring.
#[repr(C)]
#[derive(Default)]
struct RingOffsets {
    head: u32,
    tail: u32,
    others: [u32; 3],
    /// Of the answers.
    entries: u32,
    /// Of what is submitted.
    array: u32,
    rest: [u32; 3],
}

/// Memory that is shared with the kernel, unmapped on drop.
struct Shared(*mut libc::c_void, usize);

impl Shared {
    fn of(ring: BorrowedFd<'_>, length: usize, offset: i64) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a place that nothing else has.
        let place = unsafe {
            libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, ring.as_raw_fd(), offset)
        };
        if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(place, length)) }
    }

    /// The number at an offset that the kernel named.
    fn number(&self, offset: u32) -> io::Result<&AtomicU32> {
        let offset = offset as usize;
        if !offset.is_multiple_of(mem::align_of::<u32>()) || offset + mem::size_of::<u32>() > self.1 {
            return Err(io::Error::other("the kernel names a place outside of its ring"));
        }
        // SAFETY: aligned and within the mapping, which `self` keeps; both sides use it as an atomic number.
        Ok(unsafe { AtomicU32::from_ptr(self.0.byte_add(offset).cast()) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: no reference into it outlives `self`.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

/// Asks the kernel for one thing by a ring of io_uring of its own, with these setup flags, and waits for the answer.
///
/// INVARIANT: what `address` and `offset` stand for in the operation lives until this returns; the kernel has answered
/// by then, and reads it no more.
fn by_ring(
    setup: u32,
    operation: u8,
    fd: BorrowedFd<'_>,
    address: u64,
    offset: u64,
    length: u32,
) -> io::Result<i32> {
    const ENTER_GETEVENTS: u32 = 1;
    const ENTER_SQ_WAKEUP: u32 = 2;
    const SETUP_SQPOLL: u32 = 2;
    const OFFSET_CQ: i64 = 0x0800_0000;
    const OFFSET_ENTRIES: i64 = 0x1000_0000;
    let mut parameters = RingParameters { flags: setup, ..RingParameters::default() };
    // SAFETY: the kernel reads and writes no more than the structure.
    let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1_u32, &raw mut parameters) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let ring = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(made).map_err(io::Error::other)?) };
    let (to, from) = (&parameters.submitted, &parameters.completed);
    let submitted = Shared::of(ring.as_fd(), to.array as usize + 4 * parameters.submissions as usize, 0)?;
    let completed =
        Shared::of(ring.as_fd(), from.entries as usize + 16 * parameters.completions as usize, OFFSET_CQ)?;
    let entries = Shared::of(ring.as_fd(), mem::size_of::<RingEntry>(), OFFSET_ENTRIES)?;
    let entry = RingEntry {
        operation,
        flags: 0,
        priority: 0,
        fd: fd.as_raw_fd(),
        offset,
        address,
        length,
        call_flags: 0,
        user_data: 0,
        rest: [0; 3],
    };
    // SAFETY: the mapping has room for one entry, and the kernel reads it once the tail says so.
    unsafe { entries.0.cast::<RingEntry>().write(entry) };
    submitted.number(to.array)?.store(0, Ordering::Relaxed);
    submitted.number(to.tail)?.store(1, Ordering::Release);
    let wakes = if setup & SETUP_SQPOLL == 0 { 0 } else { ENTER_SQ_WAKEUP };
    // SAFETY: numbers only; no signal mask is given.
    let entered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1_u32,
            1_u32,
            ENTER_GETEVENTS | wakes,
            ptr::null::<libc::c_void>(),
            0_usize,
        )
    };
    if entered < 0 {
        return Err(io::Error::last_os_error());
    }
    if completed.number(from.tail)?.load(Ordering::Acquire) == 0 {
        return Err(io::Error::other("the kernel has not answered"));
    }
    // An answer is eight bytes of ours, and the result.
    let result = completed.number(from.entries + 8)?.load(Ordering::Relaxed).cast_signed();
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// `connect` by io_uring.
pub(crate) fn connect_by_ring(setup: u32, fd: BorrowedFd<'_>, to: &socket2::SockAddr) -> io::Result<()> {
    const CONNECT: u8 = 16;
    let address = to.as_ptr().expose_provenance() as u64;
    by_ring(setup, CONNECT, fd, address, u64::from(to.len()), 0).map(drop)
}

/// `sendmsg` of one datagram by io_uring.
pub(crate) fn send_by_ring(
    setup: u32,
    fd: BorrowedFd<'_>,
    to: &socket2::SockAddr,
    payload: &[u8],
) -> io::Result<()> {
    const SENDMSG: u8 = 9;
    let mut piece = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: all of its fields may be zero.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    by_ring(setup, SENDMSG, fd, (&raw const message).expose_provenance() as u64, 0, 1).map(drop)
}

/// `sendmmsg`: a datagram to each of these; how many were sent.
pub(crate) fn send_many(fd: BorrowedFd<'_>, to: &[socket2::SockAddr], payload: &[u8]) -> io::Result<usize> {
    let mut piece = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut messages: Vec<libc::mmsghdr> = to
        .iter()
        .map(|to| {
            // SAFETY: all of its fields may be zero.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = to.len();
            message.msg_hdr.msg_iov = &raw mut piece;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).map_err(io::Error::other)?;
    // SAFETY: names and pieces outlive the call, which writes nothing but the messages' lengths.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
