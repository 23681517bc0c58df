//! Network namespaces.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::world::{Memory, Node, error};
use crate::system::{Netns, Sources, Step};

impl Netns for Memory {
    /// A namespace is a file here, and its inode the cookie. The one that everybody is in has the first.
    fn netns_cookie(&self, netns: &Path) -> Step<u64> {
        if netns == Path::new(crate::system::HOST_NETNS) {
            return Ok(1);
        }
        self.node(netns).map(|(inode, _)| inode).ok_or_else(|| error("opening", netns, libc::ENOENT))
    }

    fn netns_addresses(&self, netns: &Path) -> Step<Vec<IpAddr>> {
        self.netns_cookie(netns).map(|_| Vec::new())
    }

    fn netns_sources(&self, netns: &Path) -> Step<Sources> {
        self.netns_cookie(netns).map(|_| Sources::default())
    }

    fn netns_setting(&self, netns: &Path, _cookie: u64, name: &str) -> Step<String> {
        let key = (self.netns_cookie(netns)?, name.to_owned());
        Ok(self.0.settings.borrow().get(&key).cloned().unwrap_or_default())
    }

    fn set_netns_setting(&self, netns: &Path, _cookie: u64, name: &str, value: &str) -> Step<()> {
        let key = (self.netns_cookie(netns)?, name.to_owned());
        self.0.settings.borrow_mut().insert(key, value.to_owned());
        Ok(())
    }

    fn namespaces(&self) -> Step<BTreeSet<u64>> {
        let nodes = self.0.nodes.borrow();
        Ok(nodes
            .values()
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(inode, _)| *inode)
            .collect())
    }

    fn is_own_netns(&self, _cookie: u64) -> Step<bool> {
        Ok(false)
    }

    fn is_lived_in(&self, _cookie: u64) -> Step<bool> {
        Ok(false)
    }

    fn find_netns(&self, _cookie: u64) -> Step<Option<PathBuf>> {
        Ok(None)
    }

    /// Every namespace has two here.
    fn interfaces(&self, netns: &Path, cookie: u64) -> Step<Vec<u32>> {
        self.is_netns(netns, cookie).map(|()| vec![1, 2])
    }

    fn translates(&self, netns: &Path, cookie: u64) -> Step<bool> {
        self.is_netns(netns, cookie).map(|()| false)
    }
}
