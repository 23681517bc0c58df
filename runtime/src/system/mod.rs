//! The one gate: everything that the runtime does to a kernel, a file system or a clock goes through
//! [`Store`], one call a step.
//!
//! That makes each step a place where a test can fail the call, or end the process: see
//! [`Faulty`](crate::system::faults::Faulty). A step is atomic, or harmless when cut in two; what is not (a
//! file, a set of pins) is made beside its place and renamed.

pub mod faults;
pub(crate) mod linux;
pub mod memory;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use mesh_bpf::abi::{Control, Flow, Listening, Unread};
use mesh_bpf::map::MapDef;
use mesh_bpf::program::{AcceleratorDef, Hook, Inbound, ProgramDef};
use serde::{Deserialize, Serialize};

/// Where the connections of a network namespace to others come from, of each family; none where it has no address but
/// loopback and link-local ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Sources {
    /// What the routes to the outside choose, else the first of the addresses that others can answer to. A route may choose
    /// a link-local address of IPv4, which is translated on its way.
    #[must_use]
    pub fn of(chosen: Self, addresses: &[IpAddr]) -> Self {
        let v4 = chosen.v4.filter(|v4| !v4.is_loopback());
        let v6 = chosen.v6.filter(|v6| !v6.is_loopback() && !v6.is_unicast_link_local());
        let first_v4 = || {
            let mut all = addresses.iter().filter_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            all.find(|v4| !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified())
        };
        let first_v6 = || {
            let mut all = addresses.iter().filter_map(|address| match address {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            });
            all.find(|v6| !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified())
        };
        Self { v4: v4.or_else(first_v4), v6: v6.or_else(first_v6) }
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} of `{object}` failed: {cause}")]
pub struct Fault {
    /// The step, in words.
    pub call: &'static str,
    /// What it was done to.
    pub object: String,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
    /// What a verifier or loader said beside it; often empty.
    pub log: String,
}

impl Fault {
    /// A fault of `call` on `object`.
    pub fn new(call: &'static str, object: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self { call, object: object.into(), cause: cause.into(), log: String::new() }
    }

    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    /// Whether the kernel has no such thing, or lets nobody use it; not where something has run out.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        /// `ENOTSUPP`, which the kernel keeps to itself elsewhere.
        const NOT_SUPPORTED: i32 = 524;
        matches!(
            self.errno(),
            Some(libc::EPERM | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | NOT_SUPPORTED)
        )
    }
}

/// The result of a step.
pub type Step<T> = Result<T, Fault>;

/// What the kernel says of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// The kernel's id.
    pub id: u32,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes in a key.
    pub key: u32,
    /// Bytes in a value.
    pub value: u32,
    /// How many elements fit.
    pub capacity: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// As far as the kernel keeps it.
    pub name: String,
}

/// What a link attaches its program to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// It is gone, or the link was detached.
    #[default]
    Gone,
    /// A cgroup, by its id.
    Cgroup(u64),
    /// A network namespace, by the inode of its file.
    Netns(u64),
    /// An interface of a network namespace, by its number there.
    Interface(u32),
    /// Nothing: it is an iterator.
    Iterator,
    /// Something that no link of ours is attached to.
    Other,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's id.
    pub id: u32,
    /// The id of the program that it attaches.
    pub program: u32,
    /// What it attaches it to.
    pub target: Target,
}

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

/// What the programs noted with a socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A member opened it.
    Opened(Flow),
    /// A socket that was known accepted it.
    Accepted(Accepted),
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The cookie of the network namespace.
    pub netns: u64,
    /// Where the connection comes from; never v4-mapped.
    pub remote: SocketAddr,
    /// What was dialled; never v4-mapped.
    pub local: SocketAddr,
    /// Who accepted it.
    pub by: Listening,
}

/// A socket that waits for connections or datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For datagrams.
    pub is_udp: bool,
    /// Where.
    pub at: SocketAddr,
    /// It is on all IPv6 addresses, and takes what comes by IPv4 too.
    pub takes_v4: bool,
}

/// One of the words of [`Control`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// [`Control::generation`]
    Generation,
    /// [`Control::claim`]
    Claim,
    /// [`Control::paused`]
    Paused,
    /// [`Control::observe`]
    Observe,
    /// [`Control::commits`]
    Commits,
    /// [`Control::flow_abi`]
    FlowAbi,
    /// [`Control::host`]
    Host,
    /// [`Control::acceleration`]
    Acceleration,
}

/// The outcome of asking for a lock.
#[derive(Debug)]
pub enum Locked<L> {
    /// It is ours until dropped, and the folder is still the one at that path.
    Held(L),
    /// Somebody else has it.
    Busy,
    /// There is no such folder (any more).
    Gone,
}

/// A process, so that it can be told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// What the runtime needs from the machine. Handles close what they hold when they are dropped.
///
/// Paths of files, pins and cgroups are paths of one tree; a pin is what [`Store::pin_map`] made, and
/// [`Store::remove`] removes it.
pub trait Store {
    /// An open map.
    type Map;
    /// A loaded program.
    type Program;
    /// An open link.
    type Link;
    /// The memory-mapped words of the control map.
    type Words;
    /// A held lock.
    type Lock;
    /// A connected socket.
    type Socket;

    /// Milliseconds since 1970. Other people set this clock; nothing depends on it but what is shown.
    fn wall_clock(&self) -> u64;
    /// Milliseconds since boot, on a clock that nobody sets and that is the same for every process.
    fn clock(&self) -> u64;
    /// Sleeps.
    fn sleep(&self, milliseconds: u64);
    /// This process.
    fn this_process(&self) -> Process;
    /// Whether that very process lives.
    fn is_alive(&self, process: Process) -> bool;

    /// Names in a folder, sorted; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn list(&self, folder: &Path) -> Step<Option<Vec<String>>>;
    /// Makes a folder that only its owner may enter; one that is there becomes such a one.
    ///
    /// # Errors
    /// What the kernel says.
    fn make_folder(&self, folder: &Path) -> Step<()>;
    /// Removes an empty folder; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn remove_folder(&self, folder: &Path) -> Step<()>;
    /// Removes a file or pin; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn remove(&self, file: &Path) -> Step<()>;
    /// Renames a file, pin or folder over what is there, and with `durable` waits until that is on the disk.
    ///
    /// # Errors
    /// What the kernel says.
    fn rename(&self, from: &Path, to: &Path, durable: bool) -> Step<()>;
    /// A file's content; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn read(&self, file: &Path) -> Step<Option<Vec<u8>>>;
    /// Writes a file, and with `durable` waits until it is on the disk. Not atomic: for new names only.
    ///
    /// # Errors
    /// What the kernel says.
    fn write(&self, file: &Path, content: &[u8], durable: bool) -> Step<()>;
    /// Writes a file of several pieces and waits until it is on the disk, and does something else meanwhile: one of
    /// the two may be done when the process ends, or both half.
    fn write_beside<T>(&self, file: &Path, pieces: &[&[u8]], meanwhile: impl FnOnce() -> T) -> (Step<()>, T);
    /// The inode of a file or folder; `None` where there is none. A cgroup's is its id.
    ///
    /// # Errors
    /// What the kernel says.
    fn inode(&self, path: &Path) -> Step<Option<u64>>;
    /// Whether this is a BPF file system.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_bpffs(&self, path: &Path) -> Step<bool>;
    /// Whether the file system is not mounted read-only.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_writable(&self, path: &Path) -> Step<bool>;
    /// Tries to lock a folder against other processes, and makes sure that it is still at its path.
    ///
    /// # Errors
    /// What the kernel says.
    fn lock(&self, folder: &Path) -> Step<Locked<Self::Lock>>;
    /// Whether any process lives in a cgroup or below it.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_populated(&self, cgroup: &Path) -> Step<bool>;
    /// The cookie of a network namespace, by a file that stands for it. Minimum kernel 5.14.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_cookie(&self, netns: &Path) -> Step<u64>;
    /// The addresses of a network namespace's interfaces, but for loopback's.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_addresses(&self, netns: &Path) -> Step<Vec<IpAddr>>;
    /// Where the connections of a network namespace to others come from, as far as its routes say.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_sources(&self, netns: &Path) -> Step<Sources>;
    /// A setting of the network namespace that has this cookie, by its path below `/proc/sys`.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where the file stands for another namespace.
    fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> Step<String>;
    /// Changes it.
    ///
    /// # Errors
    /// As [`Store::netns_setting`].
    fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> Step<()>;
    /// The cookies of all network namespaces that a process lives in or a mount holds.
    ///
    /// # Errors
    /// What the kernel says.
    fn namespaces(&self) -> Step<BTreeSet<u64>>;
    /// Whether a network namespace is the node's own: that of this process, or of the machine's first one.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_own_netns(&self, cookie: u64) -> Step<bool>;
    /// Whether a process lives in the network namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_lived_in(&self, cookie: u64) -> Step<bool>;
    /// A file that stands for the network namespace with this cookie; `None` where no process lives in it and no
    /// mount holds it.
    ///
    /// # Errors
    /// What the kernel says.
    fn find_netns(&self, cookie: u64) -> Step<Option<PathBuf>>;

    /// Creates a map as `def` says, with `capacity` elements; `inner` is the shape of a map-in-map's elements.
    ///
    /// # Errors
    /// What the kernel says.
    fn create_map(&self, def: &MapDef, capacity: u32, inner: Option<&Self::Map>) -> Step<Self::Map>;
    /// Pins a map.
    ///
    /// # Errors
    /// What the kernel says.
    fn pin_map(&self, map: &Self::Map, path: &Path) -> Step<()>;
    /// Opens a pinned map; `None` where there is no pin.
    ///
    /// # Errors
    /// What the kernel says.
    fn open_map(&self, path: &Path) -> Step<Option<Self::Map>>;
    /// Opens a map by its id; `None` where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn map_by_id(&self, id: u32) -> Step<Option<Self::Map>>;
    /// What the kernel says of a map.
    ///
    /// # Errors
    /// What the kernel says.
    fn map_info(&self, map: &Self::Map) -> Step<MapInfo>;
    /// The value of a key; for a map by CPU, of all CPUs, one after the other.
    ///
    /// # Errors
    /// What the kernel says.
    fn lookup(&self, map: &Self::Map, key: &[u8]) -> Step<Option<Vec<u8>>>;
    /// Sets the value of a key.
    ///
    /// # Errors
    /// What the kernel says.
    fn update(&self, map: &Self::Map, key: &[u8], value: &[u8]) -> Step<()>;
    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn delete(&self, map: &Self::Map, key: &[u8]) -> Step<()>;
    /// All keys with their values.
    ///
    /// # Errors
    /// What the kernel says.
    fn entries(&self, map: &Self::Map) -> Step<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Puts maps into a map-in-map, and returns when no program can see what was there before: one grace
    /// period, however many they are.
    ///
    /// # Errors
    /// What the kernel says; then some may be in place and others not.
    fn put_maps(&self, outer: &Self::Map, elements: &[(u32, &Self::Map)]) -> Step<()>;
    /// Whether every program that ran while the set with this control map held this generation, and no later one, has
    /// ended: a grace period was begun ahead, and has passed. A number never comes again in a set.
    fn has_waited(&self, control: u32, generation: u64) -> bool;
    /// Fills a memory-mapped array from its beginning.
    ///
    /// # Errors
    /// What the kernel says.
    fn fill(&self, map: &Self::Map, content: &[u8]) -> Step<()>;
    /// Makes a map read-only for user space, for ever. Fails with `EBUSY` while it is mapped for writing.
    ///
    /// # Errors
    /// What the kernel says.
    fn freeze(&self, map: &Self::Map) -> Step<()>;
    /// The first `len` bytes of a memory-mapped array.
    ///
    /// # Errors
    /// What the kernel says.
    fn content(&self, map: &Self::Map, len: usize) -> Step<Vec<u8>>;
    /// The counters of items in a memory-mapped array of [`HitLine`](mesh_bpf::abi::HitLine)s, by key.
    ///
    /// # Errors
    /// What the kernel says.
    fn hits(&self, map: &Self::Map) -> Step<Vec<(u64, u64)>>;
    /// Adds to counters of items, as the programs do. What finds no room is lost.
    ///
    /// # Errors
    /// What the kernel says.
    fn add_hits(&self, map: &Self::Map, counts: &[(u64, u64)]) -> Step<()>;
    /// Whether a memory-mapped array begins with `content`, without a copy of it.
    ///
    /// # Errors
    /// What the kernel says.
    fn holds(&self, map: &Self::Map, content: &[u8]) -> Step<bool>;

    /// Maps the control words into memory.
    ///
    /// # Errors
    /// What the kernel says.
    fn words(&self, control: &Self::Map) -> Step<Self::Words>;
    /// Reads all words.
    fn load(&self, words: &Self::Words) -> Control;
    /// Sets one word to `new` if it is `old`; whether it was.
    ///
    /// # Errors
    /// Only where a test makes it fail.
    fn exchange(&self, words: &Self::Words, word: Word, old: u64, new: u64) -> Step<bool>;

    /// Names the build of the programs that [`Store::load_programs`] loads.
    fn programs_version(&self) -> String;
    /// Loads all programs; each `(name, pin)` in `maps` stands for the map of that name.
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_programs(&self, maps: &Path) -> Step<Vec<(&'static ProgramDef, Self::Program)>>;
    /// Loads the program that decides what is offered to pods.
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_inbound(&self, maps: &Path, by: Inbound) -> Step<Self::Program>;
    /// Loads the program of the pod with this namespace cookie: it goes on to the one that decides.
    ///
    /// # Errors
    /// What the kernel says.
    fn load_entry(&self, maps: &Path, pod: u64, by: Inbound) -> Step<Self::Program>;
    /// Puts a program into a map of programs, in the place of another one without a gap.
    ///
    /// # Errors
    /// What the kernel says.
    fn put_program(&self, map: &Self::Map, index: u32, program: &Self::Program) -> Step<()>;
    /// What the kernel says of a program.
    ///
    /// # Errors
    /// What the kernel says.
    fn program_info(&self, program: &Self::Program) -> Step<ProgramInfo>;
    /// The same, by id; `None` where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn program_by_id(&self, id: u32) -> Step<Option<ProgramInfo>>;
    /// Attaches a program to a cgroup, or to the tracepoint that it was loaded for; an iterator to nothing.
    ///
    /// # Errors
    /// What the kernel says.
    fn attach(&self, program: &Self::Program, hook: Hook, cgroup: &Path) -> Step<Self::Link>;
    /// Attaches the program of a pod: to its network namespace, or to each interface there, loopback first, but for
    /// those that have it. Makes sure before that the file still stands for the namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn attach_netns(
        &self,
        program: &Self::Program,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> Step<Vec<Self::Link>>;
    /// The interfaces of a network namespace by their numbers, with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn interfaces(&self, netns: &Path, cookie: u64) -> Step<Vec<u32>>;
    /// The sockets that wait for connections or datagrams in a network namespace, with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn waiting(&self, netns: &Path, cookie: u64) -> Step<Vec<Waits>>;
    /// Whether rules of a network namespace translate addresses (NAT), with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn translates(&self, netns: &Path, cookie: u64) -> Step<bool>;
    /// Runs an iterator over listening sockets to its end in a network namespace, with the same precaution. Where none
    /// listens there, it need not.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn iterate(&self, iterator: &Self::Link, netns: &Path, cookie: u64) -> Step<()>;
    /// Pins a link.
    ///
    /// # Errors
    /// What the kernel says.
    fn pin_link(&self, link: &Self::Link, path: &Path) -> Step<()>;
    /// Opens a pinned link; `None` where there is no pin.
    ///
    /// # Errors
    /// What the kernel says.
    fn open_link(&self, path: &Path) -> Step<Option<Self::Link>>;
    /// What the kernel says of a link.
    ///
    /// # Errors
    /// What the kernel says.
    fn link_info(&self, link: &Self::Link) -> Step<LinkInfo>;
    /// Every link of the kernel, whoever made it and wherever it is pinned.
    ///
    /// # Errors
    /// What the kernel says.
    fn all_links(&self) -> Step<Vec<Self::Link>>;
    /// Ids of the maps that a program uses; none where it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn maps_of(&self, program: u32) -> Step<Vec<u32>>;
    /// Puts another program into a link, without a gap.
    ///
    /// # Errors
    /// What the kernel says.
    fn replace(&self, link: &Self::Link, program: &Self::Program) -> Step<()>;
    /// Detaches a link from its cgroup now; the link stays until nobody holds it.
    ///
    /// # Errors
    /// What the kernel says.
    fn detach(&self, link: &Self::Link) -> Step<()>;
    /// Whether connections can be closed here. Minimum kernel 4.5, with `CONFIG_INET_DIAG_DESTROY`.
    ///
    /// # Errors
    /// What the kernel says.
    fn can_close(&self) -> Step<bool>;
    /// Every TCP connection of this machine that has a value in one of two maps of socket storage. Minimum kernel
    /// 5.14.
    ///
    /// # Errors
    /// What the kernel says.
    fn connections(&self, flows: &Self::Map, listening: &Self::Map) -> Step<Vec<(Noted, Self::Socket)>>;
    /// Closes connections, so that both ends are told; how many were still there.
    ///
    /// # Errors
    /// What the kernel says; then some may be closed.
    fn close(&self, sockets: &[Self::Socket]) -> Step<usize>;

    /// Ids of the programs attached to a hook of a cgroup; with `effective` those of its ancestors too, in
    /// the order in which they run.
    ///
    /// # Errors
    /// What the kernel says.
    fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> Step<Vec<u32>>;
    /// Ids of the programs attached to a hook of the cgroups below a cgroup.
    ///
    /// # Errors
    /// What the kernel says.
    fn attached_below(&self, cgroup: &Path, hook: Hook) -> Step<Vec<u32>>;

    /// Loads all programs of acceleration, as [`Store::load_programs`].
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_accelerators(&self, maps: &Path) -> Step<Vec<(&'static AcceleratorDef, Self::Program)>>;
    /// Attaches a program to a map of sockets: it is asked of every message that they send. Replaces another.
    ///
    /// # Errors
    /// What the kernel says.
    fn attach_message(&self, program: &Self::Program, sockets: &Self::Map) -> Step<()>;
    /// Detaches the program of a map of sockets; none is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn detach_message(&self, sockets: &Self::Map) -> Step<()>;
    /// The program of a map of sockets.
    ///
    /// # Errors
    /// What the kernel says.
    fn message_program(&self, sockets: &Self::Map) -> Step<Option<ProgramInfo>>;
    /// What of the accelerated sockets with these cookies is unread, where anything is.
    ///
    /// # Errors
    /// What the kernel says.
    fn unread(&self, maps: &Path, cookies: &[u64]) -> Step<Vec<Unread>>;
    /// Whether `FIONREAD` of an accelerated socket tells another number than there is: tried.
    ///
    /// # Errors
    /// What the kernel says.
    fn miscounts(&self) -> Step<bool>;
    /// Takes the sockets of a network namespace off the short way whose readers were told too little by `FIONREAD`, and
    /// the next time out of the map of sockets; wakes their readers. Makes sure before that the file still stands for
    /// the namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn release(&self, maps: &Path, netns: &Path, cookie: u64) -> Step<()>;
    /// A TCP socket by the cookie of its network namespace, the ends of its connection, its own first, and its own
    /// cookie; `None` where the namespace is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn socket(&self, netns: u64, ends: (SocketAddr, SocketAddr), cookie: u64) -> Step<Option<Self::Socket>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_routes_choose_else_the_first_address_that_is_routable() {
        let addresses: Vec<IpAddr> = ["169.254.7.7", "fe80::1", "10.1.0.2", "10.1.0.3", "fd00::2", "fd00::3"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        let both = Sources { v4: "10.1.0.2".parse().ok(), v6: "fd00::2".parse().ok() };
        assert_eq!(Sources::of(Sources::default(), &addresses), both);
        let chosen = Sources { v4: "169.254.7.7".parse().ok(), v6: "fd00::3".parse().ok() };
        assert_eq!(Sources::of(chosen, &addresses), chosen);
        let within = Sources { v4: "127.0.0.1".parse().ok(), v6: "fe80::1".parse().ok() };
        assert_eq!(Sources::of(within, &addresses), both);
        assert_eq!(Sources::of(within, addresses.get(..2).unwrap()), Sources::default());
    }
}
