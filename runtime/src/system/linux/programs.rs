//! Programs.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use mesh_bpf::program::{ENTRY, Inbound, ProgramDef};

use super::info::program_info;
use super::kernel::Kernel;
use super::load::{load_entry, load_inbound, needed, pinned, try_load};
use super::loader::Object;
use super::map::KernelMap;
use super::step::{absent, on};
use super::syscall;
use crate::system::{Maps, ProgramInfo, Programs, SysResult};

impl Programs for Kernel {
    type Program = OwnedFd;

    fn programs_version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.programs);
        hasher.update(ENTRY);
        for by in Inbound::ALL {
            hasher.update(by.object());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn load_programs(&self, maps: &Path) -> SysResult<Vec<(&'static ProgramDef, OwnedFd)>> {
        needed(try_load(&self.programs, &pinned(maps))?)
    }

    fn load_program(&self, maps: &Path, def: &'static ProgramDef) -> SysResult<OwnedFd> {
        Object::open(&self.programs, &pinned(maps), &[])?.load(def.name, def.hook, None)
    }

    fn load_inbound(&self, maps: &Path, by: Inbound) -> SysResult<OwnedFd> {
        load_inbound(&pinned(maps), by)
    }

    fn load_entry(&self, maps: &Path, pod: u64, by: Inbound) -> SysResult<OwnedFd> {
        load_entry(maps, pod, by)
    }

    fn put_program(&self, map: &KernelMap, index: u32, program: &OwnedFd) -> SysResult<()> {
        let fd = program.as_raw_fd();
        self.update(map, &index.to_ne_bytes(), &fd.to_ne_bytes())
    }

    fn program_info(&self, program: &OwnedFd) -> SysResult<ProgramInfo> {
        on("looking at", "a program", program_info(program))
    }

    fn program_by_id(&self, id: u32) -> SysResult<Option<ProgramInfo>> {
        let info = absent(syscall::program_by_id(id).and_then(|fd| program_info(&fd)));
        on("looking at the program", &id.to_string(), info)
    }

    fn maps_of(&self, program: u32) -> SysResult<Vec<u32>> {
        let maps = absent(syscall::program_by_id(program).and_then(|fd| syscall::maps_of(fd.as_fd())));
        Ok(on("looking at the program", &program.to_string(), maps)?.unwrap_or_default())
    }
}
