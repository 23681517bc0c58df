//! Programs.

use std::path::Path;
use std::rc::{Rc, Weak};

use mesh_bpf::program::{Inbound, PROGRAMS, ProgramDef};

use super::world::{Memory, MemoryMap, MemoryProgram, ProgramObject};
use crate::system::{ProgramInfo, Programs, SysResult};

impl Programs for Memory {
    type Program = MemoryProgram;

    fn programs_version(&self) -> String {
        self.0.version.get().to_string()
    }

    fn load_programs(&self, maps: &Path) -> SysResult<Vec<(&'static ProgramDef, MemoryProgram)>> {
        PROGRAMS.iter().map(|def| Ok((def, self.program(maps, def.name)?))).collect()
    }

    fn load_program(&self, maps: &Path, def: &'static ProgramDef) -> SysResult<MemoryProgram> {
        self.program(maps, def.name)
    }

    fn load_inbound(&self, maps: &Path, by: Inbound) -> SysResult<MemoryProgram> {
        self.program(maps, by.program().name)
    }

    fn load_entry(&self, maps: &Path, _pod: u64, by: Inbound) -> SysResult<MemoryProgram> {
        self.load_inbound(maps, by)
    }

    fn put_program(&self, map: &MemoryMap, index: u32, program: &MemoryProgram) -> SysResult<()> {
        map.0.programs.borrow_mut().insert(index, Rc::clone(&program.0));
        Ok(())
    }

    fn program_info(&self, program: &MemoryProgram) -> SysResult<ProgramInfo> {
        Ok(program.0.info.clone())
    }

    fn program_by_id(&self, id: u32) -> SysResult<Option<ProgramInfo>> {
        Ok(self.loaded(id).map(|program| program.info.clone()))
    }

    fn maps_of(&self, program: u32) -> SysResult<Vec<u32>> {
        Ok(self.loaded(program).map(|program| program.maps.clone()).unwrap_or_default())
    }
}

impl Memory {
    /// A program that a link or a map holds.
    fn loaded(&self, id: u32) -> Option<Rc<ProgramObject>> {
        let (links, maps) = (self.0.links.borrow(), self.0.maps.borrow());
        let of_links = links.iter().filter_map(Weak::upgrade).map(|link| Rc::clone(&link.program.borrow()));
        let in_maps = maps.values().filter_map(Weak::upgrade).flat_map(|map| {
            let programs = map.programs.borrow();
            programs.values().cloned().collect::<Vec<_>>()
        });
        of_links.chain(in_maps).find(|program| program.info.id == id)
    }
}
