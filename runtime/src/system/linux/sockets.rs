//! Sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use super::enter::open_netns;
use super::kernel::Kernel;
use super::map::KernelMap;
use super::sock_diag;
use super::socket_holders;
use super::step::{at, on};
use crate::system::{Holds, Netns, Noted, Sockets, SysResult, Waits};

impl Sockets for Kernel {
    type Socket = sock_diag::KernelSocket;

    fn waiting(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Waits>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the sockets", netns, sock_diag::waiting(&target))
    }

    fn holders(&self, inodes: &BTreeSet<u64>) -> SysResult<BTreeMap<u64, Holds>> {
        at("reading", Path::new("/proc"), socket_holders::find(inodes))
    }

    fn can_close(&self) -> SysResult<bool> {
        on("asking about", "connections", sock_diag::can_close())
    }

    fn connections(
        &self,
        flows: &KernelMap,
        listening: &KernelMap,
    ) -> SysResult<Vec<(Noted, sock_diag::KernelSocket)>> {
        on("listing", "connections", sock_diag::connections([flows.fd.as_fd(), listening.fd.as_fd()]))
    }

    fn close(&self, sockets: &[sock_diag::KernelSocket]) -> SysResult<usize> {
        on("closing", "connections", sock_diag::close(sockets))
    }

    fn socket(
        &self,
        netns: u64,
        ends: (SocketAddr, SocketAddr),
        cookie: u64,
    ) -> SysResult<Option<sock_diag::KernelSocket>> {
        let Some(path) = self.find_netns(netns)? else { return Ok(None) };
        let file = at("opening", &path, open_netns(&path, netns))?;
        Ok(Some(sock_diag::KernelSocket::new(file, ends, cookie)))
    }
}
