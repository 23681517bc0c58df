//! Network namespaces.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mesh_bpf::prefix::Prefix;

use super::world::{Memory, Namespace, Node, error};
use crate::system::netns::HOST_NETNS;
use crate::system::{Netns, Network, Sources, SysResult};

impl Memory {
    /// Makes a network namespace with a file that stands for it, and with interfaces of these numbers.
    pub fn make_netns(&self, file: &Path, interfaces: &[u32]) {
        let namespace = Namespace::default();
        namespace.interfaces.borrow_mut().extend(interfaces.iter().map(|&number| (number, Vec::new())));
        self.insert_new(file, Node::Netns(Rc::new(namespace)));
    }

    /// Adds an interface to a namespace, or addresses to one that it has.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn add_interface(&self, netns: &Path, number: u32, addresses: &[IpAddr]) -> SysResult<()> {
        let (_, namespace) = self.namespace(netns)?;
        namespace.interfaces.borrow_mut().entry(number).or_default().extend(addresses);
        Ok(())
    }

    /// Names an interface of a namespace, and lets routes lead by it; one that it has not is made.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn route_by(&self, netns: &Path, number: u32, name: &str, routes: &[Prefix]) -> SysResult<()> {
        let (_, namespace) = self.namespace(netns)?;
        namespace.interfaces.borrow_mut().entry(number).or_default();
        namespace.names.borrow_mut().insert(number, name.to_owned());
        namespace.routes.borrow_mut().extend(routes.iter().map(|&route| (route, number)));
        Ok(())
    }

    /// Lets rules of a namespace translate addresses.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn translate(&self, netns: &Path) -> SysResult<()> {
        self.namespace(netns).map(|(_, namespace)| namespace.translates.set(true))
    }

    /// Lets this many processes live in a namespace.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn live_in(&self, netns: &Path, processes: usize) -> SysResult<()> {
        self.namespace(netns).map(|(_, namespace)| namespace.processes.set(processes))
    }

    /// A namespace with its cookie, which is the inode of its file here.
    pub(super) fn namespace(&self, netns: &Path) -> SysResult<(u64, Rc<Namespace>)> {
        match self.node(netns) {
            Some((cookie, Node::Netns(namespace))) => Ok((cookie, namespace)),
            Some(_) => Err(error("opening", netns, libc::EINVAL)),
            None => Err(error("opening", netns, libc::ENOENT)),
        }
    }

    /// The same, where the file stands for the one with this cookie.
    pub(super) fn inside(&self, netns: &Path, cookie: u64) -> SysResult<Rc<Namespace>> {
        let (found, namespace) = self.namespace(netns)?;
        if found == cookie { Ok(namespace) } else { Err(error("entering", netns, libc::ESTALE)) }
    }

    fn by_cookie(&self, cookie: u64) -> Option<(PathBuf, Rc<Namespace>)> {
        let nodes = self.0.nodes.borrow();
        nodes.iter().find_map(|(path, (inode, node))| match node {
            Node::Netns(namespace) if *inode == cookie => Some((path.clone(), Rc::clone(namespace))),
            _ => None,
        })
    }
}

impl Netns for Memory {
    fn netns_cookie(&self, netns: &Path) -> SysResult<u64> {
        self.namespace(netns).map(|(cookie, _)| cookie)
    }

    fn netns_addresses(&self, netns: &Path) -> SysResult<Vec<IpAddr>> {
        let (_, namespace) = self.namespace(netns)?;
        Ok(namespace.interfaces.borrow().values().flatten().copied().collect())
    }

    fn node_addresses(&self) -> SysResult<Vec<IpAddr>> {
        self.netns_addresses(Path::new(HOST_NETNS))
    }

    /// Routes choose the first address of each family.
    fn netns_sources(&self, netns: &Path) -> SysResult<Sources> {
        Ok(Sources::of(Sources::default(), &self.netns_addresses(netns)?))
    }

    fn netns_network(&self, netns: &Path) -> SysResult<Network> {
        let (_, namespace) = self.namespace(netns)?;
        let names = namespace.names.borrow();
        let name = |number: &u32| names.get(number).cloned().unwrap_or_else(|| format!("eth{number}"));
        Ok(Network {
            interfaces: namespace.interfaces.borrow().keys().map(|number| (*number, name(number))).collect(),
            routes: (namespace.routes.borrow().iter())
                .map(|(&prefix, &number)| (prefix, BTreeSet::from([number])))
                .collect(),
            ..Network::default()
        })
    }

    fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> SysResult<String> {
        Ok(self.inside(netns, cookie)?.settings.borrow().get(name).cloned().unwrap_or_default())
    }

    fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> SysResult<()> {
        self.inside(netns, cookie)?.settings.borrow_mut().insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn namespaces(&self) -> SysResult<BTreeSet<u64>> {
        let nodes = self.0.nodes.borrow();
        let namespaces = nodes.values().filter(|(_, node)| matches!(node, Node::Netns(_)));
        Ok(namespaces.map(|(cookie, _)| *cookie).collect())
    }

    fn is_own_netns(&self, cookie: u64) -> SysResult<bool> {
        Ok(self.netns_cookie(Path::new(HOST_NETNS))? == cookie)
    }

    fn is_lived_in(&self, cookie: u64) -> SysResult<bool> {
        Ok(self.by_cookie(cookie).is_some_and(|(_, namespace)| namespace.processes.get() > 0))
    }

    fn find_netns(&self, cookie: u64) -> SysResult<Option<PathBuf>> {
        Ok(self.by_cookie(cookie).map(|(path, _)| path))
    }

    fn interfaces(&self, netns: &Path, cookie: u64) -> SysResult<Vec<u32>> {
        Ok(self.inside(netns, cookie)?.interfaces.borrow().keys().copied().collect())
    }

    fn translates(&self, netns: &Path, cookie: u64) -> SysResult<bool> {
        Ok(self.inside(netns, cookie)?.translates.get())
    }
}
