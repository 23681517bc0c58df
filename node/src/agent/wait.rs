//! What the agent waits for: signals, what other threads ask, directories, pods' addresses, and time.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::watch::Watch;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    pub(super) cluster: bool,
    pub(super) policy: bool,
    /// Services that the policy names.
    pub(super) services: bool,
    pub(super) cgroups: bool,
    pub(super) pods: bool,
    pub(super) members: bool,
    pub(super) plugin: bool,
    pub(super) all: bool,
}

/// Blocks the signals that end the agent, in this thread and those that it will begin, and returns where they are read.
pub(super) fn signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// What wakes the agent.
pub(super) struct Waiter {
    pub(super) signals: SignalFd,
    /// Readable where another thread asks for something.
    pub(super) wake: UnixStream,
    pub(super) watch: Watch,
}

impl Waiter {
    /// Waits until something happens or the time is over; whether the agent is to end.
    pub(super) fn wait(&mut self, longest: Duration, sockets: Vec<BorrowedFd<'_>>) -> io::Result<bool> {
        let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
        let mut ready = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.watch, PollFlags::IN),
        ];
        ready.extend(sockets.into_iter().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        match poll(&mut ready, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let _ = self.wake.read(&mut [0; 64]);
        Ok(self.signals.read_signal()?.is_some())
    }
}
