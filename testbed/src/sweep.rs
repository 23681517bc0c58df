//! Removes namespaces, cgroups and directories: a test's own when it ends, and what killed processes left behind.
//!
//! A thing is swept only when its name says that its maker is dead (see [`is_left_over`]).
//! Failures are ignored: two processes may sweep the same thing at once, and either may win.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::mounts::{hierarchy, older_hierarchies, unmount_below};
use crate::{tool, until};

/// What every name of this crate begins with.
pub(crate) const PREFIX: &str = "mtb-";
/// Where `ip netns` keeps its namespaces.
pub(crate) const NAMESPACES: &str = "/run/netns";
/// Where the directories of all grounds are. Its files can be read by everyone: proxies run as other users.
pub(crate) const GROUNDS: &str = "/run/mesh-testbed";
/// How long members may take to die after they were killed.
const DYING: Duration = Duration::from_secs(5);

/// Removes namespaces, cgroups and directories of dead processes, and those that carry the id `me`.
pub(crate) fn sweep(me: u32) {
    for left in left_over(Path::new(NAMESPACES), me) {
        remove_netns(&left);
    }
    if let Ok(root) = hierarchy() {
        for left in left_over(&root, me) {
            remove_cgroup(&left);
        }
    }
    // Who lived there was killed with the cgroup of the same name. What still dies is for the next sweep.
    for root in older_hierarchies() {
        for left in left_over(&root, me) {
            remove_tree(&left);
        }
    }
    for left in left_over(Path::new(GROUNDS), me) {
        unmount_below(&left);
        let _ = fs::remove_dir_all(&left);
    }
}

fn left_over(dir: &Path, me: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_left_over(name, me)))
        .map(|entry| entry.path())
        .collect()
}

/// Whether `name` is one of ours whose maker is gone, or has the id of the process that asks.
pub(crate) fn is_left_over(name: &str, me: u32) -> bool {
    let Some(maker) = maker(name) else { return false };
    maker == me || !Path::new(&format!("/proc/{maker}")).exists()
}

fn maker(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Kills what still runs in the namespace and removes its name.
pub(crate) fn remove_netns(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    if let Ok(pids) = tool("ip", &["netns", "pids", name]) {
        for pid in pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = tool("ip", &["netns", "delete", name]);
}

/// Kills the members of the cgroup and of all below it, and removes them.
pub(crate) fn remove_cgroup(path: &Path) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cgroup, Ground, Netns, Place};

    #[test]
    fn only_names_of_the_dead_are_left_over() {
        // Process ids end below 2^22, so the first is nobody's.
        assert!(is_left_over("mtb-4194999-1", 7));
        assert!(is_left_over("mtb-7-1", 7));
        assert!(!is_left_over(&format!("mtb-{}-1", std::process::id()), 7));
        for other in ["mtb-", "mtb-x-1", "mtb-4194999", "mtb-4194999-x", "other-4194999-1", ""] {
            assert!(!is_left_over(other, 7), "{other}");
        }
    }

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
                for root in older_hierarchies() {
                    let pods = root.join(cgroup.path().file_name().unwrap_or_default()).join("pods");
                    fs::create_dir_all(&pods).map_err(|error| error.to_string())?;
                    line.say(&pods.display().to_string()).map_err(|error| error.to_string())?;
                }
                line.hear().map(drop).map_err(|error| error.to_string())
            })
            .unwrap();
        let count = 4 + older_hierarchies().len();
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
