//! A machine whose steps fail, or end the process, where a test says so.
//!
//! Steps are numbered as they come; only those that change something count, since a process that is killed
//! before it reads left the same behind as one killed after the change before. To be killed is an error
//! here, after which every step fails: what is on the stack is dropped, and nothing is tidied up. A step
//! that is made of several (writing a file, filling several slots) is left half done.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use mesh_bpf::abi::Control;
use mesh_bpf::map::{self, MapDef};
use mesh_bpf::program::{Hook, Inbound, ProgramDef};
#[cfg(feature = "acceleration")]
use mesh_bpf::{abi::Unread, accelerator::AcceleratorDef};
use mesh_nft::Batch;

#[cfg(feature = "acceleration")]
use crate::system::Acceleration;
use crate::system::{
    Clock, Files, Held, Holds, LinkInfo, Links, Locked, MapInfo, Maps, Netns, Network, Noted, Process,
    ProgramInfo, Programs, Rulesets, Sockets, Sources, SysError, SysResult, Tracked, Waits, Word,
};

/// What happens at one of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// Nothing; steps are only counted.
    Never,
    /// The step with this number, from 0, fails with this error number and changes nothing.
    Fail(usize, i32),
    /// The process ends at the step with this number, from 0.
    Kill(usize),
    /// Nothing fails, but nobody waits for the programs that still read what was live before.
    NoGracePeriod,
}

/// A machine that fails where it is told to.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    injected: Injected,
    steps: RefCell<Vec<String>>,
    dead: Cell<bool>,
}

/// What a step does.
enum Fate {
    Go,
    Half,
}

impl<S> Faulty<S> {
    /// `inner`, but for one step.
    pub const fn new(inner: S, injected: Injected) -> Self {
        Self { inner, injected, steps: RefCell::new(Vec::new()), dead: Cell::new(false) }
    }

    /// The steps that were taken or failed, in words.
    pub fn steps(&self) -> Vec<String> {
        self.steps.borrow().clone()
    }

    fn reading(&self, call: &'static str) -> SysResult<()> {
        if self.dead.get() { Err(killed(call)) } else { Ok(()) }
    }

    fn changing(&self, call: &'static str, object: &str) -> SysResult<Fate> {
        self.reading(call)?;
        let number = self.steps.borrow().len();
        self.steps.borrow_mut().push(format!("{call} {object}"));
        match self.injected {
            Injected::Fail(at, errno) if at == number => {
                Err(SysError::new(call, object, io::Error::from_raw_os_error(errno)))
            }
            Injected::Kill(at) if at == number => {
                self.dead.set(true);
                Ok(Fate::Half)
            }
            _ => Ok(Fate::Go),
        }
    }

    /// A step that is done whole or not at all.
    fn whole<T>(
        &self,
        call: &'static str,
        object: &str,
        step: impl FnOnce(&S) -> SysResult<T>,
    ) -> SysResult<T> {
        match self.changing(call, object)? {
            Fate::Go => step(&self.inner),
            Fate::Half => Err(killed(call)),
        }
    }
}

fn killed(call: &'static str) -> SysError {
    SysError::new(call, "a killed process", io::Error::from_raw_os_error(libc::EOWNERDEAD))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Steps that change nothing.
macro_rules! reading {
    ($(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $arg: $ty)*) -> $result {
            self.reading(stringify!($name))?;
            self.inner.$name($($arg),*)
        })*
    };
}

/// Steps that change something, with what they change, in words.
macro_rules! whole {
    ($(fn $name:ident(&self $(, $arg:ident: $ty:ty)*) -> $result:ty { $object:expr })*) => {
        $(fn $name(&self $(, $arg: $ty)*) -> $result {
            self.whole(stringify!($name), &$object, |inner| inner.$name($($arg),*))
        })*
    };
}

impl<S: Clock> Clock for Faulty<S> {
    fn wall_clock(&self) -> u64 {
        self.inner.wall_clock()
    }

    fn clock(&self) -> u64 {
        self.inner.clock()
    }

    fn sleep(&self, milliseconds: u64) {
        self.inner.sleep(milliseconds);
    }

    fn this_process(&self) -> Process {
        self.inner.this_process()
    }

    fn is_alive(&self, process: Process) -> bool {
        self.inner.is_alive(process)
    }
}

impl<S: Files> Files for Faulty<S> {
    type Lock = S::Lock;

    fn write(&self, file: &Path, content: &[u8], durable: bool) -> SysResult<()> {
        match self.changing("write", &name(file))? {
            Fate::Go => self.inner.write(file, content, durable),
            Fate::Half => {
                let half = content.get(..content.len() / 2).unwrap_or_default();
                self.inner.write(file, half, false)?;
                Err(killed("write"))
            }
        }
    }

    fn write_beside<T>(
        &self,
        file: &Path,
        pieces: &[&[u8]],
        meanwhile: impl FnOnce() -> T,
    ) -> (SysResult<()>, T) {
        (self.write(file, &pieces.concat(), true), meanwhile())
    }

    reading! {
        fn list(&self, dir: &Path) -> SysResult<Option<Vec<String>>>;
        fn read(&self, file: &Path) -> SysResult<Option<Vec<u8>>>;
        fn inode(&self, path: &Path) -> SysResult<Option<u64>>;
        fn is_bpffs(&self, path: &Path) -> SysResult<bool>;
        fn is_writable(&self, path: &Path) -> SysResult<bool>;
        fn lock(&self, dir: &Path) -> SysResult<Locked<S::Lock>>;
        fn is_populated(&self, cgroup: &Path) -> SysResult<bool>;
    }

    whole! {
        fn create_dir(&self, dir: &Path) -> SysResult<()> { name(dir) }
        fn remove_dir(&self, dir: &Path) -> SysResult<()> { name(dir) }
        fn remove(&self, file: &Path) -> SysResult<()> { name(file) }
        fn rename(&self, from: &Path, to: &Path, durable: bool) -> SysResult<()> { name(to) }
    }
}

impl<S: Netns> Netns for Faulty<S> {
    reading! {
        fn netns_cookie(&self, netns: &Path) -> SysResult<u64>;
        fn netns_addresses(&self, netns: &Path) -> SysResult<Vec<IpAddr>>;
        fn node_addresses(&self) -> SysResult<Vec<IpAddr>>;
        fn netns_sources(&self, netns: &Path) -> SysResult<Sources>;
        fn netns_network(&self, netns: &Path) -> SysResult<Network>;
        fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> SysResult<String>;
        fn namespaces(&self) -> SysResult<BTreeSet<u64>>;
        fn is_own_netns(&self, cookie: u64) -> SysResult<bool>;
        fn is_lived_in(&self, cookie: u64) -> SysResult<bool>;
        fn find_netns(&self, cookie: u64) -> SysResult<Option<PathBuf>>;
        fn interfaces(&self, netns: &Path, cookie: u64) -> SysResult<Vec<u32>>;
        fn translates(&self, netns: &Path, cookie: u64) -> SysResult<bool>;
    }

    whole! {
        fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> SysResult<()> { name }
    }
}

impl<S: Maps> Maps for Faulty<S> {
    type Map = S::Map;
    type Words = S::Words;

    fn load(&self, words: &S::Words) -> Control {
        self.inner.load(words)
    }

    fn put_maps(&self, outer: &S::Map, elements: &[(u32, &S::Map)]) -> SysResult<()> {
        if self.injected == Injected::NoGracePeriod && self.inner.map_info(outer)?.name == map::SCRATCH.name {
            return Ok(());
        }
        match self.changing("put_maps", "a slot")? {
            Fate::Go => self.inner.put_maps(outer, elements),
            Fate::Half => {
                let half = elements.get(..elements.len() / 2).unwrap_or_default();
                if !half.is_empty() {
                    self.inner.put_maps(outer, half)?;
                }
                Err(killed("put_maps"))
            }
        }
    }

    reading! {
        fn open_map(&self, path: &Path) -> SysResult<Option<S::Map>>;
        fn map_by_id(&self, id: u32) -> SysResult<Option<S::Map>>;
        fn map_info(&self, map: &S::Map) -> SysResult<MapInfo>;
        fn lookup(&self, map: &S::Map, key: &[u8]) -> SysResult<Option<Vec<u8>>>;
        fn entries(&self, map: &S::Map) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>>;
        fn content(&self, map: &S::Map, len: usize) -> SysResult<Vec<u8>>;
        fn hits(&self, map: &S::Map) -> SysResult<Vec<(u64, u64)>>;
        fn holds(&self, map: &S::Map, content: &[u8]) -> SysResult<bool>;
        fn words(&self, control: &S::Map) -> SysResult<S::Words>;
    }

    whole! {
        fn create_map(&self, def: &MapDef, capacity: u32, inner: Option<&S::Map>) -> SysResult<S::Map> { def.name }
        fn pin_map(&self, map: &S::Map, path: &Path) -> SysResult<()> { name(path) }
        fn update(&self, map: &S::Map, key: &[u8], value: &[u8]) -> SysResult<()> { "an entry" }
        fn delete(&self, map: &S::Map, key: &[u8]) -> SysResult<()> { "an entry" }
        fn fill(&self, map: &S::Map, content: &[u8]) -> SysResult<()> { "a table" }
        fn add_hits(&self, map: &S::Map, counts: &[(u64, u64)]) -> SysResult<()> { "counters" }
        fn freeze(&self, map: &S::Map) -> SysResult<()> { "a table" }
        fn exchange(&self, words: &S::Words, word: Word, old: u64, new: u64) -> SysResult<bool> {
            format!("{word:?} {old} to {new}")
        }
    }
}

impl<S: Programs> Programs for Faulty<S> {
    type Program = S::Program;

    fn programs_version(&self) -> String {
        self.inner.programs_version()
    }

    reading! {
        fn program_info(&self, program: &S::Program) -> SysResult<ProgramInfo>;
        fn program_by_id(&self, id: u32) -> SysResult<Option<ProgramInfo>>;
        fn maps_of(&self, program: u32) -> SysResult<Vec<u32>>;
    }

    whole! {
        fn load_programs(&self, maps: &Path) -> SysResult<Vec<(&'static ProgramDef, S::Program)>> { "all programs" }
        fn load_program(&self, maps: &Path, def: &'static ProgramDef) -> SysResult<S::Program> { def.name }
        fn load_inbound(&self, maps: &Path, by: Inbound) -> SysResult<S::Program> { by.program().name }
        fn load_entry(&self, maps: &Path, pod: u64, by: Inbound) -> SysResult<S::Program> { "a pod's program" }
        fn put_program(&self, map: &S::Map, index: u32, program: &S::Program) -> SysResult<()> { "a program" }
    }
}

impl<S: Links> Links for Faulty<S> {
    type Link = S::Link;

    reading! {
        fn open_link(&self, path: &Path) -> SysResult<Option<S::Link>>;
        fn link_info(&self, link: &S::Link) -> SysResult<LinkInfo>;
        fn all_links(&self) -> SysResult<Vec<S::Link>>;
        fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> SysResult<Vec<u32>>;
        fn attached_below(&self, cgroup: &Path, hook: Hook) -> SysResult<Vec<u32>>;
    }

    whole! {
        fn detach_message(&self, sockets: &S::Map) -> SysResult<()> { "sockets" }
        fn attach(&self, program: &S::Program, hook: Hook, cgroup: &Path) -> SysResult<S::Link> {
            format!("{hook:?}")
        }
        fn attach_netns(
            &self, program: &S::Program, by: Inbound, netns: &Path, cookie: u64, covered: &BTreeSet<u32>
        ) -> SysResult<Vec<S::Link>> { "a pod" }
        fn iterate(&self, iterator: &S::Link, netns: &Path, cookie: u64) -> SysResult<()> { "a pod" }
        fn pin_link(&self, link: &S::Link, path: &Path) -> SysResult<()> { name(path) }
        fn replace(&self, link: &S::Link, program: &S::Program) -> SysResult<()> { "a link" }
        fn detach(&self, link: &S::Link) -> SysResult<()> { "a link" }
    }
}

impl<S: Rulesets> Rulesets for Faulty<S> {
    reading! {
        fn commits(&self, netns: &Path, cookie: u64) -> SysResult<u32>;
        fn table(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Option<Held>>;
        fn chains(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Vec<String>>;
        fn packets(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<BTreeMap<String, u64>>;
        fn tracked(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Tracked>>;
    }

    whole! {
        fn commit(&self, netns: &Path, cookie: u64, batch: &Batch) -> SysResult<()> { "a ruleset" }
        fn forget(&self, netns: &Path, cookie: u64, connections: &[Tracked]) -> SysResult<()> { "connections" }
    }
}

impl<S: Sockets> Sockets for Faulty<S> {
    type Socket = S::Socket;

    reading! {
        fn waiting(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Waits>>;
        fn holders(&self, inodes: &BTreeSet<u64>) -> SysResult<BTreeMap<u64, Holds>>;
        fn can_close(&self) -> SysResult<bool>;
        fn connections(&self, flows: &S::Map, listening: &S::Map) -> SysResult<Vec<(Noted, S::Socket)>>;
        fn socket(&self, netns: u64, ends: (SocketAddr, SocketAddr), cookie: u64) -> SysResult<Option<S::Socket>>;
    }

    whole! {
        fn close(&self, sockets: &[S::Socket]) -> SysResult<usize> { "connections" }
    }
}

#[cfg(feature = "acceleration")]
impl<S: Acceleration> Acceleration for Faulty<S> {
    reading! {
        fn message_program(&self, sockets: &S::Map) -> SysResult<Option<ProgramInfo>>;
        fn unread(&self, maps: &Path, cookies: &[u64]) -> SysResult<Vec<Unread>>;
        fn miscounts(&self) -> SysResult<bool>;
    }

    whole! {
        fn load_accelerators(&self, maps: &Path) -> SysResult<Vec<(&'static AcceleratorDef, S::Program)>> {
            "accelerators"
        }
        fn release(&self, maps: &Path, netns: &Path, cookie: u64) -> SysResult<()> { "a pod" }
        fn attach_message(&self, program: &S::Program, sockets: &S::Map) -> SysResult<()> { "sockets" }
    }
}
