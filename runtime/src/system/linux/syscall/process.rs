//! Processes that begin in a cgroup.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts a command that joins a cgroup before it runs: `procs` is that cgroup's `cgroup.procs`.
pub(crate) fn spawn_in(mut command: Command, procs: OwnedFd) -> io::Result<Child> {
    let fd: RawFd = procs.as_raw_fd();
    // SAFETY: between fork and exec only `write` is called, on a descriptor that is open until the command
    // has been started.
    unsafe {
        command.pre_exec(move || {
            if libc::write(fd, c"0".as_ptr().cast(), 1) == 1 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let child = command.spawn();
    drop(procs);
    child
}
