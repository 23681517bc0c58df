//! Programs.

use std::path::Path;

use mesh_bpf::program::{Inbound, ProgramDef};

use super::error::SysResult;
use super::maps::Maps;

/// What the kernel says of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// The kernel's id.
    pub id: u32,
    /// As far as the kernel keeps it.
    pub name: String,
    /// A hash of its instructions: equal programs have equal tags.
    pub tag: [u8; 8],
}

/// What the runtime does to programs.
pub trait Programs: Maps {
    /// A loaded program.
    type Program;

    /// Names the build of the programs that [`System::load_programs`] loads.
    fn programs_version(&self) -> String;
    /// Loads all programs; each `(name, pin)` in `maps` stands for the map of that name.
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_programs(&self, maps: &Path) -> SysResult<Vec<(&'static ProgramDef, Self::Program)>>;
    /// Loads one of them, as [`Programs::load_programs`].
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_program(&self, maps: &Path, def: &'static ProgramDef) -> SysResult<Self::Program>;
    /// Loads the program that decides inbound traffic to pods.
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_inbound(&self, maps: &Path, by: Inbound) -> SysResult<Self::Program>;
    /// Loads the program of the pod with this namespace cookie: it goes on to the one that decides.
    ///
    /// # Errors
    /// What the kernel says.
    fn load_entry(&self, maps: &Path, pod: u64, by: Inbound) -> SysResult<Self::Program>;
    /// Puts a program into a map of programs, in the place of another one without a gap.
    ///
    /// # Errors
    /// What the kernel says.
    fn put_program(&self, map: &Self::Map, index: u32, program: &Self::Program) -> SysResult<()>;
    /// What the kernel says of a program.
    ///
    /// # Errors
    /// What the kernel says.
    fn program_info(&self, program: &Self::Program) -> SysResult<ProgramInfo>;
    /// The same, by id; `None` where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn program_by_id(&self, id: u32) -> SysResult<Option<ProgramInfo>>;
    /// Ids of the maps that a program uses; none where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn maps_of(&self, program: u32) -> SysResult<Vec<u32>>;
}
