//! Loads the programs of a build.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::{io, thread};

use mesh_bpf::map::{COUNTERS, TAIL_CALL_SLOTS};
use mesh_bpf::program::{Hook, Inbound, PROGRAMS, Policies, ProgramDef};

use super::bare::Bare;
use super::btf_subset::Traced;
use super::loader::{self, Maps, Object};
use super::new_network::{LOOPBACK, new_network};
use super::step::{at, on};
use super::{pod_program, syscall};
use crate::system::{SysError, SysResult};

/// Those that are pinned there.
pub(super) fn pinned(maps: &Path) -> impl Fn(&str) -> SysResult<OwnedFd> + '_ {
    |name| {
        let pin = maps.join(name);
        at("opening", &pin, syscall::open_pin(&pin))
    }
}

/// Every program, or why the kernel refuses it.
pub(crate) type Tried = Vec<(&'static ProgramDef, SysResult<OwnedFd>)>;

/// One that is refused does not keep the others from being tried.
pub(super) fn try_load(programs: &[u8], maps: Maps<'_>) -> Result<Tried, SysError> {
    let target = |def: &ProgramDef| match def.hook {
        Hook::Iterator => Some(Traced::Iterator("tcp")),
        _ => loader::target(def.hook, def.tracepoint),
    };
    let targets: Vec<Traced> = PROGRAMS.iter().filter_map(target).collect();
    let object = Object::open(programs, maps, &targets)?;
    Ok(object.load_all(PROGRAMS, |object, def| object.load(def.name, def.hook, target(def))))
}

/// Those that could be loaded; all that every policy needs.
pub(super) fn needed(tried: Tried) -> SysResult<Vec<(&'static ProgramDef, OwnedFd)>> {
    let wanted = tried.into_iter().filter(|(def, program)| program.is_ok() || def.policies == Policies::All);
    wanted.map(|(def, program)| Ok((def, program?))).collect()
}

pub(super) fn load_inbound(maps: Maps<'_>, by: Inbound) -> Result<OwnedFd, SysError> {
    let def = by.program();
    if by == Inbound::Tc {
        // Such a program can be loaded long before there is something to attach it to.
        on("attaching to", "an interface (tcx, Linux 6.6)", has_tcx())?;
    }
    Object::open(by.object(), maps, &[])?.load(def.name, def.hook, None)
}

pub(super) fn load_entry(maps: &Path, pod: u64, by: Inbound) -> Result<OwnedFd, SysError> {
    let open = pinned(maps);
    let maps = pod_program::Maps {
        slots: open(TAIL_CALL_SLOTS.name)?,
        counters: open(COUNTERS.name)?,
        program: open(by.map().name)?,
    };
    on("loading", "the program of a pod", pod_program::load(&maps, by, pod))
}

/// Whether a program can be attached to an interface: tried, in a network namespace of its own.
pub(super) fn has_tcx() -> io::Result<()> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            new_network(&[])?;
            let program = Bare::Classifier.load()?;
            syscall::link_interface(program.as_fd(), LOOPBACK, Hook::TcxIngress as u32).map(drop)
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}
