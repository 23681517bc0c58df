//! Programs that are stopped between reading the word and looking their tables up, and go on as late as a
//! kernel lets them: when a writer waits until all that run have ended.

use std::rc::Rc;

use mesh_bpf::abi::ManifestHeader;
use mesh_bpf::map::{self, Table};

use super::world::{MapObject, Memory, Read};

impl Memory {
    /// From now on a program reads the word just before each commit, and is stopped there.
    pub fn stop_readers_before_commits(&self) {
        self.0.readers.start.set(true);
    }

    /// As if the runtime did not wait before it fills the slot that a commit has freed.
    pub fn skip_grace_periods(&self) {
        self.0.readers.careless.set(true);
    }

    /// What the programs saw that have ended.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        self.0.readers.done.borrow().clone()
    }

    /// The word is about to change.
    pub(super) fn before_commit(&self, word: u64) {
        if self.0.readers.start.get() && word != 0 {
            self.0.readers.stopped.borrow_mut().push(word);
        }
    }

    /// Maps were put into `outer`: the kernel returns from that when every program that ran has ended. They
    /// look their tables up at the last moment, when the new ones are in place.
    pub(super) fn after_putting(&self, outer: &MapObject) {
        if outer.info.name == map::SCRATCH.name && self.0.readers.careless.get() {
            return;
        }
        for word in self.0.readers.stopped.take() {
            let read = Read { word, tables: self.generation_in(map::slot(word)) };
            self.0.readers.done.borrow_mut().push(read);
        }
    }

    fn generation_in(&self, slot: u32) -> u64 {
        let maps = self.0.maps.borrow();
        let mut maps = maps.values().filter_map(std::rc::Weak::upgrade);
        let tables: Option<Rc<MapObject>> = maps.find(|map| map.info.name == map::TABLES_MAP.name);
        let manifest =
            tables.and_then(|tables| tables.inner.borrow().get(&Table::Manifest.index(slot)).map(Rc::clone));
        let header = manifest.and_then(|manifest| {
            let lines = manifest.lines.borrow();
            bytemuck::try_pod_read_unaligned::<ManifestHeader>(lines.get(..size_of::<ManifestHeader>())?).ok()
        });
        header.map_or(0, |header| header.generation)
    }
}
