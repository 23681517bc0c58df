//! Network namespaces that rulesets are loaded into.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attach::pod;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::members::files;
use crate::node::Node;
use crate::state::record;
use crate::system::{HOST_NETNS, System};

/// The file, beside those of the members, that says which namespace is the host's.
const HOST: &str = "host-netns";

/// A network namespace, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// None for the host.
    pub(crate) pod: Option<Key>,
    /// The pod's name, or `host`.
    pub(crate) name: String,
    /// A file that stands for it.
    pub(crate) netns: PathBuf,
    /// Its cookie.
    pub(crate) cookie: u64,
}

/// Which namespace is the host's.
#[derive(Debug, Serialize, Deserialize)]
struct Host {
    cookie: u64,
}

impl Target {
    /// The host's: that in which the first policy was applied in this boot, else the one that we are in. `None` where
    /// it has ended.
    pub(crate) fn host<S: System>(node: Node<'_, S>) -> Result<Option<Self>> {
        let here = Path::new(HOST_NETNS);
        let cookie = node.system.netns_cookie(here)?;
        let of = |netns: PathBuf, cookie| Self { pod: None, name: "host".into(), netns, cookie };
        let kept = record::read::<Host>(node.system, &node.instance.members().join(HOST))?;
        Ok(match kept {
            Some(kept) if kept.cookie != cookie => {
                node.system.find_netns(kept.cookie)?.map(|netns| of(netns, kept.cookie))
            }
            _ => Some(of(here.into(), cookie)),
        })
    }

    /// The host's, and those of pods.
    pub(crate) fn all<S: System>(node: Node<'_, S>) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Self::host(node)?.into_iter().collect();
        for member in files::members(node)? {
            all.extend(Self::of(node, &member)?);
        }
        Ok(all)
    }

    /// Notes that this is the host's.
    pub(crate) fn note_host<S: System>(&self, node: Node<'_, S>) -> Result<()> {
        let file = node.instance.members().join(HOST);
        record::write(node.system, &file, &Host { cookie: self.cookie }, false)
    }

    /// That of a pod; `None` for a member by cgroup, and where the pod's namespace cannot be found.
    pub(crate) fn of<S: System>(node: Node<'_, S>, member: &Member) -> Result<Option<Self>> {
        let Key::Netns(cookie) = member.key else { return Ok(None) };
        let netns = pod::find(node.system, member, cookie)?;
        Ok(netns.map(|netns| Self { pod: Some(member.key), name: member.name.clone(), netns, cookie }))
    }
}

/// Forgets which namespace was the host's.
pub(crate) fn forget_host<S: System>(node: Node<'_, S>) -> Result<()> {
    Ok(node.system.remove(&node.instance.members().join(HOST))?)
}
