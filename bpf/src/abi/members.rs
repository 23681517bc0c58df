//! Who belongs to a policy: as long as a pod or cgroup is registered.

constants! {
    /// Levels of the cgroup hierarchy that are searched for a member.
    CGROUP_DEPTH: u32 = 16;
    /// So many addresses of the node are told from those of others.
    NODE_ADDRESSES: u32 = 1 << 12;
    /// Bytes in the path of a cgroup that joins by itself when it is made, with the zero at its end.
    CGROUP_PATH: usize = 256;
    /// In a member's profile: not a member under this slot's policy.
    NO_PROFILE: u32 = u32::MAX;
    /// [`Member::flags`]: what is sent to any address of `127.128.0.0/9` and was handed over reaches its sidecar,
    /// whatever address that listens on: `sk_lookup` sees to it.
    MEMBER_SPREADS: u32 = 1;
    /// In the profile of an [`ExemptKey`]: the value is no source, but what the path adds to the number of the cell
    /// in which the class of a process stands: once, or twice with [`PROFILE_TO_NODE`](super::PROFILE_TO_NODE).
    KEY_CLASS: u32 = 1 << 31;
    /// Where redirected connections of a member that spreads go, host order: 127.128.0.0/9, of which the last address
    /// is for broadcasts.
    SPREAD_FIRST: u32 = 0x7f80_0000;
    /// How many addresses that are.
    SPREAD_COUNT: u32 = 0x7f_ffff;
    /// Bits before the address in a [`RouteKey`].
    ROUTE_BITS: u32 = 64;
    /// [`own_bit`] multiplies by it (odd).
    OWN_MULTIPLIER: u32 = 0x9e37_79b1;
}

layouts! {
    /// An endpoint of the registry: a pod by the cookie of its network namespace, or a host workload by
    /// its cgroup id.
    struct Member as "mesh_member" {
        /// The profile that it falls under, for each slot, or `MESH_NO_PROFILE`.
        profile: [u32; 2],
        /// Names it in events and listeners; given once, never used again while the map lives.
        id: u32,
        /// The workload that it falls under, for each slot: its place among those of the table *names*, or
        /// `MESH_NO_PROFILE`. Profiles are shared by workloads with equal rules; this tells them apart.
        workload: [u32; 2],
        /// [`name_hash`] of its name.
        name: u32,
        /// [`own_bit`] of each of its own addresses: where the bit of an address is not set, it is none of them, and
        /// nothing is looked up.
        own: u64,
        /// Cookie of the network namespace that the two sources are addresses of; 0: they are not known, nor is it
        /// known that there are none.
        netns: u64,
        /// The address that its connections to others come from, network order; zero: it has none but loopback and
        /// link-local ones.
        source6: [u32; 4],
        /// The same of IPv4.
        source4: u32,
        /// `MESH_MEMBER_*`.
        flags: u32,
    }

    /// One of a member's own addresses.
    struct OwnKey as "mesh_own_key" {
        /// Cookie of the network namespace.
        netns: u64,
        /// Network order, IPv4 as v4-mapped.
        address: [u32; 4],
    }

    /// One of the node's addresses.
    struct NodeAddress as "mesh_node_address" {
        /// Network order, IPv4 as v4-mapped.
        address: [u32; 4],
    }

    /// The path of a cgroup that a policy names.
    struct CgroupPath as "mesh_cgroup_path" {
        /// From the root of the hierarchy, with zeros at its end.
        path: [u8; CGROUP_PATH],
    }

    /// What a cgroup becomes when it is made at a path.
    struct NamedCgroup as "mesh_named_cgroup" {
        /// Its entry in `cgroups`. Its id names the path in exemptions, too.
        becomes: Member,
        /// Not 0: its processes are members under one slot's policy.
        member: u32,
        /// Not 0: a policy exempts its processes, or puts them into a class.
        exempt: u32,
    }

    /// An interface of a member's network namespace that its profile of one slot exempts.
    struct InterfaceKey as "mesh_interface_key" {
        /// The member's number.
        member: u32,
        /// The slot, 0 or 1.
        slot: u32,
        /// The interface's number in that namespace.
        index: u32,
    }

    /// A destination whose route leads out of a member's network namespace by an interface that its profile of one slot
    /// exempts, or within such a one a destination whose route does not. The key of a longest-prefix match.
    struct RouteKey as "mesh_route_key" {
        /// How many of the bits that follow count.
        bits: u32,
        /// The member's number.
        member: u32,
        /// The slot, 0 or 1.
        slot: u32,
        /// Network order, IPv4 as v4-mapped.
        address: [u32; 4],
    }

    /// A cgroup path that a profile of one slot exempts, or puts into a class.
    struct ExemptKey as "mesh_exempt_key" {
        /// The path's id.
        path: u64,
        /// The profile; with `MESH_KEY_CLASS` for classes.
        profile: u32,
        /// The slot, 0 or 1.
        slot: u32,
    }
}

/// What the programs compare instead of a member's name. Two names may share it; the reader knows better.
#[must_use]
pub fn name_hash(name: &str) -> u32 {
    let hash = blake3::hash(name.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The bit of an address (four words, network order) in [`Member::own`].
#[must_use]
pub const fn own_bit([a, b, c, d]: [u32; 4]) -> u64 {
    1 << ((a ^ b ^ c ^ d).wrapping_mul(OWN_MULTIPLIER) >> 26)
}

impl CgroupPath {
    /// The key of a path; `None` for one that does not fit.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let mut key = Self::default();
        let last = key.path.len() - 1;
        key.path.get_mut(..last)?.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
        Some(key)
    }
}
