//! A machine in memory: enough of a kernel's maps, links, pins and folders that every command runs, so
//! that each of their steps can be failed without root and in no time.
//!
//! Objects live as the kernel's do: as long as a handle, a pin or a map-in-map holds them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use mesh_bpf::abi::{Control, Flow, LINE, Unread};
use mesh_bpf::map::{self, MapDef, MapKind};
use mesh_bpf::program::{ACCELERATORS, AcceleratorDef, Hook, Inbound, PROGRAMS, ProgramDef, Role};

mod readers;

pub use readers::Read;

use crate::system::{
    Accepted, Fault, LinkInfo, Locked, MapInfo, Noted, Process, ProgramInfo, Sources, Step, Store, Target,
    Waits, Word,
};

/// A machine in memory. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct Memory(Rc<World>);

#[derive(Debug, Default)]
struct World {
    nodes: RefCell<BTreeMap<PathBuf, (u64, Node)>>,
    maps: RefCell<BTreeMap<u32, Weak<MapObject>>>,
    links: RefCell<Vec<Weak<LinkObject>>>,
    locks: RefCell<BTreeSet<u64>>,
    process: Cell<u32>,
    next: Cell<u32>,
    clock: Cell<u64>,
    /// Changed by a test that upgrades: the tag of programs that are loaded from then on.
    version: Cell<u64>,
    readers: readers::Readers,
    /// What it was set to, and when by the other clock.
    wall_clock: Cell<Option<(u64, u64)>>,
    /// Open connections by cookie.
    connections: RefCell<BTreeMap<u64, Noted>>,
    /// Settings of network namespaces, by cookie and name.
    settings: RefCell<BTreeMap<(u64, String), String>>,
    /// They cannot be closed here.
    keeps_connections: Cell<bool>,
}

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(Vec<u8>),
    Map(Rc<MapObject>),
    Link(Rc<LinkObject>),
}

#[derive(Debug)]
struct MapObject {
    info: MapInfo,
    entries: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    inner: RefCell<BTreeMap<u32, Rc<Self>>>,
    lines: RefCell<Vec<u8>>,
    frozen: Cell<bool>,
    control: Cell<Control>,
    message: RefCell<Option<Rc<ProgramInfo>>>,
    programs: RefCell<BTreeMap<u32, Rc<ProgramInfo>>>,
}

#[derive(Debug)]
struct LinkObject {
    id: u32,
    hook: Hook,
    program: RefCell<Rc<ProgramInfo>>,
    /// The inode of a cgroup or of a namespace's file.
    target: u64,
    /// The number of an interface there.
    interface: u32,
    attached: Cell<bool>,
}

/// An open map.
#[derive(Clone, Debug)]
pub struct MemoryMap(Rc<MapObject>);

/// A loaded program.
#[derive(Clone, Debug)]
pub struct MemoryProgram(Rc<ProgramInfo>);

/// An open link.
#[derive(Clone, Debug)]
pub struct MemoryLink(Rc<LinkObject>);

/// A held lock.
#[derive(Debug)]
pub struct MemoryLock(Memory, u64);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.0.locks.borrow_mut().remove(&self.1);
    }
}

impl Memory {
    /// An empty machine with these folders, and all folders above them.
    #[must_use]
    pub fn new(folders: &[&Path]) -> Self {
        let memory = Self::default();
        for folder in folders {
            for part in folder.ancestors() {
                memory.insert_new(part, Node::Folder);
            }
        }
        memory
    }

    /// Makes a cgroup with its files.
    pub fn make_cgroup(&self, folder: &Path) {
        self.insert_new(folder, Node::Folder);
        for file in ["cgroup.procs", "cgroup.controllers"] {
            self.insert_new(&folder.join(file), Node::File(Vec::new()));
        }
    }

    /// Removes a cgroup: links to it lose their target.
    pub fn remove_cgroup(&self, folder: &Path) {
        self.0.nodes.borrow_mut().retain(|path, _| !path.starts_with(folder));
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

    /// Starts the machine anew: what is below these folders is gone, and so is every BPF object.
    pub fn reboot(&self, folders: &[&Path]) {
        for folder in folders {
            self.0.nodes.borrow_mut().retain(|path, _| path == folder || !path.starts_with(folder));
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

    /// Sets the clock that people set: to so many milliseconds since 1970, from where it goes on.
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

    /// Whether a file, folder or pin is there.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        self.0.nodes.borrow().contains_key(path)
    }

    fn number(&self) -> u32 {
        self.0.next.set(self.0.next.get() + 1);
        self.0.next.get()
    }

    fn insert_new(&self, path: &Path, node: Node) {
        let inode = u64::from(self.number());
        self.0.nodes.borrow_mut().entry(path.into()).or_insert((inode, node));
    }

    fn node(&self, path: &Path) -> Option<(u64, Node)> {
        self.0.nodes.borrow().get(path).cloned()
    }

    fn children(&self, folder: &Path) -> Vec<String> {
        let nodes = self.0.nodes.borrow();
        let below = nodes.keys().filter(|path| path.parent() == Some(folder));
        below.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect()
    }

    fn program(&self, def: &ProgramDef) -> MemoryProgram {
        let tag = self.0.version.get().to_ne_bytes();
        MemoryProgram(Rc::new(ProgramInfo { id: self.number(), name: def.name.into(), tag }))
    }

    fn link(&self, program: &MemoryProgram, hook: Hook, target: u64) -> MemoryLink {
        self.link_at(program, hook, target, 0)
    }

    fn link_at(&self, program: &MemoryProgram, hook: Hook, target: u64, interface: u32) -> MemoryLink {
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

    /// Puts something at a path whose folder is there.
    fn place(&self, call: &'static str, path: &Path, node: Node, may_replace: bool) -> Step<()> {
        if path.parent().is_none_or(|parent| !matches!(self.node(parent), Some((_, Node::Folder)))) {
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

impl Memory {
    fn is_netns(&self, netns: &Path, cookie: u64) -> Step<()> {
        let is_it = self.netns_cookie(netns)? == cookie;
        if is_it { Ok(()) } else { Err(error("entering", netns, libc::ESTALE)) }
    }
}

fn error(call: &'static str, path: &Path, errno: i32) -> Fault {
    Fault::new(call, path.display().to_string(), io::Error::from_raw_os_error(errno))
}

fn refuse<T>(call: &'static str, object: &str, errno: i32) -> Step<T> {
    Err(Fault::new(call, object, io::Error::from_raw_os_error(errno)))
}

fn word(control: &mut Control, word: Word) -> &mut u64 {
    match word {
        Word::Generation => &mut control.generation,
        Word::Claim => &mut control.claim,
        Word::Paused => &mut control.paused,
        Word::Observe => &mut control.observe,
        Word::Commits => &mut control.commits,
        Word::FlowAbi => &mut control.flow_abi,
        Word::Host => &mut control.host,
        Word::Acceleration => &mut control.acceleration,
    }
}

impl Store for Memory {
    type Map = MemoryMap;
    type Program = MemoryProgram;
    type Link = MemoryLink;
    type Words = MemoryMap;
    type Lock = MemoryLock;
    type Socket = u64;

    fn wall_clock(&self) -> u64 {
        match self.0.wall_clock.get() {
            Some((set, at)) => set + (self.clock() - at),
            None => 1_700_000_000_000 + self.clock(),
        }
    }

    fn clock(&self) -> u64 {
        self.0.clock.get()
    }

    fn sleep(&self, milliseconds: u64) {
        self.0.clock.set(self.clock() + milliseconds);
    }

    fn this_process(&self) -> Process {
        Process { pid: self.0.process.get() + 1, start: 1 }
    }

    fn is_alive(&self, process: Process) -> bool {
        process == self.this_process()
    }

    fn list(&self, folder: &Path) -> Step<Option<Vec<String>>> {
        Ok(self.node(folder).map(|_| self.children(folder)))
    }

    fn make_folder(&self, folder: &Path) -> Step<()> {
        if self.exists(folder) { Ok(()) } else { self.place("making", folder, Node::Folder, false) }
    }

    fn remove_folder(&self, folder: &Path) -> Step<()> {
        // The files of a cgroup are no obstacle.
        let is_cgroup = self.exists(&folder.join("cgroup.procs"));
        if !is_cgroup && !self.children(folder).is_empty() {
            return Err(error("removing", folder, libc::ENOTEMPTY));
        }
        self.remove_cgroup(folder);
        Ok(())
    }

    fn remove(&self, file: &Path) -> Step<()> {
        self.0.nodes.borrow_mut().remove(file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path, _durable: bool) -> Step<()> {
        if !self.exists(from) {
            return Err(error("renaming", from, libc::ENOENT));
        }
        let mut nodes = self.0.nodes.borrow_mut();
        let moved: Vec<PathBuf> = nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            if let (Some(node), Ok(rest)) = (nodes.remove(&path), path.strip_prefix(from)) {
                // Joining nothing would end the path with a slash.
                let place = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                nodes.insert(place, node);
            }
        }
        Ok(())
    }

    fn read(&self, file: &Path) -> Step<Option<Vec<u8>>> {
        match self.node(file) {
            Some((_, Node::File(content))) => Ok(Some(content)),
            Some(_) => Err(error("reading", file, libc::EINVAL)),
            None => Ok(None),
        }
    }

    fn write(&self, file: &Path, content: &[u8], _durable: bool) -> Step<()> {
        self.place("writing", file, Node::File(content.to_vec()), true)
    }

    fn write_beside<T>(&self, file: &Path, pieces: &[&[u8]], meanwhile: impl FnOnce() -> T) -> (Step<()>, T) {
        (self.write(file, &pieces.concat(), true), meanwhile())
    }

    fn inode(&self, path: &Path) -> Step<Option<u64>> {
        Ok(self.node(path).map(|(inode, _)| inode))
    }

    fn is_bpffs(&self, path: &Path) -> Step<bool> {
        Ok(self.exists(path))
    }

    fn is_writable(&self, path: &Path) -> Step<bool> {
        Ok(self.exists(path))
    }

    fn lock(&self, folder: &Path) -> Step<Locked<MemoryLock>> {
        let Some((inode, _)) = self.node(folder) else { return Ok(Locked::Gone) };
        let free = self.0.locks.borrow_mut().insert(inode);
        Ok(if free { Locked::Held(MemoryLock(self.clone(), inode)) } else { Locked::Busy })
    }

    fn is_populated(&self, _cgroup: &Path) -> Step<bool> {
        Ok(false)
    }

    /// A namespace is a file here, and its inode the cookie. The one that everybody is in has the first.
    fn netns_cookie(&self, netns: &Path) -> Step<u64> {
        if netns == Path::new(crate::attach::inbound::HOST_NETNS) {
            return Ok(1);
        }
        self.node(netns).map(|(inode, _)| inode).ok_or_else(|| error("opening", netns, libc::ENOENT))
    }

    fn netns_addresses(&self, netns: &Path) -> Step<Vec<IpAddr>> {
        self.netns_cookie(netns).map(|_| Vec::new())
    }

    fn netns_sources(&self, netns: &Path) -> Step<Sources> {
        self.netns_cookie(netns).map(|_| Sources::default())
    }

    fn netns_setting(&self, netns: &Path, _cookie: u64, name: &str) -> Step<String> {
        let key = (self.netns_cookie(netns)?, name.to_owned());
        Ok(self.0.settings.borrow().get(&key).cloned().unwrap_or_default())
    }

    fn set_netns_setting(&self, netns: &Path, _cookie: u64, name: &str, value: &str) -> Step<()> {
        let key = (self.netns_cookie(netns)?, name.to_owned());
        self.0.settings.borrow_mut().insert(key, value.to_owned());
        Ok(())
    }

    fn namespaces(&self) -> Step<BTreeSet<u64>> {
        let nodes = self.0.nodes.borrow();
        Ok(nodes
            .values()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(inode, _)| *inode)
            .collect())
    }

    fn is_own_netns(&self, _cookie: u64) -> Step<bool> {
        Ok(false)
    }

    fn is_lived_in(&self, _cookie: u64) -> Step<bool> {
        Ok(false)
    }

    fn find_netns(&self, _cookie: u64) -> Step<Option<PathBuf>> {
        Ok(None)
    }

    fn create_map(&self, def: &MapDef, capacity: u32, _inner: Option<&MemoryMap>) -> Step<MemoryMap> {
        let info = MapInfo {
            id: self.number(),
            kind: def.kind as u32,
            key: def.key,
            value: def.value,
            capacity,
            flags: def.flags,
            name: def.name.into(),
        };
        let lines = if def.flags & map::MMAPABLE == 0 { 0 } else { capacity as usize * LINE };
        let object = Rc::new(MapObject {
            info,
            entries: RefCell::default(),
            inner: RefCell::default(),
            lines: RefCell::new(vec![0; lines]),
            frozen: Cell::new(false),
            control: Cell::new(Control::default()),
            message: RefCell::new(None),
            programs: RefCell::default(),
        });
        self.0.maps.borrow_mut().insert(object.info.id, Rc::downgrade(&object));
        Ok(MemoryMap(object))
    }

    fn pin_map(&self, map: &MemoryMap, path: &Path) -> Step<()> {
        self.place("pinning", path, Node::Map(Rc::clone(&map.0)), false)
    }

    fn open_map(&self, path: &Path) -> Step<Option<MemoryMap>> {
        Ok(match self.node(path) {
            Some((_, Node::Map(map))) => Some(MemoryMap(map)),
            _ => None,
        })
    }

    fn map_by_id(&self, id: u32) -> Step<Option<MemoryMap>> {
        Ok(self.0.maps.borrow().get(&id).and_then(Weak::upgrade).map(MemoryMap))
    }

    fn map_info(&self, map: &MemoryMap) -> Step<MapInfo> {
        Ok(map.0.info.clone())
    }

    fn lookup(&self, map: &MemoryMap, key: &[u8]) -> Step<Option<Vec<u8>>> {
        if map.0.info.kind == MapKind::ArrayOfMaps as u32 {
            let key = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
            return Ok(map.0.inner.borrow().get(&key).map(|inner| inner.info.id.to_ne_bytes().to_vec()));
        }
        if map.0.info.kind == MapKind::ProgArray as u32 {
            let key = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
            return Ok(map.0.programs.borrow().get(&key).map(|program| program.id.to_ne_bytes().to_vec()));
        }
        Ok(map.0.entries.borrow().get(key).cloned())
    }

    fn update(&self, map: &MemoryMap, key: &[u8], value: &[u8]) -> Step<()> {
        let mut entries = map.0.entries.borrow_mut();
        if entries.len() >= map.0.info.capacity as usize && !entries.contains_key(key) {
            return refuse("writing the map", &map.0.info.name, libc::E2BIG);
        }
        entries.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&self, map: &MemoryMap, key: &[u8]) -> Step<()> {
        map.0.entries.borrow_mut().remove(key);
        Ok(())
    }

    fn entries(&self, map: &MemoryMap) -> Step<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(map.0.entries.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn put_maps(&self, outer: &MemoryMap, elements: &[(u32, &MemoryMap)]) -> Step<()> {
        let elements = elements.iter().map(|(key, map)| (*key, Rc::clone(&map.0)));
        outer.0.inner.borrow_mut().extend(elements);
        self.after_putting(&outer.0);
        Ok(())
    }

    fn has_waited(&self, _control: u32, _generation: u64) -> bool {
        false
    }

    fn fill(&self, map: &MemoryMap, content: &[u8]) -> Step<()> {
        let mut lines = map.0.lines.borrow_mut();
        match lines.get_mut(..content.len()) {
            Some(place) if !map.0.frozen.get() => {
                place.copy_from_slice(content);
                Ok(())
            }
            _ => refuse("filling the map", &map.0.info.name, libc::EPERM),
        }
    }

    fn freeze(&self, map: &MemoryMap) -> Step<()> {
        map.0.frozen.set(true);
        Ok(())
    }

    fn content(&self, map: &MemoryMap, len: usize) -> Step<Vec<u8>> {
        match map.0.lines.borrow().get(..len) {
            Some(content) => Ok(content.to_vec()),
            None => refuse("reading the map", &map.0.info.name, libc::EINVAL),
        }
    }

    fn hits(&self, _: &MemoryMap) -> Step<Vec<(u64, u64)>> {
        // No program runs here.
        Ok(Vec::new())
    }

    fn add_hits(&self, _: &MemoryMap, _: &[(u64, u64)]) -> Step<()> {
        // No program runs here.
        Ok(())
    }

    fn holds(&self, map: &MemoryMap, content: &[u8]) -> Step<bool> {
        Ok(map.0.lines.borrow().starts_with(content))
    }

    fn words(&self, control: &MemoryMap) -> Step<MemoryMap> {
        Ok(control.clone())
    }

    fn load(&self, words: &MemoryMap) -> Control {
        words.0.control.get()
    }

    fn exchange(&self, words: &MemoryMap, which: Word, old: u64, new: u64) -> Step<bool> {
        let mut control = words.0.control.get();
        if which == Word::Generation {
            self.before_commit(control.generation);
        }
        let place = word(&mut control, which);
        let is_old = *place == old;
        if is_old {
            *place = new;
            words.0.control.set(control);
        }
        Ok(is_old)
    }

    fn programs_version(&self) -> String {
        self.0.version.get().to_string()
    }

    fn load_programs(&self, maps: &Path) -> Step<Vec<(&'static ProgramDef, MemoryProgram)>> {
        if !self.exists(maps) {
            return Err(error("loading", maps, libc::ENOENT));
        }
        Ok(PROGRAMS.iter().map(|def| (def, self.program(def))).collect())
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

    fn attach(&self, program: &MemoryProgram, hook: Hook, cgroup: &Path) -> Step<MemoryLink> {
        let Some((cgroup, _)) = self.node(cgroup) else {
            return Err(error("attaching to", cgroup, libc::ENOENT));
        };
        Ok(self.link(program, hook, cgroup))
    }

    fn attach_netns(
        &self,
        program: &MemoryProgram,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> Step<Vec<MemoryLink>> {
        let interfaces = match by {
            Inbound::SkLookup => vec![0],
            Inbound::Tc => self.interfaces(netns, cookie)?,
        };
        self.is_netns(netns, cookie)?;
        let new = interfaces.into_iter().filter(|number| !covered.contains(number));
        Ok(new.map(|number| self.link_at(program, by.program().hook, cookie, number)).collect())
    }

    /// Every namespace has two here.
    fn interfaces(&self, netns: &Path, cookie: u64) -> Step<Vec<u32>> {
        self.is_netns(netns, cookie).map(|()| vec![1, 2])
    }

    fn waiting(&self, netns: &Path, cookie: u64) -> Step<Vec<Waits>> {
        self.is_netns(netns, cookie).map(|()| Vec::new())
    }

    fn translates(&self, netns: &Path, cookie: u64) -> Step<bool> {
        self.is_netns(netns, cookie).map(|()| false)
    }

    fn iterate(&self, _iterator: &MemoryLink, netns: &Path, cookie: u64) -> Step<()> {
        self.is_netns(netns, cookie)
    }

    fn pin_link(&self, link: &MemoryLink, path: &Path) -> Step<()> {
        self.place("pinning", path, Node::Link(Rc::clone(&link.0)), false)
    }

    fn open_link(&self, path: &Path) -> Step<Option<MemoryLink>> {
        Ok(match self.node(path) {
            Some((_, Node::Link(link))) => Some(MemoryLink(link)),
            _ => None,
        })
    }

    fn link_info(&self, link: &MemoryLink) -> Step<LinkInfo> {
        let target = link.0.target;
        let is_there = self.0.nodes.borrow().values().any(|(inode, _)| *inode == target);
        let target = match link.0.hook {
            _ if !is_there || !link.0.attached.get() => Target::Gone,
            Hook::Iterator => Target::Iterator,
            Hook::SkLookup => Target::Netns(target),
            Hook::TcxIngress => Target::Interface(link.0.interface),
            _ => Target::Cgroup(target),
        };
        Ok(LinkInfo { id: link.0.id, program: link.0.program.borrow().id, target })
    }

    fn all_links(&self) -> Step<Vec<MemoryLink>> {
        Ok(self.0.links.borrow().iter().filter_map(Weak::upgrade).map(MemoryLink).collect())
    }

    /// Programs are not looked into here.
    fn maps_of(&self, _program: u32) -> Step<Vec<u32>> {
        Ok(Vec::new())
    }

    fn replace(&self, link: &MemoryLink, program: &MemoryProgram) -> Step<()> {
        *link.0.program.borrow_mut() = Rc::clone(&program.0);
        Ok(())
    }

    fn detach(&self, link: &MemoryLink) -> Step<()> {
        link.0.attached.set(false);
        Ok(())
    }

    fn can_close(&self) -> Step<bool> {
        Ok(!self.0.keeps_connections.get())
    }

    fn connections(&self, _flows: &MemoryMap, _listening: &MemoryMap) -> Step<Vec<(Noted, u64)>> {
        Ok(self.0.connections.borrow().iter().map(|(&cookie, &noted)| (noted, cookie)).collect())
    }

    fn close(&self, sockets: &[u64]) -> Step<usize> {
        let mut connections = self.0.connections.borrow_mut();
        Ok(sockets.iter().filter(|&cookie| connections.remove(cookie).is_some()).count())
    }

    fn attached(&self, cgroup: &Path, hook: Hook, _effective: bool) -> Step<Vec<u32>> {
        let Some((cgroup, _)) = self.node(cgroup) else { return Ok(Vec::new()) };
        let links = self.0.links.borrow();
        let here = links.iter().filter_map(Weak::upgrade);
        let here = here.filter(|link| link.attached.get() && link.hook == hook && link.target == cgroup);
        Ok(here.map(|link| link.program.borrow().id).collect())
    }

    fn attached_below(&self, cgroup: &Path, hook: Hook) -> Step<Vec<u32>> {
        let nodes: Vec<PathBuf> = self.0.nodes.borrow().keys().cloned().collect();
        let below = nodes.iter().filter(|path| path.starts_with(cgroup) && *path != cgroup);
        let attached = below.map(|path| self.attached(path, hook, false)).collect::<Step<Vec<_>>>()?;
        Ok(attached.concat())
    }

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

    fn socket(&self, _netns: u64, _ends: (SocketAddr, SocketAddr), cookie: u64) -> Step<Option<u64>> {
        Ok(self.0.connections.borrow().contains_key(&cookie).then_some(cookie))
    }
}
