//! System calls that need `unsafe`: `bpf(2)`, memory maps, and joining a cgroup between fork and exec.
//! Every function here is safe to call: it owns or borrows all memory that the kernel reads or writes.

#![expect(unsafe_code, reason = "the one gate: system calls that no safe wrapper covers")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytemuck::{Pod, Zeroable};
use mesh_bpf::abi::{self, Control, Watch};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::system::Word;

/// Commands of `bpf(2)` (`enum bpf_cmd` in `linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Call {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    Pin = 6,
    Get = 7,
    ProgramAttach = 8,
    ProgramDetach = 9,
    ProgramRun = 10,
    ProgramById = 13,
    MapById = 14,
    Info = 15,
    Query = 16,
    BtfLoad = 18,
    Freeze = 22,
    LookupBatch = 24,
    UpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkById = 30,
    LinkNextId = 31,
    IteratorCreate = 33,
    LinkDetach = 34,
}

/// Length of a name in the kernel, with its end.
const NAME: usize = 16;

macro_rules! attributes {
    ($($(#[doc = $doc:literal])* $name:ident { $($field:ident: $ty:ty,)* })*) => {
        $($(#[doc = $doc])*
        #[derive(Clone, Copy, Pod, Zeroable)]
        #[repr(C)]
        struct $name { $($field: $ty,)* })*
    };
}

attributes! {
    /// Of `BPF_MAP_CREATE`.
    CreateAttr {
        kind: u32, key: u32, value: u32, capacity: u32, flags: u32, inner: u32, numa: u32,
        name: [u8; NAME], ifindex: u32, btf: u32, btf_key: u32, btf_value: u32, reserve: u32,
    }
    /// Of the commands on one element.
    ElementAttr { map: u32, reserve: u32, key: u64, value: u64, flags: u64, }
    /// Of the commands on many elements.
    BatchAttr {
        from: u64, to: u64, keys: u64, values: u64, count: u32, map: u32, element_flags: u64, flags: u64,
    }
    /// Of pinning and opening pins.
    ObjectAttr { path: u64, fd: u32, flags: u32, }
    /// Of opening by id.
    IdAttr { id: u32, next: u32, flags: u32, }
    /// Of `BPF_OBJ_GET_INFO_BY_FD`.
    InfoAttr { fd: u32, len: u32, info: u64, }
    /// Of `BPF_BTF_LOAD`.
    BtfAttr { btf: u64, log: u64, size: u32, log_size: u32, log_level: u32, reserve: u32, }
    /// Of `BPF_PROG_LOAD`.
    ProgramAttr {
        kind: u32, count: u32, code: u64, license: u64, log_level: u32, log_size: u32, log: u64, version: u32,
        flags: u32, name: [u8; NAME], ifindex: u32, hook: u32, types: u32, function_size: u32, functions: u64,
        functions_len: u32, line_size: u32, lines: u64, lines_len: u32, target: u32,
    }
    /// Of `BPF_LINK_CREATE`.
    LinkAttr { program: u32, target: u32, hook: u32, flags: u32, reserve: [u64; 3], }
    /// Of `BPF_PROG_TEST_RUN`, as far as a classifier needs it.
    RunAttr {
        program: u32, returned: u32, packet_len: u32, changed_len: u32, packet: u64, changed: u64, repeat: u32,
        duration: u32,
    }
    /// Of `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
    AttachAttr { target: u32, program: u32, hook: u32, flags: u32, replaced: u32, }
    /// Of `BPF_LINK_UPDATE`.
    ReplaceAttr { link: u32, program: u32, flags: u32, old: u32, }
    /// Of `BPF_ITER_CREATE`.
    IteratorAttr { link: u32, flags: u32, }
    /// Of the commands that take a descriptor only.
    FdAttr { fd: u32, }
    /// Of `BPF_PROG_QUERY`.
    QueryAttr {
        target: u32, hook: u32, query_flags: u32, attach_flags: u32, ids: u64, count: u32, reserve: u32,
        more: [u64; 4],
    }
}

/// # Safety
/// Every address in `attributes` is of memory that the command may read or write as far as it does.
unsafe fn bpf<T: Pod>(command: Call, attributes: &mut T) -> io::Result<i32> {
    loop {
        // SAFETY: the attributes are plain data of the length given; the rest is the caller's promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                addr_of_mut!(*attributes),
                size_of::<T>() as libc::c_uint,
            )
        };
        if result >= 0 {
            return i32::try_from(result).map_err(io::Error::other);
        }
        let error = io::Error::last_os_error();
        // A batch or a program load may be interrupted or asked to come again.
        if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
            return Err(error);
        }
    }
}

/// # Safety
/// As [`bpf`]; and the command returns a new descriptor.
unsafe fn bpf_fd<T: Pod>(command: Call, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the command returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as u64
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Names in the kernel are cut to 15 bytes.
fn kernel_name(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for (to, from) in bytes.iter_mut().take(NAME - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// What a new map is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewMap<'a> {
    pub(super) name: &'a str,
    pub(super) kind: u32,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) capacity: u32,
    pub(super) flags: u32,
    pub(super) inner: Option<BorrowedFd<'a>>,
    /// Type information with the ids of the key's and the value's types.
    pub(super) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

pub(super) fn create_map(map: NewMap<'_>) -> io::Result<OwnedFd> {
    let (btf, btf_key, btf_value) = map.types.map_or((0, 0, 0), |(fd, key, value)| (number(fd), key, value));
    let mut attributes = CreateAttr {
        kind: map.kind,
        key: map.key,
        value: map.value,
        capacity: map.capacity,
        flags: map.flags,
        inner: map.inner.map_or(0, number),
        name: kernel_name(map.name),
        btf,
        btf_key,
        btf_value,
        ..CreateAttr::zeroed()
    };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::MapCreate, &mut attributes) }
}

pub(super) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = BtfAttr { btf: address(btf), size: length(btf.len())?, ..BtfAttr::zeroed() };
    // SAFETY: `btf` outlives the call.
    unsafe { bpf_fd(Call::BtfLoad, &mut attributes) }
}

pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    element(Call::MapLookup, map, key, address_mut(value))
}

pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    element(Call::MapUpdate, map, key, address(value))
}

pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    element(Call::MapDelete, map, key, 0)
}

/// The key after `key`, or the first; `next` has the same length.
pub(super) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
    let mut attributes = ElementAttr {
        map: number(map),
        key: key.map_or(0, address),
        value: address_mut(next),
        ..ElementAttr::zeroed()
    };
    // SAFETY: callers size both as the map's keys are; they outlive the call.
    unsafe { bpf(Call::MapNextKey, &mut attributes) }.map(drop)
}

// Callers size keys and values as `BPF_OBJ_GET_INFO_BY_FD` says; `Kernel` keeps these sizes with each map.
fn element(command: Call, map: BorrowedFd<'_>, key: &[u8], value: u64) -> io::Result<()> {
    let mut attributes = ElementAttr { map: number(map), key: address(key), value, ..ElementAttr::zeroed() };
    // SAFETY: key and value are borrowed by the caller for the call.
    unsafe { bpf(command, &mut attributes) }.map(drop)
}

/// Looks many elements up: from the place `from` (none at first); writes the next place to `to`. Returns how
/// many, and whether these were the last.
pub(super) fn lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<u64>,
    to: &mut u64,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let place = from.unwrap_or_default();
    let mut attributes = BatchAttr {
        from: if from.is_some() { addr_of!(place) as u64 } else { 0 },
        to: addr_of_mut!(*to) as u64,
        keys: address_mut(keys),
        values: address_mut(values),
        count,
        map: number(map),
        ..BatchAttr::zeroed()
    };
    // SAFETY: the buffers hold `count` keys and values, and a place in a hash is 4 bytes.
    match unsafe { bpf(Call::LookupBatch, &mut attributes) } {
        Ok(_) => Ok((attributes.count, false)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attributes.count, true)),
        Err(error) => Err(error),
    }
}

/// Sets many elements whose keys and values have 4 bytes; returns how many were set before an error.
pub(super) fn update_batch(map: BorrowedFd<'_>, keys: &[u32], values: &[u32]) -> io::Result<()> {
    let mut attributes = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: length(keys.len().min(values.len()))?,
        map: number(map),
        ..BatchAttr::zeroed()
    };
    // SAFETY: both outlive the call and hold `count` elements.
    unsafe { bpf(Call::UpdateBatch, &mut attributes) }.map(drop)
}

pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no addresses.
    unsafe { bpf(Call::Freeze, &mut FdAttr { fd: number(map) }) }.map(drop)
}

pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttr { path: address(path.as_bytes_with_nul()), fd: number(object), flags: 0 };
    // SAFETY: the path outlives the call and ends with a zero.
    unsafe { bpf(Call::Pin, &mut attributes) }.map(drop)
}

pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = ObjectAttr { path: address(path.as_bytes_with_nul()), fd: 0, flags: 0 };
    // SAFETY: the path outlives the call and ends with a zero.
    unsafe { bpf_fd(Call::Get, &mut attributes) }
}

pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::MapById, &mut IdAttr { id, ..IdAttr::zeroed() }) }
}

pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::ProgramById, &mut IdAttr { id, ..IdAttr::zeroed() }) }
}

pub(super) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::LinkById, &mut IdAttr { id, ..IdAttr::zeroed() }) }
}

/// The id of the next link of the kernel after this one.
pub(super) fn next_link(id: u32) -> io::Result<u32> {
    let mut attributes = IdAttr { id, ..IdAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf(Call::LinkNextId, &mut attributes) }?;
    Ok(attributes.next)
}

/// Ids of the maps that a program uses.
pub(super) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // Where in `struct bpf_prog_info` their number is, and the address of their ids.
    const NUMBER: usize = 52;
    const IDS: usize = 56;
    let mut count = 0;
    loop {
        let mut ids = vec![0u32; count];
        let mut info = [0; 80];
        info[NUMBER..NUMBER + 4].copy_from_slice(&length(count)?.to_ne_bytes());
        info[IDS..IDS + 8].copy_from_slice(&(ids.as_mut_ptr() as u64).to_ne_bytes());
        let mut attributes =
            InfoAttr { fd: number(program), len: length(info.len())?, info: address_mut(&mut info) };
        // SAFETY: the kernel writes `len` bytes at the most, and no more ids than the number that is there.
        unsafe { bpf(Call::Info, &mut attributes) }?;
        let [a, b, c, d] = [info[NUMBER], info[NUMBER + 1], info[NUMBER + 2], info[NUMBER + 3]];
        let there = u32::from_ne_bytes([a, b, c, d]) as usize;
        if there <= count {
            ids.truncate(there);
            return Ok(ids);
        }
        count = there;
    }
}

/// The kernel's information about an object, as much of it as `info` holds.
pub(super) fn info(object: BorrowedFd<'_>, info: &mut [u8]) -> io::Result<()> {
    let mut attributes = InfoAttr { fd: number(object), len: length(info.len())?, info: address_mut(info) };
    // SAFETY: the kernel writes `len` bytes at the most.
    unsafe { bpf(Call::Info, &mut attributes) }.map(drop)
}

/// Without a target for a tracepoint and an iterator.
pub(super) fn link(
    program: BorrowedFd<'_>,
    target: Option<BorrowedFd<'_>>,
    hook: u32,
) -> io::Result<OwnedFd> {
    let target = target.map_or(0, number);
    let mut attributes = LinkAttr { program: number(program), target, hook, ..LinkAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::LinkCreate, &mut attributes) }
}

/// Whether programs are asked where security modules are: they can be attached also where nobody asks them.
/// Minimum kernel 6.8.
pub(super) fn has_lsm_bpf() -> io::Result<()> {
    /// `lsm_list_modules(2)`, the same on all machines, and `LSM_ID_BPF` of `linux/lsm.h`.
    const CALL: libc::c_long = 461;
    const BPF: u64 = 110;
    let mut found = [0_u64; 32];
    let mut size = u32::try_from(size_of_val(&found)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes, and how many into `size`.
    let result = unsafe { libc::syscall(CALL, found.as_mut_ptr(), &raw mut size, 0) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        _ if found.contains(&BPF) => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}

/// What an iterator says of this thread's namespace is read from the descriptor.
pub(super) fn iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::IteratorCreate, &mut IteratorAttr { link: number(link), flags: 0 }) }
}

/// Detaches that very program from a map of sockets.
pub(super) fn detach_from_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    let mut attributes =
        AttachAttr { target: number(map), program: number(program), hook, ..AttachAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf(Call::ProgramDetach, &mut attributes) }.map(drop)
}

/// Runs a classifier over one packet, which it may change.
pub(super) fn run_over(program: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<()> {
    let given = packet.to_vec();
    let mut attributes = RunAttr {
        program: number(program),
        packet_len: length(given.len())?,
        changed_len: length(packet.len())?,
        packet: address(&given),
        changed: address_mut(packet),
        ..RunAttr::zeroed()
    };
    // SAFETY: both packets outlive the call and are as long as said.
    unsafe { bpf(Call::ProgramRun, &mut attributes) }.map(drop)
}

pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes =
        ReplaceAttr { link: number(link), program: number(program), ..ReplaceAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf(Call::LinkUpdate, &mut attributes) }.map(drop)
}

pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no addresses.
    unsafe { bpf(Call::LinkDetach, &mut FdAttr { fd: number(link) }) }.map(drop)
}

/// Ids of the programs attached to a hook; those above count where `effective`.
pub(super) fn attached(target: BorrowedFd<'_>, hook: u32, effective: bool) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    loop {
        let mut attributes = QueryAttr {
            target: number(target),
            hook,
            query_flags: effective.into(),
            ids: ids.as_mut_ptr() as u64,
            count: length(ids.len())?,
            ..QueryAttr::zeroed()
        };
        // SAFETY: `ids` holds `count` ids.
        match unsafe { bpf(Call::Query, &mut attributes) } {
            Ok(_) => {
                ids.truncate(attributes.count as usize);
                return Ok(ids);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => ids.resize(ids.len() * 2, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Memory that a map's values lie in.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(map: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, map, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        let mapping = Self { start, len };
        // A child that another thread forks would keep the map writable, and freezing it fails with EBUSY.
        // SAFETY: the mapping is ours; its content does not change.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontFork) }?;
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Writes `content` to the beginning of a memory-mapped array that nobody else sees yet.
pub(super) fn fill(map: BorrowedFd<'_>, content: &[u8]) -> io::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    let mapping = Mapping::new(map, content.len(), ProtFlags::READ | ProtFlags::WRITE)?;
    // SAFETY: the mapping is that long, writable, and apart from `content`.
    unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), mapping.start.as_ptr(), content.len()) };
    Ok(())
}

/// The first `len` bytes of a memory-mapped array.
pub(super) fn content(map: BorrowedFd<'_>, len: usize) -> io::Result<Vec<u8>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let mapping = Mapping::new(map, len, ProtFlags::READ)?;
    let mut bytes = vec![0; len];
    let mut words = bytes.chunks_exact_mut(size_of::<u64>());
    for (index, to) in words.by_ref().enumerate() {
        // SAFETY: the mapping is that long and begins at a page. Programs count in the lines of a live table, also of one
        // that is frozen for processes, so each word is read atomically.
        let word = unsafe { AtomicU64::from_ptr(mapping.start.as_ptr().cast::<u64>().add(index)) };
        to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    let whole = len - words.into_remainder().len();
    for (index, to) in bytes.iter_mut().enumerate().skip(whole) {
        // SAFETY: as above, a byte at a time.
        *to = unsafe { AtomicU8::from_ptr(mapping.start.as_ptr().add(index)) }.load(Ordering::Relaxed);
    }
    Ok(bytes)
}

/// Adds to counters of items, beside programs that do the same.
pub(super) fn add_hits(map: BorrowedFd<'_>, counts: &[(u64, u64)]) -> io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let lines = abi::HIT_LINES as usize;
    let mapping = Mapping::new(map, lines * abi::LINE, ProtFlags::READ | ProtFlags::WRITE)?;
    let word = |line: usize, word: usize| {
        let at = (line % lines) * abi::LINE + word * size_of::<u64>();
        // SAFETY: a line has twice as many words as counters, all aligned and within the mapping, and they are only
        // ever accessed atomically.
        unsafe { AtomicU64::from_ptr(mapping.start.as_ptr().add(at).cast()) }
    };
    for &(item, count) in counts {
        let first = usize::try_from(item >> 32).unwrap_or_default();
        let places = (0..abi::HIT_PROBES as usize)
            .flat_map(|probe| (0..abi::HITS_A_LINE).map(move |place| (first + probe, place)));
        for (line, place) in places {
            let there = word(line, place).compare_exchange(0, item, Ordering::SeqCst, Ordering::SeqCst);
            if there.is_ok() || there == Err(item) {
                word(line, abi::HITS_A_LINE + place).fetch_add(count, Ordering::SeqCst);
                break;
            }
        }
    }
    Ok(())
}

/// Whether a memory-mapped array that nobody else sees yet begins with `expected`.
pub(super) fn holds(map: BorrowedFd<'_>, expected: &[u8]) -> io::Result<bool> {
    if expected.is_empty() {
        return Ok(true);
    }
    let mapping = Mapping::new(map, expected.len(), ProtFlags::READ)?;
    // SAFETY: both are that long. No program sees the map before it is put into a slot, so nobody writes.
    let found = unsafe { std::slice::from_raw_parts(mapping.start.as_ptr(), expected.len()) };
    Ok(found == expected)
}

/// The control words in memory.
#[derive(Debug)]
pub struct Words(Mapping);

// SAFETY: all access is by atomic operations on memory that lives as long as this does.
unsafe impl Send for Words {}

impl Words {
    pub(super) fn new(control: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(control, size_of::<Control>(), ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        let control = self.0.start.as_ptr().cast::<Control>();
        // SAFETY: the mapping holds one `Control`, page-aligned; each word is 8 bytes at an aligned place,
        // and is only ever accessed atomically.
        unsafe {
            AtomicU64::from_ptr(match word {
                Word::Generation => addr_of_mut!((*control).generation),
                Word::Claim => addr_of_mut!((*control).claim),
                Word::Paused => addr_of_mut!((*control).paused),
                Word::Observe => addr_of_mut!((*control).observe),
                Word::Commits => addr_of_mut!((*control).commits),
                Word::FlowAbi => addr_of_mut!((*control).flow_abi),
                Word::Host => addr_of_mut!((*control).host),
                Word::Acceleration => addr_of_mut!((*control).acceleration),
            })
        }
    }

    pub(super) fn load(&self) -> Control {
        let get = |word| self.word(word).load(Ordering::SeqCst);
        Control {
            generation: get(Word::Generation),
            claim: get(Word::Claim),
            paused: get(Word::Paused),
            observe: get(Word::Observe),
            commits: get(Word::Commits),
            flow_abi: get(Word::FlowAbi),
            host: get(Word::Host),
            acceleration: get(Word::Acceleration),
        }
    }

    pub(super) fn exchange(&self, word: Word, old: u64, new: u64) -> bool {
        self.word(word).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// The watches in memory: who reads decisions, and which.
#[derive(Debug)]
pub struct Watches(Mapping);

// SAFETY: as for `Words`; what is not written atomically is only written while no program reads it.
unsafe impl Send for Watches {}

impl Watches {
    pub(super) fn new(watches: BorrowedFd<'_>) -> io::Result<Self> {
        let len = size_of::<Watch>() * abi::WATCHES;
        Mapping::new(watches, len, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// A reader's own; out of range there is none.
    fn watch(&self, reader: usize) -> Option<*mut Watch> {
        // SAFETY: the mapping holds that many.
        (reader < abi::WATCHES).then(|| unsafe { self.0.start.as_ptr().cast::<Watch>().add(reader) })
    }

    fn number(&self, reader: usize, field: impl FnOnce(*mut Watch) -> *mut u64) -> Option<&AtomicU64> {
        // SAFETY: the field lies in the mapping, is aligned, and is only ever accessed atomically.
        self.watch(reader).map(|watch| unsafe { AtomicU64::from_ptr(field(watch)) })
    }

    fn lease_of(&self, reader: usize) -> Option<&AtomicU64> {
        // SAFETY: only the place of a field is taken.
        self.number(reader, |watch| unsafe { addr_of_mut!((*watch).lease) })
    }

    /// Until when a reader is there: nanoseconds since boot.
    pub(crate) fn lease(&self, reader: usize) -> u64 {
        self.lease_of(reader).map_or(u64::MAX, |lease| lease.load(Ordering::SeqCst))
    }

    /// Sets a lease to `new` if it is `old`; whether it was.
    pub(crate) fn exchange_lease(&self, reader: usize, old: u64, new: u64) -> bool {
        let exchange =
            |lease: &AtomicU64| lease.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        self.lease_of(reader).is_some_and(|lease| exchange(lease).is_ok())
    }

    /// Decisions that did not fit a reader's ring buffer.
    pub(crate) fn lost(&self, reader: usize) -> u64 {
        // SAFETY: only the place of a field is taken.
        let lost = self.number(reader, |watch| unsafe { addr_of_mut!((*watch).lost) });
        lost.map_or(0, |lost| lost.load(Ordering::SeqCst))
    }

    /// Which workload a reader wants.
    pub(crate) fn set_subject(&self, reader: usize, new: u64) {
        // SAFETY: only the place of a field is taken.
        let subject = self.number(reader, |watch| unsafe { addr_of_mut!((*watch).subject) });
        if let Some(subject) = subject {
            subject.store(new, Ordering::SeqCst);
        }
    }

    /// Writes all but the lease of a watch that is ours by its lease, and whose bit has been off for a grace
    /// period.
    pub(crate) fn set(&self, reader: usize, new: &Watch) {
        if let Some(watch) = self.watch(reader) {
            let new = Watch { lease: self.lease(reader), ..*new };
            // SAFETY: it lies in the mapping; no program reads it, and the owner of the lease alone writes it.
            unsafe { watch.write_volatile(new) };
        }
    }
}

/// What a new program is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewProgram<'a> {
    pub(super) name: &'a str,
    /// `enum bpf_prog_type`.
    pub(super) kind: u32,
    /// `enum bpf_attach_type`.
    pub(super) hook: u32,
    /// `struct bpf_insn`, one after the other.
    pub(super) code: &'a [u64],
    /// What one that was compiled says of itself.
    pub(super) types: Option<ProgramTypes<'a>>,
}

/// Type information of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramTypes<'a> {
    pub(super) types: BorrowedFd<'a>,
    /// `struct bpf_func_info`, one after the other.
    pub(super) functions: &'a [u8],
    /// `struct bpf_line_info`, one after the other.
    pub(super) lines: &'a [u8],
    /// The type of the kernel that a program of tracing is for; 0 for others.
    pub(super) target: u32,
}

/// Bytes of a `struct bpf_func_info`, and of a `struct bpf_line_info`.
const FUNCTION: usize = 8;
const FILE_LINE: usize = 16;

/// Loads a program; what the verifier says is written to `log`, where that is not empty.
pub(super) fn load_program(program: &NewProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramAttr {
        kind: program.kind,
        hook: program.hook,
        code: program.code.as_ptr() as u64,
        count: length(program.code.len())?,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        name: kernel_name(program.name),
        ..ProgramAttr::zeroed()
    };
    if let Some(types) = program.types {
        attributes.types = number(types.types);
        attributes.functions = address(types.functions);
        attributes.function_size = length(FUNCTION)?;
        attributes.functions_len = length(types.functions.len() / FUNCTION)?;
        attributes.lines = address(types.lines);
        attributes.line_size = length(FILE_LINE)?;
        attributes.lines_len = length(types.lines.len() / FILE_LINE)?;
        attributes.target = types.target;
    }
    if !log.is_empty() {
        attributes.log_level = 1;
        attributes.log = address_mut(log);
        attributes.log_size = length(log.len())?;
    }
    // SAFETY: code, license, type information and log outlive the call.
    unsafe { bpf_fd(Call::ProgramLoad, &mut attributes) }
}

/// Attaches a program to a map of sockets, as long as that lives.
pub(super) fn attach_program(program: BorrowedFd<'_>, map: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    let mut attributes =
        AttachAttr { target: number(map), program: number(program), hook, ..AttachAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf(Call::ProgramAttach, &mut attributes) }.map(drop)
}

/// Attaches a program to a network interface of this thread's namespace.
pub(super) fn link_interface(program: BorrowedFd<'_>, ifindex: u32, hook: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkAttr { program: number(program), target: ifindex, hook, ..LinkAttr::zeroed() };
    // SAFETY: no addresses.
    unsafe { bpf_fd(Call::LinkCreate, &mut attributes) }
}

/// Moves this thread to a new network namespace, whose loopback is up.
pub(crate) fn new_network() -> io::Result<()> {
    // SAFETY: descriptors stay shared; only this thread's network changes, which its caller asks for.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: an `ifreq` is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request outlives the call, and names the interface and its flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `body` while this process may not lock any memory; the limit is as before afterwards.
pub(crate) fn without_locked_memory<T>(body: impl FnOnce() -> T) -> io::Result<T> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let none = libc::rlimit { rlim_cur: 0, ..limit };
    // SAFETY: the kernel reads the structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let result = body();
    // SAFETY: the kernel reads the structure.
    let _ = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    Ok(result)
}

/// A descriptor that can be read once this process was asked to end (`SIGINT`, `SIGTERM`): from now on these
/// do not end it.
pub(super) fn endings() -> io::Result<OwnedFd> {
    // SAFETY: a set of signals is plain data that the two calls below fill.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` outlives the calls; the thread's mask is ours to change.
    let blocked = unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: `set` outlives the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts a command that joins a cgroup before it runs: `procs` is that cgroup's `cgroup.procs`.
pub(super) fn spawn_in(mut command: Command, procs: OwnedFd) -> io::Result<Child> {
    let fd: RawFd = procs.as_raw_fd();
    // SAFETY: between fork and exec only `write` is called, on a descriptor that is open until the command
    // has been started.
    unsafe {
        command.pre_exec(move || {
            if libc::write(fd, c"0".as_ptr().cast(), 1) == 1 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let child = command.spawn();
    drop(procs);
    child
}

/// The cookie of the network namespace that this thread is in. Minimum kernel 5.14.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = [0; 8];
    socket_option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}

/// Reads an option of a socket: as much as fits.
pub(super) fn socket_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<()> {
    let mut len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes `len` bytes at the most, and the length.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From `asm-generic/socket.h`.
const SO_NETNS_COOKIE: libc::c_int = 71;
