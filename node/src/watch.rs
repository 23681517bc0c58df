//! Directories that are watched: something in them was made, written, renamed or removed.
//!
//! Directories, not files: who swaps a symbolic link, as Kubernetes does for a ConfigMap, touches no file, and who
//! renames a file into place leaves a watch on the old one behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// A directory in which nothing happens for so long is as its writer wants it.
const QUIET: Duration = Duration::from_millis(50);
/// So often it may go on happening before we look all the same.
const SETTLING: usize = 20;

/// Directories that are watched.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    dirs: BTreeMap<i32, PathBuf>,
}

impl Watch {
    /// None yet.
    ///
    /// # Errors
    /// Where the kernel has no more of them for this user.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, dirs: BTreeMap::new() })
    }

    /// Watches just these, and returns those that are not there. One that was removed and recreated is watched again.
    pub fn only(&mut self, dirs: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut missing = Vec::new();
        let mut kept = BTreeMap::new();
        for dir in dirs {
            match self.add(dir) {
                Ok(number) => drop(kept.insert(number, dir.clone())),
                Err(_) => missing.push(dir.clone()),
            }
        }
        for number in self.dirs.keys().filter(|number| !kept.contains_key(number)) {
            // The kernel has forgotten a directory that was removed.
            let _ = inotify::remove_watch(&self.inotify, *number);
        }
        self.dirs = kept;
        missing
    }

    fn add(&self, dir: &Path) -> io::Result<i32> {
        let what = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.inotify, dir, what)?)
    }

    /// Waits until something happens in one of them, or the time is over. Then it waits a little more, since who
    /// writes a file seldom does it in one step.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, longest: Duration) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = self.within(longest)?;
        for _ in 0..SETTLING {
            if changed.is_empty() {
                break;
            }
            let more = self.within(QUIET)?;
            if more.is_empty() {
                break;
            }
            changed.extend(more);
        }
        Ok(changed)
    }

    fn within(&self, longest: Duration) -> io::Result<BTreeSet<PathBuf>> {
        let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(self.changed()),
            Err(error) => Err(error.into()),
        }
    }

    /// Directories in which something happened since this was last asked. Does not wait.
    pub fn changed(&self) -> BTreeSet<PathBuf> {
        let mut changed = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changed.extend(self.dirs.values().cloned());
            }
            changed.extend(self.dirs.get(&event.wd()).cloned());
        }
        changed
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory of a test's own, removed at the end.
    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("meshc-watch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn a_swapped_symbolic_link_is_seen_and_so_is_a_directory_that_was_made_again() {
        let dir = dir("swap");
        let (one, two) = (dir.join("one"), dir.join("two"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        symlink("one", dir.join("..data")).unwrap();
        let mut watch = Watch::new().unwrap();
        let all = BTreeSet::from([dir.clone()]);
        assert_eq!(watch.only(&all), Vec::<PathBuf>::new());
        assert!(watch.changed().is_empty());
        symlink("two", dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        assert_eq!(watch.changed(), all);
        assert!(watch.changed().is_empty());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(watch.changed(), all);
        assert_eq!(watch.only(&all), std::slice::from_ref(&dir));
        fs::create_dir(&dir).unwrap();
        assert!(watch.only(&all).is_empty());
        fs::write(dir.join("a.mesh"), "").unwrap();
        assert_eq!(watch.changed(), all);
        fs::remove_dir_all(&dir).unwrap();
    }
}
