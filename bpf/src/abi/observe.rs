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
    /// [`Control::observe`](super::Control::observe): decisions are kept in the map `recent`.
    OBSERVE_RECENT: u64 = 1 << 63;
    /// Kinds of decisions in the map `recent`, each with places of its own, so that none pushes out another: TCP
    /// connections and datagrams, by their protocol's number, and what was denied.
    RECENT_KINDS: u32 = 3;
    /// What was denied.
    RECENT_DENIED: u32 = 2;
    /// Places of each kind; a power of two.
    RECENT_PLACES: u32 = 4096;
    /// [`Recent::turn`]: it is being written.
    RECENT_WRITING: u64 = u64::MAX;
    /// Nanoseconds in which equal decisions take one place.
    RECENT_SPAN: u64 = 1_000_000_000;
    /// Elements of the map `recent_last`; a power of two.
    RECENT_LAST: u32 = 1024;
}

/// [`Recent`] elements: a head for each kind, then the places of the first kind, of the second, and so on.
pub const RECENT: u32 = RECENT_KINDS + RECENT_KINDS * RECENT_PLACES;

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

    /// A place for one of the last decisions.
    struct Recent as "mesh_recent" {
        /// Which decision of its kind is here, counted from 1; 0 for none, `MESH_RECENT_WRITING` while it is written. In
        /// a head: how many there were. Who reads the same number before and after a copy has a whole decision.
        turn: u64,
        /// How often the same process asked for the same and got the same answer: once at least; zero in a head.
        times: u64,
        /// Nanoseconds of the clock that is fast to read: equal decisions are counted here for `MESH_RECENT_SPAN` from then on.
        since: u64,
        /// The decision, the first of them; zero in a head.
        event: Event,
    }
}
