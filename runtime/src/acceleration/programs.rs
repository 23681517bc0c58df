//! The programs that accelerate: attached where a policy accelerates, and only there.

use std::collections::BTreeSet;

use mesh_bpf::accelerator::{ACCELERATORS, AcceleratorDef, NOTES_COUNT, Need, REPAIRS_COUNT};
use mesh_bpf::map::{ACCELERATED, PAIRS};
use mesh_bpf::program::Hook;

use super::{Counting, detach, set_flags};
use crate::error::{Error, Result};
use crate::maps::pinned::ControlMap;
use crate::node::Node;
use crate::system::{ProgramInfo, SysError, System};

/// How long unread bytes of the fast path are waited for, in milliseconds, and between two looks.
const PATIENCE: u64 = 2000;
const LOOK: u64 = 20;

/// Attaches what is missing, and replaces what is of another build: watchers first.
///
/// # Errors
/// Where this kernel cannot accelerate.
pub(crate) fn attach<S: System>(node: Node<'_, S>) -> Result<()> {
    let sockets = sockets(node)?;
    node.system.create_dir(&node.instance.accelerators())?;
    set_flags(node, ACCELERATES)?;
    let refused = |cause| Error::CannotAccelerate { cause };
    let programs = node.system.load_accelerators(&node.instance.maps()).map_err(refused)?;
    let miscounts = node.system.miscounts().map_err(refused)?;
    let mut helpless = miscounts;
    for (def, program) in programs {
        if def.need == Need::IfMiscounted && !helpless {
            continue;
        }
        let attached = match def.hook {
            Hook::Message => message(node.system, &program, &sockets),
            _ => function(node, def, &program),
        };
        match def.need {
            Need::Always => attached.map_err(refused)?,
            Need::IfAllowed => {}
            // Those that follow do less.
            Need::IfMiscounted => helpless = attached.is_err(),
        }
    }
    let some_ask = counting(node)? == Counting::Noticed;
    let more = [(miscounts, MISCOUNTS), (some_ask, SOME_ASK)];
    let more = more.iter().filter(|(is_so, _)| *is_so).fold(0, |sum, (_, bit)| sum | bit);
    set_flags(node, ACCELERATES | more)
}

fn message<S: System>(system: &S, program: &S::Program, sockets: &S::Map) -> Result<(), SysError> {
    let tag = |info: ProgramInfo| info.tag;
    if system.message_program(sockets)?.map(tag) == Some(system.program_info(program)?.tag) {
        return Ok(());
    }
    system.attach_message(program, sockets)
}

fn function<S: System>(
    node: Node<'_, S>,
    def: &AcceleratorDef,
    program: &S::Program,
) -> Result<(), SysError> {
    let pin = node.instance.accelerators().join(def.name);
    if let Some(link) = node.system.open_link(&pin)? {
        let old = node.system.program_by_id(node.system.link_info(&link)?.program)?;
        if old.map(|old| old.tag) == Some(node.system.program_info(program)?.tag) {
            return Ok(());
        }
        // The new one watches before the old one goes; both together do no harm.
        let new = node.system.attach(program, def.hook, &node.instance.cgroup)?;
        node.system.remove(&pin)?;
        return node.system.pin_link(&new, &pin);
    }
    let link = node.system.attach(program, def.hook, &node.instance.cgroup)?;
    node.system.pin_link(&link, &pin)
}

fn sockets<S: System>(node: Node<'_, S>) -> Result<S::Map> {
    let missing = || Error::Incompatible { map: ACCELERATED.name.into(), what: "it is missing".into() };
    node.system.open_map(&node.instance.maps().join(ACCELERATED.name))?.ok_or_else(missing)
}

/// Detaches the programs where no chosen connection is left: after a policy that does not accelerate.
pub(crate) fn retire<S: System>(node: Node<'_, S>) -> Result<()> {
    if node.system.list(&node.instance.accelerators())?.is_none() {
        return Ok(());
    }
    let pairs = node.system.open_map(&node.instance.maps().join(PAIRS.name))?;
    if pairs.is_some_and(|pairs| node.system.entries(&pairs).is_ok_and(|entries| !entries.is_empty())) {
        return Ok(());
    }
    detach(node)
}

/// For the upper half of the word: there is something to look up for acceleration.
const ACCELERATES: u64 = 1;
/// The same: there is something to look up before a connection enters.
const SOME_ASK: u64 = 2;
/// The same: `FIONREAD` of accelerated sockets was found to be wrong.
const MISCOUNTS: u64 = 4;

/// Waits until every byte that went the fast path is read, as long as it is worth waiting: with the map of sockets,
/// unread ones are lost. Returns how many sockets hold some still.
pub(crate) fn drain<S: System>(node: Node<'_, S>) -> Result<usize> {
    let end = node.system.clock() + PATIENCE;
    loop {
        let unread = unread(node)?.unwrap_or(0);
        if unread == 0 || node.system.clock() >= end {
            return Ok(unread);
        }
        node.system.sleep(LOOK);
    }
}

/// How many sockets hold unread bytes of the fast path; none where nothing is accelerated.
pub(crate) fn unread<S: System>(node: Node<'_, S>) -> Result<Option<usize>> {
    let Some(sockets) = node.system.open_map(&node.instance.maps().join(ACCELERATED.name))? else {
        return Ok(None);
    };
    if node.system.list(&node.instance.accelerators())?.is_none() {
        return Ok(None);
    }
    // One that leaves while they are read may make the kernel begin again.
    let cookies: BTreeSet<u64> = (node.system.entries(&sockets)?.iter())
        .filter_map(|(cookie, _)| Some(u64::from_ne_bytes(cookie.as_slice().try_into().ok()?)))
        .collect();
    let unread = node.system.unread(&node.instance.maps(), &cookies.into_iter().collect::<Vec<_>>())?;
    Ok(Some(unread.iter().filter(|socket| socket.fast_bytes > 0).count()))
}

/// Whether a process is kept from `splice` where unread bytes of the fast path would be passed over.
pub(crate) fn refuses_splice<S: System>(node: Node<'_, S>) -> Result<bool> {
    for def in ACCELERATORS.iter().filter(|def| def.hook == Hook::Security) {
        if node.system.open_link(&node.instance.accelerators().join(def.name))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What `FIONREAD` tells of accelerated sockets.
pub(crate) fn counting<S: System>(node: Node<'_, S>) -> Result<Counting> {
    let is_there = |name: &str| {
        Ok::<_, SysError>(node.system.open_link(&node.instance.accelerators().join(name))?.is_some())
    };
    if node.system.list(&node.instance.accelerators())?.is_none() {
        return Ok(Counting::Unused);
    }
    Ok(match (is_there(REPAIRS_COUNT)?, is_there(NOTES_COUNT)?) {
        (true, _) => Counting::Repaired,
        (_, true) => Counting::Noticed,
        _ if miscounts(node)? => Counting::Wrong,
        _ => Counting::Right,
    })
}

/// Whether the kernel was found to miscount when the programs were attached.
fn miscounts<S: System>(node: Node<'_, S>) -> Result<bool> {
    let control = ControlMap::open(node)?;
    Ok(control.is_some_and(|control| control.load(node.system).acceleration >> 32 & MISCOUNTS != 0))
}

/// Programs that should be attached and are not.
pub(crate) fn missing<S: System>(node: Node<'_, S>) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for def in ACCELERATORS.iter().filter(|def| def.need == Need::Always) {
        let is_there = match def.hook {
            Hook::Message => node.system.message_program(&sockets(node)?)?.is_some(),
            _ => node.system.open_link(&node.instance.accelerators().join(def.name))?.is_some(),
        };
        if !is_there {
            missing.push(def.name);
        }
    }
    Ok(missing)
}
