//! What only acceleration needs. Only with the feature of that name.

use std::io;
use std::os::fd::BorrowedFd;

use aya_obj::generated::bpf_cmd;

use super::programs::attach;
use super::{address, address_mut, attributes, bpf, length, number};

/// Attaches a program to a map of sockets, as long as that lives.
pub(crate) fn attach_program(program: BorrowedFd<'_>, map: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    attach(bpf_cmd::BPF_PROG_ATTACH, program, map, hook)
}

/// Runs a classifier over one packet, which it may change.
pub(crate) fn run_over(program: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<()> {
    let given = packet.to_vec();
    let mut run = attributes();
    run.test.prog_fd = number(program);
    run.test.data_size_in = length(given.len())?;
    run.test.data_size_out = length(packet.len())?;
    run.test.data_in = address(&given);
    run.test.data_out = address_mut(packet);
    // SAFETY: both packets outlive the call and are as long as said.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut run) }.map(drop)
}

/// Whether programs are asked where security modules are: they can be attached also where nobody asks them.
/// Minimum kernel 6.8.
pub(crate) fn has_lsm_bpf() -> io::Result<()> {
    /// `lsm_list_modules(2)`, the same on all machines, and `LSM_ID_BPF` of `linux/lsm.h`; libc has neither.
    const CALL: libc::c_long = 461;
    const BPF: u64 = 110;
    let mut found = [0_u64; 32];
    let mut size = u32::try_from(size_of_val(&found)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes, and how many into `size`.
    let result = unsafe { libc::syscall(CALL, found.as_mut_ptr(), &raw mut size, 0) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        _ if found.contains(&BPF) => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}
