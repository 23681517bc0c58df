//! Runs a command under `ptrace`.
//!
//! `strace` can strike too, but counts for each thread apart and only before a call.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use libc::c_long;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::Calls;
use super::outcome::{Fault, Moment, Outcome};
use crate::raw::{self, Side};

/// Runs `command` to its end and applies the fault.
pub(super) fn run(command: &mut Command, calls: Calls, fault: Fault) -> io::Result<Outcome> {
    // A thread of its own: the tracer waits for all its children, and must not reap those of the test.
    thread::scope(|scope| {
        let tracer = scope.spawn(|| run_here(command, calls, fault));
        tracer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_here(command: &mut Command, calls: Calls, fault: Fault) -> io::Result<Outcome> {
    // Files rather than pipes: the only thread that could empty a pipe waits for the command.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    raw::before_exec(command, || Ok(ptrace::traceme()?));
    let child = command.spawn()?;
    let root = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let mut trace = Trace { root, calls, fault, seen: Vec::new(), struck: false, threads: BTreeMap::new() };
    let status = trace.follow().inspect_err(|_| {
        let _ = kill(root, Signal::SIGKILL);
    })?;
    let (calls, struck) = (trace.seen, trace.struck);
    Ok(Outcome { calls, struck, status, stdout: text(&mut stdout)?, stderr: text(&mut stderr)? })
}

struct Trace {
    root: Pid,
    calls: Calls,
    fault: Fault,
    seen: Vec<&'static str>,
    struck: bool,
    /// The state of each living thread of the command and its children.
    threads: BTreeMap<Pid, Thread>,
}

/// What is due when a thread's current call returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Goes,
    DiesAfterCall,
    FailsAfterCall(i32),
}

impl Trace {
    /// Goes from stop to stop until the command's first process has ended.
    fn follow(&mut self) -> io::Result<ExitStatus> {
        waitpid(self.root, Some(WaitPidFlag::__WALL))?;
        ptrace::setoptions(
            self.root,
            Options::PTRACE_O_EXITKILL
                | Options::PTRACE_O_TRACESYSGOOD
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACEEXEC,
        )?;
        self.threads.insert(self.root, Thread::Goes);
        go_on(self.root, None)?;
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = waitpid(Pid::from_raw(-1), Some(flags))?;
            match status {
                WaitStatus::Exited(pid, code) if pid == self.root => {
                    return Ok(ExitStatus::from_raw(code << 8));
                }
                WaitStatus::Signaled(pid, signal, _) if pid == self.root => {
                    return Ok(ExitStatus::from_raw(signal as i32));
                }
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid)?,
                WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None)?,
                WaitStatus::Stopped(pid, signal) => {
                    // The first stop of a new thread or child is the tracer's own doing.
                    let new = self.threads.insert(pid, Thread::Goes).is_none();
                    go_on(pid, (!(new && signal == Signal::SIGSTOP)).then_some(signal))?;
                }
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.threads.remove(&pid);
                }
                WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
            }
        }
    }

    fn at_call(&mut self, pid: Pid) -> io::Result<()> {
        // A thread that was killed meanwhile is gone; its end is reported next.
        let Ok(info) = ptrace::syscall_info(pid) else { return Ok(()) };
        match raw::side(&info) {
            Some(Side::Entry { number, arguments }) => self.before_call(pid, number, arguments)?,
            Some(Side::Exit) => self.after_call(pid)?,
            None => {}
        }
        go_on(pid, None)
    }

    fn before_call(&mut self, pid: Pid, number: c_long, arguments: [u64; 6]) -> io::Result<()> {
        let Some(name) = self.calls.counted(number, arguments) else { return Ok(()) };
        if self.struck && matches!(self.fault, Fault::Kill(..)) {
            return Ok(());
        }
        self.seen.push(name);
        match self.fault {
            Fault::Kill(at, Moment::Before) if at == self.seen.len() => self.kill_all(),
            Fault::Kill(at, Moment::After) if at == self.seen.len() => {
                self.threads.insert(pid, Thread::DiesAfterCall);
            }
            Fault::Fail(at, errno) if at == self.seen.len() => {
                skip_call(pid)?;
                self.threads.insert(pid, Thread::FailsAfterCall(errno.0));
            }
            _ => {}
        }
        Ok(())
    }

    fn after_call(&mut self, pid: Pid) -> io::Result<()> {
        match self.threads.insert(pid, Thread::Goes) {
            Some(Thread::DiesAfterCall) => self.kill_all(),
            Some(Thread::FailsAfterCall(errno)) => {
                self.struck = true;
                return_error(pid, errno)?;
            }
            Some(Thread::Goes) | None => {}
        }
        Ok(())
    }

    /// Kills every process of the command, wherever it is: none may go on where another was struck.
    fn kill_all(&mut self) {
        self.struck = true;
        for pid in self.threads.keys() {
            // For a thread this reaches its process.
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

/// Lets a stopped thread run to its next call; one that was killed meanwhile is no error.
fn go_on(pid: Pid, signal: Option<Signal>) -> io::Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_arch = "x86_64")]
fn skip_call(pid: Pid) -> io::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    Ok(ptrace::setregs(pid, registers)?)
}

#[cfg(target_arch = "x86_64")]
fn return_error(pid: Pid, errno: i32) -> io::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = i64::from(-errno).cast_unsigned();
    Ok(ptrace::setregs(pid, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
fn skip_call(_: Pid) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "failing a system call is known for x86-64 only"))
}

#[cfg(not(target_arch = "x86_64"))]
fn return_error(_: Pid, _: i32) -> io::Result<()> {
    Ok(())
}

fn text(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
