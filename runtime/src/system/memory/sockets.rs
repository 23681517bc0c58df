//! Sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use super::world::{Memory, MemoryMap};
use crate::system::{Holds, Noted, Sockets, SysResult, Waits};

impl Memory {
    /// Lets a process wait for connections or datagrams in a namespace.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn listen(&self, netns: &Path, waits: Waits, holds: Holds) -> SysResult<()> {
        self.0.holders.borrow_mut().insert(waits.inode, holds);
        self.namespace(netns).map(|(_, namespace)| namespace.waiting.borrow_mut().push(waits))
    }
}

impl Sockets for Memory {
    type Socket = u64;

    fn waiting(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Waits>> {
        Ok(self.inside(netns, cookie)?.waiting.borrow().clone())
    }

    fn holders(&self, inodes: &BTreeSet<u64>) -> SysResult<BTreeMap<u64, Holds>> {
        let holders = self.0.holders.borrow();
        let asked = holders.iter().filter(|(inode, _)| inodes.contains(inode));
        Ok(asked.map(|(&inode, holds)| (inode, holds.clone())).collect())
    }

    fn can_close(&self) -> SysResult<bool> {
        Ok(!self.0.keeps_connections.get())
    }

    fn connections(&self, _flows: &MemoryMap, _listening: &MemoryMap) -> SysResult<Vec<(Noted, u64)>> {
        Ok(self.0.connections.borrow().iter().map(|(&cookie, &noted)| (noted, cookie)).collect())
    }

    fn close(&self, sockets: &[u64]) -> SysResult<usize> {
        let mut connections = self.0.connections.borrow_mut();
        Ok(sockets.iter().filter(|&cookie| connections.remove(cookie).is_some()).count())
    }

    fn socket(&self, _netns: u64, _ends: (SocketAddr, SocketAddr), cookie: u64) -> SysResult<Option<u64>> {
        Ok(self.0.connections.borrow().contains_key(&cookie).then_some(cookie))
    }
}
