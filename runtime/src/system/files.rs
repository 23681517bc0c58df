//! Files, directories, pins and cgroups.

use std::path::Path;

use super::error::SysResult;

/// The outcome of asking for a lock.
#[derive(Debug)]
pub enum Locked<L> {
    /// It is ours until dropped, and the directory is still the one at that path.
    Held(L),
    /// Somebody else has it.
    Busy,
    /// There is no such directory (any more).
    Gone,
}

/// What the runtime does to files, directories and cgroups. Paths of files, pins and cgroups are paths of one tree; a
/// pin is what [`Maps::pin_map`](crate::system::Maps::pin_map) made, and [`Files::remove`] removes it.
pub trait Files {
    /// A held lock.
    type Lock;

    /// Names in a directory, sorted; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn list(&self, dir: &Path) -> SysResult<Option<Vec<String>>>;
    /// Makes a directory that only its owner may enter; one that is there becomes such a one.
    ///
    /// # Errors
    /// What the kernel says.
    fn create_dir(&self, dir: &Path) -> SysResult<()>;
    /// Removes an empty directory; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn remove_dir(&self, dir: &Path) -> SysResult<()>;
    /// Removes a file or pin; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn remove(&self, file: &Path) -> SysResult<()>;
    /// Renames a file, pin or directory over what is there, and with `durable` waits until that is on the disk.
    ///
    /// # Errors
    /// What the kernel says.
    fn rename(&self, from: &Path, to: &Path, durable: bool) -> SysResult<()>;
    /// A file's content; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn read(&self, file: &Path) -> SysResult<Option<Vec<u8>>>;
    /// Writes a file, and with `durable` waits until it is on the disk. Not atomic: for new names only.
    ///
    /// # Errors
    /// What the kernel says.
    fn write(&self, file: &Path, content: &[u8], durable: bool) -> SysResult<()>;
    /// Writes a file of several pieces and waits until it is on the disk, and does something else meanwhile: one of
    /// the two may be done when the process ends, or both half.
    fn write_beside<T>(
        &self,
        file: &Path,
        pieces: &[&[u8]],
        meanwhile: impl FnOnce() -> T,
    ) -> (SysResult<()>, T);
    /// The inode of a file or directory; `None` where there is none. A cgroup's is its id.
    ///
    /// # Errors
    /// What the kernel says.
    fn inode(&self, path: &Path) -> SysResult<Option<u64>>;
    /// Whether this is a BPF file system.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_bpffs(&self, path: &Path) -> SysResult<bool>;
    /// Whether the file system is not mounted read-only.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_writable(&self, path: &Path) -> SysResult<bool>;
    /// Tries to lock a directory against other processes, and makes sure that it is still at its path.
    ///
    /// # Errors
    /// What the kernel says.
    fn lock(&self, dir: &Path) -> SysResult<Locked<Self::Lock>>;
    /// Whether any process lives in a cgroup or below it.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_populated(&self, cgroup: &Path) -> SysResult<bool>;
}
