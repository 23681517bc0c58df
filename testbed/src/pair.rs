//! The smallest network: a client pod and a server.

use std::io;

use crate::{Netns, veth};

/// Two namespaces joined by a veth pair.
///
/// The client is 192.168.7.2 and fd07::2, the server 192.168.7.1 and fd07::1. The server also owns all of
/// 10.0.0.0/8, 172.16.0.0/12 and fd10::/16, and the client reaches everything through it, so a policy may
/// name any address of these without further set-up.
#[derive(Debug)]
pub struct Pair {
    /// The pod whose connections a policy decides.
    pub client: Netns,
    /// Where they go if nobody redirects them.
    pub server: Netns,
}

impl Pair {
    /// Makes it.
    ///
    /// # Errors
    /// As [`Netns::new`] and [`veth`].
    pub fn new() -> io::Result<Self> {
        let (client, server) = (Netns::new()?, Netns::new()?);
        veth(
            (&client, "eth0", &["192.168.7.2/24", "fd07::2/64"]),
            (&server, "eth0", &["192.168.7.1/24", "fd07::1/64"]),
        )?;
        client.ip("route add default via 192.168.7.1\nroute add default via fd07::1")?;
        for range in ["10.0.0.0/8", "172.16.0.0/12", "fd10::/16"] {
            server.own(range)?;
        }
        Ok(Self { client, server })
    }
}
