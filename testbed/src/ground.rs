//! One test's own piece of the machine.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::bpffs::BpfFs;
use crate::cgroup::Cgroup;
use crate::name::Name;
use crate::sweep::GROUNDS;

/// Locks in the directory of all grounds. Not names of ours: the sweep must leave them.
const KERNEL: &str = "kernel.lock";
/// Held together by those that wait for the kernel alone.
const QUEUE: &str = "kernel.queue";

/// Whether runs of minutes are wanted (`MESHC_TEST_LONG=1`, as `./test --long` has it).
pub fn long_runs_are_wanted() -> bool {
    env::var_os("MESHC_TEST_LONG").is_some_and(|value| value == "1")
}

/// The step at which a test begins that strikes at one step after the other: `MESHC_TEST_FROM`.
pub fn first_step() -> Option<usize> {
    std::env::var("MESHC_TEST_FROM").ok()?.parse().ok()
}

/// A directory, a bpffs and a cgroup of one test's own, and its share of the kernel.
///
/// Tests that load programs hold the kernel together; a test that counts the kernel's objects holds it
/// alone, so that no other test's programs come into its census.
#[derive(Debug)]
pub struct Ground {
    // Dropped in this order: members die before the programs that they run under, the lock goes last.
    cgroup: Cgroup,
    bpffs: BpfFs,
    dir: Directory,
    share: File,
}

impl Ground {
    /// Ground that other tests may stand on at the same time.
    ///
    /// # Errors
    /// If the directory, the mount or the cgroup cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::with(FlockOperation::LockShared)
    }

    /// Ground for a test that must have the kernel's BPF objects to itself: it waits until all others ended or
    /// give way.
    ///
    /// # Errors
    /// As [`Ground::new`].
    pub fn alone() -> io::Result<Self> {
        let queue = lock(QUEUE)?;
        flock(&queue, FlockOperation::LockShared)?;
        let ground = Self::with(FlockOperation::LockExclusive);
        // Not left to its closing: a process that another test forks may hold it.
        flock(&queue, FlockOperation::Unlock)?;
        ground
    }

    fn with(share: FlockOperation) -> io::Result<Self> {
        let lock = lock(KERNEL)?;
        flock(&lock, share)?;
        let dir = Directory::new()?;
        let bpffs = BpfFs::mount(&dir.path.join("bpffs"))?;
        Ok(Self { cgroup: Cgroup::new()?, bpffs, dir, share: lock })
    }

    /// Lets a test that wants the kernel alone have it now, where one waits: for a long test to call while nothing of
    /// its own comes or goes.
    ///
    /// # Errors
    /// If the locks cannot be had.
    pub fn give_way(&self) -> io::Result<()> {
        let queue = lock(QUEUE)?;
        if flock(&queue, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(flock(&queue, FlockOperation::Unlock)?);
        }
        flock(&self.share, FlockOperation::Unlock)?;
        // Who waits is in the queue until it has the kernel.
        flock(&queue, FlockOperation::LockExclusive)?;
        flock(&queue, FlockOperation::Unlock)?;
        Ok(flock(&self.share, FlockOperation::LockShared)?)
    }

    /// A directory for whatever files the test needs.
    pub fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// Where a private bpffs is mounted.
    pub fn bpffs(&self) -> &Path {
        self.bpffs.path()
    }

    /// A cgroup to attach programs to: what they do reaches only those that the test puts into it.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Where a state directory may be made; it is not there yet.
    pub fn state(&self) -> PathBuf {
        self.dir.path.join("state")
    }

    /// Writes a file into the directory and returns its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.dir.path.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

fn lock(name: &str) -> io::Result<File> {
    fs::create_dir_all(GROUNDS)?;
    OpenOptions::new().create(true).truncate(false).write(true).open(Path::new(GROUNDS).join(name))
}

/// A directory that goes away with its content.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn new() -> io::Result<Self> {
        let path = Path::new(GROUNDS).join(Name::new().as_str());
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
