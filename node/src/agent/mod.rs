//! The agent: keeps a node in step with the policy in a folder, and with the pods and units that come and go.
//!
//! It is a convenience, not a part of the datapath: what it attached stays attached when it ends, and the plugin
//! and the command line do without it. Killed at any instant, it leaves what any killed command leaves, and
//! the next one goes on.

mod addresses;
mod facts;
mod http;
mod log;
mod metrics;
mod notify;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_bpf::tables::Tables;
use mesh_runtime::{Applied, Apply, Error, Owner, Runtime, hex};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use addresses::Addresses;
use facts::Facts;
pub use log::Log;
use notify::Notify;
use serve::Desk;

use crate::install::{self, Place};
use crate::watch::Watch;
use crate::wire::Reply;

/// A repair that helped nothing is not tried again for so many looks.
const GIVING_UP: u32 = 20;

/// How often readers are looked for that wait in vain, while anything is accelerated.
const RESCUE: Duration = Duration::from_secs(1);

/// How the agent is to be.
#[derive(Debug)]
pub struct Settings {
    /// The folder whose policy is to be live; without one, whatever is live is kept in step.
    pub folder: Option<PathBuf>,
    /// Where health and metrics are told.
    pub listen: Option<SocketAddr>,
    /// How often everything is looked at, whatever happened.
    pub interval: Duration,
    /// Keep the CNI plugin in place, and the program that it is.
    pub plugin: Option<(Place, PathBuf)>,
}

/// Writes something to a file, or says why that cannot be.
pub type Keep = Box<dyn Fn(&Path) -> Result<(), String>>;

/// A policy that compiled.
pub struct Policy {
    /// Its tables.
    pub tables: Tables,
    /// Every file that it was read from.
    pub files: Vec<PathBuf>,
    /// What it says and should be known, in words.
    pub warnings: Vec<String>,
    /// Keeps in this file which line each item is from.
    pub keep_places: Keep,
}

/// Compiles the policy of a folder, or says why that cannot be.
pub type Compile = Box<dyn Fn(&Path) -> Result<Policy, String>>;

/// What other threads ask the agent to do.
#[derive(Debug)]
enum Ask {
    Resume(Sender<Reply>),
}

/// Files with what tells that they changed: inode, length, time.
type Fingerprint = BTreeMap<PathBuf, Option<(u64, u64, i64, i64)>>;

/// Why the main loop went on.
enum Woken {
    Stop,
    Look(Look),
}

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    policy: bool,
    cgroups: bool,
    pods: bool,
    members: bool,
    plugin: bool,
    all: bool,
}

struct Agent {
    runtime: Arc<Runtime>,
    settings: Settings,
    compile: Compile,
    log: Arc<Log>,
    facts: Arc<Mutex<Facts>>,
    notify: Notify,
    watch: Watch,
    signals: SignalFd,
    desk: Desk,
    asks: Receiver<Ask>,
    bell: UnixStream,
    /// The policy of the folder, if it compiled.
    wanted: Option<Policy>,
    fingerprint: Option<Fingerprint>,
    /// Cgroups that the live policy names, with their ids when we last looked.
    cgroups: BTreeMap<PathBuf, Option<u64>>,
    /// Pods whose addresses are followed.
    addresses: Addresses,
    /// What was said last about them.
    addresses_said: String,
    /// Looks until a repair is tried again.
    patience: u32,
    /// What it did not help against.
    given_up: Vec<String>,
    /// What was said last about the plugin's place, so that it is said once.
    plugin_said: String,
    /// When readers that wait in vain were last looked for.
    rescued: Option<Instant>,
    /// What was said last about them.
    rescue_said: String,
}

/// Runs until it is asked to end.
///
/// # Errors
/// Where another agent of this instance runs, or socket, address or signals cannot be had.
pub fn run(runtime: Runtime, settings: Settings, compile: Compile, log: Log) -> io::Result<()> {
    // Before any thread begins, so that none of them takes the signal.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let socket = runtime.instance().socket();
    let _alone = serve::alone(&socket)?;
    let (runtime, log) = (Arc::new(runtime), Arc::new(log));
    let folder = settings.folder.as_ref().map(|folder| folder.display().to_string());
    let facts = Arc::new(Mutex::new(Facts::new(folder)));
    let (asks, asked) = channel();
    let (bell, rung) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    rung.set_nonblocking(true)?;
    let desk = Desk {
        runtime: Arc::clone(&runtime),
        facts: Arc::clone(&facts),
        log: Arc::clone(&log),
        asks,
        bell: Arc::new(bell),
    };
    if let Some(address) = settings.listen {
        let address = http::serve(address, Arc::clone(&runtime), Arc::clone(&facts), settings.interval)?;
        log.info("health and metrics", json!({ "address": address.to_string() }));
    }
    let agent = Agent {
        runtime,
        settings,
        compile,
        log,
        facts,
        notify: Notify::from_environment(),
        watch: Watch::new()?,
        signals,
        desk,
        asks: asked,
        bell: rung,
        wanted: None,
        fingerprint: None,
        cgroups: BTreeMap::new(),
        addresses: Addresses::default(),
        addresses_said: String::new(),
        patience: 0,
        given_up: Vec::new(),
        plugin_said: String::new(),
        rescued: None,
        rescue_said: String::new(),
    };
    agent.run(&socket)
}

impl Agent {
    fn run(mut self, socket: &Path) -> io::Result<()> {
        self.log
            .info("started", json!({ "pid": std::process::id(), "instance": self.runtime.instance().name }));
        self.restore();
        self.look(Look { policy: true, plugin: true, all: true, ..Look::default() });
        // Whoever asks gets answers of an agent that has looked around.
        serve::serve(serve::listen(socket)?, self.desk.clone())?;
        self.notify.ready();
        loop {
            match self.wait()? {
                Woken::Stop => break,
                Woken::Look(look) => {
                    self.look(look);
                    // Somebody may have removed the state folder, and this with it.
                    if !socket.exists() && socket.parent().is_some_and(Path::exists) {
                        serve::serve(serve::listen(socket)?, self.desk.clone())?;
                    }
                }
            }
        }
        self.notify.stopping();
        let _ = fs::remove_file(socket);
        self.log.info("stopped; the datapath goes on", json!({}));
        Ok(())
    }

    /// Waits for something to do.
    fn wait(&mut self) -> io::Result<Woken> {
        let end = Instant::now() + self.settings.interval;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::Look(Look { all: true, ..Look::default() }));
            }
            self.notify.alive();
            let longest = self.notify.pulse().map_or(left, |pulse| left.min(pulse));
            let longest = if self.rescue() { longest.min(RESCUE) } else { longest };
            let (sockets, resting) = self.addresses.waited_for();
            let longest = resting.map_or(longest, |resting| longest.min(resting));
            let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
            let mut ready = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.bell, PollFlags::IN),
                PollFd::new(&self.watch, PollFlags::IN),
            ];
            ready.extend(sockets.into_iter().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
            match poll(&mut ready, Some(&longest)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.signals.read_signal()?.is_some() {
                return Ok(Woken::Stop);
            }
            self.answer();
            self.follow();
            if let Some(look) = self.happened()? {
                return Ok(Woken::Look(look));
            }
        }
    }

    /// Helps readers of accelerated connections that wait in vain; whether there may be any.
    fn rescue(&mut self) -> bool {
        if self.rescued.is_some_and(|last| last.elapsed() < RESCUE / 2) {
            return true;
        }
        match self.runtime.accelerates() {
            Ok(true) => {}
            _ => return false,
        }
        match self.runtime.rescue() {
            Ok(helped) => {
                for one in helped {
                    let fields = json!({
                        "name": one.name, "process": one.process, "client": one.client, "server": one.server,
                        "why": one.why.word(), "unread": one.unread,
                    });
                    self.log.warn(&one.to_string(), fields);
                }
                self.rescue_said.clear();
            }
            Err(error) => {
                let said = error.to_string();
                if said != self.rescue_said {
                    self.complain("readers that wait in vain cannot be helped", &error);
                }
                self.rescue_said = said;
            }
        }
        self.rescued = Some(Instant::now());
        true
    }

    /// What the watched folders tell.
    fn happened(&self) -> io::Result<Option<Look>> {
        let mut changed = self.watch.changed();
        if changed.is_empty() {
            return Ok(None);
        }
        let folders = self.settings.plugin.as_ref().map(|(place, _)| place.folders()).unwrap_or_default();
        let is_policy = |folder: &PathBuf| self.settings.folder.as_ref() == Some(folder);
        // A unit's first connection does not wait until a file is written whole.
        if changed.iter().any(|folder| is_policy(folder) || folders.contains(folder)) {
            changed.extend(self.watch.wait(Duration::from_millis(50))?);
        }
        let (namespaces, members) = (self.addresses.namespaces(), self.runtime.instance().members());
        // Or where that is made.
        let is_of_members = |folder: &PathBuf| members.starts_with(folder);
        let is_of_pods = |folder: &PathBuf| namespaces.contains(folder) || is_of_members(folder);
        Ok(Some(Look {
            policy: changed.iter().any(is_policy),
            plugin: changed.iter().any(|folder| folders.contains(folder)),
            pods: changed.iter().any(|folder| namespaces.contains(folder)),
            // What is done for a pod that comes or goes writes there itself, and is not to be done again for that.
            members: changed.iter().any(is_of_members),
            cgroups: !changed.iter().all(is_of_pods),
            all: false,
        }))
    }

    fn look(&mut self, look: Look) {
        if look.policy || look.all {
            self.read_policy(look.policy);
        }
        if look.policy || look.all {
            self.apply(false);
        }
        if look.cgroups || look.all {
            self.keep_cgroups();
        }
        if look.policy || look.pods || look.all {
            self.keep_pods();
        }
        if look.members || look.pods || look.all {
            self.keep_following();
        }
        if look.all {
            self.repair();
        }
        if look.plugin || look.all {
            self.keep_plugin();
        }
        self.watch_folders();
        self.change(|facts| facts.looked = Some(Instant::now()));
        self.tell();
    }

    /// After a boot the kernel is empty: what was live before comes first, whatever the folder says.
    fn restore(&self) {
        match self.runtime.awaits_restore() {
            Ok(Some(_)) => match self.runtime.restore() {
                Ok(Some(applied)) => self.log.info("restored", json!({ "generation": applied.generation })),
                Ok(None) => {}
                Err(error) => self.complain("cannot restore what was live before this boot", &error),
            },
            Ok(None) => {}
            Err(error) => self.complain("cannot tell what was live before this boot", &error),
        }
    }

    /// Compiles the policy of the folder, where one of its files is not as it was.
    fn read_policy(&mut self, touched: bool) {
        let Some(folder) = self.settings.folder.clone() else { return };
        let known: Vec<PathBuf> = self.wanted.iter().flat_map(|policy| policy.files.clone()).collect();
        let fingerprint = fingerprint(&folder, &known);
        if self.fingerprint.as_ref() == Some(&fingerprint) && !touched {
            return;
        }
        let began = Instant::now();
        match (self.compile)(&folder) {
            Ok(policy) => {
                for warning in &policy.warnings {
                    self.log.warn("the policy", json!({ "warning": warning }));
                }
                self.fingerprint = Some(self::fingerprint(&folder, &policy.files));
                self.wanted = Some(policy);
                self.change(|facts| {
                    facts.applies.compiling += began.elapsed();
                    facts.applies.compiled += 1;
                    facts.report.refused = None;
                });
            }
            Err(why) => {
                self.log.error("the policy is refused, and what is live stays live", json!({ "error": why }));
                self.fingerprint = Some(fingerprint);
                self.change(|facts| facts.report.refused = Some(why));
            }
        }
    }

    /// Makes the folder's policy live, if it is not. Somebody who applied another at the command line is asked
    /// first: that is what `resume` answers. The generation, where there is a new one.
    fn apply(&self, take_over: bool) -> Option<u64> {
        let policy = self.wanted.as_ref()?;
        let folder = self.settings.folder.as_ref()?;
        let head = match self.runtime.head() {
            Ok(head) => head,
            Err(error) => {
                self.complain("cannot tell what is live", &error);
                return None;
            }
        };
        let is_live = head.generation != 0 && head.digest == hex(&policy.tables.digest());
        if is_live && head.owner == Owner::Agent {
            self.change(|facts| facts.report.waiting = false);
            return None;
        }
        let origin = format!("agent, from {}", folder.display());
        let request = Apply {
            owner: Owner::Agent,
            override_owner: take_over,
            origin: &origin,
            // The same policy gets its new owner by a new generation only.
            repair: take_over && is_live,
            ..Apply::of(&policy.tables)
        };
        match self.runtime.apply(request) {
            Ok(applied) => {
                self.applied(&applied);
                if let Err(why) = (policy.keep_places)(&self.runtime.instance().places()) {
                    self.log.warn("which line each item is from is not kept", json!({ "error": why }));
                }
                Some(applied.generation)
            }
            Err(Error::Owned(owner)) => {
                let waited = self.facts.lock().is_ok_and(|facts| facts.report.waiting);
                if !waited {
                    let owner = owner.to_string();
                    let fields =
                        json!({ "applied_by": owner, "help": "`meshc resume` hands over to the agent" });
                    self.log.warn("another policy was applied by hand, and is kept", fields);
                }
                self.change(|facts| facts.report.waiting = true);
                None
            }
            Err(error) => {
                self.complain("the policy cannot be applied", &error);
                self.change(|facts| {
                    facts.applies.failed += 1;
                    facts.report.refused = Some(error.to_string());
                });
                None
            }
        }
    }

    fn applied(&self, applied: &Applied) {
        self.change(|facts| {
            facts.report.waiting = false;
            facts.report.refused = None;
            if applied.changed {
                facts.applies.done += 1;
                for (sum, phase) in facts.applies.phases.iter_mut().zip(applied.milliseconds) {
                    *sum += phase;
                }
            }
        });
        self.log.info(
            "applied",
            json!({
                "generation": applied.generation, "digest": applied.digest, "changed": applied.changed,
                "paused": applied.paused, "missing_cgroups": applied.missing_cgroups, "warnings": applied.warnings,
                "milliseconds": applied.milliseconds,
            }),
        );
    }

    /// Cgroups that were made since, or made anew, join.
    fn keep_cgroups(&mut self) {
        let named = match self.runtime.named_cgroups() {
            Ok(named) => named,
            Err(error) => return self.complain("cannot tell which cgroups the policy names", &error),
        };
        let now: BTreeMap<PathBuf, Option<u64>> = (named.into_iter())
            .map(|folder| {
                let id = fs::metadata(&folder).ok().map(|found| found.ino());
                (folder, id)
            })
            .collect();
        if now != self.cgroups {
            self.refresh();
            self.cgroups = now;
        }
    }

    fn refresh(&self) {
        match self.runtime.refresh() {
            Ok(Some(applied)) if applied.members_changed > 0 || applied.upgraded > 0 => self.log.info(
                "members brought in line",
                json!({ "changed": applied.members_changed, "programs_replaced": applied.upgraded }),
            ),
            Ok(_) => {}
            Err(error) => self.complain("members cannot be brought in line", &error),
        }
    }

    /// Pods that ended without a word go, and those that were let in without the mesh are tried again.
    fn keep_pods(&self) {
        match self.runtime.sweep() {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                self.change(|facts| facts.swept += gone.len() as u64);
                self.log.info("pods that ended were swept", json!({ "pods": gone }));
            }
            Err(error) => self.complain("pods that ended cannot be swept", &error),
        }
        for failed in self.runtime.failed().unwrap_or_default().into_iter().filter(|failed| failed.started) {
            if self.runtime.attach(&failed.pod).is_ok() {
                let fields = json!({ "pod": failed.pod.name, "namespace": failed.pod.namespace });
                self.log.info("pod attached after all", fields);
            }
        }
    }

    /// Pods that came since are followed, and those that went are not: their namespaces end.
    fn keep_following(&mut self) {
        let followed = self.addresses.only_those_there(&self.runtime);
        self.say_of_addresses(followed.err());
    }

    /// Brings what is known of pods' own addresses in line where they changed.
    fn follow(&mut self) {
        let (followed, failed) = self.addresses.follow(&self.runtime);
        if followed > 0 {
            self.log.info("pods have other addresses", json!({ "pods": followed }));
        }
        if failed.is_some() {
            self.say_of_addresses(failed);
        }
    }

    /// Complains of what went wrong, once.
    fn say_of_addresses(&mut self, failed: Option<Error>) {
        let said = failed.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(error) = failed.filter(|_| said != self.addresses_said) {
            self.complain("pods' addresses cannot be followed", &error);
        }
        self.addresses_said = said;
    }

    /// Brings back what is not as it was applied: first what costs nothing, then everything.
    fn repair(&mut self) {
        let (drift, _) = self.drift();
        let is_known = drift.iter().all(|what| self.given_up.contains(what));
        if drift.is_empty() {
            self.given_up.clear();
            return;
        }
        if is_known && self.patience > 0 {
            self.patience -= 1;
            return;
        }
        self.log.warn("the kernel is not as the policy says", json!({ "drift": drift }));
        self.refresh();
        let (left, owner) = self.drift();
        if left.iter().any(|what| drift.contains(what)) {
            self.write_anew(owner);
        }
        // What is new meanwhile is for the next look.
        let (mut left, _) = self.drift();
        left.retain(|what| drift.contains(what));
        if left.is_empty() {
            self.change(|facts| facts.repaired += 1);
            self.log.info("repaired", json!({}));
        } else {
            self.log.error("it cannot be repaired", json!({ "drift": left }));
            self.patience = GIVING_UP;
        }
        self.given_up = left;
    }

    /// What drifted and can be brought back, and who applied what is live. A cgroup that is not there cannot.
    fn drift(&self) -> (Vec<String>, Owner) {
        let status = match self.runtime.status() {
            Ok(status) => status,
            Err(error) => {
                self.complain("cannot tell whether anything drifted", &error);
                return (Vec::new(), Owner::Agent);
            }
        };
        let missing = self.cgroups.iter().filter(|(_, id)| id.is_none());
        let missing: Vec<String> =
            missing.map(|(folder, _)| format!("`{}`", self.runtime.instance().cgroup_path(folder))).collect();
        let mut drift = status.drift;
        drift.retain(|what| !missing.iter().any(|path| what.contains(path)));
        (drift, status.head.owner)
    }

    /// Whoever applied it, its owner stays.
    fn write_anew(&self, owner: Owner) {
        let wanted =
            self.wanted.as_ref().filter(|_| owner == Owner::Agent).map(|policy| policy.tables.clone());
        // Tables that were damaged in the kernel are kept as they were applied.
        let kept = || {
            let generation = self.runtime.head().ok()?.generation;
            Some(self.runtime.kept(generation).ok()?.1)
        };
        let Some(tables) = wanted.or_else(kept) else { return };
        let request = Apply { owner, repair: true, origin: "repair by the agent", ..Apply::of(&tables) };
        match self.runtime.apply(request) {
            Ok(applied) => self.applied(&applied),
            Err(error) => self.complain("the policy cannot be written anew", &error),
        }
    }

    fn keep_plugin(&mut self) {
        let Some((place, program)) = &self.settings.plugin else { return };
        let said = match install::put(place, program) {
            Ok(done) if done.changed() => {
                let fields = json!({ "files": done.files, "program": done.program });
                self.log.info("the CNI plugin is in place", fields);
                String::new()
            }
            Ok(_) => String::new(),
            Err(error) => error.message(),
        };
        if !said.is_empty() && said != self.plugin_said {
            self.log.warn("the CNI plugin is not in place", json!({ "error": said }));
        }
        self.plugin_said = said;
    }

    /// The policy's folder, those of the plugin, of members and their namespaces, and those in which the cgroups are that a policy names; where
    /// one of these is missing, the nearest above it.
    fn watch_folders(&mut self) {
        let mut folders: BTreeSet<PathBuf> = self.settings.folder.iter().cloned().collect();
        folders.extend(self.settings.plugin.iter().flat_map(|(place, _)| place.folders()));
        folders.extend(self.addresses.namespaces());
        folders.extend(Addresses::members(&self.runtime));
        let hierarchy = &self.runtime.instance().hierarchy;
        for cgroup in self.cgroups.keys() {
            let above = cgroup.ancestors().skip(1).take_while(|folder| folder.starts_with(hierarchy));
            folders.extend(above.filter(|folder| folder.is_dir()).take(1).map(Path::to_owned));
        }
        self.watch.only(&folders);
    }

    /// Does what others ask.
    fn answer(&mut self) {
        let _ = self.bell.read(&mut [0; 64]);
        while let Ok(Ask::Resume(answer)) = self.asks.try_recv() {
            let waited = self.facts.lock().is_ok_and(|facts| facts.report.waiting);
            let generation = if waited { self.apply(true) } else { None };
            let _ = answer.send(Reply::Resumed(generation));
            self.tell();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        if let Ok(mut facts) = self.facts.lock() {
            change(&mut facts);
        }
    }

    /// Tells the service manager.
    fn tell(&self) {
        let report = self.facts.lock().map(|facts| facts.report.clone()).unwrap_or_default();
        let doing = match report {
            crate::wire::Report { refused: Some(why), .. } => format!("policy refused: {why}"),
            crate::wire::Report { waiting: true, .. } => "waits for `meshc resume`".into(),
            _ => "in step".into(),
        };
        self.notify.doing(&doing);
        self.notify.alive();
    }

    fn complain(&self, message: &str, error: &Error) {
        self.log.error(
            message,
            json!({ "code": error.code(), "error": error.to_string(), "help": error.help() }),
        );
    }
}

/// The files of a folder, and those that a policy was read from besides.
fn fingerprint(folder: &Path, known: &[PathBuf]) -> Fingerprint {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.chain(known.iter().cloned()).chain([folder.to_owned()]);
    files
        .map(|file| {
            // Behind symbolic links: that is what is read.
            let found = fs::metadata(&file).ok();
            let seen = found.map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec()));
            (file, seen)
        })
        .collect()
}
