//! Pods as they are asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::member::Key;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// A pod to attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// A file that stands for its network namespace.
    pub netns: PathBuf,
    /// Its name.
    pub name: String,
    /// The Kubernetes namespace.
    pub namespace: Option<String>,
    /// Labels by key.
    pub labels: Labels,
    /// Labels of its Kubernetes namespace; without them, those that the node was told of that namespace.
    #[serde(default)]
    pub namespace_labels: Option<Labels>,
    /// The service account it runs as.
    pub service_account: Option<String>,
    /// Annotations by key.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its own addresses; where there are none, those of the interfaces in its network namespace. Without a container
    /// runtime they are its own whatever becomes of its interfaces, and else selectors alone ask for them.
    pub addresses: Vec<IpAddr>,
    /// What its container runtime says of it, where one attaches it.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// Attach it although its network namespace is the node's own, or another pod's.
    #[serde(default)]
    pub force: bool,
}

/// One attachment of a container to a network, as a container runtime asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The id of the container, or of the pod's sandbox.
    pub container: String,
    /// Kubernetes' UID of the pod.
    #[serde(default)]
    pub uid: Option<String>,
    /// The name of the network.
    pub network: String,
    /// The interface inside.
    pub interface: String,
}

/// Which pod to detach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSelector {
    /// By how the programs know it.
    Key(Key),
    /// One interface of a container, or with `None` all of it; its network namespace may be unknown, gone or
    /// another container's by now. The pod stays a member as long as it has another interface.
    Container {
        /// The id.
        container: String,
        /// The interface inside.
        interface: Option<String>,
        /// A file that stood for its network namespace, where it is known: then no registry is searched.
        netns: Option<PathBuf>,
    },
    /// By a file that stands for its network namespace.
    Netns(PathBuf),
    /// By namespace and name: when the network namespace is gone already.
    Name(Option<String>, String),
}

/// What an attach did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAttached {
    /// Its key.
    pub key: Key,
    /// The workload that it falls under; none where no policy is live or none selects it.
    pub workload: Option<String>,
}
