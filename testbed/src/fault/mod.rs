//! Kills a command, or fails a call of it, at a system call of choice.
//!
//! First [`Fault::None`] tells which calls a command makes; then a test runs it again, once for each of
//! them, with [`Fault::Kill`] or [`Fault::Fail`], and looks at what is left. Calls are counted over all
//! threads and children of the command, so a number means the same call as long as the command does the same.

mod calls;
mod outcome;
mod trace;

use std::io;
use std::process::Command;

pub use calls::Calls;
pub use outcome::{Fault, Moment, Outcome};

impl Fault {
    /// Runs `command` to its end, with this fault at one of the calls that `calls` counts.
    ///
    /// # Errors
    /// If it cannot be started or traced.
    pub fn strike(self, command: &mut Command, calls: Calls) -> io::Result<Outcome> {
        trace::run(command, calls, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;
    use std::fs;
    use std::path::Path;

    fn shell(dir: &Path) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg("mkdir one; echo x | tee file; mv file two; (mkdir three); echo done");
        command.current_dir(dir);
        command
    }

    fn there(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_calls_of_a_command_and_its_children_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let outcome = Fault::None.strike(&mut shell(dir.path()), Calls::Changing).unwrap();
        assert_eq!(outcome.calls, ["mkdir", "openat", "write", "renameat2", "mkdir"]);
        assert!(outcome.status.success());
        assert!(!outcome.struck);
        assert_eq!(outcome.stdout, "x\ndone\n");
        assert_eq!(there(dir.path()), ["one", "three", "two"]);
    }

    #[test]
    fn killed_before_a_call_it_has_not_happened_and_after_it_it_has() {
        let full: [&[&str]; 6] =
            [&[], &["one"], &["file", "one"], &["file", "one"], &["one", "two"], &["one", "three", "two"]];
        for number in 1..=5 {
            for (moment, done) in [(Moment::Before, number - 1), (Moment::After, number)] {
                let dir = tempfile::tempdir().unwrap();
                let fault = Fault::Kill(number, moment);
                let outcome = fault.strike(&mut shell(dir.path()), Calls::Changing).unwrap();
                assert!(outcome.struck && !outcome.status.success(), "{fault:?}: {outcome:?}");
                assert_eq!(outcome.calls.len(), number);
                assert_eq!(there(dir.path()), full[done], "{fault:?}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_failed_call_is_not_made_and_its_error_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Fault::Fail(1, Errno(libc::ENOSPC));
        let outcome = fault.strike(&mut shell(dir.path()), Calls::Changing).unwrap();
        assert!(outcome.struck && outcome.status.success());
        assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
        assert_eq!(there(dir.path()), ["three", "two"]);
    }

    #[test]
    fn a_fault_beyond_the_last_call_does_not_strike() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Fault::Kill(6, Moment::Before);
        let outcome = fault.strike(&mut shell(dir.path()), Calls::Changing).unwrap();
        assert!(!outcome.struck && outcome.status.success());
    }

    #[test]
    fn a_killed_command_is_killed_with_its_threads_and_children() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg("sleep 1000 & mkdir x; wait").current_dir(dir.path());
        let outcome = Fault::Kill(1, Moment::After).strike(&mut command, Calls::Changing).unwrap();
        assert!(outcome.struck);
    }
}
