//! What an apply needs whatever its policy says, begun beside whatever is done until then. A first apply needs maps
//! and programs: nobody else sees them before they are pinned or attached, and they end with this process. A later one
//! needs a grace period.

use std::collections::BTreeMap;
use std::fmt;
use std::thread::JoinHandle;

use mesh_bpf::map::MapDef;
use mesh_bpf::program::{Inbound, ProgramDef};

use super::error::SysResult;
use super::programs::Programs;

/// Maps and programs that refer to them.
#[derive(Debug)]
pub(crate) struct Made<M, P> {
    /// By name.
    pub(crate) maps: BTreeMap<&'static str, M>,
    /// The id of the control map among them.
    pub(crate) control: u32,
    /// Every program.
    pub(crate) programs: Vec<(&'static ProgramDef, P)>,
    /// The program that decides inbound traffic, in one of its ways.
    pub(crate) inbound: Option<(Inbound, P)>,
}

/// The id of a set's control map, and the generation that it held before a grace period began.
pub(crate) type Waited = (u32, u64);

/// A thread, where one could be had.
pub(crate) type Begun<T> = std::io::Result<JoinHandle<T>>;

/// What was begun ahead for one apply; nothing by default. What could not be made is nothing: whoever makes it then
/// says why it cannot be.
pub struct Prepared<S: Programs>(Work<S::Map, S::Program>);

enum Work<M, P> {
    Nothing,
    Making(JoinHandle<SysResult<Made<M, P>>>),
    Made(Box<Made<M, P>>),
    Waiting(JoinHandle<std::io::Result<Waited>>),
}

impl<S: Programs> Default for Prepared<S> {
    fn default() -> Self {
        Self(Work::Nothing)
    }
}

impl<S: Programs> fmt::Debug for Prepared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Work::Nothing => "Prepared(nothing)",
            Work::Making(_) | Work::Made(_) => "Prepared(maps and programs)",
            Work::Waiting(_) => "Prepared(a grace period)",
        })
    }
}

impl<S: Programs> Prepared<S> {
    /// Where no thread could be had, nothing is made ahead.
    pub(crate) fn making(thread: Begun<SysResult<Made<S::Map, S::Program>>>) -> Self {
        Self(thread.map_or(Work::Nothing, Work::Making))
    }

    /// The same of a grace period.
    pub(crate) fn waiting(thread: Begun<std::io::Result<Waited>>) -> Self {
        Self(thread.map_or(Work::Nothing, Work::Waiting))
    }

    /// A map as `def` says, once it is made.
    pub(crate) fn map(&mut self, def: &MapDef) -> Option<S::Map> {
        self.made()?.maps.remove(def.name)
    }

    /// The programs that refer to the maps of the set with this control map.
    pub(crate) fn programs(&mut self, control: u32) -> Option<Vec<(&'static ProgramDef, S::Program)>> {
        let made = self.made().filter(|made| made.control == control)?;
        Some(std::mem::take(&mut made.programs)).filter(|programs| !programs.is_empty())
    }

    /// The same of the program that decides inbound traffic.
    pub(crate) fn inbound(&mut self, control: u32, by: Inbound) -> Option<S::Program> {
        let made = self.made().filter(|made| made.control == control)?;
        made.inbound.take_if(|(way, _)| *way == by).map(|(_, program)| program)
    }

    /// What was waited for, once that is over.
    pub(crate) fn waited(&mut self) -> Option<Waited> {
        match std::mem::replace(&mut self.0, Work::Nothing) {
            Work::Waiting(waiting) => waiting.join().ok().and_then(Result::ok),
            other => {
                self.0 = other;
                None
            }
        }
    }

    fn made(&mut self) -> Option<&mut Made<S::Map, S::Program>> {
        if let Work::Making(_) = self.0
            && let Work::Making(making) = std::mem::replace(&mut self.0, Work::Nothing)
            && let Ok(Ok(made)) = making.join()
        {
            self.0 = Work::Made(Box::new(made));
        }
        match &mut self.0 {
            Work::Made(made) => Some(made),
            _ => None,
        }
    }
}
