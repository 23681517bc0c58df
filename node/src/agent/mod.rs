//! The agent: keeps a node in step with the policy in a directory, and with the pods and units that come and go.
//!
//! It is a convenience, not a part of the datapath: what it attached stays attached when it ends, and the plugin
//! and the command line do without it. Killed at any instant, it leaves what any killed command leaves, and
//! the next one goes on.
//!
//! | module | what it does |
//! |---|---|
//! | `wait` | waits for signals, requests, changed directories and addresses, and time |
//! | `cluster`, `policy`, `cgroups`, `pods`, `addresses`, `plugin`, `rescue` | keep one thing each, with what they must remember for it |
//! | `repair` | brings back what is not as it was applied |
//! | `serve`, `http`, `web` | answer others, on threads of their own |
//! | `state` | what all of them know |

mod addresses;
mod cgroups;
mod cluster;
mod http;
pub mod log;
mod metrics;
mod notify;
mod plugin;
mod pods;
mod policy;
mod repair;
mod rescue;
mod serve;
mod state;
mod wait;
mod web;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mesh_runtime::{Runtime, State};
use tracing::{info, warn};

use addresses::AddressKeeper;
use cgroups::CgroupKeeper;
use cluster::ClusterKeeper;
pub use http::Listen;
use notify::Notify;
use plugin::PluginKeeper;
use policy::PolicyKeeper;
pub use policy::{Compile, Outcome, Policy, PolicyWarning};
use repair::Repairer;
use rescue::{RESCUE, Rescuer};
use serve::{Command, SocketServer};
use state::Shared;
pub use state::Wording;
use wait::{Look, Waiter};
pub use web::{Make, Web, WebPage};

use crate::cluster::Cluster;
use crate::install::InstallTarget;
use crate::watch::Watch;
use crate::wire::{Reply, Report};

/// How the agent is to be.
#[derive(Debug)]
pub struct Settings {
    /// The directory whose policy is to be live; without one, whatever is live is kept in step.
    pub dir: Option<PathBuf>,
    /// Who knows the cluster, if somebody does.
    pub cluster: Option<Box<dyn Cluster>>,
    /// Where health and metrics are told.
    pub listen: Option<Listen>,
    /// What makes the page for people, where health and metrics are told.
    pub web: Option<Web>,
    /// How often everything is looked at, whatever happened.
    pub interval: Duration,
    /// Whether the last decisions are kept in the kernel; with `None` as the last apply said.
    pub keep_decisions: Option<bool>,
    /// Puts facts into words, for the log.
    pub wording: Wording,
    /// Keep the CNI plugin in place, and the program that it is.
    pub plugin: Option<(InstallTarget, PathBuf)>,
}

struct Agent {
    shared: Shared,
    dir: Option<PathBuf>,
    interval: Duration,
    notify: Notify,
    waiter: Waiter,
    commands: Receiver<Command>,
    cluster: ClusterKeeper,
    policy: PolicyKeeper,
    cgroups: CgroupKeeper,
    addresses: AddressKeeper,
    plugin: PluginKeeper,
    repairer: Repairer,
    rescuer: Rescuer,
    /// Whether the mesh was paused when that was last looked at.
    paused: bool,
}

/// Runs until it is asked to end. What it does is told by `tracing`: see [`log::start`].
///
/// # Errors
/// Where another agent of this instance runs, or socket, address or signals cannot be had.
pub fn run(runtime: Runtime, settings: Settings, compile: Compile) -> io::Result<()> {
    // Before any thread begins, so that none of them takes the signal.
    let signals = wait::signals()?;
    let socket = runtime.instance().socket();
    let _alone = serve::alone(&socket)?;
    let shared =
        Shared::new(runtime, settings.wording, settings.dir.as_ref().map(|dir| dir.display().to_string()));
    if let Some(wanted) = settings.keep_decisions
        && let Err(error) = shared.runtime.keep_decisions(wanted)
    {
        warn!(%error, "whether decisions are kept stays as it was");
    }
    let (tx, rx) = channel();
    let (wake_tx, wake_rx) = UnixStream::pair()?;
    wake_tx.set_nonblocking(true)?;
    wake_rx.set_nonblocking(true)?;
    let server = SocketServer { shared: shared.clone(), tx, wake_tx: Arc::new(wake_tx) };
    if let Some(listen) = settings.listen {
        let address = http::serve(listen, &shared, settings.interval, settings.web)?;
        info!(address = %address, "health and metrics");
    }
    let agent = Agent {
        shared,
        dir: settings.dir.clone(),
        interval: settings.interval,
        notify: Notify::from_environment(),
        waiter: Waiter { signals, wake: wake_rx, watch: Watch::new()? },
        commands: rx,
        cluster: ClusterKeeper::new(settings.cluster),
        policy: PolicyKeeper::new(settings.dir, compile),
        cgroups: CgroupKeeper::default(),
        addresses: AddressKeeper::default(),
        plugin: PluginKeeper::new(settings.plugin),
        repairer: Repairer::default(),
        rescuer: Rescuer::default(),
        paused: false,
    };
    agent.run(&socket, &server)
}

impl Agent {
    fn run(mut self, socket: &Path, server: &SocketServer) -> io::Result<()> {
        let instance = &self.shared.runtime.instance().name;
        info!(pid = std::process::id(), instance, "started");
        self.restore();
        self.look(Look { cluster: true, policy: true, plugin: true, all: true, ..Look::default() });
        // Whoever asks gets answers of an agent that has looked around.
        server.serve(serve::listen(socket)?)?;
        self.notify.ready();
        while let Some(look) = self.wait()? {
            self.look(look);
            // Somebody may have removed the state directory, and this with it.
            if !socket.exists() && socket.parent().is_some_and(Path::exists) {
                server.serve(serve::listen(socket)?)?;
            }
        }
        self.notify.stopping();
        let _ = fs::remove_file(socket);
        info!("stopped; the datapath goes on");
        Ok(())
    }

    /// Waits for something to look at; none where the agent is to end.
    fn wait(&mut self) -> io::Result<Option<Look>> {
        let end = Instant::now() + self.interval;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(Look { all: true, ..Look::default() }));
            }
            self.notify.alive();
            let longest = self.notify.pulse().map_or(left, |pulse| left.min(pulse));
            let accelerates = self.rescuer.rescue(&self.shared);
            let longest = if accelerates { longest.min(RESCUE) } else { longest };
            let (mut sockets, resting) = self.addresses.waited_for();
            sockets.extend(self.cluster.changed());
            let resting = resting.into_iter().chain(self.policy.rest());
            let longest = resting.fold(longest, Duration::min);
            if self.waiter.wait(longest, sockets)? {
                return Ok(None);
            }
            self.answer();
            self.addresses.follow(&self.shared.runtime);
            if let Some(look) = self.happened()? {
                return Ok(Some(look));
            }
            if self.policy.rest() == Some(Duration::ZERO) {
                return Ok(Some(Look { services: true, ..Look::default() }));
            }
        }
    }

    /// What the watched directories tell.
    fn happened(&self) -> io::Result<Option<Look>> {
        let mut changed = self.waiter.watch.changed();
        let cluster = self.cluster.has_changed();
        if changed.is_empty() && !cluster {
            return Ok(None);
        }
        let of_plugin = self.plugin.dirs();
        let is_policy = |dir: &PathBuf| self.dir.as_ref() == Some(dir);
        // A unit's first connection does not wait until a file is written whole.
        if changed.iter().any(|dir| is_policy(dir) || of_plugin.contains(dir)) {
            changed.extend(self.waiter.watch.wait(Duration::from_millis(50))?);
        }
        let (namespaces, members) = (self.addresses.namespaces(), self.shared.runtime.instance().members());
        // Or where that is made.
        let is_of_members = |dir: &PathBuf| members.starts_with(dir);
        let is_of_pods = |dir: &PathBuf| namespaces.contains(dir) || is_of_members(dir);
        Ok(Some(Look {
            cluster,
            policy: changed.iter().any(is_policy),
            services: false,
            plugin: changed.iter().any(|dir| of_plugin.contains(dir)),
            pods: changed.iter().any(|dir| namespaces.contains(dir)),
            // What is done for a pod that comes or goes writes there itself, and is not to be done again for that.
            members: changed.iter().any(is_of_members),
            cgroups: !changed.iter().all(is_of_pods),
            all: false,
        }))
    }

    fn look(&mut self, look: Look) {
        let runtime = &self.shared.runtime;
        if look.cluster || look.all {
            self.cluster.keep(&self.shared);
        }
        if look.policy || look.cluster || look.services || look.all {
            self.policy.keep(&self.shared, look.policy, self.cluster.services());
        }
        if look.cgroups || look.all {
            self.cgroups.keep(runtime);
        }
        if look.cluster || look.policy || look.pods || look.all {
            pods::keep(&self.shared);
        }
        // Another policy may exempt other interfaces.
        if look.members || look.pods || look.policy || look.cluster || look.all {
            self.addresses.keep(runtime);
        }
        if look.all {
            self.repairer.repair(&self.shared, &self.policy);
        }
        if look.plugin || look.all {
            self.plugin.keep();
        }
        self.watch_dirs();
        self.note_pause();
        self.shared.change(|state| state.looked = Some(Instant::now()));
        self.report_status();
    }

    /// After a boot the kernel is empty: what was live before comes first, whatever the directory says.
    fn restore(&self) {
        match self.shared.runtime.awaits_restore() {
            Ok(Some(_)) => match self.shared.runtime.restore() {
                Ok(Some(applied)) => info!(generation = applied.generation, "restored"),
                Ok(None) => {}
                Err(error) => log::failed("cannot restore what was live before this boot", &error),
            },
            Ok(None) => {}
            Err(error) => log::failed("cannot tell what was live before this boot", &error),
        }
    }

    /// The policy's directory, those of the plugin, of members and their namespaces, and those in which the cgroups are
    /// that a policy names; where one of these is missing, the nearest above it.
    fn watch_dirs(&mut self) {
        let mut dirs: BTreeSet<PathBuf> = self.dir.iter().cloned().collect();
        dirs.extend(self.plugin.dirs());
        dirs.extend(self.addresses.namespaces());
        dirs.extend(AddressKeeper::members(&self.shared.runtime));
        dirs.extend(self.cgroups.dirs(&self.shared.runtime));
        self.waiter.watch.only(&dirs);
    }

    /// Does what others ask.
    fn answer(&self) {
        while let Ok(Command::Resume(answer)) = self.commands.try_recv() {
            let waited = self.shared.state().report.waiting;
            let generation = if waited { self.policy.apply(&self.shared, true) } else { None };
            let _ = answer.send(Reply::Resumed(generation));
            self.report_status();
        }
    }

    /// Logs that the mesh was paused or resumed: by somebody else, since the agent does neither.
    fn note_pause(&mut self) {
        let Ok(head) = self.shared.runtime.head() else { return };
        let paused = head.state == State::Paused;
        match (self.paused, paused) {
            (false, true) => {
                let help = "`meshc resume` ends it";
                warn!(generation = head.generation, help, "paused: connections go straight");
            }
            (true, false) => info!(generation = head.generation, "resumed"),
            _ => {}
        }
        self.paused = paused;
    }

    /// Tells the service manager.
    fn report_status(&self) {
        let doing = match self.shared.state().report {
            Report { refused: Some(why), .. } => format!("policy refused: {why}"),
            _ if self.paused => "paused: connections go straight".into(),
            Report { waiting: true, .. } => "waits for `meshc resume`".into(),
            _ => "in step".into(),
        };
        self.notify.doing(&doing);
        self.notify.alive();
    }
}
