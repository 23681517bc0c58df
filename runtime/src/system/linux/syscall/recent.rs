//! The last decisions, as programs keep them.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use mesh_bpf::abi::{self, Recent};
use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// Words of an element.
const WORDS: usize = size_of::<Recent>() / size_of::<u64>();
/// Those that tell which decision is there.
const TURN: usize = offset_of!(Recent, turn) / size_of::<u64>();

/// The last decisions in memory.
#[derive(Debug)]
pub struct RecentPlaces(Mapping);

impl RecentPlaces {
    pub(crate) fn new(recent: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(recent, size_of::<Recent>() * abi::RECENT as usize, ProtFlags::READ).map(Self)
    }

    fn word(&self, place: u32, word: usize) -> &AtomicU64 {
        let at = (place % abi::RECENT) as usize * WORDS + word % WORDS;
        // SAFETY: the mapping holds that many words, aligned. Programs write them meanwhile, so each is read atomically.
        unsafe { AtomicU64::from_ptr(self.0.start.as_ptr().cast::<u64>().add(at)) }
    }

    /// How many decisions of a kind there ever were.
    pub(crate) fn count(&self, kind: u32) -> u64 {
        self.word(kind, TURN).load(Ordering::Acquire)
    }

    /// What is kept of a kind, in no order. What is overwritten meanwhile is left out.
    pub(crate) fn read(&self, kind: u32) -> Vec<Recent> {
        let first = abi::RECENT_KINDS + kind * abi::RECENT_PLACES;
        (first..first + abi::RECENT_PLACES).filter_map(|place| self.decision(place)).collect()
    }

    fn decision(&self, place: u32) -> Option<Recent> {
        let turn = self.word(place, TURN).load(Ordering::Acquire);
        if matches!(turn, 0 | abi::RECENT_WRITING) {
            return None;
        }
        let words: [u64; WORDS] = std::array::from_fn(|word| self.word(place, word).load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = self.word(place, TURN).load(Ordering::Relaxed) == turn;
        is_whole.then(|| bytemuck::cast(words))
    }
}
