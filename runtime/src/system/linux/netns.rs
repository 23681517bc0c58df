//! Network namespaces.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::net::if_::InterfaceFlags;

use super::enter::{HERE, cookie_of, inside, open_netns, own_cookie};
use super::kernel::Kernel;
use super::proc::{each_once, namespace_files, namespaces_of_processes};
use super::step::at;
use super::{nat, network, route};
use crate::system::netns::HOST_NETNS;
use crate::system::{Netns, Network, Sources, SysResult};

impl Netns for Kernel {
    fn netns_cookie(&self, netns: &Path) -> SysResult<u64> {
        let file = at("opening", netns, File::open(netns))?;
        at("entering", netns, inside(&file, own_cookie))
    }

    fn is_own_netns(&self, cookie: u64) -> SysResult<bool> {
        // Where another process namespace hides the machine's first process, that is the first of ours: its network
        // is ours too, or a pod's that this process was started for.
        let own = [HERE, "/proc/1/ns/net"].map(|file| cookie_of(Path::new(file)).ok());
        Ok(own.contains(&Some(cookie)))
    }

    fn is_lived_in(&self, cookie: u64) -> SysResult<bool> {
        let found = namespaces_of_processes().map(|files| {
            let mut files: Vec<PathBuf> = files.collect();
            each_once(&mut files);
            files.iter().any(|file| cookie_of(file).is_ok_and(|found| found == cookie))
        });
        at("looking for network namespaces in", Path::new("/proc"), found)
    }

    fn find_netns(&self, cookie: u64) -> SysResult<Option<PathBuf>> {
        let files = at("looking for network namespaces in", Path::new("/proc"), namespace_files())?;
        Ok(files.into_iter().find(|file| cookie_of(file).is_ok_and(|found| found == cookie)))
    }

    fn netns_addresses(&self, netns: &Path) -> SysResult<Vec<IpAddr>> {
        let file = at("opening", netns, File::open(netns))?;
        at("entering", netns, netns_addresses(&file))
    }

    fn node_addresses(&self) -> SysResult<Vec<IpAddr>> {
        let here = Path::new(HOST_NETNS);
        at(
            "looking at the addresses of",
            here,
            interface_addresses(|flags| flags.contains(InterfaceFlags::IFF_UP)),
        )
    }

    fn netns_sources(&self, netns: &Path) -> SysResult<Sources> {
        let file = at("opening", netns, File::open(netns))?;
        let chosen = inside(&file, route::sources).map(|(v4, v6)| Sources { v4, v6 });
        at("asking for the routes of", netns, chosen)
    }

    fn netns_network(&self, netns: &Path) -> SysResult<Network> {
        let file = at("opening", netns, File::open(netns))?;
        at("asking for the routes of", netns, inside(&file, network::network))
    }

    fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> SysResult<String> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let path = Path::new("/proc/sys").join(name);
        at("reading", &path, inside(&file, || fs::read_to_string(&path)))
    }

    fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> SysResult<()> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let path = Path::new("/proc/sys").join(name);
        at("writing", &path, inside(&file, || fs::write(&path, value)))
    }

    fn namespaces(&self) -> SysResult<BTreeSet<u64>> {
        let files = at("looking for network namespaces in", Path::new("/proc"), namespace_files())?;
        Ok(files.iter().filter_map(|file| cookie_of(file).ok()).collect())
    }

    fn interfaces(&self, netns: &Path, cookie: u64) -> SysResult<Vec<u32>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the interfaces", netns, inside(&target, interfaces))
    }

    fn translates(&self, netns: &Path, cookie: u64) -> SysResult<bool> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the translated addresses", netns, inside(&target, nat::translates))
    }
}

fn netns_addresses(netns: &File) -> io::Result<Vec<IpAddr>> {
    inside(netns, || interface_addresses(|_| true))
}

/// The addresses of this thread's namespace, of interfaces with such flags.
fn interface_addresses(counts: impl Fn(InterfaceFlags) -> bool) -> io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?.filter(|interface| counts(interface.flags));
    let found = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(found.filter(|address| !address.is_loopback()).collect())
}

/// The interfaces of this thread's namespace by their numbers: loopback is the first.
pub(super) fn interfaces() -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> =
        nix::net::if_::if_nameindex()?.iter().map(nix::net::if_::Interface::index).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
