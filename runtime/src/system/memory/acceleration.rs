//! Acceleration: this machine has none.

use std::path::Path;

use mesh_bpf::abi::Unread;
use mesh_bpf::accelerator::AcceleratorDef;

use super::world::{Memory, MemoryMap, MemoryProgram, refuse};
use crate::system::{Acceleration, ProgramInfo, SysResult};

fn none<T>(call: &'static str) -> SysResult<T> {
    refuse(call, "acceleration", libc::ENOSYS)
}

impl Acceleration for Memory {
    fn load_accelerators(&self, _maps: &Path) -> SysResult<Vec<(&'static AcceleratorDef, MemoryProgram)>> {
        none("loading")
    }

    fn attach_message(&self, _program: &MemoryProgram, _sockets: &MemoryMap) -> SysResult<()> {
        none("attaching")
    }

    fn message_program(&self, _sockets: &MemoryMap) -> SysResult<Option<ProgramInfo>> {
        Ok(None)
    }

    fn unread(&self, _maps: &Path, _cookies: &[u64]) -> SysResult<Vec<Unread>> {
        none("reading")
    }

    fn miscounts(&self) -> SysResult<bool> {
        none("trying")
    }

    fn release(&self, _maps: &Path, _netns: &Path, _cookie: u64) -> SysResult<()> {
        none("releasing")
    }
}
