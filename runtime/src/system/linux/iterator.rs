//! Runs an iterator over the sockets of a network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::syscall;

pub(super) fn iterate(iterator: &OwnedFd) -> io::Result<()> {
    let mut file = File::from(syscall::iterator(iterator.as_fd())?);
    loop {
        match io::copy(&mut file, &mut io::sink()) {
            Ok(_) => return Ok(()),
            // It has looked at a million sockets.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}
