//! Maps.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use mesh_bpf::abi::{Control, HitLine, LINE};
use mesh_bpf::map::{MapDef, MapKind};

use super::kernel::{Kernel, POSSIBLE_CPUS};
use super::map::{KernelMap, create, open, put_maps};
use super::step::{absent, at, on};
use super::syscall;
use crate::system::{MapInfo, Maps, SysResult, Word};

/// Elements a batch look-up asks for at first.
const BATCH: u32 = 4096;

const fn is_per_cpu(info: &MapInfo) -> bool {
    info.kind == MapKind::PerCpuArray as u32 || info.kind == MapKind::PerCpuHash as u32
}

impl Kernel {
    fn value_len(&self, info: &MapInfo) -> io::Result<usize> {
        let value = info.value as usize;
        if !is_per_cpu(info) {
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

impl Maps for Kernel {
    type Map = KernelMap;
    type Words = syscall::Words;

    fn create_map(&self, def: &MapDef, capacity: u32, inner: Option<&KernelMap>) -> SysResult<KernelMap> {
        on("creating the map", def.name, create(def, capacity, inner))
    }

    fn pin_map(&self, map: &KernelMap, path: &Path) -> SysResult<()> {
        at("pinning", path, syscall::pin(map.fd.as_fd(), path))
    }

    fn open_map(&self, path: &Path) -> SysResult<Option<KernelMap>> {
        at("opening", path, absent(syscall::open_pin(path).and_then(open)))
    }

    fn map_by_id(&self, id: u32) -> SysResult<Option<KernelMap>> {
        on("opening the map", &id.to_string(), absent(syscall::map_by_id(id).and_then(open)))
    }

    fn map_info(&self, map: &KernelMap) -> SysResult<MapInfo> {
        Ok(map.info.clone())
    }

    fn lookup(&self, map: &KernelMap, key: &[u8]) -> SysResult<Option<Vec<u8>>> {
        let mut value = vec![0; on("reading the map", &map.info.name, self.value_len(&map.info))?];
        let found = absent(syscall::lookup(map.fd.as_fd(), key, &mut value));
        Ok(on("reading the map", &map.info.name, found)?.map(|()| value))
    }

    fn update(&self, map: &KernelMap, key: &[u8], value: &[u8]) -> SysResult<()> {
        let name = &map.info.name;
        let len = on("writing the map", name, self.value_len(&map.info))?;
        let whole: Vec<u8> = value.iter().copied().cycle().take(len).collect();
        on("writing the map", name, syscall::update(map.fd.as_fd(), key, &whole))
    }

    fn delete(&self, map: &KernelMap, key: &[u8]) -> SysResult<()> {
        on("writing the map", &map.info.name, absent(syscall::delete(map.fd.as_fd(), key)).map(drop))
    }

    fn entries(&self, map: &KernelMap) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>> {
        let hash = [MapKind::Hash as u32, MapKind::PerCpuHash as u32].contains(&map.info.kind);
        let entries = if hash { self.batch_entries(map) } else { self.next_entries(map) };
        on("reading the map", &map.info.name, entries)
    }

    fn put_maps(&self, outer: &KernelMap, elements: &[(u32, &KernelMap)]) -> SysResult<()> {
        on("writing the map", &outer.info.name, put_maps(outer, elements))
    }

    fn fill(&self, map: &KernelMap, content: &[u8]) -> SysResult<()> {
        on("filling the map", &map.info.name, syscall::fill(map.fd.as_fd(), content))
    }

    fn freeze(&self, map: &KernelMap) -> SysResult<()> {
        on("freezing the map", &map.info.name, syscall::freeze(map.fd.as_fd()))
    }

    fn content(&self, map: &KernelMap, len: usize) -> SysResult<Vec<u8>> {
        on("reading the map", &map.info.name, syscall::content(map.fd.as_fd(), len))
    }

    fn hits(&self, map: &KernelMap) -> SysResult<Vec<(u64, u64)>> {
        let content = self.content(map, map.info.capacity as usize * LINE)?;
        let lines = content.chunks_exact(LINE).map(bytemuck::pod_read_unaligned::<HitLine>);
        let all = lines.flat_map(|line| line.item.into_iter().zip(line.count));
        Ok(all.filter(|&(item, _)| item != 0).collect())
    }

    fn add_hits(&self, map: &KernelMap, counts: &[(u64, u64)]) -> SysResult<()> {
        on("writing to the map", &map.info.name, syscall::add_hits(map.fd.as_fd(), counts))
    }

    fn holds(&self, map: &KernelMap, content: &[u8]) -> SysResult<bool> {
        on("reading the map", &map.info.name, syscall::holds(map.fd.as_fd(), content))
    }

    fn words(&self, control: &KernelMap) -> SysResult<syscall::Words> {
        on("mapping the map", &control.info.name, syscall::Words::new(control.fd.as_fd()))
    }

    fn load(&self, words: &syscall::Words) -> Control {
        words.load()
    }

    fn exchange(&self, words: &syscall::Words, word: Word, old: u64, new: u64) -> SysResult<bool> {
        Ok(words.exchange(word, old, new))
    }
}
