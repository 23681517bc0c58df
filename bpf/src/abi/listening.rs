//! Sockets that listen: as long as they do.

use super::members::CGROUP_DEPTH;

constants! {
    /// Listeners on one port of one family and namespace that are known: those of a group that shares the port,
    /// and, while a sidecar restarts, of its successor too.
    LISTENER_SLOTS: u32 = 128;
    /// Owners of one place of the host that are known: cgroups whose sockets share an address and a port.
    PORT_SLOTS: u32 = 4;
    /// [`Listening::flags`]: it counts against a quota.
    LISTENING_COUNTED: u8 = 1;
    /// [`Listening::flags`]: there was no quota left for it, so that it is not known.
    LISTENING_MISSED: u8 = 2;
    /// [`Listening::flags`]: its owner is noted in `host_ports`.
    LISTENING_PLACED: u8 = 4;
}

layouts! {
    /// One of the sockets that listen on a port.
    struct ListenerKey as "mesh_listener_key" {
        /// Cookie of the network namespace.
        netns: u64,
        /// The port, host order.
        port: u16,
        /// The socket's: `AF_INET` or `AF_INET6`.
        family: u8,
        /// Tells it from others on the same port: below `MESH_LISTENER_SLOTS`.
        slot: u8,
        /// Reserve; zero.
        reserve: u32,
    }

    /// Where somebody listens, in the network namespace of the host.
    struct PortKey as "mesh_port_key" {
        /// The address that it listens on, network order, IPv4 as v4-mapped; zero for all.
        address: [u32; 4],
        /// The port, host order.
        port: u16,
        /// Tells an owner from others at the same place: below `MESH_PORT_SLOTS`.
        slot: u8,
        /// Reserve; zero.
        reserve: u8,
        /// Reserve; zero.
        reserve2: u32,
    }

    /// One of those who listen there: sockets may share a place, and each owner has an entry.
    struct PortOwner as "mesh_port_owner" {
        /// The id of the socket's cgroup, then those above it, as many as there are; then zero.
        cgroup: [u64; CGROUP_DEPTH as usize],
        /// How many sockets of that cgroup there are.
        sockets: u32,
        /// The user whose quota the entry counts against: of a user namespace, who made the outermost one.
        uid: u32,
    }

    /// What is kept with a listening socket, and is copied to every socket that it accepts.
    struct Listening as "mesh_listening" {
        /// The port that it listens on, host order. An accepted socket with another port was redirected.
        port: u16,
        /// Of an accepted socket, 1: a policy was live, and the connection was neither handed over by the mesh nor
        /// opened by an exempt identity beside it. A later policy may decide it otherwise.
        decided: u8,
        /// Of a listening socket, `MESH_LISTENING_*`.
        flags: u8,
        /// [`QuotaKey::who`](super::QuotaKey::who) of a listening socket that is counted.
        who: u32,
    }
}
