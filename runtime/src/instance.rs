//! Which meshc this is: several live side by side, and tests beside a live one.

use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;
use serde::{Deserialize, Serialize};

use crate::system::{Mount, SysResult, System, mounts};

/// The directory of endpoints that are joining or leaving, beside those that are members.
pub(crate) const MOVING: &str = "moving";

/// The directory of those that were members and have left, beside them.
pub(crate) const LEFT: &str = "left";

/// The directory of [`Instance::members`], one a boot.
pub(crate) const MEMBERS: &str = "members";

/// How the names of [`Instance::lines`] end.
pub(crate) const LINES: &str = ".lines";

/// The file of [`Instance::inbound_mode_file`].
const INBOUND_MODE: &str = "inbound";

/// The file of [`Instance::backend_file`].
const BACKEND: &str = "backend";

/// The directory of [`Instance::rulesets`].
const RULESETS: &str = "rulesets";

/// The file of [`Instance::placement_file`].
const PLACEMENT: &str = "placement";

/// The file of [`Instance::keep_decisions_file`].
const KEEP_DECISIONS: &str = "keep-decisions";

/// The directories of the state directory.
pub(crate) const DIRS: [&str; 6] = [MEMBERS, "history", "artifacts", "failed", "namespaces", RULESETS];

/// The files of the state directory, which go with it.
pub(crate) const FILES: [&str; 12] = [
    "current",
    "pending",
    "paused",
    "confirm",
    "programs",
    "holder",
    INBOUND_MODE,
    BACKEND,
    PLACEMENT,
    KEEP_DECISIONS,
    "undecided-sk_lookup",
    "undecided-tc",
];

/// What the agent has there while it runs.
pub(crate) const AGENT: [&str; 2] = ["agent.lock", "agent.sock"];

/// How the last apply of an instance decided inbound traffic to pods, by its state directory: attaching commands do
/// as it did. Where nothing is known, by `sk_lookup`.
#[must_use]
pub fn kept_inbound(state: &Path) -> Inbound {
    match std::fs::read_to_string(state.join(INBOUND_MODE)) {
        Ok(word) if word.trim_matches('"') == Inbound::Tc.word() => Inbound::Tc,
        _ => Inbound::SkLookup,
    }
}

/// What decides a node's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// BPF programs.
    #[default]
    Bpf,
    /// Rulesets of nftables.
    Nft,
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bpf, Self::Nft];

    /// Its name, as options and files have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Nft => "nft",
        }
    }
}

/// What the last apply of an instance was to be decided by, by its state directory: other commands go there. Where
/// nothing is known, BPF programs.
#[must_use]
pub fn kept_backend(state: &Path) -> Backend {
    let kept = std::fs::read(state.join(BACKEND)).ok();
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The same of an instance on a machine.
pub(crate) fn kept_backend_of(system: &impl System, instance: &Instance) -> SysResult<Backend> {
    let kept = system.read(&instance.backend_file())?;
    Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Where an instance is: what the last apply was told. Commands that are not told go there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// As [`Instance::bpffs`].
    pub bpffs: PathBuf,
    /// As [`Instance::name`].
    pub name: String,
    /// As [`Instance::cgroup`].
    pub cgroup: PathBuf,
}

impl Placement {
    /// What an instance's last apply was told, by its state directory; `None` where nothing is known.
    #[must_use]
    pub fn kept(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state.join(PLACEMENT)).ok()?).ok()
    }

    /// Whether something of the instance is there: then it is nowhere else.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.bpffs.join(&self.name).join("maps").exists()
    }
}

/// Everything that tells one instance from another. It is passed everywhere; there is no global path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// A directory of a mounted BPF file system; pins are in a directory of the instance's name below it.
    pub bpffs: PathBuf,
    /// The cgroup that programs are attached to: a directory of the version 2 hierarchy.
    pub cgroup: PathBuf,
    /// Where that hierarchy is mounted: cgroup paths of policies begin there.
    pub hierarchy: PathBuf,
    /// The instance's state directory: records, artifacts, members.
    pub state: PathBuf,
    /// How inbound traffic to pods is decided.
    pub inbound: Inbound,
    /// What decides.
    pub backend: Backend,
    /// `/proc/sys/kernel/random/boot_id`: cookies and cgroup ids mean nothing after a reboot.
    pub boot_id: String,
}

impl Instance {
    /// The directory with everything pinned, and the lock. Without a dot: bpffs allows none in names.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.bpffs.join(&self.name)
    }

    /// Pinned maps. Present only as a whole.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.pins().join("maps")
    }

    /// Where a set of maps is made before it is renamed to [`Instance::maps`].
    #[must_use]
    pub fn new_maps(&self) -> PathBuf {
        self.pins().join("maps-new")
    }

    /// Pinned links, one a program.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.pins().join("links")
    }

    /// Pinned links of pods, one a pod and named for its key.
    #[must_use]
    pub fn pod_links(&self) -> PathBuf {
        self.pins().join("pods")
    }

    /// Pinned links of the programs of acceleration. Not there where nothing is accelerated.
    #[must_use]
    pub fn accelerators(&self) -> PathBuf {
        self.pins().join("accelerators")
    }

    /// The live generation's record.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.state.join("current")
    }

    /// The record of a generation that is about to go live.
    #[must_use]
    pub fn pending(&self) -> PathBuf {
        self.state.join("pending")
    }

    /// Records of generations that went live, by number.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.state.join("history")
    }

    /// Artifacts, by digest, and beside each the lines of its items.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.state.join("artifacts")
    }

    /// Endpoints of this boot.
    #[must_use]
    pub fn members(&self) -> PathBuf {
        self.state.join(MEMBERS).join(&self.boot_id)
    }

    /// Endpoints that are joining or leaving.
    #[must_use]
    pub fn moving(&self) -> PathBuf {
        self.members().join(MOVING)
    }

    /// Endpoints that were members in this boot, for whoever asks what they did.
    pub(crate) fn left(&self) -> PathBuf {
        self.members().join(LEFT)
    }

    /// Pods that could not be attached.
    #[must_use]
    pub fn failed(&self) -> PathBuf {
        self.state.join("failed")
    }

    /// Labels of Kubernetes namespaces.
    #[must_use]
    pub fn namespaces(&self) -> PathBuf {
        self.state.join("namespaces")
    }

    /// Where the agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }

    /// There while the mesh is paused, so that a boot does not resume it.
    #[must_use]
    pub fn paused(&self) -> PathBuf {
        self.state.join("paused")
    }

    /// The generation that waits to be confirmed.
    #[must_use]
    pub fn confirm(&self) -> PathBuf {
        self.state.join("confirm")
    }

    /// Which build the attached programs are of.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.state.join("programs")
    }

    /// Which line of which file each item of a policy is from, by its digest: see
    /// [`Apply::lines`](crate::Apply::lines).
    #[must_use]
    pub fn lines(&self, digest: &str) -> PathBuf {
        self.artifacts().join(format!("{digest}{LINES}"))
    }

    /// Where the last apply attached it.
    pub(crate) fn placement_file(&self) -> PathBuf {
        self.state.join(PLACEMENT)
    }

    /// Where it is.
    /// Whether decisions are kept in the kernel. Not there: they are.
    pub(crate) fn keep_decisions_file(&self) -> PathBuf {
        self.state.join(KEEP_DECISIONS)
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement { bpffs: self.bpffs.clone(), name: self.name.clone(), cgroup: self.cgroup.clone() }
    }

    /// What the last apply was to be decided by.
    #[must_use]
    pub fn backend_file(&self) -> PathBuf {
        self.state.join(BACKEND)
    }

    /// The lock of an instance that decides by rulesets.
    #[must_use]
    pub fn rulesets(&self) -> PathBuf {
        self.state.join(RULESETS)
    }

    /// How the last apply decided inbound traffic to pods.
    #[must_use]
    pub fn inbound_mode_file(&self) -> PathBuf {
        self.state.join(INBOUND_MODE)
    }

    /// There while inbound traffic to pods is not decided in that way, since the kernel refuses it: then the policy
    /// decides nothing of it.
    #[must_use]
    pub fn undecided(&self, by: Inbound) -> PathBuf {
        self.state.join(format!("undecided-{}", by.word()))
    }

    /// Who holds the lock: for messages only.
    #[must_use]
    pub fn holder(&self) -> PathBuf {
        self.state.join("holder")
    }

    /// The directory of an absolute cgroup path of a policy.
    #[must_use]
    pub fn cgroup_dir(&self, path: &str) -> PathBuf {
        self.hierarchy.join(path.trim_start_matches('/'))
    }

    /// The cgroup path, as a policy writes it, of a directory of the hierarchy.
    #[must_use]
    pub fn cgroup_path(&self, dir: &Path) -> String {
        let inner = dir.strip_prefix(&self.hierarchy).unwrap_or(dir);
        format!("/{}", inner.display())
    }
}

/// The mount point of the version 2 hierarchy in `/proc/self/mountinfo`.
#[must_use]
pub fn find_hierarchy(mountinfo: &str) -> Option<PathBuf> {
    // A bind mount of a part of the hierarchy cannot resolve paths.
    let is_whole = |mount: &Mount<'_>| mount.kind == "cgroup2" && mount.root == "/";
    mounts(mountinfo).find(is_whole).map(|mount| mount.place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not listed would outlive a purge.
    #[test]
    fn everything_in_the_state_directory_is_listed() {
        let instance = Instance {
            name: "a".into(),
            bpffs: "/bpf".into(),
            cgroup: "/cgroup".into(),
            hierarchy: "/cgroup".into(),
            state: "/state".into(),
            inbound: Inbound::Tc,
            backend: Backend::Nft,
            boot_id: "boot".into(),
        };
        let named = [
            instance.current(),
            instance.pending(),
            instance.history(),
            instance.artifacts(),
            instance.members(),
            instance.failed(),
            instance.namespaces(),
            instance.socket(),
            instance.socket().with_extension("lock"),
            instance.paused(),
            instance.confirm(),
            instance.programs(),
            instance.inbound_mode_file(),
            instance.backend_file(),
            instance.rulesets(),
            instance.placement_file(),
            instance.keep_decisions_file(),
            instance.holder(),
        ];
        let undecided = Inbound::ALL.map(|by| instance.undecided(by));
        let all: Vec<&str> = FILES.iter().chain(&DIRS).chain(&AGENT).copied().collect();
        let first = |path: &Path| Some(path.strip_prefix("/state").ok()?.iter().next()?.to_str()?.to_owned());
        for path in named.iter().chain(&undecided) {
            assert!(first(path).is_some_and(|name| all.contains(&name.as_str())), "{}", path.display());
        }
        assert_eq!(all.len(), named.len() + undecided.len());
    }

    #[test]
    fn the_hierarchy_is_found_beside_version_1() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                    38 25 0:34 /part /run/part rw - cgroup2 cgroup2 rw\n\
                    39 25 0:34 / /sys/fs/cgroup/a\\040b rw,relatime shared:3 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_hierarchy(text), Some(PathBuf::from("/sys/fs/cgroup/a b")));
        assert_eq!(find_hierarchy("30 25 0:26 / /x rw - cgroup cgroup rw,cpu\n"), None);
    }
}
