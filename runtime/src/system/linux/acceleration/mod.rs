//! Acceleration. Only with the feature of that name.

mod charging;
mod fionread;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mesh_bpf::abi::Unread;
use mesh_bpf::accelerator::{ACCELERATORS, AcceleratorDef, Need, RELEASE, UNREAD};
use mesh_bpf::program::{Hook, OBJECT};

use super::btf_subset::Traced;
use super::enter::{inside, open_netns};
use super::iterator::iterate;
use super::kernel::Kernel;
use super::load::pinned;
use super::loader::{self, Object};
use super::map::KernelMap;
use super::step::{at, on};
use super::syscall;
use crate::system::{Acceleration, ProgramInfo, Programs, SysError, SysResult};

pub(crate) use charging::is_charged;
pub(crate) use fionread::counts_all;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

impl Acceleration for Kernel {
    fn load_accelerators(&self, maps: &Path) -> SysResult<Vec<(&'static AcceleratorDef, OwnedFd)>> {
        on("sending", "bytes past the stack", is_charged())?;
        let tried = try_accelerators(&self.programs, maps)?;
        let wanted = tried.into_iter().filter(|(def, program)| program.is_ok() || def.need == Need::Always);
        wanted.map(|(def, program)| Ok((def, program?))).collect()
    }

    fn attach_message(&self, program: &OwnedFd, sockets: &KernelMap) -> SysResult<()> {
        let attached = syscall::attach_program(program.as_fd(), sockets.fd.as_fd(), Hook::Message as u32);
        on("attaching to the map", &sockets.info.name, attached)
    }

    fn message_program(&self, sockets: &KernelMap) -> SysResult<Option<ProgramInfo>> {
        let ids = syscall::attached(sockets.fd.as_fd(), Hook::Message as u32, false);
        let ids = on("asking what is attached to", &sockets.info.name, ids)?;
        ids.first().map_or(Ok(None), |&id| self.program_by_id(id))
    }

    fn unread(&self, maps: &Path, cookies: &[u64]) -> SysResult<Vec<Unread>> {
        if cookies.is_empty() {
            return Ok(Vec::new());
        }
        let object = Object::open(&self.programs, &pinned(maps), &[])?;
        // A classifier like that one, but attached to nothing.
        let program = object.load(UNREAD, Hook::TcxIngress, None)?;
        let ask = |&cookie| {
            let mut packet = [0; ETHERNET + size_of::<Unread>()];
            let (_, question) = packet.split_at_mut(ETHERNET);
            question.copy_from_slice(bytemuck::bytes_of(&Unread { cookie, ..Unread::default() }));
            on("running", UNREAD, syscall::run_over(program.as_fd(), &mut packet))?;
            let (_, answer) = packet.split_at(ETHERNET);
            Ok(bytemuck::pod_read_unaligned(answer))
        };
        let all: SysResult<Vec<Unread>> = cookies.iter().map(ask).collect();
        Ok(all?.into_iter().filter(|one| one.slow_bytes > 0 || one.fast_bytes > 0).collect())
    }

    fn miscounts(&self) -> SysResult<bool> {
        on("asking", "FIONREAD", counts_all(None).map(|counts| !counts))
    }

    fn release(&self, maps: &Path, netns: &Path, cookie: u64) -> SysResult<()> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        let over = Traced::Iterator("tcp");
        let object = Object::open(&self.programs, &pinned(maps), &[over])?;
        let program = object.load(RELEASE, Hook::Iterator, Some(over))?;
        let link = on("attaching", RELEASE, syscall::link(program.as_fd(), None, Hook::Iterator as u32))?;
        at("looking at the sockets", netns, inside(&target, || iterate(&link)))
    }
}

impl Kernel {
    /// Every program of acceleration, or why the kernel refuses it.
    pub(crate) fn try_accelerators(&self, maps: &Path) -> SysResult<TriedAccelerators> {
        try_accelerators(OBJECT, maps)
    }
}

/// Every program of acceleration, or why the kernel refuses it.
pub(crate) type TriedAccelerators = Vec<(&'static AcceleratorDef, SysResult<OwnedFd>)>;

fn try_accelerators(programs: &[u8], maps: &Path) -> Result<TriedAccelerators, SysError> {
    let target = |def: &AcceleratorDef| loader::target(def.hook, def.target);
    let targets: Vec<Traced> = ACCELERATORS.iter().filter_map(target).collect();
    let object = Object::open(programs, &pinned(maps), &targets)?;
    Ok(object.load_all(ACCELERATORS, |object, def| {
        if def.hook == Hook::Security {
            on("asking for", "the security module `bpf`", syscall::has_lsm_bpf())?;
        }
        object.load(def.name, def.hook, target(def))
    }))
}
