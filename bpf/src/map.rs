//! The one list of kernel maps.

use crate::abi;
pub use crate::table::{TABLES, Table, slot};

/// Kinds of BPF maps in use, with their numbers in `enum bpf_map_type` (`linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// Minimum kernel 3.19.
    Hash = 1,
    /// Minimum kernel 3.19.
    Array = 2,
    /// Minimum kernel 4.2.
    ProgArray = 3,
    /// Minimum kernel 4.6.
    PerCpuHash = 5,
    /// Minimum kernel 4.6.
    PerCpuArray = 6,
    /// Minimum kernel 4.10. What is not used makes room.
    LruHash = 9,
    /// Minimum kernel 4.11. The longest key that holds what is asked for answers.
    LpmTrie = 11,
    /// Minimum kernel 4.12.
    ArrayOfMaps = 12,
    /// Minimum kernel 4.18; listening sockets 5.6, look-up by a program 5.10.
    SockHash = 18,
    /// Minimum kernel 5.2.
    SkStorage = 24,
    /// Minimum kernel 5.8.
    RingBuf = 27,
}

impl MapKind {
    /// The name of the constant in `linux/bpf.h`.
    #[must_use]
    pub const fn c_name(self) -> &'static str {
        match self {
            Self::Hash => "BPF_MAP_TYPE_HASH",
            Self::Array => "BPF_MAP_TYPE_ARRAY",
            Self::ProgArray => "BPF_MAP_TYPE_PROG_ARRAY",
            Self::PerCpuHash => "BPF_MAP_TYPE_PERCPU_HASH",
            Self::PerCpuArray => "BPF_MAP_TYPE_PERCPU_ARRAY",
            Self::LruHash => "BPF_MAP_TYPE_LRU_HASH",
            Self::LpmTrie => "BPF_MAP_TYPE_LPM_TRIE",
            Self::ArrayOfMaps => "BPF_MAP_TYPE_ARRAY_OF_MAPS",
            Self::SockHash => "BPF_MAP_TYPE_SOCKHASH",
            Self::SkStorage => "BPF_MAP_TYPE_SK_STORAGE",
            Self::RingBuf => "BPF_MAP_TYPE_RINGBUF",
        }
    }
}

/// `BPF_F_NO_PREALLOC`: elements are allocated when they are added.
pub const NO_PREALLOC: u32 = 1;
/// `BPF_F_CLONE`: an accepted socket gets a copy of the listening socket's value (5.4).
pub const CLONE: u32 = 1 << 9;
/// `BPF_F_MMAPABLE`: user space may map the values (5.5).
pub const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_INNER_MAP`: maps of different sizes fit one outer map (5.10).
pub const INNER_MAP: u32 = 1 << 12;

/// One kernel map. Its name is also the name of its pin (no dots; 15 bytes at most, as the kernel has it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapDef {
    /// Name of the map and of its pin.
    pub name: &'static str,
    /// Its kind.
    pub kind: MapKind,
    /// Bytes in a key.
    pub key: u32,
    /// Bytes in a value.
    pub value: u32,
    /// How many elements fit; bytes for a ring buffer.
    pub capacity: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// C type of a key and of a value, where both have one.
    pub c_types: Option<(&'static str, &'static str)>,
    /// The shape of the elements of a map of maps.
    pub inner: Option<&'static Self>,
    /// A set of maps that an earlier version made may lack it, and the next command adds it: nothing that a connection
    /// or a policy needs is in it.
    pub may_lack: bool,
    /// What it is for.
    pub doc: &'static str,
}

const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

const fn map(
    name: &'static str,
    kind: MapKind,
    key: u32,
    value: u32,
    capacity: u32,
    doc: &'static str,
) -> MapDef {
    let flags = match kind {
        MapKind::Hash | MapKind::PerCpuHash | MapKind::LpmTrie | MapKind::SkStorage => NO_PREALLOC,
        _ => 0,
    };
    MapDef { name, kind, key, value, capacity, flags, c_types: None, inner: None, may_lack: false, doc }
}

/// The element of [`TABLES_MAP`] that every policy table is: an array of lines, memory-mapped to be filled
/// without a system call an entry.
pub const INNER: MapDef = MapDef {
    flags: MMAPABLE | INNER_MAP,
    ..map("table", MapKind::Array, 4, abi::LINE as u32, 1, "One policy table: an array of lines.")
};
/// Words that select a policy.
pub const CONTROL: MapDef = MapDef {
    flags: MMAPABLE,
    ..map("control", MapKind::Array, 4, size::<abi::Control>(), 1, "The words that select a policy.")
};
/// All policy tables of both slots.
pub const TABLES_MAP: MapDef = MapDef {
    inner: Some(&INNER),
    ..map(
        "tables",
        MapKind::ArrayOfMaps,
        4,
        4,
        2 * TABLES as u32,
        "All policy tables of both slots: index = slot × tables + table.",
    )
};
/// Waits for a grace period.
pub const SCRATCH: MapDef = MapDef {
    inner: Some(&INNER),
    ..map("scratch", MapKind::ArrayOfMaps, 4, 4, 1, "Writing it waits for a grace period of its readers.")
};
/// Pods.
pub const ENDPOINTS: MapDef = MapDef {
    c_types: Some(("__u64", "struct mesh_member")),
    ..map(
        "endpoints",
        MapKind::Hash,
        8,
        size::<abi::Member>(),
        1 << 17,
        "Pods by the cookie of their network namespace.",
    )
};
/// Host workloads.
pub const CGROUPS: MapDef = MapDef {
    c_types: Some(("__u64", "struct mesh_member")),
    ..map("cgroups", MapKind::Hash, 8, size::<abi::Member>(), 1 << 17, "Host workloads by cgroup id.")
};
/// Members' own addresses.
pub const OWN: MapDef = MapDef {
    c_types: Some(("struct mesh_own_key", "__u32")),
    ..map("own_addresses", MapKind::Hash, size::<abi::OwnKey>(), 4, 1 << 18, "Members' own addresses.")
};
/// The addresses of the node itself. User space alone writes it, where a policy asks for them, and looks again when they
/// change. It holds as many as [`abi::NODE_ADDRESSES`]: others are not told from those of anybody else, which is drift.
pub const NODE_ADDRESSES: MapDef = MapDef {
    c_types: Some(("struct mesh_node_address", "__u32")),
    may_lack: true,
    ..map(
        "node_addresses",
        MapKind::Hash,
        size::<abi::NodeAddress>(),
        4,
        abi::NODE_ADDRESSES,
        "The addresses of the node itself.",
    )
};
/// Paths of cgroups that policies name.
pub const CGROUP_PATHS: MapDef = MapDef {
    c_types: Some(("struct mesh_cgroup_path", "struct mesh_named_cgroup")),
    ..map(
        "cgroup_paths",
        MapKind::Hash,
        size::<abi::CgroupPath>(),
        size::<abi::NamedCgroup>(),
        1 << 17,
        "What a cgroup becomes when it is made at a path that a policy names.",
    )
};
/// Cgroups that policies exempt.
pub const EXEMPT_IDS: MapDef = MapDef {
    c_types: Some(("__u64", "__u32")),
    ..map(
        "exempt_ids",
        MapKind::Hash,
        8,
        4,
        1 << 17,
        "Cgroups that policies exempt or put into classes, with their paths' ids.",
    )
};
/// Exemptions of cgroups.
pub const EXEMPT_CGROUPS: MapDef = MapDef {
    c_types: Some(("struct mesh_exempt_key", "__u32")),
    ..map(
        "exempt_cgroups",
        MapKind::Hash,
        size::<abi::ExemptKey>(),
        4,
        1 << 17,
        "Paths of cgroups that a profile of a slot exempts, with the source, or puts into a class.",
    )
};
/// Interfaces that are exempt.
pub const EXEMPT_IFACES: MapDef = MapDef {
    c_types: Some(("struct mesh_interface_key", "__u32")),
    may_lack: true,
    ..map(
        "exempt_ifaces",
        MapKind::Hash,
        size::<abi::InterfaceKey>(),
        4,
        1 << 17,
        "Interfaces of members' network namespaces that the policy of a slot exempts, with the source.",
    )
};
/// Where routes lead by those.
pub const EXEMPT_ROUTES: MapDef = MapDef {
    c_types: Some(("struct mesh_route_key", "__u32")),
    may_lack: true,
    ..map(
        "exempt_routes",
        MapKind::LpmTrie,
        size::<abi::RouteKey>(),
        4,
        1 << 18,
        "Destinations that a member's routes lead to by those interfaces, with the source; 0: not these.",
    )
};
/// Original destinations on their way from the connecting to the accepted socket.
pub const HANDOVER: MapDef = MapDef {
    c_types: Some(("struct mesh_flow_key", "struct mesh_flow")),
    ..map(
        "handover",
        MapKind::Hash,
        size::<abi::FlowKey>(),
        size::<abi::Flow>(),
        1 << 18,
        "Original destinations on their way from the connecting to the accepted socket.",
    )
};
/// What sidecars did not take.
pub const NOT_TAKEN: MapDef = MapDef {
    c_types: Some(("struct mesh_sidecar_key", "__u64")),
    ..map(
        "not_taken",
        MapKind::LruHash,
        size::<abi::SidecarKey>(),
        8,
        1 << 14,
        "Connections that were sent to a port of a sidecar and that it did not take.",
    )
};
/// Connections of exempt identities.
pub const EXEMPT_FLOWS: MapDef = MapDef {
    c_types: Some(("struct mesh_flow_key", "struct mesh_exempt_flow")),
    ..map(
        "exempt_flows",
        MapKind::Hash,
        size::<abi::FlowKey>(),
        size::<abi::ExemptFlow>(),
        1 << 18,
        "Connections that exempt identities are opening.",
    )
};
/// Storage of connecting sockets.
pub const CLIENT_FLOWS: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_flow")),
    ..map("client_flows", MapKind::SkStorage, 4, size::<abi::Flow>(), 0, "What a connecting socket dialled.")
};
/// Storage of accepted sockets.
pub const ACCEPTED_FLOWS: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_flow")),
    ..map(
        "accepted_flows",
        MapKind::SkStorage,
        4,
        size::<abi::Flow>(),
        0,
        "Where a connection that a sidecar accepted was going.",
    )
};
/// Storage of datagram sockets.
pub const UDP_SERVERS: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_udp_servers")),
    ..map(
        "udp_servers",
        MapKind::SkStorage,
        4,
        size::<abi::UdpServers>(),
        0,
        "Whom a datagram socket asked, by token.",
    )
};
/// Storage of datagram sockets that serve.
pub const UDP_PEERS: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_udp_peers")),
    ..map("udp_peers", MapKind::SkStorage, 4, size::<abi::UdpPeers>(), 0, "Who sent datagrams to a socket.")
};
/// Storage of datagram sockets that ask.
pub const UDP_CONTACTS: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_udp_contacts")),
    ..map(
        "udp_contacts",
        MapKind::SkStorage,
        4,
        size::<abi::UdpContacts>(),
        0,
        "Whom a socket sent datagrams.",
    )
};
/// Listening sockets of members.
pub const LISTENERS: MapDef = MapDef {
    c_types: Some(("struct mesh_listener_key", "__u64")),
    ..map(
        "listeners",
        MapKind::SockHash,
        size::<abi::ListenerKey>(),
        8,
        1 << 17,
        "Sockets that listen in a pod; one that is closed leaves by itself.",
    )
};
/// Who listens on the host.
pub const HOST_PORTS: MapDef = MapDef {
    c_types: Some(("struct mesh_port_key", "struct mesh_port_owner")),
    ..map(
        "host_ports",
        MapKind::Hash,
        size::<abi::PortKey>(),
        size::<abi::PortOwner>(),
        1 << 17,
        "Who listens where, in the network namespace of the host.",
    )
};
/// What each has in maps that all share.
pub const QUOTAS: MapDef = MapDef {
    c_types: Some(("struct mesh_quota_key", "struct mesh_quota")),
    ..map(
        "quotas",
        MapKind::Hash,
        size::<abi::QuotaKey>(),
        size::<abi::Quota>(),
        1 << 17,
        "What each has in maps that all share.",
    )
};
/// Where listening sockets are that are not known.
pub const MISSED_SOCKETS: MapDef = MapDef {
    c_types: Some(("__u64", "__u64")),
    ..map(
        "missed_sockets",
        MapKind::Hash,
        8,
        8,
        1 << 17,
        "How many listening sockets were not noted, by the cookie of their network namespace.",
    )
};
/// Storage of listening sockets.
pub const LISTENING: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_listening")),
    flags: NO_PREALLOC | CLONE,
    ..map(
        "listening",
        MapKind::SkStorage,
        4,
        size::<abi::Listening>(),
        0,
        "What a listening socket listens on, and sockets that it accepted were accepted by.",
    )
};
/// Hits by item. A table of our own making: a counter and its key are in one line, and the first decision of
/// an item makes its counter with one instruction. In the kernel's hash per CPU that took eleven microseconds, which
/// every connection to a new destination paid, and in its plain hash two lines and an allocation.
pub const HITS: MapDef = MapDef {
    flags: MMAPABLE,
    c_types: Some(("__u32", "struct mesh_hit_line")),
    ..map(
        "hits",
        MapKind::Array,
        4,
        size::<abi::HitLine>(),
        abi::HIT_LINES,
        "Decisions by the stable hash of the item.",
    )
};
/// Decisions by member. User space makes an entry when a member falls under a workload of a policy, and takes it away
/// when it does no more; programs only add. Where it is full, decisions of further members are counted as `uncounted`.
pub const MEMBER_COUNTS: MapDef = MapDef {
    c_types: Some(("struct mesh_member_counts_key", "struct mesh_member_counts")),
    may_lack: true,
    ..map(
        "member_counts",
        MapKind::PerCpuHash,
        size::<abi::MemberCountsKey>(),
        size::<abi::MemberCounts>(),
        1 << 18,
        "What was decided for each member, under the policy of each slot.",
    )
};
/// Named early returns.
pub const COUNTERS: MapDef = MapDef {
    c_types: Some(("__u32", "__u64")),
    ..map(
        "counters",
        MapKind::PerCpuArray,
        4,
        8,
        abi::COUNTERS as u32,
        "Named early returns and events of the programs.",
    )
};
/// Which pod an inbound packet is for, on its way between two programs.
pub const TAIL_CALL_SLOTS: MapDef = MapDef {
    c_types: Some(("__u32", "struct mesh_tail_call_slots")),
    ..map(
        "tail_call_slots",
        MapKind::PerCpuArray,
        4,
        size::<abi::TailCallSlots>(),
        1,
        "Which pod an inbound packet is for, on its way from the pod's program to the one that decides.",
    )
};
/// The program that decides inbound traffic, by `sk_lookup`.
pub const INBOUND_PROGRAM: MapDef = map(
    "inbound_program",
    MapKind::ProgArray,
    4,
    4,
    1,
    "The program that decides inbound traffic, by sk_lookup.",
);
/// The program that decides inbound traffic, by tc.
pub const ARRIVAL_PROGRAM: MapDef =
    map("arrival_program", MapKind::ProgArray, 4, 4, 1, "The program that decides inbound traffic, by tc.");
/// Who reads decisions, and which.
pub const WATCHES: MapDef = MapDef {
    flags: MMAPABLE,
    c_types: Some(("__u32", "struct mesh_watch")),
    ..map(
        "watches",
        MapKind::Array,
        4,
        size::<abi::Watch>(),
        abi::WATCHES as u32,
        "Who reads decisions as they happen, and which.",
    )
};
/// The element of [`EVENTS`]: a ring buffer belongs to one reader, which chooses its size.
pub const EVENT: MapDef = map("event", MapKind::RingBuf, 0, 0, 4096, "Decisions as one reader wants them.");
/// Decisions as they happen, a ring buffer for each watch.
pub const EVENTS: MapDef = MapDef {
    inner: Some(&EVENT),
    ..map(
        "events",
        MapKind::ArrayOfMaps,
        4,
        4,
        abi::WATCHES as u32,
        "Decisions as they happen: a ring buffer for each watch.",
    )
};
/// The last decisions of the node. The oldest of its kind makes room.
pub const RECENT: MapDef = MapDef {
    flags: MMAPABLE,
    c_types: Some(("__u32", "struct mesh_recent")),
    may_lack: true,
    ..map(
        "recent",
        MapKind::Array,
        4,
        size::<abi::Recent>(),
        abi::RECENT,
        "The last decisions: a head for each kind, then the places of each.",
    )
};
/// Where equal decisions may have been kept lately.
pub const RECENT_LAST: MapDef = MapDef {
    c_types: Some(("__u32", "__u64")),
    may_lack: true,
    ..map(
        "recent_last",
        MapKind::Array,
        4,
        8,
        abi::RECENT_LAST,
        "A hash of the last decision, and the element of `recent` that it is in.",
    )
};
/// Sockets whose connection is chosen for acceleration.
pub const ACCELERATED: MapDef = MapDef {
    c_types: Some(("__u64", "__u64")),
    ..map("accelerated", MapKind::SockHash, 8, 8, 1 << 16, "Sockets of chosen connections, by their cookie.")
};
/// Storage of those sockets.
pub const SOCKET_ACCEL: MapDef = MapDef {
    c_types: Some(("int", "struct mesh_socket_accel")),
    ..map(
        "socket_accel",
        MapKind::SkStorage,
        4,
        size::<abi::SocketAccel>(),
        0,
        "What a chosen socket is an end of.",
    )
};
/// Chosen connections.
pub const PAIRS: MapDef = MapDef {
    c_types: Some(("__u64", "struct mesh_pair")),
    ..map(
        "pairs",
        MapKind::Hash,
        8,
        size::<abi::Pair>(),
        1 << 15,
        "Chosen connections, by the connecting socket's cookie.",
    )
};
/// Chosen connections that wait for their accepting end.
pub const PENDING_PAIRS: MapDef = MapDef {
    c_types: Some(("struct mesh_pending_pair", "__u64")),
    ..map(
        "pending_pairs",
        MapKind::Hash,
        size::<abi::PendingPair>(),
        8,
        1 << 15,
        "Chosen connections that wait for their accepting end; the value is the pair.",
    )
};
/// Inbound connections of a pod whose sidecar takes them.
pub const ARRIVALS: MapDef = MapDef {
    c_types: Some(("struct mesh_pending_pair", "__u64")),
    ..map(
        "arrivals",
        MapKind::LruHash,
        size::<abi::PendingPair>(),
        8,
        1 << 13,
        "Inbound connections of a pod whose sidecar takes them, without sequence numbers; the value is its namespace.",
    )
};
/// What closed pairs sent.
pub const PAIR_TOTALS: MapDef = MapDef {
    c_types: Some(("__u64", "struct mesh_pair_totals")),
    ..map(
        "pair_totals",
        MapKind::Hash,
        8,
        size::<abi::PairTotals>(),
        1 << 16,
        "What closed pairs sent, by the stable hash of the item that chose them.",
    )
};
/// Programs that splice from connections of the mesh.
pub const SPLICE_READERS: MapDef = MapDef {
    c_types: Some(("struct mesh_executable", "struct mesh_splice_reader")),
    ..map(
        "splice_readers",
        MapKind::LruHash,
        size::<abi::Executable>(),
        size::<abi::SpliceReader>(),
        1 << 12,
        "Programs that splice from connections of the mesh, by their files.",
    )
};
/// Readers that may stall.
pub const STALLED_READERS: MapDef = MapDef {
    c_types: Some(("__u64", "struct mesh_stalled_reader")),
    ..map(
        "stalled_readers",
        MapKind::LruHash,
        8,
        size::<abi::StalledReader>(),
        1 << 12,
        "Accelerated sockets whose readers may stall, by their cookie.",
    )
};
/// Readers that ask `FIONREAD`.
pub const FIONREAD_READER: MapDef = MapDef {
    c_types: Some(("struct mesh_fionread_reader", "struct mesh_splice_reader")),
    ..map(
        "fionread_reader",
        MapKind::LruHash,
        size::<abi::FionreadReader>(),
        size::<abi::SpliceReader>(),
        1 << 10,
        "Ports and programs whose readers ask FIONREAD, where the kernel tells them too little.",
    )
};
/// Every map that is pinned, in the order in which they are created.
pub const MAPS: &[MapDef] = &[
    CONTROL,
    TABLES_MAP,
    SCRATCH,
    ENDPOINTS,
    CGROUPS,
    OWN,
    NODE_ADDRESSES,
    CGROUP_PATHS,
    EXEMPT_IDS,
    EXEMPT_CGROUPS,
    EXEMPT_IFACES,
    EXEMPT_ROUTES,
    HANDOVER,
    NOT_TAKEN,
    EXEMPT_FLOWS,
    CLIENT_FLOWS,
    ACCEPTED_FLOWS,
    UDP_SERVERS,
    UDP_PEERS,
    UDP_CONTACTS,
    LISTENERS,
    HOST_PORTS,
    QUOTAS,
    MISSED_SOCKETS,
    LISTENING,
    HITS,
    MEMBER_COUNTS,
    COUNTERS,
    TAIL_CALL_SLOTS,
    INBOUND_PROGRAM,
    ARRIVAL_PROGRAM,
    WATCHES,
    EVENTS,
    RECENT,
    RECENT_LAST,
    ACCELERATED,
    SOCKET_ACCEL,
    PAIRS,
    PENDING_PAIRS,
    ARRIVALS,
    PAIR_TOTALS,
    SPLICE_READERS,
    STALLED_READERS,
    FIONREAD_READER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_a_pin() {
        for map in MAPS {
            assert!(map.name.len() <= 15 && !map.name.contains('.'), "{}", map.name);
        }
    }
}
