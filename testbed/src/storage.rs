//! Counts what BPF maps hold, by other means than those that filled them.

use std::fs;
use std::io;
use std::path::Path;

use crate::bpffs::BpfFs;
use crate::ground::Folder;
use crate::tool;

const PROGRAM: &str = include_str!("../programs/count_storage.bpf.c");

/// How many living sockets have a value in the pinned socket storage map, counted by an iterator over it.
///
/// # Errors
/// If clang or bpftool is missing, or `pin` is no socket storage map.
pub fn sockets_with_storage(pin: &Path) -> io::Result<usize> {
    let folder = Folder::new()?;
    let (source, object) = (folder.path().join("count.bpf.c"), folder.path().join("count.bpf.o"));
    fs::write(&source, PROGRAM)?;
    let (source, object) = (source.display().to_string(), object.display().to_string());
    tool("clang", &["-O2", "-g", "-target", "bpf", "-c", &source, "-o", &object])?;
    let mount = BpfFs::mount(&folder.path().join("bpffs"))?;
    let iterator = mount.path().join("iterator");
    let arguments = ["iter", "pin", &object, &iterator.display().to_string(), "map", "pinned"];
    let pin = pin.display().to_string();
    tool("bpftool", &[&arguments[..], &[&pin]].concat())?;
    Ok(fs::read(&iterator)?.len())
}

/// How many entries the pinned hash map has.
///
/// # Errors
/// If bpftool is missing, or `pin` is no map that can be listed.
pub fn entries(pin: &Path) -> io::Result<usize> {
    let listed = tool("bpftool", &["-j", "map", "dump", "pinned", &pin.display().to_string()])?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
    Ok(entries.len())
}
