//! Keeps the node in step with what it is told of its cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use mesh_runtime::{Error, Labels, Move, Runtime};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{error, info};

use super::log::{self, LastSaid};
use super::state::Shared;
use crate::cluster::{Cluster, Facts, Services};

/// Asks what is so in the cluster, and tells the runtime.
#[derive(Debug)]
pub(super) struct ClusterKeeper {
    cluster: Option<Box<dyn Cluster>>,
    /// What is known: where it cannot be asked, what was so before.
    facts: Option<Facts>,
    said: LastSaid,
}

impl ClusterKeeper {
    pub(super) fn new(cluster: Option<Box<dyn Cluster>>) -> Self {
        Self { cluster, facts: None, said: LastSaid::default() }
    }

    /// What to wait for.
    pub(super) fn changed(&self) -> Option<BorrowedFd<'_>> {
        self.cluster.as_ref().map(|cluster| cluster.changed())
    }

    /// What is known of services.
    pub(super) fn services(&self) -> &Services {
        static NONE: Services = Services::new();
        self.facts.as_ref().map_or(&NONE, |facts| &facts.services)
    }

    /// Whether something may have changed.
    pub(super) fn has_changed(&self) -> bool {
        let Some(changed) = self.changed() else { return false };
        let mut ready = [PollFd::from_borrowed_fd(changed, PollFlags::IN)];
        // What cannot be asked is looked at.
        poll(&mut ready, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }

    /// Asks, and brings the node in line.
    pub(super) fn keep(&mut self, shared: &Shared) {
        let Some(cluster) = &mut self.cluster else { return };
        match cluster.facts() {
            Ok(facts) => {
                shared.change(|state| state.report.cluster = None);
                self.facts = Some(facts);
            }
            Err(why) => {
                let is_news = shared.state().report.cluster.as_ref() != Some(&why);
                if is_news {
                    error!(error = why, "the cluster is not known as it is now, and what was known is kept");
                }
                shared.change(|state| state.report.cluster = Some(why));
            }
        }
        let Some(facts) = &self.facts else { return };
        let failed = label(&shared.runtime, &facts.namespaces).err();
        let is_news = self.said.is_new_error(failed.as_ref());
        if let Some(error) = failed.filter(|_| is_news) {
            log::failed("pods cannot have the labels of their namespaces", &error);
        }
    }
}

/// Gives namespaces their labels where they have others: each for itself, so that one whose pods would be ambiguous
/// holds up no other.
fn label(runtime: &Runtime, wanted: &BTreeMap<String, Labels>) -> Result<(), Error> {
    let known = runtime.namespaces()?;
    let names: BTreeSet<&String> = known.keys().chain(wanted.keys()).collect();
    let mut failed = Ok(());
    for name in names {
        let labels = wanted.get(name).cloned().unwrap_or_default();
        if known.get(name).cloned().unwrap_or_default() == labels {
            continue;
        }
        match runtime.label_namespaces(&BTreeMap::from([(name.clone(), labels)])) {
            Ok(moved) => {
                info!(namespace = name, moved = moved.len(), "a namespace has other labels");
                for Move { name, namespace, from, to } in moved {
                    info!(pod = name, namespace, from, to, "a pod has another workload");
                }
            }
            Err(error) => failed = Err(error),
        }
    }
    failed
}
