//! Sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use super::world::{Memory, MemoryMap};
use crate::system::{Holds, Noted, Sockets, Step, Waits};

impl Sockets for Memory {
    type Socket = u64;

    fn waiting(&self, netns: &Path, cookie: u64) -> Step<Vec<Waits>> {
        self.is_netns(netns, cookie).map(|()| Vec::new())
    }

    fn holders(&self, _inodes: &BTreeSet<u64>) -> Step<BTreeMap<u64, Holds>> {
        Ok(BTreeMap::new())
    }

    fn can_close(&self) -> Step<bool> {
        Ok(!self.0.keeps_connections.get())
    }

    fn connections(&self, _flows: &MemoryMap, _listening: &MemoryMap) -> Step<Vec<(Noted, u64)>> {
        Ok(self.0.connections.borrow().iter().map(|(&cookie, &noted)| (noted, cookie)).collect())
    }

    fn close(&self, sockets: &[u64]) -> Step<usize> {
        let mut connections = self.0.connections.borrow_mut();
        Ok(sockets.iter().filter(|&cookie| connections.remove(cookie).is_some()).count())
    }

    fn socket(&self, _netns: u64, _ends: (SocketAddr, SocketAddr), cookie: u64) -> Step<Option<u64>> {
        Ok(self.0.connections.borrow().contains_key(&cookie).then_some(cookie))
    }
}
