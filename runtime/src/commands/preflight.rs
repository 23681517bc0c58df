//! What an apply asks of the machine before its first write, so that a node which cannot do it is left as it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_bpf::map::{CGROUPS, EXEMPT_CGROUPS, MAPS, NO_PREALLOC, TABLES_MAP, Table};
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::Tables;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::runtime::Runtime;
use crate::system::{System, mounts};

/// Capabilities that an apply needs, by number (`linux/capability.h`).
const RIGHTS: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

impl<S: System> Runtime<S> {
    /// Whether pins and programs can be where the instance says, and this process may put them there.
    ///
    /// # Errors
    /// Why not.
    pub fn preflight(&self) -> Result<()> {
        if self.is_by_rulesets() {
            return self.preflight_rulesets();
        }
        let node = self.node();
        if !node.system.is_bpffs(&node.instance.bpffs)? {
            return Err(Error::NotBpffs(node.instance.bpffs.clone()));
        }
        if !node.is_cgroup()? {
            return Err(Error::NotACgroup(node.instance.cgroup.clone()));
        }
        let missing = own_missing_rights(node.system);
        if !missing.is_empty() {
            return Err(Error::NoRights(missing));
        }
        if !node.system.is_writable(&node.instance.bpffs)? {
            return Err(Error::ReadOnly(node.instance.bpffs.clone()));
        }
        let mounts = |process: &str| {
            let bytes = node.system.read(&Path::new("/proc").join(process).join("mountinfo"))?;
            Ok::<_, Error>(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
        };
        if is_private(&node.instance.bpffs, &mounts("self")?, &mounts("1")?) {
            return Err(Error::PrivateBpffs(node.instance.bpffs.clone()));
        }
        Ok(())
    }

    /// Whether the maps of members have room for those that the policy names.
    pub(crate) fn check_capacity(&self, tables: &Tables) -> Result<()> {
        let policy = Membership::read(tables.get(Table::Names))?;
        let cgroups: BTreeSet<&String> =
            policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups).collect();
        // Those of both slots are in one map.
        let exempt = 2 * policy.named_cgroups().count();
        for (needed, def) in [(cgroups.len(), &CGROUPS), (exempt, &EXEMPT_CGROUPS)] {
            if needed > def.capacity as usize {
                return Err(Error::OverCapacity { map: def.name, needed, capacity: def.capacity });
            }
        }
        Ok(())
    }

    /// Whether the tables fit into the memory that this process may use at all; `first` where the other maps are
    /// to be made too. What else is in that memory is not counted: much of it goes when it is asked for.
    pub(crate) fn check_memory(&self, tables: &Tables, first: bool) -> Result<()> {
        let fixed = if first { fixed() } else { 0 };
        self.check_bytes(fixed + tables.size() as u64)
    }

    /// The same of what a first apply makes whatever its policy says.
    pub(crate) fn check_fixed(&self) -> Result<()> {
        self.check_bytes(fixed())
    }

    fn check_bytes(&self, needed: u64) -> Result<()> {
        for (file, limit) in limits(self.node())? {
            if limit < needed {
                return Err(Error::TooLittleMemory { needed, limit, file });
            }
        }
        Ok(())
    }
}

/// Whether a BPF file system is mounted here and not where the machine's first process lives, by what each of
/// them has mounted: what is pinned in it ends with this mount namespace. Where the first process cannot be
/// looked at, nobody knows.
fn is_private(bpffs: &Path, here: &str, first: &str) -> bool {
    let above = mounts(here).filter(|mount| bpffs.starts_with(&mount.place));
    let ours = above.max_by_key(|mount| mount.place.components().count());
    !first.is_empty() && ours.is_some_and(|ours| mounts(first).all(|other| other.device != ours.device))
}

/// Bytes of the maps that are filled when they are made: keys and values, without what the kernel adds.
fn fixed() -> u64 {
    let bytes = |def: &mesh_bpf::map::MapDef| u64::from(def.capacity) * u64::from(def.key + def.value);
    MAPS.iter().filter(|def| def.name != TABLES_MAP.name && def.flags & NO_PREALLOC == 0).map(bytes).sum()
}

/// The capabilities of an apply that this thread lacks. Where nothing can be read, the kernel will say. A file, and not
/// `capget(2)`, so that a test can say what it holds.
pub(crate) fn own_missing_rights(system: &impl System) -> Vec<&'static str> {
    let status = system.read(Path::new("/proc/thread-self/status")).ok().flatten().unwrap_or_default();
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
fn limits(node: Node<'_, impl System>) -> Result<Vec<(PathBuf, u64)>> {
    let cgroups = node.system.read(Path::new("/proc/self/cgroup"))?.unwrap_or_default();
    let mut limits = Vec::new();
    for (dir, name) in own_cgroups(&String::from_utf8_lossy(&cgroups), &node.instance.hierarchy) {
        for dir in dir.ancestors() {
            let file = dir.join(name);
            // Where the controller does not reach, and above the hierarchy, there is no such file.
            let Some(text) = node.system.read(&file)? else { continue };
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
    fn a_bpffs_that_only_this_mount_namespace_has_is_private() {
        let first = "22 1 8:1 / / rw - ext4 /dev/a rw\n31 22 0:30 / /sys/fs/bpf rw - bpf bpf rw\n";
        let own = format!("{first}90 31 0:77 / /sys/fs/bpf rw - bpf bpf rw\n");
        let bpffs = Path::new("/sys/fs/bpf");
        assert!(!is_private(bpffs, first, first));
        assert!(is_private(bpffs, &own.replace("31 22 0:30", "31 22 0:31"), first));
        assert!(!is_private(bpffs, "22 1 0:30 / / rw - bpf bpf rw\n", first));
        assert!(!is_private(bpffs, first, ""));
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
