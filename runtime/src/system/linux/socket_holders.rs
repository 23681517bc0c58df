//! Which processes have sockets open: from `/proc`, where a socket's descriptor is a link that names its inode.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mesh_bpf::text::one_line;

use crate::system::Holds;

/// Who has these open: of each one process. Those that end meanwhile, or may not be looked at, are passed over.
pub(super) fn find(inodes: &BTreeSet<u64>) -> io::Result<BTreeMap<u64, Holds>> {
    let mut found = BTreeMap::new();
    if inodes.is_empty() {
        return Ok(found);
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for descriptor in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(descriptor.path()).ok();
            let Some(inode) = link.as_deref().and_then(inode).filter(|inode| inodes.contains(inode)) else {
                continue;
            };
            if let Some(holds) = holds(process, &entry.path(), &descriptor.path()) {
                found.entry(inode).or_insert(holds);
            }
        }
        if found.len() == inodes.len() {
            break;
        }
    }
    Ok(found)
}

/// The inode of a socket, by what its descriptor's link says: `socket:[NUMBER]`.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn holds(process: u32, dir: &Path, descriptor: &Path) -> Option<Holds> {
    let name = fs::read(dir.join("comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    let cgroups = fs::read_to_string(dir.join("cgroup")).ok()?;
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    Some(Holds {
        process,
        name: one_line(name.strip_suffix('\n').unwrap_or(&name)).into_owned(),
        gid: fs::metadata(descriptor).ok()?.gid(),
        cgroup: cgroup.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let number = inode(&link).unwrap();
        let found = find(&[number].into()).unwrap();
        assert_eq!(found.get(&number).map(|holds| holds.process), Some(std::process::id()));
        assert!(find(&[u64::MAX].into()).unwrap().is_empty());
    }
}
