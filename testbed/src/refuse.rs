//! A kernel that refuses some kinds of programs, as ones that are older, built without something or locked down do: to
//! one command and what it starts.
//!
//! What stands between a command and `bpf(2)` is a library that is loaded into it, so it must be linked to the C
//! library at run time. Tests see that it works by what the command then says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::ground::Directory;
use crate::name::Name;
use crate::{raw, tool};

const LIBRARY: &str = include_str!("../programs/refuse.c");

/// Something that a kernel may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Programs that choose the socket of what comes in.
    SkLookup,
    /// Links of programs to interfaces.
    Tcx,
    /// Programs that look at packets on their way into a socket.
    Ingress,
    /// Programs that look at packets, whatever for.
    Classifier,
    /// Programs that look at messages of sockets in a map.
    SkMsg,
    /// Programs that the security modules ask.
    Lsm,
    /// Programs of a tracepoint with types.
    Tracepoint(&'static str),
    /// Iterators over maps. No program of ours is one: it is for kernels that refuse these above all.
    MapIterators,
}

impl Refused {
    /// The rules of the library.
    fn rules(self) -> io::Result<String> {
        Ok(match self {
            Self::SkLookup => "load 30 * *;".into(),
            Self::Tcx => "link 46;".into(),
            Self::Ingress => "load 8 0 *;".into(),
            Self::Classifier => "load 3 * *;".into(),
            Self::SkMsg => "load 16 * *;".into(),
            Self::Lsm => "load 29 * *;".into(),
            Self::Tracepoint(name) => format!("load 26 23 {};", type_id(&format!("btf_trace_{name}"))?),
            Self::MapIterators => {
                let names = ["bpf_iter_sockmap", "bpf_iter_bpf_map_elem", "bpf_iter_bpf_sk_storage_map"];
                let rule = |name: &str| Ok(format!("load 26 28 {};", type_id(name)?));
                names.into_iter().map(rule).collect::<io::Result<Vec<_>>>()?.concat()
            }
        })
    }
}

/// Everything that may be refused: no part of meshc that all policies need is among it.
pub const OPTIONAL: [Refused; 10] = [
    Refused::SkLookup,
    Refused::Tcx,
    Refused::Ingress,
    Refused::Classifier,
    Refused::SkMsg,
    Refused::Lsm,
    Refused::Tracepoint("sys_exit"),
    Refused::Tracepoint("sock_recv_length"),
    Refused::Tracepoint("tcp_rcv_space_adjust"),
    Refused::MapIterators,
];

/// Whether whoever runs the tests wants every command of meshc to find a kernel that refuses all of [`OPTIONAL`]
/// (`MESHC_TEST_REFUSE=all`, as one step of `./test` has it).
#[must_use]
pub fn all_is_refused() -> bool {
    std::env::var_os("MESHC_TEST_REFUSE").is_some_and(|value| value == "all")
}

/// Lets the kernel refuse all of these to a command. The library is kept in `dir`.
///
/// # Errors
/// If clang or bpftool is missing, or the kernel has no such tracepoint.
pub fn refuse(command: &mut Command, all: &[Refused], dir: &Path) -> io::Result<()> {
    let rules = all.iter().map(|one| one.rules()).collect::<io::Result<Vec<_>>>()?.concat();
    command.env("LD_PRELOAD", library(dir)?).env("TESTBED_REFUSE", rules);
    Ok(())
}

/// Lets a command find a kernel without netfilter.
pub fn refuse_netfilter(command: &mut Command) {
    raw::before_exec(command, raw::refuse_netfilter);
}

/// The library, made once by each process.
fn library(dir: &Path) -> io::Result<&'static Path> {
    static MADE: OnceLock<io::Result<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let made = Directory::new()?;
        let [source, object] = ["refuse.c", "refuse.so"].map(|name| made.path().join(name));
        fs::write(&source, LIBRARY)?;
        let [from, to] = [&source, &object].map(|path| path.display().to_string());
        tool("clang", &["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", &to, &from])?;
        // Another process may be about to load the one that is there: that is not written to.
        fs::create_dir_all(dir)?;
        let [new, kept] = [Name::new().to_string(), "refuse.so".into()].map(|name| dir.join(name));
        fs::copy(&object, &new)?;
        fs::rename(&new, &kept)?;
        Ok(kept)
    });
    made.as_deref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// The id of a type of the running kernel.
fn type_id(name: &str) -> io::Result<u32> {
    static TYPES: OnceLock<io::Result<String>> = OnceLock::new();
    let dump = || tool("bpftool", &["btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "raw"]);
    let types = TYPES.get_or_init(dump).as_ref();
    let types = types.map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    // `[93] TYPEDEF 'btf_trace_sys_exit' type_id=94`
    let wanted = format!(" '{name}' ");
    let line = types
        .lines()
        .find(|line| (line.contains("TYPEDEF") || line.contains("FUNC '")) && line.contains(&wanted));
    let id = line.and_then(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok());
    id.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("this kernel has no type `{name}`")))
}
