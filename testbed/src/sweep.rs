//! Removes what processes that were killed left behind.
//!
//! A thing is swept only when its name says that its maker is dead (see [`crate::name::is_left_over`]).
//! Failures are ignored: two processes may sweep the same thing at once, and either may win.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{bpffs, cgroup, ground, name, netns};

/// Removes namespaces, cgroups and directories of dead processes, and those that carry the id `me`.
pub(crate) fn sweep(me: u32) {
    for left in left_over(Path::new(netns::DIR), me) {
        netns::remove(&left);
    }
    if let Ok(root) = cgroup::hierarchy() {
        for left in left_over(&root, me) {
            cgroup::remove(&left);
        }
    }
    // Who lived there was killed with the cgroup of the same name. What still dies is for the next sweep.
    for root in cgroup::older_hierarchies() {
        for left in left_over(&root, me) {
            cgroup::remove_tree(&left);
        }
    }
    for left in left_over(Path::new(ground::DIR), me) {
        bpffs::unmount_below(&left);
        let _ = fs::remove_dir_all(&left);
    }
}

fn left_over(dir: &Path, me: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name::is_left_over(name, me)))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cgroup, Ground, Netns, Place};

    #[crate::kernel_test]
    fn what_a_killed_process_left_is_swept() {
        let mut maker = Place::here()
            .spawn(|line| -> Result<(), String> {
                let ground = Ground::new().map_err(|error| error.to_string())?;
                let netns = Netns::new().map_err(|error| error.to_string())?;
                let cgroup = Cgroup::new().map_err(|error| error.to_string())?;
                for path in [ground.dir(), ground.bpffs(), &netns.path(), cgroup.path()] {
                    line.say(&path.display().to_string()).map_err(|error| error.to_string())?;
                }
                // As a container runtime does.
                for root in cgroup::older_hierarchies() {
                    let pods = root.join(cgroup.path().file_name().unwrap_or_default()).join("pods");
                    fs::create_dir_all(&pods).map_err(|error| error.to_string())?;
                    line.say(&pods.display().to_string()).map_err(|error| error.to_string())?;
                }
                line.hear().map(drop).map_err(|error| error.to_string())
            })
            .unwrap();
        let count = 4 + cgroup::older_hierarchies().len();
        let left: Vec<_> = (0..count).map(|_| PathBuf::from(maker.line().hear().unwrap())).collect();
        drop(maker);
        for path in &left {
            assert!(path.exists(), "{} went away too early", path.display());
        }
        sweep(0);
        for path in &left {
            assert!(!path.exists(), "{} is still there", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(left[1].to_str().unwrap()));
    }
}
