//! Keeps the cgroups that the live policy names members, whenever they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mesh_runtime::Runtime;
use tracing::info;

use super::log;

/// Cgroups that the live policy names, with their ids when it last looked.
#[derive(Debug, Default)]
pub(super) struct CgroupKeeper {
    known: BTreeMap<PathBuf, Option<u64>>,
}

impl CgroupKeeper {
    /// Cgroups that were made since, or made again, join.
    pub(super) fn keep(&mut self, runtime: &Runtime) {
        let named = match runtime.named_cgroups() {
            Ok(named) => named,
            Err(error) => return log::failed("cannot tell which cgroups the policy names", &error),
        };
        let now: BTreeMap<PathBuf, Option<u64>> = (named.into_iter())
            .map(|dir| {
                let id = fs::metadata(&dir).ok().map(|found| found.ino());
                (dir, id)
            })
            .collect();
        if now != self.known {
            refresh(runtime);
            self.known = now;
        }
    }

    /// Where cgroups will be made or removed: the nearest directory above each that is there.
    pub(super) fn dirs(&self, runtime: &Runtime) -> BTreeSet<PathBuf> {
        let hierarchy = &runtime.instance().hierarchy;
        let nearest = |cgroup: &PathBuf| {
            let mut above = cgroup.ancestors().skip(1).take_while(|dir| dir.starts_with(hierarchy));
            above.find(|dir| dir.is_dir()).map(Path::to_owned)
        };
        self.known.keys().filter_map(nearest).collect()
    }
}

/// Brings members in line with the live policy.
pub(super) fn refresh(runtime: &Runtime) {
    match runtime.refresh() {
        Ok(Some(applied)) if applied.members_changed > 0 || applied.upgraded > 0 => {
            let (changed, programs_replaced) = (applied.members_changed, applied.upgraded);
            info!(changed, programs_replaced, "members brought in line");
        }
        Ok(_) => {}
        Err(error) => log::failed("members cannot be brought in line", &error),
    }
}
