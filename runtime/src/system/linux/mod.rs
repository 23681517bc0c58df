//! The real machine.

mod address_changes;
mod asm;
mod btf_subset;
mod loader;
mod nat;
mod pod_program;
mod prefetch;
mod probe;
mod ring;
mod route;
mod sock_diag;
mod sockmap_charging;
mod sockmap_fionread;
mod storage_btf;
mod syscall;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, SystemTime};

use mesh_bpf::abi::{Control, HitLine, LINE, Unread};
use mesh_bpf::map::{COUNTERS, ENTRIES, EVENT, MapDef, MapKind};
use mesh_bpf::program::{
    ACCELERATORS, AcceleratorDef, Hook, Inbound, Need, OBJECT, PROGRAMS, ProgramDef, RELEASE, UNREAD,
};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::time::{ClockId, clock_gettime};

pub use address_changes::Changes;
pub(crate) use probe::{Bare, Detached};
pub(crate) use ring::Ring;
pub(crate) use sockmap_charging::is_charged;
pub(crate) use sockmap_fionread::counts_all;
pub(crate) use syscall::{Watches, new_network};

use self::btf_subset::Traced;
use self::loader::Object;
use self::prefetch::{Ahead, Waiting};
use crate::system::{
    Fault, LinkInfo, Locked, MapInfo, Noted, Process, ProgramInfo, Sources, Step, Store, Target, Waits, Word,
};

/// `f_type` of a BPF file system.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// The first interface of every network namespace.
const LOOPBACK: u32 = 1;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Elements a batch look-up asks for at first.
const BATCH: u32 = 4096;

/// The kernel that we run on.
#[derive(Debug)]
pub struct Kernel {
    cpus: Option<usize>,
    programs: Cow<'static, [u8]>,
    ahead: Ahead,
    waiting: Waiting,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

/// An open map, with what is needed to size buffers for it.
#[derive(Debug)]
pub struct KernelMap {
    fd: OwnedFd,
    info: MapInfo,
}

impl Kernel {
    /// The kernel that we run on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cpus: possible_cpus(),
            programs: Cow::Borrowed(OBJECT),
            ahead: Ahead::default(),
            waiting: Waiting::default(),
        }
    }

    /// The kernel that we run on, with programs of another build: an object file.
    #[must_use]
    pub fn with_programs(object: Vec<u8>) -> Self {
        Self { programs: Cow::Owned(object), ..Self::new() }
    }

    /// Begins to make the maps and programs of a first apply; [`Store::create_map`] and those that load programs give
    /// them out.
    pub(crate) fn make_ahead(&self, by: Inbound) {
        self.ahead.begin(self.programs.clone(), by);
    }

    /// Begins to wait for the programs that run now: see [`Store::has_waited`].
    pub(crate) fn wait_ahead(&self, maps: &Path) {
        self.waiting.begin(maps);
    }

    /// Starts a command in a cgroup of the version 2 hierarchy.
    ///
    /// # Errors
    /// Where the cgroup cannot be joined or the command cannot be started.
    pub fn spawn_in(&self, command: Command, cgroup: &Path) -> Step<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        let procs = cgroup.join("cgroup.procs");
        let procs = at("opening", &procs, File::options().write(true).open(&procs))?;
        syscall::spawn_in(command, procs.into()).map_err(|cause| Fault::new("starting", name, cause))
    }

    /// Changes of the addresses of a network namespace, after making sure that the file still stands for the one with
    /// this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    pub fn changes(&self, netns: &Path, cookie: u64) -> Step<Changes> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("listening to the addresses of", netns, Changes::of(&file))
    }

    /// The watches, mapped.
    pub(crate) fn watches(&self, map: &KernelMap) -> Step<Watches> {
        on("mapping the map", &map.info.name, Watches::new(map.fd.as_fd()))
    }

    /// A new ring buffer of so many bytes, and its reading end.
    pub(crate) fn ring(&self, bytes: u32) -> Step<(KernelMap, Ring)> {
        let map = self.create_map(&EVENT, bytes, None)?;
        let ring = on("mapping the map", EVENT.name, Ring::new(map.fd.as_fd()))?;
        Ok((map, ring))
    }

    /// Puts one map into a map of maps.
    pub(crate) fn put_map(&self, outer: &KernelMap, index: u32, map: &KernelMap) -> Step<()> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&map.fd);
        self.update(outer, &index.to_ne_bytes(), &fd.to_ne_bytes())
    }

    /// Nanoseconds since boot, sleep included, as the programs count them.
    pub(crate) fn nanoseconds(&self) -> u64 {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }

    /// What can be read once this process was asked to end.
    pub(crate) fn endings(&self) -> Step<OwnedFd> {
        on("taking over", "SIGINT and SIGTERM", syscall::endings())
    }

    fn value_len(&self, info: &MapInfo) -> io::Result<usize> {
        let value = info.value as usize;
        if info.kind != MapKind::PerCpuArray as u32 {
            return Ok(value);
        }
        let unknown = || io::Error::other(format!("`{POSSIBLE_CPUS}` does not say how many CPUs there are"));
        Ok(value.next_multiple_of(8) * self.cpus.ok_or_else(unknown)?)
    }

    fn next_entries(&self, map: &KernelMap) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0; map.info.key as usize];
            match syscall::next_key(map.fd.as_fd(), key.as_deref(), &mut next) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
                Err(error) => return Err(error),
            }
            let mut value = vec![0; self.value_len(&map.info)?];
            match syscall::lookup(map.fd.as_fd(), &next, &mut value) {
                Ok(()) => found.push((next.clone(), value)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
            key = Some(next);
        }
    }

    fn batch_entries(&self, map: &KernelMap) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (key_len, value_len) = (map.info.key as usize, self.value_len(&map.info)?);
        let (mut found, mut count, mut from) = (Vec::new(), BATCH, None);
        loop {
            let mut keys = vec![0; key_len * count as usize];
            let mut values = vec![0; value_len * count as usize];
            let mut to = 0;
            match syscall::lookup_batch(map.fd.as_fd(), from, &mut to, &mut keys, &mut values, count) {
                Ok((read, last)) => {
                    let pairs = keys.chunks_exact(key_len).zip(values.chunks_exact(value_len));
                    found
                        .extend(pairs.take(read as usize).map(|(key, value)| (key.to_vec(), value.to_vec())));
                    if last {
                        return Ok(found);
                    }
                    from = Some(to);
                }
                // One bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => count = count.saturating_mul(2),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes a file, one piece after the other.
fn write_pieces(file: &Path, pieces: &[&[u8]], durable: bool) -> Step<()> {
    let write = || {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
        for piece in pieces {
            io::Write::write_all(&mut out, piece)?;
        }
        if durable { out.sync_all() } else { Ok(()) }
    };
    at("writing", file, write())
}

/// The mode of folders: who may enter one may also lock it, and keep every command waiting.
const OWNER_ONLY: u32 = 0o700;

/// Takes a folder that is there from all but its owner, as versions before did not.
fn close_to_others(folder: &Path) -> io::Result<()> {
    let found = fs::metadata(folder)?;
    if !found.is_dir() || found.mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(OWNER_ONLY))
}

/// Where the kernel says how many CPUs there may ever be.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// How many CPUs there may ever be: the values of maps by CPU have that many parts, and the kernel writes all of them.
/// `None` where it does not say.
fn possible_cpus() -> Option<usize> {
    cpus_in(&fs::read_to_string(POSSIBLE_CPUS).ok()?)
}

/// How many numbers a list such as `0-3,8` has. Counted from 0, so that it is never less than the kernel's own count.
fn cpus_in(list: &str) -> Option<usize> {
    let last = list.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok()?;
    last.checked_add(1)
}

fn at<T>(call: &'static str, path: &Path, result: io::Result<T>) -> Step<T> {
    result.map_err(|cause| Fault::new(call, path.display().to_string(), cause))
}

fn on<T>(call: &'static str, object: &str, result: io::Result<T>) -> Step<T> {
    result.map_err(|cause| Fault::new(call, object, cause))
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // Below a file there is nothing either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

fn name_at(bytes: &[u8], at: usize) -> String {
    let name = bytes.get(at..at + 16).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// `struct bpf_map_info`: type, id, key, value, capacity, flags, name.
fn map_info(fd: &OwnedFd) -> io::Result<MapInfo> {
    let mut bytes = [0; 40];
    syscall::info(fd.as_fd(), &mut bytes)?;
    let word = |index: usize| u32_at(&bytes, index * 4);
    Ok(MapInfo {
        kind: word(0),
        id: word(1),
        key: word(2),
        value: word(3),
        capacity: word(4),
        flags: word(5),
        name: name_at(&bytes, 24),
    })
}

/// `struct bpf_prog_info`: type, id, tag, …, name at 64.
fn program_info(fd: &OwnedFd) -> io::Result<ProgramInfo> {
    let mut bytes = [0; 80];
    syscall::info(fd.as_fd(), &mut bytes)?;
    Ok(ProgramInfo { id: u32_at(&bytes, 4), tag: u64_at(&bytes, 8).to_ne_bytes(), name: name_at(&bytes, 64) })
}

/// `struct bpf_link_info`: type (`enum bpf_link_type`), id, program, …, and from 16 what it is attached to.
fn target(bytes: &[u8]) -> Target {
    match (u32_at(bytes, 0), u64_at(bytes, 16), u32_at(bytes, 16)) {
        (3, 0, _) | (5 | 11, _, 0) => Target::Gone,
        (3, cgroup, _) => Target::Cgroup(cgroup),
        (4, ..) => Target::Iterator,
        (5, _, netns) => Target::Netns(netns.into()),
        (11, _, interface) => Target::Interface(interface),
        _ => Target::Other,
    }
}

fn open(fd: OwnedFd) -> io::Result<KernelMap> {
    Ok(KernelMap { info: map_info(&fd)?, fd })
}

fn create(def: &MapDef, capacity: u32, inner: Option<&KernelMap>) -> io::Result<KernelMap> {
    let types = match def.kind {
        MapKind::SkStorage => Some(syscall::load_btf(&storage_btf::storage(def.value))?),
        _ => None,
    };
    open(syscall::create_map(syscall::NewMap {
        name: def.name,
        kind: def.kind as u32,
        key: def.key,
        value: def.value,
        capacity,
        flags: def.flags,
        inner: inner.map(|inner| inner.fd.as_fd()),
        types: types.as_ref().map(|types| (types.as_fd(), storage_btf::KEY, storage_btf::VALUE)),
    })?)
}

/// Puts maps into a map of maps, by one call.
fn put_maps(outer: &KernelMap, elements: &[(u32, &KernelMap)]) -> io::Result<()> {
    let keys: Vec<u32> = elements.iter().map(|&(key, _)| key).collect();
    let values: Vec<u32> =
        elements.iter().map(|(_, map)| std::os::fd::AsRawFd::as_raw_fd(&map.fd).unsigned_abs()).collect();
    syscall::update_batch(outer.fd.as_fd(), &keys, &values)
}

fn start_of(stat: &str) -> Option<u64> {
    // The name may hold spaces and parentheses; the 22nd field is the 20th after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Process { pid, start: start_of(&stat)? })
}

fn lock(folder: &Path) -> io::Result<Locked<File>> {
    let Some(file) = absent(File::open(folder))? else { return Ok(Locked::Gone) };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        Err(error) => return Err(error.into()),
    }
    // Whoever held it before may have removed the folder, and a third may have made another.
    let here = absent(fs::metadata(folder))?.map(|here| (here.dev(), here.ino()));
    let held = file.metadata()?;
    Ok(if here == Some((held.dev(), held.ino())) { Locked::Held(file) } else { Locked::Gone })
}

/// Does something on a thread of its own, whose namespace may be changed.
///
/// # Errors
/// What it answers, or where no thread can be had.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, work)?;
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}

/// What this thread is in, as a file that stands for it.
const HERE: &str = "/proc/thread-self/ns/net";

/// The namespace that a thread goes back to.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        // It must not go on where it is: what it does next would be done to another machine's network.
        if move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
            std::process::abort();
        }
    }
}

/// Does something inside a network namespace, and comes back. This thread goes there itself: on a busy machine, waiting for
/// another one takes longer than all that is done there.
fn inside<T>(netns: &File, body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let here = File::open(HERE)?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let back = Back(here);
    let result = body();
    drop(back);
    result
}

/// Of this thread's namespace.
fn own_cookie() -> io::Result<u64> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    syscall::netns_cookie(socket.as_fd())
}

fn cookie_of(netns: &Path) -> io::Result<u64> {
    inside(&File::open(netns)?, own_cookie)
}

/// Opens a namespace's file, which may stand for another one by now.
fn open_netns(netns: &Path, cookie: u64) -> io::Result<File> {
    let file = File::open(netns)?;
    let is_it = inside(&file, own_cookie)? == cookie;
    if is_it { Ok(file) } else { Err(io::Error::from_raw_os_error(libc::ESTALE)) }
}

fn iterate(iterator: &OwnedFd) -> io::Result<()> {
    let mut file = File::from(syscall::iterator(iterator.as_fd())?);
    loop {
        match io::copy(&mut file, &mut io::sink()) {
            Ok(_) => return Ok(()),
            // It has looked at a million sockets.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}

fn netns_addresses(netns: &File) -> io::Result<Vec<IpAddr>> {
    inside(netns, || {
        let found = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        Ok(found.filter(|address| !address.is_loopback()).collect())
    })
}

/// The interfaces of this thread's namespace by their numbers: loopback is the first.
fn interfaces() -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> =
        nix::net::if_::if_nameindex()?.iter().map(nix::net::if_::Interface::index).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The network namespaces of processes, a file for each process.
fn namespaces_of_processes() -> io::Result<impl Iterator<Item = PathBuf>> {
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let is_process = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    Ok(processes.filter(is_process).map(|process| process.join("ns/net")))
}

/// Files that stand for network namespaces, one for each: of processes, and of mounts such as `ip netns` and
/// container runtimes make.
fn namespace_files() -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = namespaces_of_processes()?.collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    files.extend(mounts.lines().filter(|line| line.contains(" - nsfs ")).filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        fields.next()?.starts_with("net:").then(|| fields.next().map(PathBuf::from))?
    }));
    each_once(&mut files);
    Ok(files)
}

/// Leaves one file for each namespace. What ended meanwhile is none any more.
fn each_once(files: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    files.retain(|file| fs::metadata(file).is_ok_and(|found| seen.insert((found.dev(), found.ino()))));
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Opens the maps of an instance, by name.
type Maps<'a> = &'a dyn Fn(&str) -> Step<OwnedFd>;

/// Those that are pinned there.
fn pinned(maps: &Path) -> impl Fn(&str) -> Step<OwnedFd> + '_ {
    |name| {
        let pin = maps.join(name);
        at("opening", &pin, syscall::open_pin(&pin))
    }
}

/// Every program, or why the kernel refuses it.
type Tried = Vec<(&'static ProgramDef, Step<OwnedFd>)>;

/// One that is refused does not keep the others from being tried.
fn try_load(programs: &[u8], maps: Maps<'_>) -> Result<Tried, Fault> {
    let target = |def: &ProgramDef| match def.hook {
        Hook::Iterator => Some(Traced::Iterator("tcp")),
        _ => loader::target(def.hook, def.tracepoint),
    };
    let targets: Vec<Traced> = PROGRAMS.iter().filter_map(target).collect();
    let object = Object::open(programs, maps, &targets)?;
    Ok(object.load_all(PROGRAMS, |object, def| object.load(def.name, def.hook, target(def))))
}

fn load_inbound(maps: Maps<'_>, by: Inbound) -> Result<OwnedFd, Fault> {
    let def = by.program();
    if by == Inbound::Tc {
        // Such a program can be loaded long before there is something to attach it to.
        on("attaching to", "an interface (tcx, Linux 6.6)", has_tcx())?;
    }
    Object::open(by.object(), maps, &[])?.load(def.name, def.hook, None)
}

fn load_entry(maps: &Path, pod: u64, by: Inbound) -> Result<OwnedFd, Fault> {
    let open = pinned(maps);
    let maps = pod_program::Maps {
        entries: open(ENTRIES.name)?,
        counters: open(COUNTERS.name)?,
        program: open(by.map().name)?,
    };
    on("loading", "the program of a pod", pod_program::load(&maps, by, pod))
}

/// Whether a program can be attached to an interface: tried, in a network namespace of its own.
fn has_tcx() -> io::Result<()> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            syscall::new_network()?;
            let program = Bare::Classifier.load()?;
            syscall::link_interface(program.as_fd(), LOOPBACK, Hook::TcxIngress as u32).map(drop)
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}

/// Every program of acceleration, or why the kernel refuses it.
type TriedAccelerators = Vec<(&'static AcceleratorDef, Step<OwnedFd>)>;

fn try_accelerators(programs: &[u8], maps: &Path) -> Result<TriedAccelerators, Fault> {
    let target = |def: &AcceleratorDef| loader::target(def.hook, def.target);
    let targets: Vec<Traced> = ACCELERATORS.iter().filter_map(target).collect();
    let object = Object::open(programs, &pinned(maps), &targets)?;
    Ok(object.load_all(ACCELERATORS, |object, def| {
        if def.hook == Hook::Security {
            on("asking for", "the security module `bpf`", syscall::has_lsm_bpf())?;
        }
        object.load(def.name, def.hook, target(def))
    }))
}

impl Store for Kernel {
    type Map = KernelMap;
    type Program = OwnedFd;
    type Link = OwnedFd;
    type Words = syscall::Words;
    type Lock = File;
    type Socket = sock_diag::KernelSocket;

    fn wall_clock(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn clock(&self) -> u64 {
        // Goes on while the machine sleeps, and is the same for every process of a boot.
        let now = clock_gettime(ClockId::Boottime);
        (now.tv_sec.unsigned_abs() * 1000) + now.tv_nsec.unsigned_abs() / 1_000_000
    }

    fn sleep(&self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    fn this_process(&self) -> Process {
        let pid = std::process::id();
        process(pid).unwrap_or(Process { pid, start: 0 })
    }

    fn is_alive(&self, wanted: Process) -> bool {
        process(wanted.pid) == Some(wanted)
    }

    fn list(&self, folder: &Path) -> Step<Option<Vec<String>>> {
        at(
            "listing",
            folder,
            absent(fs::read_dir(folder)).and_then(|entries| {
                let Some(entries) = entries else { return Ok(None) };
                let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
                let mut names = names.collect::<io::Result<Vec<_>>>()?;
                names.sort();
                Ok(Some(names))
            }),
        )
    }

    fn make_folder(&self, folder: &Path) -> Step<()> {
        match DirBuilder::new().mode(OWNER_ONLY).create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                at("closing to others", folder, close_to_others(folder))
            }
            result => at("making", folder, result),
        }
    }

    fn remove_folder(&self, folder: &Path) -> Step<()> {
        at("removing", folder, absent(fs::remove_dir(folder)).map(drop))
    }

    fn remove(&self, file: &Path) -> Step<()> {
        at("removing", file, absent(fs::remove_file(file)).map(drop))
    }

    fn rename(&self, from: &Path, to: &Path, durable: bool) -> Step<()> {
        let renamed = fs::rename(from, to);
        at("renaming", to, if durable { renamed.and_then(|()| sync_parent(to)) } else { renamed })
    }

    fn read(&self, file: &Path) -> Step<Option<Vec<u8>>> {
        at("reading", file, absent(fs::read(file)))
    }

    fn write(&self, file: &Path, content: &[u8], durable: bool) -> Step<()> {
        write_pieces(file, &[content], durable)
    }

    fn write_beside<T>(&self, file: &Path, pieces: &[&[u8]], meanwhile: impl FnOnce() -> T) -> (Step<()>, T) {
        thread::scope(|scope| {
            let write = || write_pieces(file, pieces, true);
            let writing = thread::Builder::new().spawn_scoped(scope, write);
            let done = meanwhile();
            let written = match writing {
                Ok(writing) => writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No thread can be had: one after the other.
                Err(_) => write(),
            };
            (written, done)
        })
    }

    fn inode(&self, path: &Path) -> Step<Option<u64>> {
        let inode = absent(fs::metadata(path)).map(|found| found.map(|found| found.ino()));
        at("the look-up", path, inode)
    }

    fn is_bpffs(&self, path: &Path) -> Step<bool> {
        let found = rustix::fs::statfs(path).map_err(io::Error::from);
        let found = at("the look-up", path, absent(found))?;
        #[expect(clippy::unnecessary_cast, reason = "the type of `f_type` differs by architecture")]
        Ok(found.is_some_and(|found| found.f_type as i64 == BPF_FS_MAGIC))
    }

    fn is_writable(&self, path: &Path) -> Step<bool> {
        let found = at("the look-up", path, rustix::fs::statvfs(path).map_err(io::Error::from))?;
        Ok(!found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    fn lock(&self, folder: &Path) -> Step<Locked<File>> {
        at("locking", folder, lock(folder))
    }

    fn is_populated(&self, cgroup: &Path) -> Step<bool> {
        let events = cgroup.join("cgroup.events");
        let text = at("reading", &events, absent(fs::read_to_string(&events)))?;
        Ok(text.is_some_and(|text| text.lines().any(|line| line == "populated 1")))
    }

    fn netns_cookie(&self, netns: &Path) -> Step<u64> {
        let file = at("opening", netns, File::open(netns))?;
        at("entering", netns, inside(&file, own_cookie))
    }

    fn is_own_netns(&self, cookie: u64) -> Step<bool> {
        // Where another process namespace hides the machine's first process, that is the first of ours: its network
        // is ours too, or a pod's that this process was started for.
        let own = [HERE, "/proc/1/ns/net"].map(|file| cookie_of(Path::new(file)).ok());
        Ok(own.contains(&Some(cookie)))
    }

    fn is_lived_in(&self, cookie: u64) -> Step<bool> {
        let found = namespaces_of_processes().map(|files| {
            let mut files: Vec<PathBuf> = files.collect();
            each_once(&mut files);
            files.iter().any(|file| cookie_of(file).is_ok_and(|found| found == cookie))
        });
        at("looking for network namespaces in", Path::new("/proc"), found)
    }

    fn find_netns(&self, cookie: u64) -> Step<Option<PathBuf>> {
        let files = at("looking for network namespaces in", Path::new("/proc"), namespace_files())?;
        Ok(files.into_iter().find(|file| cookie_of(file).is_ok_and(|found| found == cookie)))
    }

    fn netns_addresses(&self, netns: &Path) -> Step<Vec<IpAddr>> {
        let file = at("opening", netns, File::open(netns))?;
        at("entering", netns, netns_addresses(&file))
    }

    fn netns_sources(&self, netns: &Path) -> Step<Sources> {
        let file = at("opening", netns, File::open(netns))?;
        let chosen = inside(&file, route::sources).map(|(v4, v6)| Sources { v4, v6 });
        at("asking for the routes of", netns, chosen)
    }

    fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> Step<String> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let path = Path::new("/proc/sys").join(name);
        at("reading", &path, inside(&file, || fs::read_to_string(&path)))
    }

    fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> Step<()> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let path = Path::new("/proc/sys").join(name);
        at("writing", &path, inside(&file, || fs::write(&path, value)))
    }

    fn namespaces(&self) -> Step<BTreeSet<u64>> {
        let files = at("looking for network namespaces in", Path::new("/proc"), namespace_files())?;
        Ok(files.iter().filter_map(|file| cookie_of(file).ok()).collect())
    }

    fn create_map(&self, def: &MapDef, capacity: u32, inner: Option<&KernelMap>) -> Step<KernelMap> {
        match self.ahead.map(def, capacity) {
            Some(map) => Ok(map),
            None => on("creating the map", def.name, create(def, capacity, inner)),
        }
    }

    fn pin_map(&self, map: &KernelMap, path: &Path) -> Step<()> {
        at("pinning", path, syscall::pin(map.fd.as_fd(), path))
    }

    fn open_map(&self, path: &Path) -> Step<Option<KernelMap>> {
        at("opening", path, absent(syscall::open_pin(path).and_then(open)))
    }

    fn map_by_id(&self, id: u32) -> Step<Option<KernelMap>> {
        on("opening the map", &id.to_string(), absent(syscall::map_by_id(id).and_then(open)))
    }

    fn map_info(&self, map: &KernelMap) -> Step<MapInfo> {
        Ok(map.info.clone())
    }

    fn lookup(&self, map: &KernelMap, key: &[u8]) -> Step<Option<Vec<u8>>> {
        let mut value = vec![0; on("reading the map", &map.info.name, self.value_len(&map.info))?];
        let found = absent(syscall::lookup(map.fd.as_fd(), key, &mut value));
        Ok(on("reading the map", &map.info.name, found)?.map(|()| value))
    }

    fn update(&self, map: &KernelMap, key: &[u8], value: &[u8]) -> Step<()> {
        on("writing the map", &map.info.name, syscall::update(map.fd.as_fd(), key, value))
    }

    fn delete(&self, map: &KernelMap, key: &[u8]) -> Step<()> {
        on("writing the map", &map.info.name, absent(syscall::delete(map.fd.as_fd(), key)).map(drop))
    }

    fn entries(&self, map: &KernelMap) -> Step<Vec<(Vec<u8>, Vec<u8>)>> {
        let hash = map.info.kind == MapKind::Hash as u32;
        let entries = if hash { self.batch_entries(map) } else { self.next_entries(map) };
        on("reading the map", &map.info.name, entries)
    }

    fn put_maps(&self, outer: &KernelMap, elements: &[(u32, &KernelMap)]) -> Step<()> {
        on("writing the map", &outer.info.name, put_maps(outer, elements))
    }

    fn has_waited(&self, control: u32, generation: u64) -> bool {
        self.waiting.end() == Some((control, generation))
    }

    fn fill(&self, map: &KernelMap, content: &[u8]) -> Step<()> {
        on("filling the map", &map.info.name, syscall::fill(map.fd.as_fd(), content))
    }

    fn freeze(&self, map: &KernelMap) -> Step<()> {
        on("freezing the map", &map.info.name, syscall::freeze(map.fd.as_fd()))
    }

    fn content(&self, map: &KernelMap, len: usize) -> Step<Vec<u8>> {
        on("reading the map", &map.info.name, syscall::content(map.fd.as_fd(), len))
    }

    fn hits(&self, map: &KernelMap) -> Step<Vec<(u64, u64)>> {
        let content = self.content(map, map.info.capacity as usize * LINE)?;
        let lines = content.chunks_exact(LINE).map(bytemuck::pod_read_unaligned::<HitLine>);
        let all = lines.flat_map(|line| line.item.into_iter().zip(line.count));
        Ok(all.filter(|&(item, _)| item != 0).collect())
    }

    fn add_hits(&self, map: &KernelMap, counts: &[(u64, u64)]) -> Step<()> {
        on("writing to the map", &map.info.name, syscall::add_hits(map.fd.as_fd(), counts))
    }

    fn holds(&self, map: &KernelMap, content: &[u8]) -> Step<bool> {
        on("reading the map", &map.info.name, syscall::holds(map.fd.as_fd(), content))
    }

    fn words(&self, control: &KernelMap) -> Step<syscall::Words> {
        on("mapping the map", &control.info.name, syscall::Words::new(control.fd.as_fd()))
    }

    fn load(&self, words: &syscall::Words) -> Control {
        words.load()
    }

    fn exchange(&self, words: &syscall::Words, word: Word, old: u64, new: u64) -> Step<bool> {
        Ok(words.exchange(word, old, new))
    }

    fn programs_version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.programs);
        for by in Inbound::ALL {
            hasher.update(by.object());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn load_programs(&self, maps: &Path) -> Step<Vec<(&'static ProgramDef, OwnedFd)>> {
        if let Some(programs) = self.ahead.programs(maps) {
            return Ok(programs);
        }
        let tried = try_load(&self.programs, &pinned(maps))?;
        tried.into_iter().map(|(def, program)| Ok((def, program?))).collect()
    }

    fn load_inbound(&self, maps: &Path, by: Inbound) -> Step<OwnedFd> {
        self.ahead.inbound(maps, by).map_or_else(|| load_inbound(&pinned(maps), by), Ok)
    }

    fn load_entry(&self, maps: &Path, pod: u64, by: Inbound) -> Step<OwnedFd> {
        load_entry(maps, pod, by)
    }

    fn put_program(&self, map: &KernelMap, index: u32, program: &OwnedFd) -> Step<()> {
        let fd = std::os::fd::AsRawFd::as_raw_fd(program);
        self.update(map, &index.to_ne_bytes(), &fd.to_ne_bytes())
    }

    fn program_info(&self, program: &OwnedFd) -> Step<ProgramInfo> {
        on("looking at", "a program", program_info(program))
    }

    fn program_by_id(&self, id: u32) -> Step<Option<ProgramInfo>> {
        let info = absent(syscall::program_by_id(id).and_then(|fd| program_info(&fd)));
        on("looking at the program", &id.to_string(), info)
    }

    fn attach(&self, program: &OwnedFd, hook: Hook, cgroup: &Path) -> Step<OwnedFd> {
        if !hook.is_of_cgroup() {
            return on(
                "attaching",
                "a tracepoint or iterator",
                syscall::link(program.as_fd(), None, hook as u32),
            );
        }
        let target = at("opening", cgroup, File::open(cgroup))?;
        at("attaching to", cgroup, syscall::link(program.as_fd(), Some(target.as_fd()), hook as u32))
    }

    fn attach_netns(
        &self,
        program: &OwnedFd,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> Step<Vec<OwnedFd>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        let hook = by.program().hook as u32;
        let links = match by {
            Inbound::SkLookup => {
                syscall::link(program.as_fd(), Some(target.as_fd()), hook).map(|link| vec![link])
            }
            Inbound::Tc => inside(&target, || {
                let interfaces = interfaces()?.into_iter().filter(|number| !covered.contains(number));
                interfaces.map(|number| syscall::link_interface(program.as_fd(), number, hook)).collect()
            }),
        };
        let call = match by {
            Inbound::SkLookup => "the attachment to the network namespace",
            Inbound::Tc => "the attachment to interfaces (tcx, Linux 6.6)",
        };
        at(call, netns, links)
    }

    fn interfaces(&self, netns: &Path, cookie: u64) -> Step<Vec<u32>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the interfaces", netns, inside(&target, interfaces))
    }

    fn waiting(&self, netns: &Path, cookie: u64) -> Step<Vec<Waits>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the sockets", netns, sock_diag::waiting(&target))
    }

    fn translates(&self, netns: &Path, cookie: u64) -> Step<bool> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the translated addresses", netns, inside(&target, nat::translates))
    }

    fn iterate(&self, iterator: &OwnedFd, netns: &Path, cookie: u64) -> Step<()> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        // It passes all places for connections of the whole machine, in milliseconds. A new pod has no socket yet.
        let body = || match sock_diag::somebody_listens() {
            Ok(false) => Ok(()),
            _ => iterate(iterator),
        };
        at("looking at the sockets", netns, inside(&target, body))
    }

    fn pin_link(&self, link: &OwnedFd, path: &Path) -> Step<()> {
        at("pinning", path, syscall::pin(link.as_fd(), path))
    }

    fn open_link(&self, path: &Path) -> Step<Option<OwnedFd>> {
        at("opening", path, absent(syscall::open_pin(path)))
    }

    fn link_info(&self, link: &OwnedFd) -> Step<LinkInfo> {
        let mut bytes = [0; 32];
        on("looking at", "a link", syscall::info(link.as_fd(), &mut bytes))?;
        Ok(LinkInfo { id: u32_at(&bytes, 4), program: u32_at(&bytes, 8), target: target(&bytes) })
    }

    fn all_links(&self) -> Step<Vec<OwnedFd>> {
        let mut links = Vec::new();
        let mut id = 0;
        while let Some(next) = on("listing", "links", absent(syscall::next_link(id)))? {
            // One that ended meanwhile is none.
            links.extend(on("opening", "a link", absent(syscall::link_by_id(next)))?);
            id = next;
        }
        Ok(links)
    }

    fn maps_of(&self, program: u32) -> Step<Vec<u32>> {
        let maps = absent(syscall::program_by_id(program).and_then(|fd| syscall::maps_of(fd.as_fd())));
        Ok(on("looking at the program", &program.to_string(), maps)?.unwrap_or_default())
    }

    fn replace(&self, link: &OwnedFd, program: &OwnedFd) -> Step<()> {
        on("replacing the program of", "a link", syscall::replace(link.as_fd(), program.as_fd()))
    }

    fn detach(&self, link: &OwnedFd) -> Step<()> {
        match syscall::detach(link.as_fd()) {
            // Its cgroup is gone, and the attachment with it; or it is that of a tracepoint or iterator, which
            // ends with its last holder: its pin.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::EOPNOTSUPP)) => Ok(()),
            result => on("detaching", "a link", result),
        }
    }

    fn can_close(&self) -> Step<bool> {
        on("asking about", "connections", sock_diag::can_close())
    }

    fn connections(
        &self,
        flows: &KernelMap,
        listening: &KernelMap,
    ) -> Step<Vec<(Noted, sock_diag::KernelSocket)>> {
        on("listing", "connections", sock_diag::connections([flows.fd.as_fd(), listening.fd.as_fd()]))
    }

    fn close(&self, sockets: &[sock_diag::KernelSocket]) -> Step<usize> {
        on("closing", "connections", sock_diag::close(sockets))
    }

    fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> Step<Vec<u32>> {
        let target = at("opening", cgroup, File::open(cgroup))?;
        at("asking what is attached to", cgroup, syscall::attached(target.as_fd(), hook as u32, effective))
    }

    fn attached_below(&self, cgroup: &Path, hook: Hook) -> Step<Vec<u32>> {
        let mut found = Vec::new();
        let mut left = vec![cgroup.to_owned()];
        while let Some(folder) = left.pop() {
            // One that ends meanwhile has nothing attached.
            let Some(entries) = at("listing", &folder, absent(fs::read_dir(&folder)))? else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                let below = entry.path();
                let Some(target) = at("opening", &below, absent(File::open(&below)))? else { continue };
                let asked = syscall::attached(target.as_fd(), hook as u32, false);
                found.extend(at("asking what is attached to", &below, asked)?);
                left.push(below);
            }
        }
        Ok(found)
    }

    fn load_accelerators(&self, maps: &Path) -> Step<Vec<(&'static AcceleratorDef, OwnedFd)>> {
        on("sending", "bytes past the stack", is_charged())?;
        let tried = try_accelerators(&self.programs, maps)?;
        let wanted = tried.into_iter().filter(|(def, program)| program.is_ok() || def.need == Need::Always);
        wanted.map(|(def, program)| Ok((def, program?))).collect()
    }

    fn attach_message(&self, program: &OwnedFd, sockets: &KernelMap) -> Step<()> {
        let attached = syscall::attach_program(program.as_fd(), sockets.fd.as_fd(), Hook::Message as u32);
        on("attaching to the map", &sockets.info.name, attached)
    }

    fn detach_message(&self, sockets: &KernelMap) -> Step<()> {
        let hook = Hook::Message as u32;
        let name = &sockets.info.name;
        for id in on("asking what is attached to", name, syscall::attached(sockets.fd.as_fd(), hook, false))?
        {
            let Some(program) = on("opening", name, absent(syscall::program_by_id(id)))? else { continue };
            let detached = syscall::detach_from_map(program.as_fd(), sockets.fd.as_fd(), hook);
            on("detaching from the map", name, absent(detached))?;
        }
        Ok(())
    }

    fn message_program(&self, sockets: &KernelMap) -> Step<Option<ProgramInfo>> {
        let ids = syscall::attached(sockets.fd.as_fd(), Hook::Message as u32, false);
        let ids = on("asking what is attached to", &sockets.info.name, ids)?;
        ids.first().map_or(Ok(None), |&id| self.program_by_id(id))
    }

    fn unread(&self, maps: &Path, cookies: &[u64]) -> Step<Vec<Unread>> {
        if cookies.is_empty() {
            return Ok(Vec::new());
        }
        let object = Object::open(&self.programs, &pinned(maps), &[])?;
        // A classifier like that one, but attached to nothing.
        let program = object.load(UNREAD, Hook::TcxIngress, None)?;
        let ask = |&cookie| {
            let mut packet = [0; ETHERNET + size_of::<Unread>()];
            let (_, question) = packet.split_at_mut(ETHERNET);
            question.copy_from_slice(bytemuck::bytes_of(&Unread { cookie, ..Unread::default() }));
            on("running", UNREAD, syscall::run_over(program.as_fd(), &mut packet))?;
            let (_, answer) = packet.split_at(ETHERNET);
            Ok(bytemuck::pod_read_unaligned(answer))
        };
        let all: Step<Vec<Unread>> = cookies.iter().map(ask).collect();
        Ok(all?.into_iter().filter(|one| one.long_bytes > 0 || one.short_bytes > 0).collect())
    }

    fn miscounts(&self) -> Step<bool> {
        on("asking", "FIONREAD", counts_all(None).map(|counts| !counts))
    }

    fn release(&self, maps: &Path, netns: &Path, cookie: u64) -> Step<()> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        let over = Traced::Iterator("tcp");
        let object = Object::open(&self.programs, &pinned(maps), &[over])?;
        let program = object.load(RELEASE, Hook::Iterator, Some(over))?;
        let link = on("attaching", RELEASE, syscall::link(program.as_fd(), None, Hook::Iterator as u32))?;
        at("looking at the sockets", netns, inside(&target, || iterate(&link)))
    }

    fn socket(
        &self,
        netns: u64,
        ends: (SocketAddr, SocketAddr),
        cookie: u64,
    ) -> Step<Option<sock_diag::KernelSocket>> {
        let Some(path) = self.find_netns(netns)? else { return Ok(None) };
        let file = at("opening", &path, open_netns(&path, netns))?;
        Ok(Some(sock_diag::KernelSocket::new(file, ends, cookie)))
    }
}
