//! Programs.

use std::path::Path;
use std::rc::{Rc, Weak};

use mesh_bpf::program::{Inbound, PROGRAMS, ProgramDef};

use super::world::{Memory, MemoryMap, MemoryProgram, error};
use crate::system::{ProgramInfo, Programs, Step};

impl Programs for Memory {
    type Program = MemoryProgram;

    fn programs_version(&self) -> String {
        self.0.version.get().to_string()
    }

    fn load_programs(&self, maps: &Path) -> Step<Vec<(&'static ProgramDef, MemoryProgram)>> {
        if !self.exists(maps) {
            return Err(error("loading", maps, libc::ENOENT));
        }
        Ok(PROGRAMS.iter().map(|def| (def, self.program(def))).collect())
    }

    fn load_program(&self, maps: &Path, def: &'static ProgramDef) -> Step<MemoryProgram> {
        if self.exists(maps) { Ok(self.program(def)) } else { Err(error("loading", maps, libc::ENOENT)) }
    }

    fn load_inbound(&self, maps: &Path, by: Inbound) -> Step<MemoryProgram> {
        if self.exists(maps) {
            Ok(self.program(&by.program()))
        } else {
            Err(error("loading", maps, libc::ENOENT))
        }
    }

    fn load_entry(&self, maps: &Path, _pod: u64, by: Inbound) -> Step<MemoryProgram> {
        self.load_inbound(maps, by)
    }

    fn put_program(&self, map: &MemoryMap, index: u32, program: &MemoryProgram) -> Step<()> {
        map.0.programs.borrow_mut().insert(index, Rc::clone(&program.0));
        Ok(())
    }

    fn program_info(&self, program: &MemoryProgram) -> Step<ProgramInfo> {
        Ok(ProgramInfo::clone(&program.0))
    }

    fn program_by_id(&self, id: u32) -> Step<Option<ProgramInfo>> {
        let (links, maps) = (self.0.links.borrow(), self.0.maps.borrow());
        let of_links = links.iter().filter_map(Weak::upgrade).map(|link| Rc::clone(&link.program.borrow()));
        let in_maps = maps.values().filter_map(Weak::upgrade).flat_map(|map| {
            let programs = map.programs.borrow();
            programs.values().cloned().collect::<Vec<_>>()
        });
        let mut programs = of_links.chain(in_maps);
        Ok(programs.find(|program| program.id == id).map(|program| ProgramInfo::clone(&program)))
    }

    /// Programs are not looked into here.
    fn maps_of(&self, _program: u32) -> Step<Vec<u32>> {
        Ok(Vec::new())
    }
}
