//! Small programs, of objects that are read again whenever one is loaded. They have no types, so that nothing but the
//! program goes into the kernel.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use mesh_bpf::program::Hook;

use super::loader::kind;
use super::syscall::{self, NewProgram};

/// The instructions of a function of an object, with maps by the names that it has for them.
pub(super) fn code(
    object: &[u8],
    function: &str,
    maps: &[(&str, BorrowedFd<'_>)],
) -> io::Result<Vec<bpf_insn>> {
    let mut object = Object::parse(object).map_err(io::Error::other)?;
    let named = std::mem::take(&mut object.maps);
    // The kernel refuses a program that uses a map which was not handed in.
    let fd = |name: &str| maps.iter().find(|(it, _)| *it == name).map_or(-1, |(_, map)| map.as_raw_fd());
    let found = named.iter().map(|(name, map)| (name.as_str(), fd(name), map));
    object.relocate_maps(found, &HashSet::new()).map_err(io::Error::other)?;
    let missing = || io::Error::other(format!("`{function}` is not in the BPF object"));
    let key = object.programs.get(function).map(aya_obj::Program::function_key).ok_or_else(missing)?;
    object.functions.remove(&key).map(|function| function.instructions).ok_or_else(missing)
}

/// Loads instructions as a program of a hook.
pub(super) fn load(name: &str, hook: Hook, code: &[bpf_insn]) -> io::Result<OwnedFd> {
    let (kind, hook) = kind(hook);
    syscall::load_program(&NewProgram { name, kind, hook, code, types: None }, &mut [])
}
