//! Keeps the policy of a directory live.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_bpf::tables::Tables;
use mesh_runtime::{Applied, Apply, Drift, Error, Owner, hex};
use tracing::{error, info, warn};

use super::log;
use super::state::Shared;
use crate::cluster::Services;

/// A policy that compiled.
pub struct Policy {
    /// Its tables.
    pub tables: Tables,
    /// Every file that it was read from.
    pub files: Vec<PathBuf>,
    /// What it says and should be known.
    pub warnings: Vec<PolicyWarning>,
    /// Which line of which file each item is from, as [`Apply::lines`] is kept.
    pub lines: Vec<u8>,
}

/// Something that should be known of a policy before it is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWarning {
    /// What kind it is: a word that stays as it is while the wording changes.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// What came out of compiling a directory.
pub struct Outcome {
    /// The policy, or why there is none.
    pub policy: Result<Policy, String>,
    /// Services that it names: where one of them has other addresses, it is compiled anew.
    pub services: BTreeSet<String>,
}

/// Compiles the policy of a directory for services with these addresses.
pub type Compile = Box<dyn Fn(&Path, &Services) -> Outcome>;

/// Between two times that a policy is compiled since services have other addresses.
const RESTING: Duration = Duration::from_secs(1);

/// Files with what tells that they changed: inode, length, time.
type Fingerprint = BTreeMap<PathBuf, Option<(u64, u64, i64, i64)>>;

/// Reads the directory where something in it changed, and applies what compiled.
pub(super) struct PolicyKeeper {
    dir: Option<PathBuf>,
    compile: Compile,
    /// The policy of the directory, if it compiled.
    wanted: Option<Policy>,
    fingerprint: Option<Fingerprint>,
    services: ServiceKeeper,
}

/// What the policy was compiled for.
#[derive(Debug, Default)]
struct ServiceKeeper {
    /// Services that it names.
    named: BTreeSet<String>,
    /// What was known of those.
    known: Services,
    /// When it was compiled last.
    compiled: Option<Instant>,
    /// They have others, and it is not time yet.
    is_due: bool,
}

impl ServiceKeeper {
    /// What is known of the services that the policy names.
    fn of(&self, all: &Services) -> Services {
        let known = self.named.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())));
        known.collect()
    }

    /// The services that have others than it was compiled for.
    fn changed(&self, all: &Services) -> Vec<&str> {
        let named = self.named.iter().map(String::as_str);
        named.filter(|name| all.get(*name) != self.known.get(*name)).collect()
    }

    /// How long the policy is to stay as it is, since it was compiled just now.
    fn rest(&self) -> Option<Duration> {
        RESTING.checked_sub(self.compiled?.elapsed())
    }
}

impl PolicyKeeper {
    pub(super) const fn new(dir: Option<PathBuf>, compile: Compile) -> Self {
        let services =
            ServiceKeeper { named: BTreeSet::new(), known: Services::new(), compiled: None, is_due: false };
        Self { dir, compile, wanted: None, fingerprint: None, services }
    }

    /// Makes what the directory holds now live. `touched`: something in it was written.
    pub(super) fn keep(&mut self, shared: &Shared, touched: bool, services: &Services) {
        self.read(shared, touched, services);
        self.apply(shared, false);
    }

    /// How long until services are to be looked at again, if some have other addresses.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.services.is_due.then(|| self.services.rest().unwrap_or_default())
    }

    /// The tables that are to be live, if the directory has some.
    pub(super) fn tables(&self) -> Option<&Tables> {
        self.wanted.as_ref().map(|policy| &policy.tables)
    }

    /// Compiles the policy of the directory, where one of its files is not as it was, or a service that it names.
    fn read(&mut self, shared: &Shared, touched: bool, services: &Services) {
        let Some(dir) = &self.dir else { return };
        let known: Vec<PathBuf> = self.wanted.iter().flat_map(|policy| policy.files.clone()).collect();
        let fingerprint = fingerprint(dir, &known);
        if self.fingerprint.as_ref() == Some(&fingerprint) && !touched {
            if self.services.of(services) == self.services.known {
                self.services.is_due = false;
                return;
            }
            self.services.is_due = self.services.rest().is_some();
            if self.services.is_due {
                return;
            }
            let names = self.services.changed(services).join(", ");
            info!(services = names, "services have other addresses");
        }
        let began = Instant::now();
        let Outcome { policy, services: named } = (self.compile)(dir, services);
        self.services.named = named;
        self.services.known = self.services.of(services);
        self.services.compiled = Some(Instant::now());
        self.services.is_due = false;
        match policy {
            Ok(policy) => {
                for PolicyWarning { code, text } in &policy.warnings {
                    warn!(code, warning = text, "the policy");
                }
                self.fingerprint = Some(self::fingerprint(dir, &policy.files));
                self.wanted = Some(policy);
                shared.change(|state| {
                    state.applies.compiling += began.elapsed();
                    state.applies.compiled += 1;
                    state.report.refused = None;
                });
            }
            Err(why) => {
                error!(error = why, "the policy is refused, and what is live stays live");
                self.fingerprint = Some(fingerprint);
                shared.change(|state| state.report.refused = Some(why));
            }
        }
    }

    /// Makes the directory's policy live, if it is not. Somebody who applied another at the command line is asked
    /// first: that is what `resume` answers. The generation, where there is a new one.
    pub(super) fn apply(&self, shared: &Shared, take_over: bool) -> Option<u64> {
        let policy = self.wanted.as_ref()?;
        let dir = self.dir.as_ref()?;
        let head = match shared.runtime.head() {
            Ok(head) => head,
            Err(error) => {
                log::failed("cannot tell what is live", &error);
                return None;
            }
        };
        let is_live = head.generation != 0 && head.digest == hex(&policy.tables.digest());
        // The same policy may stand on other lines than before.
        let is_cited =
            || shared.runtime.lines(&head.digest).is_ok_and(|kept| kept.as_ref() == Some(&policy.lines));
        if is_live && head.owner == Owner::Agent && is_cited() {
            shared.change(|state| state.report.waiting = false);
            return None;
        }
        let origin = format!("agent, from {}", dir.display());
        let request = Apply {
            lines: Some(&policy.lines),
            owner: Owner::Agent,
            override_owner: take_over,
            origin: &origin,
            // The same policy gets its new owner by a new generation only.
            repair: take_over && is_live,
            ..Apply::of(&policy.tables)
        };
        match shared.runtime.apply(request) {
            Ok(applied) => {
                note(shared, &applied);
                Some(applied.generation)
            }
            Err(Error::Owned(owner)) => {
                if !shared.state().report.waiting {
                    let help = "`meshc resume` hands over to the agent";
                    warn!(applied_by = %owner, help, "another policy was applied by hand, and is kept");
                }
                shared.change(|state| state.report.waiting = true);
                None
            }
            Err(error) => {
                log::failed("the policy cannot be applied", &error);
                shared.change(|state| {
                    state.applies.failed += 1;
                    state.report.refused = Some(error.to_string());
                });
                None
            }
        }
    }
}

/// Counts an apply, and says what it did.
pub(super) fn note(shared: &Shared, applied: &Applied) {
    shared.change(|state| {
        state.report.waiting = false;
        state.report.refused = None;
        if applied.changed {
            state.applies.done += 1;
            for (sum, phase) in state.applies.phases.iter_mut().zip(applied.milliseconds) {
                *sum += phase;
            }
        }
    });
    let Applied { generation, digest, changed, paused, .. } = applied;
    let [wait_ms, write_ms, commit_ms] = applied.milliseconds;
    info!(generation, digest, changed, paused, wait_ms, write_ms, commit_ms, "applied");
    for cgroup in &applied.missing_cgroups {
        let code = Drift::CgroupMissing(cgroup.clone()).code();
        warn!(code, cgroup, "a cgroup that the policy names is not there");
    }
    for warning in &applied.warnings {
        warn!(code = warning.code(), warning = (shared.wording.warning)(warning), "the apply");
    }
}

/// The files of a directory, and those that a policy was read from besides.
fn fingerprint(dir: &Path, known: &[PathBuf]) -> Fingerprint {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.chain(known.iter().cloned()).chain([dir.to_owned()]);
    files
        .map(|file| {
            // Behind symbolic links: that is what is read.
            let found = fs::metadata(&file).ok();
            let seen = found.map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec()));
            (file, seen)
        })
        .collect()
}
