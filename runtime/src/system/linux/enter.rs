//! Goes into network namespaces, and comes back.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::{io, thread};

use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::syscall;

/// Does something on a thread of its own, whose namespace may be changed.
///
/// # Errors
/// What it answers, or where no thread can be had.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, work)?;
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}

/// What this thread is in, as a file that stands for it.
pub(super) const HERE: &str = "/proc/thread-self/ns/net";

/// The namespace that a thread goes back to.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        // It must not go on where it is: what it does next would be done to another machine's network.
        if move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
            std::process::abort();
        }
    }
}

/// Does something inside a network namespace, and comes back. This thread goes there itself: on a busy machine, waiting for
/// another one takes longer than all that is done there.
pub(super) fn inside<T>(netns: &File, body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let here = File::open(HERE)?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let back = Back(here);
    let result = body();
    drop(back);
    result
}

/// Of this thread's namespace.
pub(super) fn own_cookie() -> io::Result<u64> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    syscall::netns_cookie(socket.as_fd())
}

pub(super) fn cookie_of(netns: &Path) -> io::Result<u64> {
    inside(&File::open(netns)?, own_cookie)
}

/// Opens a namespace's file, which may stand for another one by now.
pub(super) fn open_netns(netns: &Path, cookie: u64) -> io::Result<File> {
    let file = File::open(netns)?;
    let is_it = inside(&file, own_cookie)? == cookie;
    if is_it { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::ESTALE)) }
}
