//! What an apply asks of the machine before its first write, so that a node which cannot do it is left as it was.

use std::path::{Path, PathBuf};

use mesh_bpf::map::{MAPS, TABLES_MAP};
use mesh_bpf::tables::Tables;

use crate::Runtime;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::store::Store;

/// Capabilities that an apply needs, by number (`linux/capability.h`).
const RIGHTS: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

impl<S: Store> Runtime<S> {
    /// Whether pins and programs can be where the instance says, and this process may put them there.
    ///
    /// # Errors
    /// Why not.
    pub fn check_place(&self) -> Result<()> {
        let (store, instance) = (&self.store, &self.instance);
        if !store.is_bpffs(&instance.bpffs)? {
            return Err(Error::NotBpffs(instance.bpffs.clone()));
        }
        // Every cgroup of the second version has this file, and none of the first.
        if store.inode(&instance.cgroup.join("cgroup.controllers"))?.is_none() {
            return Err(Error::NotACgroup(instance.cgroup.clone()));
        }
        let missing = own_missing_rights(store);
        if !missing.is_empty() {
            return Err(Error::NoRights(missing));
        }
        if store.is_writable(&instance.bpffs)? {
            Ok(())
        } else {
            Err(Error::ReadOnly(instance.bpffs.clone()))
        }
    }

    /// Whether the tables fit into the memory that this process may use at all; `first` where the other maps are
    /// to be made too. What else is in that memory is not counted: much of it goes when it is asked for.
    pub(crate) fn check_memory(&self, tables: &Tables, first: bool) -> Result<()> {
        let fixed = if first { fixed() } else { 0 };
        let needed = fixed + tables.size() as u64;
        for (file, limit) in limits(&self.store, &self.instance)? {
            if limit < needed {
                return Err(Error::TooLittleMemory { needed, limit, file });
            }
        }
        Ok(())
    }
}

/// Bytes of the maps that are filled when they are made: keys and values, without what the kernel adds.
fn fixed() -> u64 {
    let bytes = |def: &mesh_bpf::map::MapDef| u64::from(def.capacity) * u64::from(def.key + def.value);
    MAPS.iter().filter(|def| def.name != TABLES_MAP.name && def.flags & NO_PREALLOC == 0).map(bytes).sum()
}

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// The capabilities of an apply that this thread lacks. Where nothing can be read, the kernel will say.
pub(crate) fn own_missing_rights(store: &impl Store) -> Vec<&'static str> {
    let status = store.read(Path::new("/proc/thread-self/status")).ok().flatten().unwrap_or_default();
    missing_rights(&String::from_utf8_lossy(&status))
}

/// Those that `/proc/…/status` does not list as effective. Where it says nothing, the kernel will.
fn missing_rights(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) else {
        return Vec::new();
    };
    RIGHTS.iter().filter(|(number, _)| effective >> number & 1 == 0).map(|&(_, name)| name).collect()
}

/// The memory limits of our own cgroup and of those above it, with the files that say so.
fn limits(store: &impl Store, instance: &Instance) -> Result<Vec<(PathBuf, u64)>> {
    let cgroups = store.read(Path::new("/proc/self/cgroup"))?.unwrap_or_default();
    let mut limits = Vec::new();
    for (folder, name) in own_cgroups(&String::from_utf8_lossy(&cgroups), &instance.hierarchy) {
        for folder in folder.ancestors() {
            let file = folder.join(name);
            // Where the controller does not reach, and above the hierarchy, there is no such file.
            let Some(text) = store.read(&file)? else { continue };
            // `max` is no number.
            limits.extend(String::from_utf8_lossy(&text).trim().parse().ok().map(|limit| (file, limit)));
        }
    }
    Ok(limits)
}

/// Our cgroups that can limit memory, and the file of the limit: `/proc/self/cgroup` has `0::PATH` for the
/// second version, and `N:CONTROLLERS:PATH` for the first, which is mounted where it always is.
fn own_cgroups(text: &str, hierarchy: &Path) -> Vec<(PathBuf, &'static str)> {
    let below = |root: &Path, path: &str| root.join(path.trim_start_matches('/'));
    (text.lines())
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            if controllers.is_empty() {
                Some((below(hierarchy, path), "memory.max"))
            } else if controllers.split(',').any(|name| name == "memory") {
                Some((below(Path::new("/sys/fs/cgroup/memory"), path), "memory.limit_in_bytes"))
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        assert_eq!(missing_rights("Name:\tx\nCapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing_rights("CapEff:\t0000000000201000\n"), ["CAP_BPF"]);
        assert_eq!(missing_rights("CapEff:\t0000000000000000\n").len(), 3);
        assert_eq!(missing_rights(""), Vec::<&str>::new());
    }

    #[test]
    fn both_versions_of_cgroups_limit_memory() {
        let text = "11:memory:/user/a\n10:cpu,cpuacct:/b\n0::/c/d\n";
        assert_eq!(
            own_cgroups(text, Path::new("/two")),
            [
                (PathBuf::from("/sys/fs/cgroup/memory/user/a"), "memory.limit_in_bytes"),
                (PathBuf::from("/two/c/d"), "memory.max"),
            ]
        );
    }
}
