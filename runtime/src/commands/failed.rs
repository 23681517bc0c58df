//! Pods that could not be attached: who, why, and whether they were let in all the same.
//!
//! A container runtime may show what its plugin said, or lose it. So each is kept in a file of the state directory,
//! named for the pod: a runtime tries again with another container. It is forgotten when the pod is attached, when the
//! container that was let in has gone, and where it was refused, after an hour.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_bpf::membership::Membership;
use mesh_bpf::selector::Endpoint;
use mesh_bpf::unpack::unpack;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::members::namespaces;
use crate::members::pod::Pod;
use crate::node::Node;
use crate::runtime::Runtime;
use crate::state::record::{self, Record};
use crate::system::System;

/// As many are kept; the oldest go first.
const KEPT: usize = 256;
/// So long a refusal is remembered, in milliseconds: the pod's own deletion tells nothing, since a runtime
/// deletes whatever was refused, and tries again.
const REMEMBERED: u64 = 3_600_000;

/// A pod that could not be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The pod, as it was to be attached.
    pub pod: Pod,
    /// Why not, in words.
    pub why: String,
    /// It was let in, outside the mesh: the policy says `on failed-attach start`.
    pub started: bool,
    /// Milliseconds since 1970.
    pub at: u64,
    /// Cookies of another boot mean nothing.
    pub boot_id: String,
}

impl<S: System> Runtime<S> {
    /// Whether a pod that cannot be attached must not start: what the policy says `on failed-attach` for the
    /// workload that selects it. Where two select it, one that refuses is enough. A pod that no
    /// workload selects may start. After a boot, the policy that is to be restored is asked.
    ///
    /// # Errors
    /// Where the policy cannot be read. Then it must not start: that is the language's default.
    pub fn refuses(&self, pod: &Pod) -> Result<bool> {
        let tables = match self.live()? {
            Some(live) => live.tables,
            None => match self.awaits_restore()? {
                Some(record) => {
                    let kept = record::artifact(self.node(), &record.digest)?;
                    kept.ok_or(Error::NotKept(record.generation))?.0
                }
                None => return Ok(false),
            },
        };
        let image = unpack(&tables)?;
        let mut addresses = pod.addresses.clone();
        if addresses.is_empty() {
            addresses = self.system.netns_addresses(&pod.netns).unwrap_or_default();
        }
        let endpoint = Endpoint {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            namespace_labels: Arc::new(namespaces::of(self.node(), pod)?),
            service_account: pod.service_account.clone(),
            addresses,
            cgroup: None,
        };
        let refuses = |workload: &mesh_bpf::image::Workload| {
            image.profiles.get(workload.profile.0 as usize).is_none_or(|profile| profile.failed_attach_refuse)
        };
        Ok(match Membership::of(&image).classify(&endpoint) {
            Ok(workload) => workload.is_some_and(refuses),
            Err(_) => {
                let mut selecting =
                    image.workloads.iter().filter(|one| one.selector.select(&endpoint).is_some());
                selecting.any(refuses)
            }
        })
    }

    /// The policy that was live before this boot and is not restored yet: until it is, no pod can be in the mesh.
    ///
    /// # Errors
    /// What the kernel says, or where the record is damaged.
    pub fn awaits_restore(&self) -> Result<Option<Record>> {
        if self.head()?.generation != 0 {
            return Ok(None);
        }
        let current = record::read::<Record>(&self.system, &self.instance.current())?;
        // In this boot somebody detached it.
        Ok(current.filter(|record| record.boot_id != self.instance.boot_id))
    }

    /// Notes that a pod could not be attached.
    ///
    /// # Errors
    /// Where the state directory cannot be written.
    pub fn note_failed(&self, pod: &Pod, why: &str, started: bool) -> Result<()> {
        let node = self.node();
        let failed = Failed {
            pod: pod.clone(),
            why: why.into(),
            started,
            at: node.system.wall_clock(),
            boot_id: node.instance.boot_id.clone(),
        };
        record::create_dirs(node)?;
        node.system.create_dir(&node.instance.failed())?;
        let mut known = all(node)?;
        known.sort_by_key(|(_, failed)| failed.at);
        let too_many = (known.len() + 1).saturating_sub(KEPT);
        for (file, _) in known.iter().take(too_many) {
            node.system.remove(file)?;
        }
        record::write(node.system, &file(node.instance, pod), &failed, false)
    }

    /// Pods that could not be attached in this boot, the latest last: see [`Failed::started`].
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn failed(&self) -> Result<Vec<Failed>> {
        let mut failed: Vec<_> = all(self.node())?.into_iter().map(|(_, failed)| failed).collect();
        failed.retain(|failed| failed.boot_id == self.instance.boot_id);
        failed.sort_by_key(|failed| failed.at);
        Ok(failed)
    }
}

/// What is noted, with its file. What cannot be read is left out.
fn all<S: System>(node: Node<'_, S>) -> Result<Vec<(PathBuf, Failed)>> {
    let names = node.system.list(&node.instance.failed())?.unwrap_or_default();
    let files = names.into_iter().map(|name| node.instance.failed().join(name));
    Ok(files.filter_map(|file| Some((file.clone(), record::read(node.system, &file).ok()??))).collect())
}

/// The file of a pod.
fn file(instance: &Instance, pod: &Pod) -> PathBuf {
    let name = format!("{}_{}", pod.namespace.as_deref().unwrap_or_default(), pod.name);
    instance.failed().join(format!("pod_{}", record::file_name(&name)))
}

/// Forgets a pod: it is attached now.
pub(crate) fn attached<S: System>(node: Node<'_, S>, pod: &Pod) -> Result<()> {
    let file = file(node.instance, pod);
    if node.system.inode(&file)?.is_some() {
        node.system.remove(&file)?;
    }
    Ok(())
}

/// Forgets a container that was let in, and is gone.
pub(crate) fn gone<S: System>(node: Node<'_, S>, container: &str) -> Result<()> {
    for (file, failed) in all(node)? {
        let attachment = failed.pod.attachment.as_ref();
        if failed.started && attachment.is_some_and(|attachment| attachment.container == container) {
            node.system.remove(&file)?;
        }
    }
    Ok(())
}

/// Forgets those of other boots, those whose network namespaces have ended, and old refusals.
pub(crate) fn sweep<S: System>(node: Node<'_, S>) -> Result<()> {
    let now = node.system.wall_clock();
    for (file, failed) in all(node)? {
        let is_over = match failed.started {
            true => node.system.inode(&failed.pod.netns)?.is_none(),
            false => now.saturating_sub(failed.at) > REMEMBERED,
        };
        if is_over || failed.boot_id != node.instance.boot_id {
            node.system.remove(&file)?;
        }
    }
    Ok(())
}
