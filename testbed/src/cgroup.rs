//! Cgroups as host workloads.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{Name, until};

/// How long members may take to die after they were killed.
const DYING: Duration = Duration::from_secs(5);

/// Where the version 2 hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` where version 1
/// lives beside it.
///
/// # Errors
/// If there is none.
pub fn hierarchy() -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no cgroup v2 hierarchy is mounted");
    mounted("cgroup2")?.into_iter().next().ok_or_else(missing)
}

/// Where version 1 has hierarchies beside it. Container runtimes make directories of the same name in all of them.
pub(crate) fn older_hierarchies() -> Vec<PathBuf> {
    mounted("cgroup").unwrap_or_default()
}

fn mounted(kind: &str) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    let mounts = table.lines().map(|line| line.split(' ').skip(1));
    let places = mounts.filter_map(|mut fields| {
        let place = fields.next()?;
        (fields.next()? == kind).then(|| PathBuf::from(place))
    });
    Ok(places.collect())
}

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
        remove(&self.path);
    }
}

/// Kills the members of the cgroup and of all below it, and removes them.
pub(crate) fn remove(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    until(DYING, || remove_tree(path));
}

/// Whether the cgroup is gone; a member that still dies keeps it for a moment.
pub(crate) fn remove_tree(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
