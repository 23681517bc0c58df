//! Rust code of a test that runs as another process, because a cgroup is a property of processes.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Place, raw};

/// How long a task may take to answer: far more than any needs on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// Lines of text between a test and its task, both ways.
#[derive(Debug)]
pub struct Line(UnixStream);

impl Line {
    /// Sends one line.
    ///
    /// # Errors
    /// If the other end is gone.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// Whether the other end has said nothing that is still to be heard; it does not wait.
    pub fn is_silent(&self) -> bool {
        let mut waiting = [PollFd::new(&self.0, PollFlags::IN)];
        !matches!(poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }

    /// Waits for one line.
    ///
    /// # Errors
    /// If the other end is gone, or silent for five minutes.
    pub fn hear(&mut self) -> io::Result<String> {
        let mut text = Vec::new();
        let mut byte = [0];
        loop {
            self.0.read_exact(&mut byte)?;
            if byte == *b"\n" {
                return String::from_utf8(text).map_err(io::Error::other);
            }
            text.extend_from_slice(&byte);
        }
    }
}

/// A part of a test that runs as a process of its own; killed on drop.
#[derive(Debug)]
pub struct Task<T> {
    pid: Pid,
    line: Line,
    answer: UnixStream,
    ended: bool,
    result: PhantomData<fn() -> T>,
}

impl Place {
    /// Runs `body` here, as a process of its own, and returns its result.
    ///
    /// # Errors
    /// As [`Task::join`].
    pub fn run<T: Serialize + DeserializeOwned>(&self, body: impl FnOnce() -> T) -> io::Result<T> {
        self.spawn(|_| body())?.join()
    }

    /// Starts a server here, and waits until it has said that it is ready. It ends with the task, or with what it could
    /// not do.
    pub(crate) fn serve(
        &self,
        serve: impl FnOnce(&mut Line) -> io::Result<()>,
    ) -> io::Result<Task<Result<(), String>>> {
        let mut task = self.spawn(|line| serve(line).map_err(|error| error.to_string()))?;
        match task.line().hear() {
            Ok(_) => Ok(task),
            Err(silence) => Err(task.join()?.err().map_or(silence, io::Error::other)),
        }
    }

    /// Starts `body` here, as a process of its own, with a line to the test.
    ///
    /// The process is a copy of the test's: `body` sees all its memory, but no file that was open. It must
    /// return errors rather than panic where it can: what it prints is lost.
    ///
    /// # Errors
    /// If the process cannot be made.
    pub fn spawn<T: Serialize + DeserializeOwned>(
        &self,
        body: impl FnOnce(&mut Line) -> T,
    ) -> io::Result<Task<T>> {
        let (line, far_line) = UnixStream::pair()?;
        let (answer, far_answer) = UnixStream::pair()?;
        for end in [&line, &far_line, &answer] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        let keep = [far_line.as_raw_fd(), far_answer.as_raw_fd()];
        let pid = raw::fork(|| {
            let result = self.enter().map_err(|error| error.to_string()).and_then(|()| {
                raw::close_all_but(keep);
                let done = catch_unwind(AssertUnwindSafe(|| body(&mut Line(far_line))));
                done.map_err(|panic| text(&*panic))
            });
            let _ = serde_json::to_writer(far_answer, &result);
        })?;
        Ok(Task { pid, line: Line(line), answer, ended: false, result: PhantomData })
    }
}

impl<T: DeserializeOwned> Task<T> {
    /// The line to the task.
    pub fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits for the task and returns its result.
    ///
    /// # Errors
    /// If the place could not be entered, `body` panicked, it was killed, or it took over five minutes.
    pub fn join(mut self) -> io::Result<T> {
        let mut answer = Vec::new();
        self.answer.read_to_end(&mut answer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let seconds = PATIENCE.as_secs();
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the task had not ended after {seconds} seconds"),
                )
            }
            _ => error,
        })?;
        self.reap();
        if answer.is_empty() {
            return Err(io::Error::other("the task ended without an answer"));
        }
        let result: Result<T, String> = serde_json::from_slice(&answer)?;
        result.map_err(io::Error::other)
    }
}

impl<T> Task<T> {
    fn reap(&mut self) {
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
        self.ended = true;
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process(self.pid, Signal::KILL);
            self.reap();
        }
    }
}

/// What a panic said.
fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the task panicked").to_owned()
}
