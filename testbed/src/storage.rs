//! Counts what BPF maps hold, by other means than those that filled them.

use std::fs;
use std::io;
use std::path::Path;

use crate::bpffs::BpfFs;
use crate::ground::Directory;
use crate::tool;

const PROGRAM: &str = include_str!("../programs/count_storage.bpf.c");

/// How many sockets have a value in the pinned socket storage map, also those that are in no table of connections: the
/// kernel's own lists are counted.
///
/// # Errors
/// If clang or bpftool is missing, or `pin` is no socket storage map.
pub fn sockets_with_storage(pin: &Path) -> io::Result<usize> {
    let dir = Directory::new()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (source, object, packet) = (path("count.bpf.c"), path("count.bpf.o"), path("packet"));
    fs::write(&source, PROGRAM)?;
    // The kernel wants to see one, and the program does not look at it.
    fs::write(&packet, [0; 64])?;
    tool("clang", &["-O2", "-g", "-target", "bpf", "-c", &source, "-o", &object])?;
    let mount = BpfFs::mount(&dir.path().join("bpffs"))?;
    let program = mount.path().join("count").display().to_string();
    let pin = pin.display().to_string();
    tool("bpftool", &["prog", "load", &object, &program, "map", "name", "storage", "pinned", &pin])?;
    let ran = tool("bpftool", &["-j", "prog", "run", "pinned", &program, "data_in", &packet])?;
    let ran: serde_json::Value = serde_json::from_str(&ran)?;
    let counted =
        ran.get("retval").and_then(serde_json::Value::as_u64).and_then(|count| u32::try_from(count).ok());
    // It says -1 where it could not read something.
    let counted = counted.filter(|&count| count != u32::MAX).and_then(|count| usize::try_from(count).ok());
    counted.ok_or_else(|| io::Error::other(format!("the values cannot be counted: {ran}")))
}

const FILL: &str = include_str!("../programs/fill_map.bpf.c");

/// Fills the pinned hash map, whose keys begin with a number of eight bytes, as far as there is room; or takes out what
/// that put in. An array is overwritten, or emptied.
///
/// # Errors
/// If clang or bpftool is missing, or `pin` is no such map.
pub fn fill(pin: &Path, takes: bool) -> io::Result<()> {
    let pin = pin.display().to_string();
    let shape: serde_json::Value =
        serde_json::from_str(&tool("bpftool", &["-j", "map", "show", "pinned", &pin])?)?;
    let number = |name: &str| shape.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let dir = Directory::new()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (source, object, packet) = (path("fill.bpf.c"), path("fill.bpf.o"), path("packet"));
    fs::write(&source, FILL)?;
    fs::write(&packet, [0; 64])?;
    let sizes = [
        format!("-DKEY={}", number("bytes_key")),
        format!("-DVALUE={}", number("bytes_value")),
        format!("-DENTRIES={}", number("max_entries")),
        format!("-DTAKES={}", u8::from(takes)),
    ];
    let sizes = sizes.iter().map(String::as_str);
    let arguments: Vec<&str> = ["-O2", "-g", "-target", "bpf"].into_iter().chain(sizes).collect();
    tool("clang", &[&arguments[..], &["-c", &source, "-o", &object]].concat())?;
    let mount = BpfFs::mount(&dir.path().join("bpffs"))?;
    let program = mount.path().join("fill").display().to_string();
    tool("bpftool", &["prog", "load", &object, &program, "map", "name", "filled", "pinned", &pin])?;
    let ran = tool("bpftool", &["-j", "prog", "run", "pinned", &program, "data_in", &packet])?;
    let ran: serde_json::Value = serde_json::from_str(&ran)?;
    match ran.get("retval").and_then(serde_json::Value::as_u64) {
        Some(1) => Ok(()),
        _ => Err(io::Error::other(format!("the map cannot be filled: {ran}"))),
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The entries of the pinned hash map.
///
/// # Errors
/// If bpftool is missing, or `pin` is no map that can be listed.
pub fn read(pin: &Path) -> io::Result<Vec<Entry>> {
    let listed = tool("bpftool", &["-j", "map", "dump", "pinned", &pin.display().to_string()])?;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed)?;
    let bytes = |entry: &serde_json::Value, field: &str| {
        let bytes = entry.get(field).and_then(serde_json::Value::as_array).into_iter().flatten();
        let byte =
            |byte: &serde_json::Value| u8::from_str_radix(byte.as_str()?.trim_start_matches("0x"), 16).ok();
        bytes
            .map(byte)
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(|| io::Error::other("no bytes in hexadecimal"))
    };
    listed.iter().map(|entry| Ok((bytes(entry, "key")?, bytes(entry, "value")?))).collect()
}

/// Puts an entry into the pinned map.
///
/// # Errors
/// If bpftool is missing, or the map does not take it.
pub fn write(pin: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let pin = pin.display().to_string();
    let words = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    let (key, value) = (words(key), words(value));
    let pieces = [&["map", "update", "pinned", &pin, "key", "hex"].map(str::to_owned)[..], &key];
    let arguments = [pieces.concat(), ["value", "hex"].map(str::to_owned).to_vec(), value].concat();
    tool("bpftool", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
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
