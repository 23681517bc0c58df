//! Cgroups as host workloads.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mounts::hierarchy;
use crate::name::Name;
use crate::sweep;

/// A cgroup of the version 2 hierarchy; on drop its members are killed and it is removed, with all below it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    members: Arc<File>,
}

impl Cgroup {
    /// Makes a cgroup right below the root of the hierarchy.
    ///
    /// # Errors
    /// If there is no hierarchy, or it may not be written.
    pub fn new() -> io::Result<Self> {
        Self::make(hierarchy()?.join(Name::new().as_str()))
    }

    /// Makes a cgroup below this one.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        let members = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok(Self { path, members: Arc::new(members) })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path within the hierarchy, as a policy writes it: `/mtb-1-1`.
    ///
    /// # Errors
    /// If the hierarchy was unmounted meanwhile.
    pub fn within(&self) -> io::Result<String> {
        let root = hierarchy()?;
        let inner = self.path.strip_prefix(&root).unwrap_or(&self.path);
        Ok(format!("/{}", inner.display()))
    }

    /// Its id, as BPF programs see it.
    ///
    /// # Errors
    /// If it was removed meanwhile.
    pub fn id(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// A file that takes the process that writes `0` to it.
    pub(crate) fn members(&self) -> Arc<File> {
        Arc::clone(&self.members)
    }

    /// The processes that live in it, not those below.
    ///
    /// # Errors
    /// If it was removed meanwhile.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let list = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|pid| pid.parse().ok()).collect())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        sweep::remove_cgroup(&self.path);
    }
}
