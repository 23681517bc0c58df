//! Endpoints of a mesh, as they are registered: what every floor calls them by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use mesh_bpf::abi::NO_PROFILE;
use mesh_bpf::membership::{Ambiguous, Membership};
use mesh_bpf::selector::Endpoint;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::system::{Process, Sources};

/// How the programs know an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// A pod: the cookie of its network namespace.
    Netns(u64),
    /// A host workload: its cgroup's id.
    Cgroup(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(cookie) => write!(f, "netns-{cookie}"),
            Self::Cgroup(id) => write!(f, "cgroup-{id}"),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, number) = text.split_once('-').ok_or(())?;
        let number = number.parse().map_err(drop)?;
        match kind {
            "netns" => Ok(Self::Netns(number)),
            "cgroup" => Ok(Self::Cgroup(number)),
            _ => Err(()),
        }
    }
}

/// Why an endpoint is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A policy names its cgroup.
    Selector,
    /// `meshc run --as` made it.
    Run {
        /// The workload that it runs as.
        workload: String,
        /// The process that removes it.
        process: Process,
    },
    /// It was attached.
    Attached,
}

/// A pod as its container runtime knows it. One pod may be joined to several networks, each by an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The id of the container, or of the pod's sandbox.
    pub container: String,
    /// Kubernetes' UID of the pod.
    #[serde(default)]
    pub uid: Option<String>,
    /// By name, as it is called inside.
    pub interfaces: BTreeMap<String, Interface>,
}

impl Sandbox {
    /// The addresses of all its interfaces.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interfaces.values().flat_map(|interface| &interface.addresses).copied();
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// One of a pod's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name of the network that it joins.
    pub network: String,
    /// The addresses that it was given.
    pub addresses: Vec<IpAddr>,
}

/// A registered endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number in the programs' events; never used again in this boot.
    pub id: u32,
    /// How the programs know it.
    pub key: Key,
    /// Why it is here.
    pub origin: Origin,
    /// The pod's name, or the unit's.
    pub name: String,
    /// The Kubernetes namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Labels by key.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Labels of that namespace, by key.
    #[serde(default)]
    pub namespace_labels: BTreeMap<String, String>,
    /// The service account it runs as.
    #[serde(default)]
    pub service_account: Option<String>,
    /// Annotations by key: for people, no policy asks for them.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its addresses as it was attached: what selectors ask for. What a pod does to its interfaces afterwards must
    /// not choose its policy.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The addresses of its interfaces as they were last seen; none where those that it was attached with were given
    /// by hand, and stay its own whatever it has.
    #[serde(default)]
    pub followed: Option<Vec<IpAddr>>,
    /// Where its connections to others come from; none where it is not known, or where the host says so.
    #[serde(default)]
    pub sources: Option<Sources>,
    /// The file that stood for its network namespace when it was attached.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// What its container runtime knows it by.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Absolute cgroup v2 path, for a host workload.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Member {
    /// A cgroup that a policy names.
    pub(crate) fn selected(id: u32, key: Key, path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Self { cgroup: Some(path.to_owned()), ..Self::new(id, key, Origin::Selector, name) }
    }

    /// The cgroup of a command.
    pub(crate) fn of_command(id: u32, key: Key, origin: Origin, name: String, cgroup: String) -> Self {
        Self { cgroup: Some(cgroup), ..Self::new(id, key, origin, name) }
    }

    const fn new(id: u32, key: Key, origin: Origin, name: String) -> Self {
        Self {
            id,
            key,
            origin,
            name,
            namespace: None,
            labels: BTreeMap::new(),
            namespace_labels: BTreeMap::new(),
            service_account: None,
            annotations: BTreeMap::new(),
            addresses: Vec::new(),
            followed: None,
            netns: None,
            sources: None,
            sandbox: None,
            cgroup: None,
        }
    }

    /// Its own addresses.
    #[must_use]
    pub fn own(&self) -> &[IpAddr] {
        self.followed.as_deref().unwrap_or(&self.addresses)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            namespace_labels: Arc::new(self.namespace_labels.clone()),
            service_account: self.service_account.clone(),
            addresses: self.addresses.clone(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// The workload that it falls under.
    ///
    /// # Errors
    /// Where two select it and neither is narrower.
    pub fn workload<'a>(
        &self,
        membership: &'a Membership,
    ) -> Result<Option<&'a mesh_bpf::image::Workload>, Ambiguous> {
        match &self.origin {
            Origin::Run { workload, .. } => Ok(membership.workload(workload)),
            Origin::Attached => membership.classify(&self.endpoint()),
            // Only a workload that names a cgroup has processes of the host as members: below a path that
            // is registered for the other slot, `any` must not begin to hold.
            Origin::Selector => Ok((membership.classify(&self.endpoint())?)
                .filter(|workload| !workload.selector.cgroups.is_empty())),
        }
    }

    /// The profile that it falls under, and the place of its workload among all of them.
    pub(crate) fn profile(&self, membership: Option<&Membership>) -> Result<(u32, u32), Ambiguous> {
        let workload = membership.map_or(Ok(None), |membership| self.workload(membership))?;
        let place = |wanted: &mesh_bpf::image::Workload| {
            let mut all = (0u32..).zip(membership.iter().flat_map(|membership| &membership.workloads));
            all.find(|(_, workload)| workload.name == wanted.name).map_or(NO_PROFILE, |(place, _)| place)
        };
        Ok(workload.map_or((NO_PROFILE, NO_PROFILE), |workload| (workload.profile.0, place(workload))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_file_names() {
        for key in [Key::Netns(5), Key::Cgroup(u64::MAX)] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        assert!("moving".parse::<Key>().is_err() && "netns-5.new".parse::<Key>().is_err());
    }
}
