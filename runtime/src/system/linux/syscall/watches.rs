//! The watches: who reads decisions.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::addr_of_mut;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_bpf::abi::{self, Watch};
use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// The watches in memory: who reads decisions, and which.
#[derive(Debug)]
pub struct Watches(Mapping);

// SAFETY: as for `Words`; what is not written atomically is only written while no program reads it.
unsafe impl Send for Watches {}

impl Watches {
    pub(crate) fn new(watches: BorrowedFd<'_>) -> io::Result<Self> {
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
