//! What the machine is made of.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use mesh_bpf::abi::{Control, Flow};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::program::{Hook, PROGRAMS, Role};

use crate::system::netns::HOST_NETNS;
use crate::system::{
    Accepted, Held, Holds, MapInfo, Noted, ProgramInfo, SysError, SysResult, Tracked, Waits,
};

/// What a program saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The generation that the word named.
    pub word: u64,
    /// The generation that the tables of its slot were of, once it looked: 0 where they were gone.
    pub tables: u64,
}

#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) start: Cell<bool>,
    pub(super) careless: Cell<bool>,
    pub(super) stopped: RefCell<Vec<u64>>,
    pub(super) done: RefCell<Vec<Read>>,
}

/// A machine in memory. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub(super) Rc<World>);

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: RefCell<BTreeMap<PathBuf, (u64, Node)>>,
    pub(super) maps: RefCell<BTreeMap<u32, Weak<MapObject>>>,
    pub(super) links: RefCell<Vec<Weak<LinkObject>>>,
    pub(super) locks: RefCell<BTreeSet<u64>>,
    pub(super) process: Cell<u32>,
    pub(super) next: Cell<u32>,
    pub(super) clock: Cell<u64>,
    /// Changed by a test that upgrades: the tag of programs that are loaded from then on.
    pub(super) version: Cell<u64>,
    pub(super) readers: Readers,
    /// What it was set to, and when by the other clock.
    pub(super) wall_clock: Cell<Option<(u64, u64)>>,
    /// Open connections by cookie.
    pub(super) connections: RefCell<BTreeMap<u64, Noted>>,
    /// Who has sockets open that wait for somebody, by inode.
    pub(super) holders: RefCell<BTreeMap<u64, Holds>>,
    /// BPF file systems, and whether each can be written.
    pub(super) bpffs: RefCell<BTreeMap<PathBuf, bool>>,
    /// Directories that somebody removes, and when.
    pub(super) due: RefCell<Vec<(u64, PathBuf)>>,
    /// They cannot be closed here.
    pub(super) keeps_connections: Cell<bool>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory,
    File(Vec<u8>),
    Map(Rc<MapObject>),
    Link(Rc<LinkObject>),
    Netns(Rc<Namespace>),
}

/// A network namespace.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    /// Its interfaces but for loopback, by number, each with its addresses.
    pub(super) interfaces: RefCell<BTreeMap<u32, Vec<IpAddr>>>,
    /// What the interfaces are called; one without a name is `eth` and its number.
    pub(super) names: RefCell<BTreeMap<u32, String>>,
    /// The interface that a destination is reached by.
    pub(super) routes: RefCell<BTreeMap<Prefix, u32>>,
    /// By their paths below `/proc/sys`.
    pub(super) settings: RefCell<BTreeMap<String, String>>,
    pub(super) waiting: RefCell<Vec<Waits>>,
    /// How many processes live in it.
    pub(super) processes: Cell<usize>,
    /// Whether rules of it translate addresses.
    pub(super) translates: Cell<bool>,
    /// Tables of nftables, by name.
    pub(super) tables: RefCell<BTreeMap<String, Held>>,
    /// How often they were changed.
    pub(super) commits: Cell<u32>,
    /// What it refuses of a batch: with this error.
    pub(super) refuses: Cell<Option<i32>>,
    /// Connections that it tracks.
    pub(super) tracked: RefCell<Vec<Tracked>>,
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct ProgramObject {
    pub(super) info: ProgramInfo,
    /// The ids of the maps that it uses.
    pub(super) maps: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct MapObject {
    pub(super) info: MapInfo,
    pub(super) entries: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(super) inner: RefCell<BTreeMap<u32, Rc<Self>>>,
    pub(super) lines: RefCell<Vec<u8>>,
    pub(super) frozen: Cell<bool>,
    pub(super) control: Cell<Control>,
    /// What programs counted of items.
    pub(super) hits: RefCell<BTreeMap<u64, u64>>,
    pub(super) programs: RefCell<BTreeMap<u32, Rc<ProgramObject>>>,
    /// Of a map of sockets: the program that is asked of what they send.
    pub(super) message: RefCell<Option<Rc<ProgramObject>>>,
}

#[derive(Debug)]
pub(super) struct LinkObject {
    pub(super) id: u32,
    pub(super) hook: Hook,
    pub(super) program: RefCell<Rc<ProgramObject>>,
    /// The inode of a cgroup or of a namespace's file.
    pub(super) target: u64,
    /// The number of an interface there.
    pub(super) interface: u32,
    pub(super) attached: Cell<bool>,
}

/// An open map.
#[derive(Clone, Debug)]
pub struct MemoryMap(pub(super) Rc<MapObject>);

/// A loaded program.
#[derive(Clone, Debug)]
pub struct MemoryProgram(pub(super) Rc<ProgramObject>);

/// An open link.
#[derive(Clone, Debug)]
pub struct MemoryLink(pub(super) Rc<LinkObject>);

/// A held lock.
#[derive(Debug)]
pub struct MemoryLock(pub(super) Memory, pub(super) u64);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.0.locks.borrow_mut().remove(&self.1);
    }
}

impl Memory {
    /// A machine with these directories, all directories above them, and the host's network namespace.
    #[must_use]
    pub fn new(dirs: &[&Path]) -> Self {
        let memory = Self::default();
        memory.make_netns(Path::new(HOST_NETNS), &[]);
        for dir in dirs {
            for part in dir.ancestors() {
                memory.insert_new(part, Node::Directory);
            }
        }
        memory
    }

    /// Makes a cgroup with its files.
    pub fn make_cgroup(&self, dir: &Path) {
        self.insert_new(dir, Node::Directory);
        for file in ["cgroup.procs", "cgroup.controllers"] {
            self.insert_new(&dir.join(file), Node::File(Vec::new()));
        }
    }

    /// Mounts a BPF file system at a directory that is there.
    pub fn mount_bpffs(&self, dir: &Path) {
        self.0.bpffs.borrow_mut().insert(dir.into(), true);
    }

    /// Lets a BPF file system be read only.
    pub fn make_read_only(&self, bpffs: &Path) {
        self.0.bpffs.borrow_mut().insert(bpffs.into(), false);
    }

    /// Removes a cgroup: links to it lose their target.
    pub fn remove_cgroup(&self, dir: &Path) {
        self.0.nodes.borrow_mut().retain(|path, _| !path.starts_with(dir));
    }

    /// Somebody removes a directory with all that is in it, this many milliseconds from now.
    pub fn remove_in(&self, milliseconds: u64, dir: &Path) {
        let at = self.0.clock.get() + milliseconds;
        self.0.due.borrow_mut().push((at, dir.into()));
    }

    pub(super) fn remove_what_is_due(&self) {
        let now = self.0.clock.get();
        for (_, dir) in self.0.due.borrow_mut().extract_if(.., |(at, _)| *at <= now) {
            self.remove_cgroup(&dir);
        }
    }

    /// All BPF objects that are left: `map NAME` and `link NAME`.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        let maps = self.0.maps.borrow();
        let maps = maps.values().filter_map(Weak::upgrade).map(|map| format!("map {}", map.info.name));
        let links = self.0.links.borrow();
        let links = links.iter().filter_map(Weak::upgrade).map(|link| format!("link {:?}", link.hook));
        maps.chain(links).collect()
    }

    /// The hooks that programs of a role are attached to.
    #[must_use]
    pub fn hooks(&self, role: Role) -> Vec<Hook> {
        let of_role = |hook| PROGRAMS.iter().any(|def| def.hook == hook && def.role == role);
        let links = self.0.links.borrow();
        let live = links.iter().filter_map(Weak::upgrade).filter(|link| link.attached.get());
        live.map(|link| link.hook).filter(|&hook| of_role(hook)).collect()
    }

    /// Restarts the machine: what is below these directories is gone, and so is every BPF object.
    pub fn reboot(&self, dirs: &[&Path]) {
        for dir in dirs {
            self.0.nodes.borrow_mut().retain(|path, _| path == dir || !path.starts_with(dir));
        }
        self.0.locks.borrow_mut().clear();
        self.0.clock.set(0);
        self.next_process();
    }

    /// Ends this process: from now on everything is done by another.
    pub fn next_process(&self) {
        self.0.process.set(self.0.process.get() + 1);
    }

    /// Programs that are loaded from now on are of another build.
    pub fn upgrade(&self) {
        self.0.version.set(self.0.version.get() + 1);
    }

    /// Sets the clock that people set: to this many milliseconds since 1970, from where it goes on.
    pub fn set_wall_clock(&self, now: u64) {
        self.0.wall_clock.set(Some((now, self.0.clock.get())));
    }

    /// Opens a connection that was decided so.
    pub fn connect(&self, flow: Flow) {
        self.0.connections.borrow_mut().insert(flow.cookie, Noted::Opened(flow));
    }

    /// Accepts a connection.
    pub fn accept(&self, cookie: u64, accepted: Accepted) {
        self.0.connections.borrow_mut().insert(cookie, Noted::Accepted(accepted));
    }

    /// The connections that are open, by cookie.
    #[must_use]
    pub fn open_connections(&self) -> Vec<u64> {
        self.0.connections.borrow().keys().copied().collect()
    }

    /// As on a kernel that was built without the means to close a connection.
    pub fn keep_connections(&self) {
        self.0.keeps_connections.set(true);
    }

    /// Whether a file, directory or pin is there.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        self.0.nodes.borrow().contains_key(path)
    }

    pub(super) fn number(&self) -> u32 {
        self.0.next.set(self.0.next.get() + 1);
        self.0.next.get()
    }

    pub(super) fn insert_new(&self, path: &Path, node: Node) {
        let inode = u64::from(self.number());
        self.0.nodes.borrow_mut().entry(path.into()).or_insert((inode, node));
    }

    pub(super) fn node(&self, path: &Path) -> Option<(u64, Node)> {
        self.0.nodes.borrow().get(path).cloned()
    }

    pub(super) fn children(&self, dir: &Path) -> Vec<String> {
        let nodes = self.0.nodes.borrow();
        let below = nodes.keys().filter(|path| path.parent() == Some(dir));
        below.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// Loads a program, which uses all maps that are pinned in a directory.
    pub(super) fn program(&self, maps: &Path, name: &str) -> SysResult<MemoryProgram> {
        if !self.exists(maps) {
            return Err(error("loading", maps, libc::ENOENT));
        }
        let pinned = self.children(maps).into_iter().filter_map(|name| match self.node(&maps.join(name)) {
            Some((_, Node::Map(map))) => Some(map.info.id),
            _ => None,
        });
        let maps = pinned.collect();
        let tag = self.0.version.get().to_ne_bytes();
        let info = ProgramInfo { id: self.number(), name: name.into(), tag };
        Ok(MemoryProgram(Rc::new(ProgramObject { info, maps })))
    }

    pub(super) fn link(&self, program: &MemoryProgram, hook: Hook, target: u64) -> MemoryLink {
        self.link_at(program, hook, target, 0)
    }

    pub(super) fn link_at(
        &self,
        program: &MemoryProgram,
        hook: Hook,
        target: u64,
        interface: u32,
    ) -> MemoryLink {
        let link = Rc::new(LinkObject {
            id: self.number(),
            hook,
            program: RefCell::new(Rc::clone(&program.0)),
            target,
            interface,
            attached: Cell::new(true),
        });
        self.0.links.borrow_mut().push(Rc::downgrade(&link));
        MemoryLink(link)
    }

    /// Puts something at a path whose directory is there.
    pub(super) fn place(
        &self,
        call: &'static str,
        path: &Path,
        node: Node,
        may_replace: bool,
    ) -> SysResult<()> {
        if path.parent().is_none_or(|parent| !matches!(self.node(parent), Some((_, Node::Directory)))) {
            return Err(error(call, path, libc::ENOENT));
        }
        if !may_replace && self.exists(path) {
            return Err(error(call, path, libc::EEXIST));
        }
        let inode = u64::from(self.number());
        self.0.nodes.borrow_mut().insert(path.into(), (inode, node));
        Ok(())
    }
}

pub(super) fn error(call: &'static str, path: &Path, errno: i32) -> SysError {
    SysError::new(call, path.display().to_string(), io::Error::from_raw_os_error(errno))
}

pub(super) fn refuse<T>(call: &'static str, object: &str, errno: i32) -> SysResult<T> {
    Err(SysError::new(call, object, io::Error::from_raw_os_error(errno)))
}
