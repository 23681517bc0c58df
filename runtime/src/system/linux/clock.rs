//! Time and processes.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::kernel::Kernel;
use super::proc::process;
use crate::system::{Clock, Process};

impl Clock for Kernel {
    fn wall_clock(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn clock(&self) -> u64 {
        // Goes on while the machine sleeps, and is the same for every process of a boot.
        let now = clock_gettime(ClockId::Boottime);
        (now.tv_sec.unsigned_abs() * 1000) + now.tv_nsec.unsigned_abs() / 1_000_000
    }

    fn sleep(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    fn this_process(&self) -> Process {
        let pid = std::process::id();
        process(pid).unwrap_or(Process { pid, start: 0 })
    }

    fn is_alive(&self, wanted: Process) -> bool {
        process(wanted.pid) == Some(wanted)
    }
}
