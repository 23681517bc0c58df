//! Time and processes.

use super::world::Memory;
use crate::system::{Clock, Process};

impl Clock for Memory {
    fn wall_clock(&self) -> u64 {
        match self.0.wall_clock.get() {
            Some((set, at)) => set + (self.clock() - at),
            None => 1_700_000_000_000 + self.clock(),
        }
    }

    fn clock(&self) -> u64 {
        self.0.clock.get()
    }

    fn sleep(&self, milliseconds: u64) {
        self.0.clock.set(self.clock() + milliseconds);
        self.remove_what_is_due();
    }

    fn this_process(&self) -> Process {
        Process { pid: self.0.process.get() + 1, start: 1 }
    }

    fn is_alive(&self, process: Process) -> bool {
        process == self.this_process()
    }
}
