//! Network namespaces as pods, servers and routers.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ground::Directory;
use crate::name::Name;
use crate::sweep::{self, NAMESPACES};
use crate::tool;

const TAG: &str = include_str!("../programs/tag_vlan.bpf.c");

/// A network namespace with `lo` up and without IPv6 duplicate detection, removed on drop.
///
/// It is one of `ip netns`, so a person can look into it with `ip netns exec`.
#[derive(Debug)]
pub struct Netns {
    name: Name,
    handle: Arc<File>,
}

impl Netns {
    /// Makes a namespace.
    ///
    /// # Errors
    /// If `ip` is missing or refuses, as it does to anyone but root.
    pub fn new() -> io::Result<Self> {
        let name = Name::new();
        tool("ip", &["netns", "add", name.as_str()])?;
        let handle = File::open(Path::new(NAMESPACES).join(name.as_str())).inspect_err(|_| {
            sweep::remove_netns(&Path::new(NAMESPACES).join(name.as_str()));
        })?;
        let netns = Self { name, handle: Arc::new(handle) };
        // A duplicate detection of one second would make every test of IPv6 wait, or fail at random.
        netns.set("net/ipv6/conf/default/accept_dad", "0")?;
        netns.set("net/ipv6/conf/all/accept_dad", "0")?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name by which `ip netns` knows it.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The path that names it to meshc and to `nsenter`.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(self.name.as_str())
    }

    pub(crate) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.handle)
    }

    /// Runs `body` on a thread inside the namespace and waits for it.
    ///
    /// Only the network is another: cgroup, files and user stay those of the test. A child that `body`
    /// spawns lives in the namespace too.
    ///
    /// # Errors
    /// If the namespace cannot be entered. A panic of `body` goes on in the caller.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| enter(&self.handle).map(|()| body()));
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs commands of `ip`, one a line, inside the namespace: `addr add 10.0.0.1/24 dev eth0`.
    ///
    /// # Errors
    /// If one of them is refused; the error says which line.
    pub fn ip(&self, commands: &str) -> io::Result<()> {
        tool::with_input("ip", &["-n", self.name(), "-batch", "-"], &format!("{commands}\n")).map(drop)
    }

    /// Writes a sysctl of the namespace, named by its path below `/proc/sys`.
    ///
    /// # Errors
    /// If there is no such sysctl, or it refuses the value.
    pub fn set(&self, sysctl: &str, value: &str) -> io::Result<()> {
        self.run(|| fs::write(Path::new("/proc/sys").join(sysctl), value))?
    }

    /// The number of an interface.
    ///
    /// # Errors
    /// If the namespace has none of that name.
    pub fn interface(&self, name: &str) -> io::Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(name).map_err(io::Error::from))?
    }

    /// Tags everything that an interface sends from now on as of these VLANs, the innermost first, with priority 1;
    /// VLAN 0 is none: a priority alone. It works on kernels without `CONFIG_VLAN_8021Q` too, which cannot make an
    /// interface of a VLAN (`ip link add … type vlan`: "Unknown device type").
    ///
    /// # Errors
    /// If clang or `tc` is missing, or the interface is tagged already.
    pub fn tag(&self, interface: &str, vlans: &[u16]) -> io::Result<()> {
        let dir = Directory::new()?;
        let (source, object) = (dir.path().join("tag.bpf.c"), dir.path().join("tag.bpf.o"));
        fs::write(&source, TAG)?;
        let (source, object) = (source.display().to_string(), object.display().to_string());
        let tags: Vec<_> = vlans.iter().map(|vlan| (1 << 13 | vlan).to_string()).collect();
        let content = format!("-DTAGS={}", tags.join(","));
        tool("clang", &["-O2", "-target", "bpf", &content, "-c", &source, "-o", &object])?;
        self.run(|| {
            tool("tc", &["qdisc", "add", "dev", interface, "clsact"])?;
            let filter = ["bpf", "direct-action", "obj", &object, "sec", "classifier"];
            tool("tc", &[&["filter", "add", "dev", interface, "egress"][..], &filter].concat()).map(drop)
        })?
    }

    /// A counter of the namespace's stack: `("snmp", "Ip", "FragCreates")`, `("netstat", "TcpExt", "TCPKeepAlive")`.
    ///
    /// # Errors
    /// If there is no such counter.
    pub fn counter(&self, file: &str, group: &str, name: &str) -> io::Result<u64> {
        let text = self.run(|| fs::read_to_string(Path::new("/proc/thread-self/net").join(file)))??;
        // A line of names, and one of values.
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let found = names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name);
        let value = found.and_then(|(_, value)| value.parse().ok());
        value.ok_or_else(|| io::Error::other(format!("no counter {name} of {group} in {file}")))
    }

    /// Lets the namespace forward packets between its interfaces, as a router does.
    ///
    /// # Errors
    /// As [`Netns::set`].
    pub fn forward(&self) -> io::Result<()> {
        self.set("net/ipv4/ip_forward", "1")?;
        self.set("net/ipv6/conf/all/forwarding", "1")
    }

    /// Makes the namespace answer for a whole range of addresses, `10.0.0.0/8` or `fd00::/8`, as if each
    /// were one of its own, which a server may bind to.
    ///
    /// # Errors
    /// If `ip` refuses the range.
    pub fn own(&self, range: &str) -> io::Result<()> {
        // For IPv4 the route is enough.
        self.set("net/ipv6/ip_nonlocal_bind", "1")?;
        self.ip(&format!("route add local {range} dev lo"))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        sweep::remove_netns(&self.path());
    }
}

/// Moves the calling thread.
pub(crate) fn enter(handle: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Joins two namespaces by a veth pair; each end is a namespace, the interface's name and its addresses
/// with prefix lengths.
///
/// # Errors
/// If `ip` refuses a name or an address.
pub fn veth(one: (&Netns, &str, &[&str]), two: (&Netns, &str, &[&str])) -> io::Result<()> {
    one.0.ip(&format!("link add {} type veth peer name {} netns {}", one.1, two.1, two.0.name()))?;
    for (netns, interface, addresses) in [one, two] {
        let mut commands = format!("link set {interface} up\n");
        for address in addresses {
            commands.push_str(&format!("addr add {address} dev {interface}{}\n", no_detection(address)));
        }
        netns.ip(&commands)?;
    }
    Ok(())
}

fn no_detection(address: &str) -> &'static str {
    let ip = address.split('/').next().map(str::parse::<IpAddr>);
    if matches!(ip, Some(Ok(IpAddr::V6(_)))) { " nodad" } else { "" }
}
