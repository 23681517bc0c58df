//! A node with two pods, and a machine on another network.

use std::io;

use crate::{Netns, veth};

/// Namespaces joined by veth pairs; every one reaches every other, by both families.
///
/// | | addresses | its way out |
/// |---|---|---|
/// | `pod` | 10.42.0.2, fd42::2 | `host` |
/// | `other` | 10.42.1.2, fd42:1::2 | `host` |
/// | `host` | 10.42.0.1, fd42::1 and 10.42.1.1, fd42:1::1 and 10.43.0.1, fd43::1 | `router` |
/// | `router` | 10.43.0.2, fd43::2 and 10.44.0.1, fd44::1 | `host` |
/// | `far` | 10.44.0.2, fd44::2 | `router` |
#[derive(Debug)]
pub struct Town {
    /// The pod that connections go to.
    pub pod: Netns,
    /// Another pod of the same node.
    pub other: Netns,
    /// The node.
    pub host: Netns,
    /// What is between it and the other network.
    pub router: Netns,
    /// A machine there.
    pub far: Netns,
}

impl Town {
    /// Makes it.
    ///
    /// # Errors
    /// As [`Netns::new`] and [`veth`].
    pub fn new() -> io::Result<Self> {
        let [pod, other, host, router, far] = [(); 5].map(|()| Netns::new());
        let town = Self { pod: pod?, other: other?, host: host?, router: router?, far: far? };
        let Self { pod, other, host, router, far } = &town;
        for netns in [host, router] {
            netns.forward()?;
        }
        veth((pod, "eth0", &["10.42.0.2/24", "fd42::2/64"]), (host, "pod", &["10.42.0.1/24", "fd42::1/64"]))?;
        veth(
            (other, "eth0", &["10.42.1.2/24", "fd42:1::2/64"]),
            (host, "other", &["10.42.1.1/24", "fd42:1::1/64"]),
        )?;
        veth(
            (host, "eth0", &["10.43.0.1/24", "fd43::1/64"]),
            (router, "near", &["10.43.0.2/24", "fd43::2/64"]),
        )?;
        veth(
            (far, "eth0", &["10.44.0.2/24", "fd44::2/64"]),
            (router, "far", &["10.44.0.1/24", "fd44::1/64"]),
        )?;
        for (netns, v4, v6) in [
            (pod, "10.42.0.1", "fd42::1"),
            (other, "10.42.1.1", "fd42:1::1"),
            (host, "10.43.0.2", "fd43::2"),
            (router, "10.43.0.1", "fd43::1"),
            (far, "10.44.0.1", "fd44::1"),
        ] {
            netns.ip(&format!("route add default via {v4}\nroute add default via {v6}"))?;
        }
        Ok(town)
    }
}
