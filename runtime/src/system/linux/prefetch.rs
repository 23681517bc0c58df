//! What an apply needs whatever its policy says, done while that is compiled. A first apply needs maps and programs: nobody
//! else sees them before they are pinned or attached, and they end with this process. A later one needs a grace period.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use mesh_bpf::map::{CONTROL, INNER, MAPS, MapDef, SCRATCH};
use mesh_bpf::program::{Inbound, ProgramDef};

use super::load::{load_inbound, try_load};
use super::map::{KernelMap, create, open, put_maps};
use super::step::on;
use super::syscall;
use crate::system::{Fault, Step};

/// Maps and programs that refer to them.
#[derive(Debug)]
struct Made {
    maps: BTreeMap<&'static str, KernelMap>,
    /// The id of the map [`CONTROL`], by which the others are known to be pinned.
    control: u32,
    programs: Vec<(&'static ProgramDef, OwnedFd)>,
    inbound: Option<(Inbound, OwnedFd)>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    Making(JoinHandle<Step<Made>>),
    Made(Box<Made>),
}

/// What was made ahead, if anything.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<State>);

fn make(programs: &[u8], by: Inbound) -> Step<Made> {
    let mut maps = BTreeMap::new();
    for def in MAPS {
        let made = |def: &MapDef, inner: Option<&KernelMap>| {
            on("creating the map", def.name, create(def, def.capacity, inner))
        };
        let inner = def.inner.map(|inner| made(inner, None)).transpose()?;
        maps.insert(def.name, made(def, inner.as_ref())?);
    }
    let open = |name: &str| {
        let missing = || Fault::new("opening", name, std::io::Error::from_raw_os_error(libc::ENOENT));
        let map: &KernelMap = maps.get(name).ok_or_else(missing)?;
        on("duplicating", name, map.fd.as_fd().try_clone_to_owned())
    };
    let programs = try_load(programs, &open)?.into_iter().map(|(def, program)| Ok((def, program?)));
    let programs = programs.collect::<Step<Vec<_>>>()?;
    let inbound = Some((by, load_inbound(&open, by)?));
    let control = maps.get(CONTROL.name).map_or(0, |control| control.info.id);
    Ok(Made { maps, control, programs, inbound })
}

impl Ahead {
    /// Begins to make them, beside whatever else is done.
    pub(super) fn begin(&self, programs: std::borrow::Cow<'static, [u8]>, by: Inbound) {
        let making = std::thread::Builder::new().spawn(move || make(&programs, by));
        // Without a thread nothing is made ahead.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = making.map_or(State::Nothing, State::Making);
    }

    /// Takes something of it. What could not be made is nothing: whoever makes it then says why it cannot be.
    fn take<T>(&self, take: impl FnOnce(&mut Made) -> Option<T>) -> Option<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Making(_) = *state
            && let State::Making(making) = std::mem::take(&mut *state)
            && let Ok(Ok(made)) = making.join()
        {
            *state = State::Made(Box::new(made));
        }
        match &mut *state {
            State::Made(made) => take(made),
            _ => None,
        }
    }

    pub(super) fn map(&self, def: &MapDef, capacity: u32) -> Option<KernelMap> {
        let is_it = MAPS.contains(def) && capacity == def.capacity;
        if is_it { self.take(|made| made.maps.remove(def.name)) } else { None }
    }

    /// Those that refer to the maps that are pinned there.
    pub(super) fn programs(&self, maps: &Path) -> Option<Vec<(&'static ProgramDef, OwnedFd)>> {
        self.take(|made| made.is_pinned(maps).then(|| std::mem::take(&mut made.programs)))
            .filter(|programs| !programs.is_empty())
    }

    /// The same of the program that decides what is offered.
    pub(super) fn inbound(&self, maps: &Path, by: Inbound) -> Option<OwnedFd> {
        self.take(|made| made.inbound.take_if(|(way, _)| *way == by).filter(|_| made.is_pinned(maps)))
            .map(|(_, program)| program)
    }
}

impl Made {
    fn is_pinned(&self, maps: &Path) -> bool {
        let control = syscall::open_pin(&maps.join(CONTROL.name)).and_then(open);
        control.is_ok_and(|control| control.info.id == self.control)
    }
}

/// A grace period that passes while something else is done.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Wait>);

/// The id of a set's control map, and the generation that it held before the grace period began.
type Waited = (u32, u64);

#[derive(Debug, Default)]
enum Wait {
    #[default]
    Nothing,
    For(JoinHandle<std::io::Result<Waited>>),
    Ended(Waited),
}

impl Waiting {
    /// Begins to wait, where maps are pinned there.
    pub(super) fn begin(&self, maps: &Path) {
        let pin = |def: &MapDef| syscall::open_pin(&maps.join(def.name)).and_then(open);
        let (Ok(control), Ok(scratch)) = (pin(&CONTROL), pin(&SCRATCH)) else { return };
        let waiting = std::thread::Builder::new().spawn(move || {
            let generation = syscall::Words::new(control.fd.as_fd())?.load().current_generation();
            put_maps(&scratch, &[(0, &create(&INNER, 1, None)?)])?;
            Ok((control.info.id, generation))
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waiting.map_or(Wait::Nothing, Wait::For);
    }

    /// What was waited for, once that is over.
    pub(super) fn end(&self) -> Option<Waited> {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *wait = match std::mem::take(&mut *wait) {
            Wait::For(waiting) => waiting.join().ok().and_then(Result::ok).map_or(Wait::Nothing, Wait::Ended),
            ended => ended,
        };
        match *wait {
            Wait::Ended(waited) => Some(waited),
            _ => None,
        }
    }
}
