//! Security modules.

use std::io;

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
