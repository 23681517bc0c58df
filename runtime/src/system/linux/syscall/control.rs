//! The control words.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::addr_of_mut;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_bpf::abi::Control;
use rustix::mm::ProtFlags;

use super::mapping::Mapping;
use crate::system::Word;

/// The control words in memory.
#[derive(Debug)]
pub struct Words(Mapping);

// SAFETY: all access is by atomic operations on memory that lives as long as this does.
unsafe impl Send for Words {}

impl Words {
    pub(crate) fn new(control: BorrowedFd<'_>) -> io::Result<Self> {
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

    pub(crate) fn load(&self) -> Control {
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

    pub(crate) fn exchange(&self, word: Word, old: u64, new: u64) -> bool {
        self.word(word).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
