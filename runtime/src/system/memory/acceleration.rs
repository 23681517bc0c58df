//! Acceleration: programs that are attached. Nothing is sent, so nothing is unread.

use std::path::Path;
use std::rc::Rc;

use mesh_bpf::abi::Unread;
use mesh_bpf::accelerator::{ACCELERATORS, AcceleratorDef};

use super::world::{Memory, MemoryMap, MemoryProgram};
use crate::system::{Acceleration, ProgramInfo, SysResult};

impl Acceleration for Memory {
    fn load_accelerators(&self, maps: &Path) -> SysResult<Vec<(&'static AcceleratorDef, MemoryProgram)>> {
        ACCELERATORS.iter().map(|def| Ok((def, self.program(maps, def.name)?))).collect()
    }

    fn attach_message(&self, program: &MemoryProgram, sockets: &MemoryMap) -> SysResult<()> {
        *sockets.0.message.borrow_mut() = Some(Rc::clone(&program.0));
        Ok(())
    }

    fn message_program(&self, sockets: &MemoryMap) -> SysResult<Option<ProgramInfo>> {
        Ok(sockets.0.message.borrow().as_ref().map(|program| program.info.clone()))
    }

    fn unread(&self, _maps: &Path, _cookies: &[u64]) -> SysResult<Vec<Unread>> {
        Ok(Vec::new())
    }

    fn miscounts(&self) -> SysResult<bool> {
        Ok(false)
    }

    fn release(&self, _maps: &Path, netns: &Path, cookie: u64) -> SysResult<()> {
        self.inside(netns, cookie).map(drop)
    }
}
