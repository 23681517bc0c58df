//! Makes maps and programs before a policy is known, and waits for the programs that run.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mesh_bpf::map::{CONTROL, INNER, MAPS, MapDef, SCRATCH};
use mesh_bpf::program::Inbound;

use super::load::{load_inbound, needed, try_load};
use super::map::{KernelMap, create, open, put_maps};
use super::step::on;
use super::syscall;
use crate::system::{Begun, Made, SysError, SysResult, Waited};

/// All that a first apply needs of a build.
pub(super) fn make(programs: &[u8], by: Inbound) -> SysResult<Made<KernelMap, OwnedFd>> {
    let mut maps = BTreeMap::new();
    for def in MAPS {
        let made = |def: &MapDef, inner: Option<&KernelMap>| {
            on("creating the map", def.name, create(def, def.capacity, inner))
        };
        let inner = def.inner.map(|inner| made(inner, None)).transpose()?;
        maps.insert(def.name, made(def, inner.as_ref())?);
    }
    let open = |name: &str| {
        let missing = || SysError::new("opening", name, std::io::Error::from_raw_os_error(libc::ENOENT));
        let map: &KernelMap = maps.get(name).ok_or_else(missing)?;
        on("duplicating", name, map.fd.as_fd().try_clone_to_owned())
    };
    let programs = needed(try_load(programs, &open)?)?;
    let inbound = Some((by, load_inbound(&open, by)?));
    let control = maps.get(CONTROL.name).map_or(0, |control| control.info.id);
    Ok(Made { maps, control, programs, inbound })
}

/// Begins to wait on a thread of its own until every program has ended that runs now; `None` where no maps are pinned there.
pub(super) fn wait(maps: &Path) -> Option<Begun<std::io::Result<Waited>>> {
    let pin = |def: &MapDef| syscall::open_pin(&maps.join(def.name)).and_then(open);
    let (Ok(control), Ok(scratch)) = (pin(&CONTROL), pin(&SCRATCH)) else { return None };
    Some(std::thread::Builder::new().spawn(move || {
        let generation = syscall::Words::new(control.fd.as_fd())?.load().current_generation();
        put_maps(&scratch, &[(0, &create(&INNER, 1, None)?)])?;
        Ok((control.info.id, generation))
    }))
}
