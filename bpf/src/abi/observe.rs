//! Readers of decisions, and what they read: as long as they renew their lease.

constants! {
    /// Readers of decisions at the same time.
    WATCHES: usize = 8;
    /// [`Watch::verdicts`]: an exemption decided.
    WATCH_EXEMPT: u8 = 0x80;
    /// [`Watch::flags`]: only this user's.
    WATCH_UID: u8 = 1;
    /// [`Watch::flags`]: only members of this name.
    WATCH_NAME: u8 = 2;
}

layouts! {
    /// A reader of decisions, and which it wants. In a memory-mapped array, so that a reader renews its lease
    /// without a system call. What the programs cannot tell, the reader leaves out itself.
    struct Watch as "mesh_watch" {
        /// Nanoseconds since boot, sleep included, up to which the reader is there. A reader that was killed
        /// renews nothing, and the first program that finds its lease at an end turns its bit off.
        lease: u64,
        /// Decisions that it wanted and that did not fit its ring buffer.
        lost: u64,
        /// `low half of a generation << 32 | workload`: other workloads of that generation are left out;
        /// 0: none is. In one word, so that it changes as a whole.
        subject: u64,
        /// The peer's address, network order, IPv4 as v4-mapped, under `mask`.
        address: [u32; 4],
        /// Bits of `address` that count.
        mask: [u32; 4],
        /// The process's effective user id, where `flags` says so.
        uid: u32,
        /// [`name_hash`](super::name_hash) of the member's name, where `flags` says so.
        name: u32,
        /// Lowest destination port, host order.
        low: u16,
        /// Highest destination port, host order.
        high: u16,
        /// A bit for each protocol: 0 TCP, 1 UDP.
        protocols: u8,
        /// A bit for each direction: 0 outbound, 1 inbound.
        directions: u8,
        /// A bit for each `MESH_VERDICT_*`, and `MESH_WATCH_EXEMPT`.
        verdicts: u8,
        /// `MESH_WATCH_*`.
        flags: u8,
        /// Reserve; zero.
        reserve: [u64; 2],
    }

    /// One decision, as `observe` sees it.
    struct Event as "mesh_event" {
        /// Nanoseconds since boot, sleep included.
        time: u64,
        /// The generation that decided.
        generation: u64,
        /// The key of the counter of the item that decided.
        item: u64,
        /// Cookie of the network namespace.
        netns: u64,
        /// The cgroup of the process; 0 where no process asked.
        cgroup: u64,
        /// The source that decided, in that generation.
        source: u32,
        /// The node that decided, in that generation; all ones where an exemption did.
        node: u32,
        /// The member.
        member: u32,
        /// Its profile, in that generation.
        profile: u32,
        /// Its workload, in that generation.
        workload: u32,
        /// Process id (thread group); 0 where no process asked.
        pid: u32,
        /// Effective user id; all ones where no process asked.
        uid: u32,
        /// The peer: outbound the destination, inbound the source; network order, IPv4 as v4-mapped.
        address: [u32; 4],
        /// The member's own end, as far as it is known: zero where the kernel has not chosen it yet.
        local: [u32; 4],
        /// The destination port, host order.
        port: u16,
        /// The source port, host order; 0 where the kernel has not chosen it yet.
        from_port: u16,
        /// The sidecar's port; 0 unless redirected.
        sidecar_port: u16,
        /// `MESH_VERDICT_*`.
        verdict: u8,
        /// 0 TCP, 1 UDP.
        protocol: u8,
        /// 0 outbound, 1 inbound.
        direction: u8,
        /// `MESH_FAMILY_*`.
        family: u8,
        /// Reserve; zero.
        reserve: u16,
        /// The process's name.
        comm: [u8; 16],
    }
}
