//! What `/proc` says of processes and network namespaces.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, io};

use crate::system::Process;

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
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    files.extend(mounts.lines().filter(|line| line.contains(" - nsfs ")).filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        fields.next()?.starts_with("net:").then(|| fields.next().map(PathBuf::from))?
    }));
    each_once(&mut files);
    Ok(files)
}

/// Leaves one file for each namespace. What ended meanwhile is none any more.
pub(super) fn each_once(files: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    files.retain(|file| fs::metadata(file).is_ok_and(|found| seen.insert((found.dev(), found.ino()))));
}
