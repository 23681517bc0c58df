//! A program that runs while a test does.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait::{listens, listens_at, until};

/// How long a program may take to listen, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program whose output goes to a file; on drop it is killed with all its children.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own; what it prints goes to the file `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program(command))))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until somebody listens on TCP `port` in the program's network namespace.
    ///
    /// # Errors
    /// If the program ends, or nobody listens within half a minute; what it printed is in the error.
    pub fn wait_until_it_listens(&mut self, port: u16) -> io::Result<()> {
        self.wait_until(|id| listens(id, port), &format_args!("port {port}"))
    }

    /// The same for each of these addresses: others may listen on the port at other addresses already.
    ///
    /// # Errors
    /// As [`Process::wait_until_it_listens`].
    pub fn wait_until_it_listens_at(&mut self, addresses: &[SocketAddr]) -> io::Result<()> {
        for &address in addresses {
            self.wait_until(|id| listens_at(id, address), &address)?;
        }
        Ok(())
    }

    fn wait_until(&mut self, listens: impl Fn(u32) -> bool, at: &dyn fmt::Display) -> io::Result<()> {
        let id = self.id();
        let mut ended = None;
        until(PATIENCE, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || listens(id)
        });
        if ended.is_none() && listens(id) {
            return Ok(());
        }
        let state = ended.map_or_else(|| "still runs".to_owned(), |status| status.to_string());
        Err(io::Error::other(format!("nobody listens on {at} ({state}): {}", self.output()?)))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// If the file was removed.
    pub fn output(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// Asks it to end and waits; kills it when it does not.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if !until(PATIENCE, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))) {
            self.kill();
        }
    }

    /// Stops it where it is; it goes on with [`Process::go_on`].
    pub fn halt(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until it has printed `text`.
    ///
    /// # Errors
    /// If that does not come within half a minute; what it printed is in the error.
    pub fn wait_until_it_says(&self, text: &str) -> io::Result<()> {
        if until(PATIENCE, || self.output().is_ok_and(|output| output.contains(text))) {
            return Ok(());
        }
        Err(io::Error::other(format!("it does not say `{text}`: {}", self.output()?)))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
