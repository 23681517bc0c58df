//! Network namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use mesh_bpf::prefix::Prefix;
use serde::{Deserialize, Serialize};

use super::error::SysResult;

/// What the host's network namespace is: that in which policies are applied.
pub const HOST_NETNS: &str = "/proc/thread-self/ns/net";

/// Where the connections of a network namespace to others come from, of each family; none where it has no address but
/// loopback and link-local ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Sources {
    /// What the routes to the outside choose, else the first of the addresses that others can answer to. A route may choose
    /// a link-local address of IPv4, which is translated on its way.
    #[must_use]
    pub fn of(chosen: Self, addresses: &[IpAddr]) -> Self {
        let v4 = chosen.v4.filter(|v4| !v4.is_loopback());
        let v6 = chosen.v6.filter(|v6| !v6.is_loopback() && !v6.is_unicast_link_local());
        let first_v4 = || {
            let mut all = addresses.iter().filter_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            all.find(|v4| !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified())
        };
        let first_v6 = || {
            let mut all = addresses.iter().filter_map(|address| match address {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            });
            all.find(|v6| !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified())
        };
        Self { v4: v4.or_else(first_v4), v6: v6.or_else(first_v6) }
    }
}

/// The ways out of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The names of its interfaces, but for loopback's, by number.
    pub interfaces: BTreeMap<u32, String>,
    /// The interfaces that its routes lead to a destination by: none where packets stay inside, or go nowhere. Where
    /// there are several, packets may take any.
    pub routes: BTreeMap<Prefix, BTreeSet<u32>>,
    /// How many rules and routes look at more than a destination.
    pub special: usize,
    /// There are more routes than are looked at, and `routes` is empty.
    pub has_too_many: bool,
}

/// What the runtime asks network namespaces.
pub trait Netns {
    /// The cookie of a network namespace, by a file that stands for it. Minimum kernel 5.14.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_cookie(&self, netns: &Path) -> SysResult<u64>;
    /// The addresses of a network namespace's interfaces, but for loopback's.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_addresses(&self, netns: &Path) -> SysResult<Vec<IpAddr>>;
    /// The addresses of the node itself: of those interfaces of the host's network namespace that are up, but for
    /// loopback's. On one that is down, somebody keeps addresses that are not the node's, such as those of services.
    ///
    /// # Errors
    /// What the kernel says.
    fn node_addresses(&self) -> SysResult<Vec<IpAddr>>;
    /// Where the connections of a network namespace to others come from, as far as its routes say.
    ///
    /// # Errors
    /// What the kernel says.
    fn netns_sources(&self, netns: &Path) -> SysResult<Sources>;
    /// Its interfaces, and where its routes lead: those that are asked for whatever a packet has but its destination.
    ///
    /// # Errors
    /// What the kernel says; `EAGAIN` where they change all the time.
    fn netns_network(&self, netns: &Path) -> SysResult<Network>;
    /// A setting of the network namespace that has this cookie, by its path below `/proc/sys`.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where the file stands for another namespace.
    fn netns_setting(&self, netns: &Path, cookie: u64, name: &str) -> SysResult<String>;
    /// Changes it.
    ///
    /// # Errors
    /// As [`System::netns_setting`].
    fn set_netns_setting(&self, netns: &Path, cookie: u64, name: &str, value: &str) -> SysResult<()>;
    /// The cookies of all network namespaces that a process lives in or a mount holds.
    ///
    /// # Errors
    /// What the kernel says.
    fn namespaces(&self) -> SysResult<BTreeSet<u64>>;
    /// Whether a network namespace is the node's own: that of this process, or of the machine's first one.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_own_netns(&self, cookie: u64) -> SysResult<bool>;
    /// Whether a process lives in the network namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_lived_in(&self, cookie: u64) -> SysResult<bool>;
    /// A file that stands for the network namespace with this cookie; `None` where no process lives in it and no
    /// mount holds it.
    ///
    /// # Errors
    /// What the kernel says.
    fn find_netns(&self, cookie: u64) -> SysResult<Option<PathBuf>>;
    /// The interfaces of a network namespace by their numbers, with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn interfaces(&self, netns: &Path, cookie: u64) -> SysResult<Vec<u32>>;
    /// Whether rules of a network namespace translate addresses (NAT), with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn translates(&self, netns: &Path, cookie: u64) -> SysResult<bool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_routes_choose_else_the_first_address_that_is_routable() {
        let addresses: Vec<IpAddr> = ["169.254.7.7", "fe80::1", "10.1.0.2", "10.1.0.3", "fd00::2", "fd00::3"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        let both = Sources { v4: "10.1.0.2".parse().ok(), v6: "fd00::2".parse().ok() };
        assert_eq!(Sources::of(Sources::default(), &addresses), both);
        let chosen = Sources { v4: "169.254.7.7".parse().ok(), v6: "fd00::3".parse().ok() };
        assert_eq!(Sources::of(chosen, &addresses), chosen);
        let within = Sources { v4: "127.0.0.1".parse().ok(), v6: "fe80::1".parse().ok() };
        assert_eq!(Sources::of(within, &addresses), both);
        assert_eq!(Sources::of(within, addresses.get(..2).unwrap()), Sources::default());
    }
}
