//! What is mounted where.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

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

/// Unmounts everything that is mounted on or below `dir`, the innermost first.
pub(crate) fn unmount_below(dir: &Path) {
    let Ok(table) = fs::read_to_string("/proc/self/mounts") else { return };
    for line in table.lines().rev() {
        if let Some(place) = line.split(' ').nth(1).map(Path::new)
            && place.starts_with(dir)
        {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}
