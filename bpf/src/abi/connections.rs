//! What is kept for a connection, as long as its sockets are there. Programs are replaced under established connections,
//! so sizes never change and fields are only ever added in the reserve; else [`FLOW_ABI`] goes up.

constants! {
    /// Version of what is kept for a live connection.
    FLOW_ABI: u32 = 4;
    /// The port that a denied datagram socket is connected to, on its own address. Nobody listens there.
    REFUSING_PORT: u16 = 1;
    /// [`Flow::flags`]: the sidecar's own address is the original destination.
    FLOW_TRANSPARENT: u8 = 1;
    /// [`Flow::flags`]: the socket was v4-mapped, so addresses go back as `::ffff:a.b.c.d`.
    FLOW_MAPPED: u8 = 2;
    /// [`Flow::flags`]: the socket's identity is exempt; it is not redirected.
    FLOW_EXEMPT: u8 = 4;
    /// [`Flow::flags`]: a datagram socket that a policy denied: it is connected to where nobody listens.
    FLOW_DENIED: u8 = 8;
    /// [`Flow::flags`]: the mesh bound the socket to an address, and not the application.
    FLOW_BOUND: u8 = 16;
    /// [`Flow::flags`]: its entry in `handover` counts against the quota of its user, too.
    FLOW_BY_USER: u8 = 32;
    /// [`Flow::flags`]: a thread of the kernel opened it, and for which process is not known: no rule that names an
    /// identity is about it.
    FLOW_OF_KERNEL: u8 = 64;
}

layouts! {
    /// A connection by its ends, as the connecting socket sees them.
    struct FlowKey as "mesh_flow_key" {
        /// Cookie of the network namespace.
        netns: u64,
        /// The connecting socket's address, network order, IPv4 as v4-mapped.
        local: [u32; 4],
        /// The sidecar's address, network order, IPv4 as v4-mapped.
        remote: [u32; 4],
        /// The connecting socket's port, host order.
        local_port: u16,
        /// The sidecar's port, host order.
        remote_port: u16,
        /// Reserve; zero.
        reserve: u32,
    }

    /// What is kept for a live connection, in socket storage of the connecting and of the accepted socket.
    struct Flow as "mesh_flow" {
        /// The address that was dialled, network order, IPv4 as v4-mapped.
        original: [u32; 4],
        /// The port that was dialled, host order.
        original_port: u16,
        /// The sidecar's port that it was sent to, host order; 0: not redirected.
        sidecar_port: u16,
        /// `MESH_FAMILY_*` of the address that was dialled.
        family: u8,
        /// `MESH_FLOW_*`.
        flags: u8,
        /// 0 TCP, 1 UDP.
        protocol: u8,
        /// 0 outbound, 1 inbound.
        direction: u8,
        /// The generation that decided.
        generation: u64,
        /// The member that opened it.
        member: u32,
        /// The source that decided, in that generation.
        source: u32,
        /// The key of the counter of the item that decided.
        item: u64,
        /// The connecting socket's cookie.
        cookie: u64,
        /// The user that opened it.
        uid: u32,
        /// The group that opened it.
        gid: u32,
        /// The cgroup that it was opened in.
        cgroup: u64,
        /// The interface that the socket was bound to before it was released from it; 0: none.
        device: u32,
        /// The lower half of the id of the member's cgroup, at or above `cgroup`; 0 for a pod.
        within: u32,
        /// The address that the socket seems to have, or with `MESH_FLOW_BOUND` was bound to, network order, IPv4 as
        /// v4-mapped; zero for none.
        own: [u32; 4],
    }

    /// A connection that an exempt identity opens.
    struct ExemptFlow as "mesh_exempt_flow" {
        /// The connecting socket's cookie.
        cookie: u64,
        /// The member that opens it.
        member: u32,
        /// The user whose quota it counts against beside the member's, or all ones.
        user: u32,
    }

    /// A port of a sidecar, for those who are sent there.
    struct SidecarKey as "mesh_sidecar_key" {
        /// Cookie of the network namespace.
        netns: u64,
        /// The member's number.
        member: u32,
        /// The sidecar's port, host order.
        port: u16,
        /// `MESH_FAMILY_*` of what is dialled.
        family: u8,
        /// 0 outbound, 1 inbound.
        direction: u8,
    }
}

const _: () = assert!(size_of::<Flow>() == 96 && size_of::<FlowKey>() == 48);
