//! Pods come and go by the cookie of their network namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use mesh_bpf::membership::Membership;

use crate::Runtime;
use crate::apply::in_slot;
use crate::error::{Error, Result};
use crate::record;
use crate::registry::{self, Key, Member, Origin, Registry};
use crate::session::{self, lock, membership};
use crate::set::Set;
use crate::store::Store;

/// A pod to attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// A file that stands for its network namespace.
    pub netns: PathBuf,
    /// Its name.
    pub name: String,
    /// The Kubernetes namespace.
    pub namespace: Option<String>,
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// The service account it runs as.
    pub service_account: Option<String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// Which pod to detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By a file that stands for its network namespace.
    Netns(PathBuf),
    /// By namespace and name: when the network namespace is gone already.
    Name(Option<String>, String),
}

/// What an attach did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAttached {
    /// Its key.
    pub key: Key,
    /// The workload that it falls under; none where no policy is live or none selects it.
    pub workload: Option<String>,
}

impl<S: Store> Runtime<S> {
    /// Registers a pod, or registers it anew with other labels or addresses. Where no policy is live, the
    /// next one finds it.
    ///
    /// # Errors
    /// Where the network namespace is gone, or two workloads select the pod and neither is narrower; then
    /// it is as it was before.
    pub fn attach(&self, pod: &Pod) -> Result<PodAttached> {
        let (store, instance) = (&self.store, &self.instance);
        let key = Key::Netns(store.netns_cookie(&pod.netns)?);
        loop {
            let held = lock(store, instance, &self.options, &instance.maps(), false)?;
            record::make_folders(store, instance)?;
            registry::make_folder(store, instance)?;
            if held.is_some()
                && let Some(set) = Set::open(store, instance)?
            {
                let registry = Registry { store, instance, set: &set };
                return self.attach_live(&registry, pod, key);
            }
            record::write(store, &instance.members().join(key.to_string()), &self.member(pod, key)?, false)?;
            // A first apply may have read the members before this one was there.
            if store.inode(&instance.maps())?.is_none() {
                return Ok(PodAttached { key, workload: None });
            }
        }
    }

    fn attach_live(&self, registry: &Registry<'_, S>, pod: &Pod, key: Key) -> Result<PodAttached> {
        registry.recover()?;
        let member = self.member(pod, key)?;
        let live = session::live(registry.store, registry.set)?;
        let policy = live.as_ref().map(|live| membership(registry.store, registry.set, live)).transpose()?;
        let workload = policy.as_ref().map_or(Ok(None), |policy| member.workload(policy))?;
        let workload = workload.map(|workload| workload.name.clone());
        let slot = live.as_ref().map_or(0, session::Live::slot);
        registry.join(&member, in_slot(slot, policy.as_ref(), None::<&Membership>))?;
        Ok(PodAttached { key, workload })
    }

    /// Removes a pod; one that is not there is no error, since a runtime deletes twice. Whether it was there.
    ///
    /// # Errors
    /// What the kernel says; the next command tries again.
    pub fn detach(&self, which: &Which) -> Result<bool> {
        let (store, instance) = (&self.store, &self.instance);
        let held = lock(store, instance, &self.options, &instance.maps(), false)?;
        let set = if held.is_some() { Set::open(store, instance)? } else { None };
        let registry = set.as_ref().map(|set| Registry { store, instance, set });
        if let Some(registry) = &registry {
            registry.recover()?;
        }
        let Some(key) = self.find(which)? else { return Ok(false) };
        match registry {
            Some(registry) => registry.leave(key)?,
            None => store.remove(&instance.members().join(key.to_string()))?,
        }
        Ok(true)
    }

    fn find(&self, which: &Which) -> Result<Option<Key>> {
        match which {
            Which::Netns(netns) => {
                let key = Key::Netns(self.store.netns_cookie(netns)?);
                Ok(self.store.inode(&self.instance.members().join(key.to_string()))?.map(|_| key))
            }
            Which::Name(namespace, name) => {
                let is_it = |member: &Member| {
                    member.origin == Origin::Attached
                        && member.namespace == *namespace
                        && member.name == *name
                };
                let members = registry::members(&self.store, &self.instance)?;
                Ok(members.into_iter().find(is_it).map(|member| member.key))
            }
        }
    }

    /// A pod that is attached again keeps its number.
    fn member(&self, pod: &Pod, key: Key) -> Result<Member> {
        if pod.name.is_empty() {
            return Err(Error::NoName);
        }
        let file = self.instance.members().join(key.to_string());
        let known = record::read::<Member>(&self.store, &file)?.map(|member| member.id);
        let id = known.map_or_else(|| registry::new_id(&self.store, &self.instance), Ok)?;
        Ok(Member {
            id,
            key,
            origin: Origin::Attached,
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            service_account: pod.service_account.clone(),
            addresses: pod.addresses.iter().map(IpAddr::to_canonical).collect(),
            cgroup: None,
        })
    }
}
