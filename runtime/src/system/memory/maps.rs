//! Maps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::{Rc, Weak};

use mesh_bpf::abi::Control;
use mesh_bpf::map::{self, MapDef, MapKind};

use super::world::{MapObject, Memory, MemoryMap, Node, refuse};
use crate::system::{MapInfo, Maps, SysResult, Word};

impl Maps for Memory {
    type Map = MemoryMap;
    type Words = MemoryMap;

    fn create_map(&self, def: &MapDef, capacity: u32, _inner: Option<&MemoryMap>) -> SysResult<MemoryMap> {
        let info = MapInfo {
            id: self.number(),
            kind: def.kind as u32,
            key: def.key,
            value: def.value,
            capacity,
            flags: def.flags,
            name: def.name.into(),
        };
        let bytes = capacity as usize * def.value as usize;
        let lines = if def.flags & map::MMAPABLE == 0 { 0 } else { bytes };
        let object = Rc::new(MapObject {
            info,
            entries: RefCell::default(),
            inner: RefCell::default(),
            lines: RefCell::new(vec![0; lines]),
            frozen: Cell::new(false),
            control: Cell::new(Control::default()),
            hits: RefCell::default(),
            programs: RefCell::default(),
            message: RefCell::default(),
        });
        self.0.maps.borrow_mut().insert(object.info.id, Rc::downgrade(&object));
        Ok(MemoryMap(object))
    }

    fn pin_map(&self, map: &MemoryMap, path: &Path) -> SysResult<()> {
        self.place("pinning", path, Node::Map(Rc::clone(&map.0)), false)
    }

    fn open_map(&self, path: &Path) -> SysResult<Option<MemoryMap>> {
        Ok(match self.node(path) {
            Some((_, Node::Map(map))) => Some(MemoryMap(map)),
            _ => None,
        })
    }

    fn map_by_id(&self, id: u32) -> SysResult<Option<MemoryMap>> {
        Ok(self.0.maps.borrow().get(&id).and_then(Weak::upgrade).map(MemoryMap))
    }

    fn map_info(&self, map: &MemoryMap) -> SysResult<MapInfo> {
        Ok(map.0.info.clone())
    }

    fn lookup(&self, map: &MemoryMap, key: &[u8]) -> SysResult<Option<Vec<u8>>> {
        if map.0.info.kind == MapKind::ArrayOfMaps as u32 {
            let key = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
            return Ok(map.0.inner.borrow().get(&key).map(|inner| inner.info.id.to_ne_bytes().to_vec()));
        }
        if map.0.info.kind == MapKind::ProgArray as u32 {
            let key = key.try_into().map_or(u32::MAX, u32::from_ne_bytes);
            return Ok(map
                .0
                .programs
                .borrow()
                .get(&key)
                .map(|program| program.info.id.to_ne_bytes().to_vec()));
        }
        if map.0.info.kind == MapKind::LpmTrie as u32 {
            return Ok(longest(&map.0.entries.borrow(), key));
        }
        Ok(map.0.entries.borrow().get(key).cloned())
    }

    fn update(&self, map: &MemoryMap, key: &[u8], value: &[u8]) -> SysResult<()> {
        let mut entries = map.0.entries.borrow_mut();
        if entries.len() >= map.0.info.capacity as usize && !entries.contains_key(key) {
            return refuse("writing the map", &map.0.info.name, libc::E2BIG);
        }
        entries.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&self, map: &MemoryMap, key: &[u8]) -> SysResult<()> {
        map.0.entries.borrow_mut().remove(key);
        Ok(())
    }

    fn entries(&self, map: &MemoryMap) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>> {
        Ok(map.0.entries.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn put_maps(&self, outer: &MemoryMap, elements: &[(u32, &MemoryMap)]) -> SysResult<()> {
        let elements = elements.iter().map(|(key, map)| (*key, Rc::clone(&map.0)));
        outer.0.inner.borrow_mut().extend(elements);
        self.after_putting(&outer.0);
        Ok(())
    }

    fn fill(&self, map: &MemoryMap, content: &[u8]) -> SysResult<()> {
        let mut lines = map.0.lines.borrow_mut();
        match lines.get_mut(..content.len()) {
            Some(place) if !map.0.frozen.get() => {
                place.copy_from_slice(content);
                Ok(())
            }
            _ => refuse("filling the map", &map.0.info.name, libc::EPERM),
        }
    }

    fn freeze(&self, map: &MemoryMap) -> SysResult<()> {
        map.0.frozen.set(true);
        Ok(())
    }

    fn content(&self, map: &MemoryMap, len: usize) -> SysResult<Vec<u8>> {
        match map.0.lines.borrow().get(..len) {
            Some(content) => Ok(content.to_vec()),
            None => refuse("reading the map", &map.0.info.name, libc::EINVAL),
        }
    }

    fn hits(&self, map: &MemoryMap) -> SysResult<Vec<(u64, u64)>> {
        Ok(map.0.hits.borrow().iter().map(|(&item, &times)| (item, times)).collect())
    }

    fn add_hits(&self, map: &MemoryMap, counts: &[(u64, u64)]) -> SysResult<()> {
        let mut hits = map.0.hits.borrow_mut();
        for &(item, times) in counts {
            *hits.entry(item).or_default() += times;
        }
        Ok(())
    }

    fn holds(&self, map: &MemoryMap, content: &[u8]) -> SysResult<bool> {
        Ok(map.0.lines.borrow().starts_with(content))
    }

    fn words(&self, control: &MemoryMap) -> SysResult<MemoryMap> {
        Ok(control.clone())
    }

    fn load(&self, words: &MemoryMap) -> Control {
        words.0.control.get()
    }

    fn exchange(&self, words: &MemoryMap, which: Word, old: u64, new: u64) -> SysResult<bool> {
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
}

/// The value of the longest prefix that holds a key: each begins with how many of its bits count. None holds a key that
/// is said to have more than it has.
fn longest(entries: &BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8]) -> Option<Vec<u8>> {
    let parts = |key: &[u8]| {
        let (len, bits) = key.split_first_chunk::<4>()?;
        Some((u32::from_ne_bytes(*len), bits.to_vec()))
    };
    let (len, bits) = parts(key)?;
    if len as usize > bits.len() * 8 {
        return None;
    }
    let holds = |known: &[u8]| {
        let (shorter, prefix) = parts(known)?;
        let bit = |bytes: &[u8], at: u32| bytes.get(at as usize / 8).map(|byte| byte << (at % 8) & 0x80);
        (shorter <= len && (0..shorter).all(|at| bit(&prefix, at) == bit(&bits, at))).then_some(shorter)
    };
    let held = entries.iter().filter_map(|(known, value)| Some((holds(known)?, value)));
    held.max_by_key(|(len, _)| *len).map(|(_, value)| value.clone())
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
