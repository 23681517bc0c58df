//! Pods' own addresses, interfaces and routes, followed: a socket in each pod's network namespace tells when they change.
//! One in the host's tells of the node's own addresses, and another of its interfaces where the policy exempts some of
//! processes there.
//!
//! Pods come and go by the plugin, the command line and this agent; all of them leave it in the directory of members,
//! which is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mesh_runtime::{Changes, Error, Key, Runtime};
use tracing::info;

use super::log::{self, LastSaid};

/// Whoever changes addresses all the time is looked at no more often.
const REST: Duration = Duration::from_millis(100);

/// Where it failed, for instance since another command takes long, it is tried again after so long.
const LATER: Duration = Duration::from_secs(1);

/// The pods that are followed, and what was said last about them.
#[derive(Debug, Default)]
pub(super) struct AddressKeeper {
    pods: BTreeMap<Key, Followed>,
    /// The host, where the live policy exempts interfaces of it.
    host: Option<Followed>,
    node: Option<FollowedNode>,
    said: LastSaid,
}

/// The node's own addresses.
#[derive(Debug)]
struct FollowedNode {
    changes: Changes,
    /// Not looked at before.
    rests: Instant,
    /// They could not be looked at the last time.
    again: bool,
}

#[derive(Debug)]
struct Followed {
    /// None where its namespace has gone.
    changes: Option<Changes>,
    /// The directory in which its namespace has a file.
    dir: Option<PathBuf>,
    /// Not looked at before.
    rests: Instant,
    /// It could not be looked at the last time.
    again: bool,
}

impl AddressKeeper {
    /// Pods that came since are followed, and those that went are not: their namespaces end.
    pub(super) fn keep(&mut self, runtime: &Runtime) {
        let failed = (self.keep_node(runtime))
            .and_then(|()| self.only_those_there(runtime))
            .and_then(|()| self.host_if_exempt(runtime));
        let failed = failed.err();
        self.report(failed);
    }

    /// The node is followed from the first time on. What changed before there was somebody to tell is found by looking.
    fn keep_node(&mut self, runtime: &Runtime) -> Result<(), Error> {
        if self.node.is_none() {
            let changes = runtime.host_changes()?;
            self.node = Some(FollowedNode { changes, rests: Instant::now(), again: false });
            runtime.follow_node()?;
        }
        Ok(())
    }

    /// Brings what is known of pods' own addresses in line where they changed.
    pub(super) fn follow(&mut self, runtime: &Runtime) {
        match self.follow_node(runtime) {
            Ok(true) => info!("the node has other addresses"),
            Ok(false) => {}
            Err(error) => self.report(Some(error)),
        }
        let (followed, failed) = self.follow_changed(runtime);
        if followed > 0 {
            info!(followed, "addresses, interfaces or routes are others");
        }
        if failed.is_some() {
            self.report(failed);
        }
    }

    /// Looks at the node's addresses where they changed. Where no policy asks for them, it is looked at less often: one
    /// that does brings them in line itself when it is applied.
    fn follow_node(&mut self, runtime: &Runtime) -> Result<bool, Error> {
        let Some(node) = self.node.as_mut().filter(|node| node.rests <= Instant::now()) else {
            return Ok(false);
        };
        if !node.changes.happened().unwrap_or(true) && !node.again {
            return Ok(false);
        }
        let done = runtime.follow_node();
        node.again = done.is_err();
        let rest = if matches!(done, Ok(Some(_))) { REST } else { LATER };
        node.rests = Instant::now() + rest;
        done.map(|changed| changed == Some(true))
    }

    /// Says what went wrong, once.
    fn report(&mut self, failed: Option<Error>) {
        let is_news = self.said.is_new_error(failed.as_ref());
        if let Some(error) = failed.filter(|_| is_news) {
            log::failed("addresses and interfaces cannot be followed", &error);
        }
    }

    /// Follows just the pods that are there. Those that are new are looked at next.
    fn only_those_there(&mut self, runtime: &Runtime) -> Result<(), Error> {
        let names = fs::read_dir(runtime.instance().members()).into_iter().flatten().flatten();
        let there: BTreeSet<Key> =
            names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        self.pods.retain(|key, _| there.contains(key));
        for key in there {
            if self.pods.contains_key(&key) || !matches!(key, Key::Netns(_)) {
                continue;
            }
            let Some(pod) = runtime.pod(key)? else { continue };
            // What changed before there was somebody to tell is found by looking.
            let changes = runtime.changes(&pod)?;
            runtime.follow(key)?;
            let dir = pod.netns.as_ref().and_then(|netns| netns.parent()).map(PathBuf::from);
            self.pods.insert(key, Followed { changes, dir, rests: Instant::now(), again: false });
        }
        Ok(())
    }

    /// Follows the host's interfaces just where that is asked for.
    fn host_if_exempt(&mut self, runtime: &Runtime) -> Result<(), Error> {
        if !runtime.exempts_host_interfaces()? {
            self.host = None;
        } else if self.host.is_none() {
            let changes = Some(runtime.host_changes()?);
            runtime.follow_host()?;
            self.host = Some(Followed { changes, dir: None, rests: Instant::now(), again: false });
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Followed> {
        self.pods.values().chain(&self.host)
    }

    /// The sockets to wait for, and how long at most, since some rest until then.
    pub(super) fn waited_for(&self) -> (Vec<BorrowedFd<'_>>, Option<Duration>) {
        use std::os::fd::AsFd;
        let now = Instant::now();
        let awake = self.all().filter(|pod| pod.rests <= now).filter_map(|pod| pod.changes.as_ref());
        let node = self.node.as_ref();
        let resting = self.all().filter(|pod| pod.changes.is_some()).map(|pod| pod.rests);
        let resting = resting.chain(node.map(|node| node.rests)).filter(|&rests| rests > now);
        let first = resting.min().map(|first| first - now);
        let node = node.filter(|node| node.rests <= now).map(|node| &node.changes);
        (awake.chain(node).map(AsFd::as_fd).collect(), first)
    }

    /// Looks at the pods whose addresses changed; how many were brought in line, and what could not be.
    fn follow_changed(&mut self, runtime: &Runtime) -> (usize, Option<Error>) {
        let (mut followed, mut failed) = (0, None);
        let now = Instant::now();
        let pods = self.pods.iter_mut().map(|(key, pod)| (Some(*key), pod));
        let all = pods.chain(self.host.iter_mut().map(|host| (None, host)));
        for (key, pod) in all.filter(|(_, pod)| pod.rests <= now) {
            let Some(changes) = &pod.changes else { continue };
            // One that cannot be asked is looked at.
            if !changes.happened().unwrap_or(true) && !pod.again {
                continue;
            }
            let done = key.map_or_else(|| runtime.follow_host(), |key| runtime.follow(key));
            pod.again = done.is_err();
            pod.rests = now + if pod.again { LATER } else { REST };
            match done {
                Ok(changed) => followed += usize::from(changed),
                Err(error) => failed = Some(error),
            }
        }
        (followed, failed)
    }

    /// The directories of the files that stand for the pods' namespaces: something happens there when one ends.
    pub(super) fn namespaces(&self) -> BTreeSet<PathBuf> {
        let dirs = self.pods.values().filter_map(|pod| pod.dir.clone());
        // Nothing is told of what the kernel makes up itself.
        dirs.filter(|dir| !dir.starts_with("/proc") && dir.is_dir()).collect()
    }

    /// The directory of the members, or where it will be: something happens there when a pod comes or goes.
    pub(super) fn members(runtime: &Runtime) -> Option<PathBuf> {
        let (members, state) = (runtime.instance().members(), &runtime.instance().state);
        let dirs = members.ancestors().take_while(|dir| dir.starts_with(state));
        dirs.map(PathBuf::from).find(|dir| dir.is_dir())
    }
}
