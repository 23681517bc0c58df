//! Acceleration.

use std::path::Path;
use std::rc::Rc;

use mesh_bpf::abi::Unread;
use mesh_bpf::program::{ACCELERATORS, AcceleratorDef};

use super::world::{Memory, MemoryMap, MemoryProgram, error};
use crate::system::{Acceleration, ProgramInfo, Step};

impl Acceleration for Memory {
    fn load_accelerators(&self, maps: &Path) -> Step<Vec<(&'static AcceleratorDef, MemoryProgram)>> {
        if !self.exists(maps) {
            return Err(error("loading", maps, libc::ENOENT));
        }
        let tag = self.0.version.get().to_ne_bytes();
        let load = |def: &'static AcceleratorDef| {
            let info = ProgramInfo { id: self.number(), name: def.name.into(), tag };
            (def, MemoryProgram(Rc::new(info)))
        };
        Ok(ACCELERATORS.iter().map(load).collect())
    }

    fn attach_message(&self, program: &MemoryProgram, sockets: &MemoryMap) -> Step<()> {
        *sockets.0.message.borrow_mut() = Some(Rc::clone(&program.0));
        Ok(())
    }

    fn detach_message(&self, sockets: &MemoryMap) -> Step<()> {
        sockets.0.message.borrow_mut().take();
        Ok(())
    }

    fn message_program(&self, sockets: &MemoryMap) -> Step<Option<ProgramInfo>> {
        Ok(sockets.0.message.borrow().as_deref().cloned())
    }

    fn unread(&self, _maps: &Path, _cookies: &[u64]) -> Step<Vec<Unread>> {
        Ok(Vec::new())
    }

    fn miscounts(&self) -> Step<bool> {
        Ok(false)
    }

    fn release(&self, _maps: &Path, _netns: &Path, _cookie: u64) -> Step<()> {
        Ok(())
    }
}
