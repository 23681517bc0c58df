//! What `/proc` says of processes and network namespaces. One field of `stat` is read: `procfs` would read all of
//! them, and cannot list namespaces.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, io};

use super::enter::HERE;
use crate::system::{Process, mounts};

pub(super) fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Process { pid, start: start_of(&stat)? })
}

pub(super) fn start_of(stat: &str) -> Option<u64> {
    // The name may hold spaces and parentheses; the 22nd field is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The network namespaces of processes, a file for each process.
pub(super) fn namespaces_of_processes() -> io::Result<impl Iterator<Item = PathBuf>> {
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    Ok(processes.filter(is_process).map(|process| process.join("ns/net")))
}

/// Files that stand for network namespaces, one for each: of processes, and of mounts such as `ip netns` and
/// container runtimes make.
pub(super) fn namespace_files() -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = namespaces_of_processes()?.collect();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let held = mounts(&mountinfo).filter(|mount| mount.kind == "nsfs" && mount.root.starts_with("net:"));
    files.extend(held.map(|mount| mount.place));
    each_once(&mut files);
    Ok(files)
}

/// The same namespaces, opened.
pub(super) fn namespaces() -> io::Result<Vec<File>> {
    let kind = fs::metadata(HERE)?.dev();
    let opened = namespace_files()?.into_iter().filter_map(|file| File::open(file).ok());
    // Where one was unmounted meanwhile, a plain file is left.
    Ok(opened.filter(|file| file.metadata().is_ok_and(|found| found.dev() == kind)).collect())
}

/// Leaves one file for each namespace. What ended meanwhile is none any more.
pub(super) fn each_once(files: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    files.retain(|file| fs::metadata(file).is_ok_and(|found| seen.insert((found.dev(), found.ino()))));
}
