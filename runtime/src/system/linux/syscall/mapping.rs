//! Memory that the values of a map lie in.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use mesh_bpf::abi;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Memory that a map's values lie in.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    pub(crate) fn new(map: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> io::Result<Self> {
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
pub(crate) fn fill(map: BorrowedFd<'_>, content: &[u8]) -> io::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    let mapping = Mapping::new(map, content.len(), ProtFlags::READ | ProtFlags::WRITE)?;
    // SAFETY: the mapping is that long, writable, and apart from `content`.
    unsafe { std::ptr::copy_nonoverlapping(content.as_ptr(), mapping.start.as_ptr(), content.len()) };
    Ok(())
}

/// The first `len` bytes of a memory-mapped array.
pub(crate) fn content(map: BorrowedFd<'_>, len: usize) -> io::Result<Vec<u8>> {
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
pub(crate) fn add_hits(map: BorrowedFd<'_>, counts: &[(u64, u64)]) -> io::Result<()> {
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
pub(crate) fn holds(map: BorrowedFd<'_>, expected: &[u8]) -> io::Result<bool> {
    if expected.is_empty() {
        return Ok(true);
    }
    let mapping = Mapping::new(map, expected.len(), ProtFlags::READ)?;
    // SAFETY: both are that long. No program sees the map before it is put into a slot, so nobody writes.
    let found = unsafe { std::slice::from_raw_parts(mapping.start.as_ptr(), expected.len()) };
    Ok(found == expected)
}
