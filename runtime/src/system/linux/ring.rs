//! The reading end of a ring buffer.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapData, RingBuf};
use mesh_bpf::abi::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Decisions, as one reader gets them. Minimum kernel 5.8.
pub(crate) struct Ring(RingBuf<MapData>);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ring").field(&self.0.as_fd()).finish()
    }
}

impl Ring {
    pub(super) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        let data = MapData::from_fd(map.try_clone_to_owned()?).map_err(io::Error::other)?;
        RingBuf::try_from(Map::RingBuf(data)).map(Self).map_err(io::Error::other)
    }

    /// The next decision; `None` where there is none yet.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let record = self.0.next()?;
        bytemuck::try_pod_read_unaligned(&record).ok()
    }

    /// Waits until there is a decision, until `end` can be read, or until this many milliseconds have passed;
    /// whether `end` can be read.
    pub(crate) fn wait(&self, end: &OwnedFd, milliseconds: u64) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(milliseconds % 1000 * 1_000_000).unwrap_or_default(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fds.last().is_some_and(|end| end.revents().contains(PollFlags::IN)))
    }
}
