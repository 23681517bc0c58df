//! Processes that can have no second thread and no child, as where a limit of processes is reached.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::name::Name;
use crate::{mounts, sweep};

/// A cgroup whose limit is one task; removed on drop.
#[derive(Debug)]
pub struct Lonely {
    path: PathBuf,
}

impl Lonely {
    /// Makes one in the hierarchy that limits tasks, of version 1 or 2.
    ///
    /// # Errors
    /// If there is none.
    pub fn new() -> io::Result<Self> {
        let older = mounts::older_hierarchies().into_iter().find(|root| root.ends_with("pids"));
        let root = older.map_or_else(mounts::hierarchy, Ok)?;
        let path = root.join(Name::new().as_str());
        fs::create_dir(&path)?;
        let lonely = Self { path };
        fs::write(lonely.path.join("pids.max"), "1")?;
        Ok(lonely)
    }

    /// The command as the only task there.
    pub fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("sh");
        let enter = format!("echo 0 >'{}' && exec \"$@\"", self.path.join("cgroup.procs").display());
        command.args(["-c", &enter, "sh"]).arg(of.get_program()).args(of.get_args());
        command.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }
}

impl Drop for Lonely {
    fn drop(&mut self) {
        // Its task has ended, and is gone a moment later.
        crate::until(std::time::Duration::from_secs(5), || sweep::remove_tree(&self.path));
    }
}
