//! The binary interface between Rust and the BPF programs: every structure and constant that both sides
//! see, defined once, here. [`header`](crate::header) prints it as C; a test keeps
//! `include/mesh_abi.h` fresh.
//!
//! Two numbers tell versions apart. [`POLICY_ABI`] covers what a generation's tables hold; any change of
//! a table's layout changes it. [`FLOW_ABI`] covers what belongs to live connections ([`Flow`],
//! [`FlowKey`]): their sizes never change, and fields are only ever added in the reserve, so that
//! programs can be replaced under established connections.
//!
//! All structures are `repr(C)` without padding (`bytemuck::Pod` refuses padding at compile time). Numbers
//! are in host byte order unless a field says *network order*.

use bytemuck::{Pod, Zeroable};

/// One constant, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Name in Rust, and in C with `MESH_` before it.
    pub name: &'static str,
    /// What it is.
    pub value: u64,
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

macro_rules! constants {
    ($( $(#[doc = $doc:literal])* $name:ident: $ty:ty = $value:expr; )*) => {
        $( $(#[doc = $doc])* pub const $name: $ty = $value; )*

        /// Every constant that programs see, in the order in which the header prints them.
        pub const CONSTANTS: &[Constant] = &[$(
            Constant { name: stringify!($name), value: $name as u64, doc: &[$($doc),*] }
        ),*];
    };
}

constants! {
    /// Version of the tables of a generation.
    POLICY_ABI: u32 = 3;
    /// Version of what is kept for a live connection.
    FLOW_ABI: u32 = 2;
    /// First 8 bytes of a manifest: `meshc\0im`, little-endian.
    MANIFEST_MAGIC: u64 = u64::from_le_bytes(*b"meshc\0im");

    /// Keys in a [`TreeLine`]; it has one child more.
    TREE_KEYS: usize = 7;
    /// Keys in a [`NarrowLine`]; it has one child more.
    NARROW_KEYS: usize = 14;
    /// Keys in a [`PortLine`]; it has one child more.
    PORT_KEYS: usize = 28;
    /// Spans in a line.
    SPANS_A_LINE: usize = 16;
    /// Nodes in a line.
    NODES_A_LINE: usize = 1;
    /// Decisions in a line.
    DECISIONS_A_LINE: usize = 4;
    /// Sources in a line.
    SOURCES_A_LINE: usize = 4;
    /// Levels of a tree of [`TreeLine`]s that a program walks: 8¹⁰ spans.
    TREE_DEPTH: u32 = 10;
    /// Levels of a tree of [`NarrowLine`]s that a program walks: 15⁸ stretches.
    NARROW_DEPTH: u32 = 8;
    /// Items in a [`HitLine`].
    HITS_A_LINE: usize = 4;
    /// Lines of the map `hits`, a power of two.
    HIT_LINES: u32 = 1 << 18;
    /// Lines that are searched for an item's counter, from the one that its key names.
    HIT_PROBES: u32 = 8;
    /// Levels of a tree of [`PortLine`]s that a program walks: 29⁴ stretches, more than there are ports.
    PORT_DEPTH: u32 = 4;
    /// Steps from a node to the root of its prefix tree at the most: a /128 below every shorter prefix and `any`.
    UP_MAX: u32 = 130;
    /// Servers that one socket may ask by datagram at a time and still tell their answers apart.
    TOKENS: usize = 16;
    /// The first of as many addresses, host order: 127.64.0.1. A datagram of a socket that may ask several servers
    /// goes to the sidecar from one of them, and the answer comes back to it.
    TOKEN_FIRST: u32 = 0x7f40_0001;
    /// Groups of the peers that are remembered with a datagram socket; a peer belongs to one of them.
    PEER_GROUPS: usize = 62;
    /// Peers in a group. All of them, with what the kernel adds, fit into 8 KiB.
    PEERS_A_GROUP: usize = 16;
    /// How many peers are remembered with a datagram socket.
    PEERS: usize = PEER_GROUPS * PEERS_A_GROUP;
    /// How long an answer may take, in units of 2³⁰ ns: 120 seconds.
    PEER_AGE: u32 = 112;
    /// Servers that a datagram socket asked, which are no peers when they answer; a power of two.
    SPOKEN: usize = 32;
    /// Levels of the cgroup hierarchy that are searched for a member.
    CGROUP_DEPTH: u32 = 16;
    /// Bytes in the path of a cgroup that joins by itself when it is made, with the zero at its end.
    CGROUP_PATH: usize = 256;
    /// Listeners on one port of one family and namespace that are known: those of a group that shares the port,
    /// and, while a sidecar restarts, of its successor too.
    LISTENER_SLOTS: u32 = 128;
    /// Owners of one place of the host that are known: cgroups whose sockets share an address and a port.
    PORT_SLOTS: u32 = 4;
    /// Listening sockets that are kept for one [`RoomKey`], so that nobody takes the room of others.
    ROOM_LISTENERS: u32 = 2048;
    /// Places on the host that are kept for one user other than root.
    ROOM_PLACES: u32 = 4096;
    /// More than any map holds.
    ROOM_UNBOUNDED: u32 = 1 << 30;
    /// Connections that are kept for one member while they are being opened, in `handover` and in `exempt_flows`.
    ROOM_CONNECTIONS: u32 = 1 << 15;
    /// This many of them, whoever opens them. What is left is for all users of the member.
    ROOM_CONNECTIONS_ANY: u32 = ROOM_CONNECTIONS / 2;
    /// This many of what is left for one user.
    ROOM_CONNECTIONS_USER: u32 = ROOM_CONNECTIONS / 8;
    /// [`RoomKey::kind`]: sockets in `listeners`.
    ROOM_OF_LISTENERS: u32 = 0;
    /// [`RoomKey::kind`]: entries of `host_ports`.
    ROOM_OF_PLACES: u32 = 1;
    /// [`RoomKey::kind`]: entries of `handover`.
    ROOM_OF_HANDOVER: u32 = 2;
    /// [`RoomKey::kind`]: entries of `exempt_flows`.
    ROOM_OF_EXEMPT: u32 = 3;
    /// Beside one of the two: those that were noted beyond [`ROOM_CONNECTIONS_ANY`], of one user.
    ROOM_BY_USER: u32 = 8;

    /// In a span: the value is the root of a tree on the low 64 bits of an IPv6 address.
    SPAN_SUBTREE: u32 = 1 << 31;
    /// In a member's profile: not a member under this slot's policy.
    NO_PROFILE: u32 = u32::MAX;
    /// In a node: the tree has no wider prefix.
    NO_PARENT: u32 = u32::MAX;

    /// [`Decision::verdict`]: goes straight.
    VERDICT_EXCLUDED: u8 = 0;
    /// [`Decision::verdict`]: to the sidecar.
    VERDICT_REDIRECTED: u8 = 1;
    /// [`Decision::verdict`]: refused.
    VERDICT_DENIED: u8 = 2;
    /// [`Decision::verdict`] of an acceleration table: past the TCP/IP stack.
    VERDICT_ACCELERATED: u8 = 3;
    /// Set in [`Decision::verdict`]: the sidecar sees the original destination as its own address.
    VERDICT_TRANSPARENT: u8 = 0x80;
    /// [`Decision::verdict`] of a node: it depends on the port.
    VERDICT_BY_PORT: u8 = 0x40;

    /// [`Member::flags`]: what is sent to any address of `127.128.0.0/9` and was handed over reaches its sidecar,
    /// whatever address that listens on: `sk_lookup` sees to it.
    MEMBER_SPREADS: u32 = 1;
    /// Where redirected connections of a member that spreads go, host order: 127.128.0.0/9, of which the last address
    /// is for broadcasts.
    SPREAD_FIRST: u32 = 0x7f80_0000;
    /// How many addresses that are.
    SPREAD_COUNT: u32 = 0x7f_ffff;
    /// The port that a denied datagram socket is connected to, on its own address. Nobody listens there.
    REFUSING_PORT: u16 = 1;

    /// [`Profile::flags`]: an inbound connection is refused where no sidecar listens.
    PROFILE_MISSING_SIDECAR_REFUSE: u32 = 1;
    /// [`Profile::flags`]: a pod that cannot be meshed must not start.
    PROFILE_FAILED_ATTACH_REFUSE: u32 = 2;
    /// [`Profile::flags`]: the profile exempts cgroups; look them up.
    PROFILE_EXEMPT_CGROUPS: u32 = 4;
    /// [`Profile::flags`]: some inbound TCP flow is not excluded.
    PROFILE_INBOUND: u32 = 8;

    /// [`Profile::flags`]: some outbound UDP flow is not excluded, so that answers of servers have to be told from it.
    PROFILE_ANSWERS: u32 = 16;
    /// [`Profile::flags`], of all profiles of a policy: one of them has [`PROFILE_ANSWERS`].
    PROFILE_SOME_ANSWER: u32 = 32;
    /// [`Profile::flags`]: a rule decides what members receive, and not only what is built in.
    PROFILE_INBOUND_RULES: u32 = 64;
    /// [`Profile::flags`]: some inbound UDP flow is not excluded.
    PROFILE_INBOUND_DATAGRAMS: u32 = 128;

    /// [`Node::family`] of the prefix `any`.
    FAMILY_ANY: u8 = 0;
    /// [`Node::family`] and [`Flow::family`] of IPv4.
    FAMILY_V4: u8 = 4;
    /// [`Node::family`] and [`Flow::family`] of IPv6.
    FAMILY_V6: u8 = 6;

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
    /// [`Flow::flags`]: its entry in `handover` takes the room of its user, too.
    FLOW_BY_USER: u8 = 32;
    /// [`Listening::flags`]: it takes room, and is counted.
    LISTENING_COUNTED: u8 = 1;
    /// [`Listening::flags`]: there was no room for it, so that it is not known.
    LISTENING_MISSED: u8 = 2;
    /// [`Listening::flags`]: its owner is noted in `host_ports`.
    LISTENING_PLACED: u8 = 4;

    /// Readers of decisions at the same time.
    WATCHES: usize = 8;
    /// [`Watch::verdicts`]: an exemption decided.
    WATCH_EXEMPT: u8 = 0x80;
    /// [`Watch::flags`]: only this user's.
    WATCH_UID: u8 = 1;
    /// [`Watch::flags`]: only members of this name.
    WATCH_NAME: u8 = 2;

    /// Packets that may be on their way from a pod's program to the one that decides, on one CPU.
    ENTRIES: usize = 4;
    /// Stands in the program of a network namespace where whoever loads it writes the namespace's cookie.
    ENTRY_NETNS: u64 = u64::from_le_bytes(*b"netns\0\0\x7f");
    /// In the map `probed_sockets` of `probes.bpf.c`: the socket that gets what is sent.
    PROBE_READER: u64 = 1;

    /// [`own_bit`] multiplies by it (odd).
    OWN_MULTIPLIER: u32 = 0x9e37_79b1;
    /// [`End::form`] and [`Pair::form`]: an application and its own sidecar.
    FORM_LOCAL: u8 = 0;
    /// [`End::form`] and [`Pair::form`]: the sidecars of two workloads.
    FORM_PEERS: u8 = 1;
    /// [`Half::splices`]: not that anybody knows.
    SPLICES_NOT: u8 = 0;
    /// [`Half::splices`]: its program does, on other sockets.
    SPLICES_ELSEWHERE: u8 = 1;
    /// [`Half::splices`]: it did, and nothing keeps it from doing so while bytes of the fast path are unread.
    SPLICES: u8 = 2;
    /// [`Half::splices`]: it did, and is refused while bytes of the fast path are unread.
    SPLICES_REFUSED: u8 = 3;
    /// [`Half::splices`]: it does, and every byte of the fast path is read.
    SPLICES_ALONE: u8 = 4;
    /// [`Half::waits`]: it was seen to read with `MSG_WAITALL`.
    READS_ALL: u8 = 1;
    /// [`Half::waits`]: it has read bytes of the fast path that were fewer than its low-water mark (`SO_RCVLOWAT`).
    READS_BELOW_MARK: u8 = 2;
    /// [`Half::waits`]: it polls: it asks again and again, without sleeping.
    READS_POLLING: u8 = 4;
    /// After this many empty reads, one after the other, a reader polls.
    VAIN_MANY: u32 = 16;
    /// Who gets something after fewer empty reads does not: those that read until nothing is left, and then sleep,
    /// have one.
    VAIN_FEW: u32 = 4;
    /// What the kernel needs for a message of the fast path beside its bytes.
    MESSAGE_SIZE: u32 = 1024;
    /// [`Waiting::why`]: it spliced while bytes of the fast path were unread.
    WAITS_SPLICES: u32 = 1;
    /// [`Waiting::why`]: `FIONREAD` told it less than there was.
    WAITS_COUNTS: u32 = 2;

    /// Ways that are counted apart; more than there are [`Way`]s.
    WAYS: usize = 18;
}

/// How many tables a slot has; see [`Table`](crate::table::Table).
pub const TABLE_COUNT: u32 = crate::table::TABLES as u32;

/// Bytes in a line, the element of every policy table: one cache line.
pub const LINE: usize = 64;
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

/// Room for counters; more than there are [`Counter`]s, so that another one changes no map.
pub const COUNTERS: usize = 128;
/// How a C type is written.
pub trait CType {
    /// Before the name.
    const NAME: &'static str;
    /// After the name.
    const ARRAY: &'static str = "";
}

macro_rules! c_types {
    ($($rust:ty => $name:literal $array:literal;)*) => {
        $(impl CType for $rust {
            const NAME: &'static str = $name;
            const ARRAY: &'static str = $array;
        })*
    };
}

c_types! {
    u8 => "__u8" "";
    u16 => "__u16" "";
    u32 => "__u32" "";
    u64 => "__u64" "";
    [u8; 3] => "__u8" "[3]";
    [u8; 6] => "__u8" "[6]";
    [u8; 16] => "__u8" "[16]";
    [u8; 32] => "__u8" "[32]";
    [u16; TOKENS] => "__u16" "[MESH_TOKENS]";
    [u32; TOKENS] => "__u32" "[MESH_TOKENS]";
    [u8; CGROUP_PATH] => "__u8" "[MESH_CGROUP_PATH]";
    [u16; PORT_KEYS] => "__u16" "[MESH_PORT_KEYS]";
    [u32; 2] => "__u32" "[2]";
    [u32; 4] => "__u32" "[4]";
    [[u32; 2]; 2] => "__u32" "[2][2]";
    [u64; 2] => "__u64" "[2]";
    [u64; 3] => "__u64" "[3]";
    [u64; 5] => "__u64" "[5]";
    [u64; CGROUP_DEPTH as usize] => "__u64" "[MESH_CGROUP_DEPTH]";
    Member => "struct mesh_member" "";
    [u32; NARROW_KEYS] => "__u32" "[MESH_NARROW_KEYS]";
    [u64; HITS_A_LINE] => "__u64" "[MESH_HITS_A_LINE]";
    [[u64; 2 * PEERS_A_GROUP]; PEER_GROUPS / 2] => "__u64" "[MESH_PEERS]";
    [u64; SPOKEN] => "__u64" "[MESH_SPOKEN]";
    [u64; TREE_KEYS] => "__u64" "[MESH_TREE_KEYS]";
    [u64; WAYS] => "__u64" "[MESH_WAYS]";
    [Decision; 2] => "struct mesh_decision" "[2]";
    [Half; 2] => "struct mesh_half" "[2]";
}

/// One field, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// C type before the name.
    pub ty: &'static str,
    /// Name in both languages.
    pub name: &'static str,
    /// C array part after the name.
    pub array: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

/// One structure, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name in Rust.
    pub name: &'static str,
    /// Name in C.
    pub c_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// In order.
    pub fields: &'static [Field],
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

macro_rules! abi {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident as $c_name:literal {
            $( $(#[doc = $field_doc:literal])* $field:ident: $ty:ty, )*
        }
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
            #[repr(C)]
            pub struct $name { $( $(#[doc = $field_doc])* pub $field: $ty, )* }

            impl Default for $name {
                fn default() -> Self {
                    Self::zeroed()
                }
            }
        )*

        /// Every structure, in the order in which the header prints them.
        pub const LAYOUTS: &[Layout] = &[$(
            Layout {
                name: stringify!($name),
                c_name: $c_name,
                size: size_of::<$name>(),
                fields: &[$( Field {
                    ty: <$ty as CType>::NAME,
                    name: stringify!($field),
                    array: <$ty as CType>::ARRAY,
                    offset: std::mem::offset_of!($name, $field),
                    doc: &[$($field_doc),*],
                } ),*],
                doc: &[$($doc),*],
            }
        ),*];
    };
}

abi! {
    /// The words that select a policy. One, in a memory-mapped array: user space commits by a
    /// compare-and-swap, programs read `generation` exactly once for each decision.
    struct Control as "mesh_control" {
        /// The generation that decides. Its lowest bit is the slot. 0: touch nothing.
        generation: u64,
        /// The generation that a writer is building, claimed before the free slot is first written.
        claim: u64,
        /// The generation that `resume` brings back; 0 unless paused.
        paused: u64,
        /// A bit for each [`Watch`] that may have a reader; 0: nobody watches.
        observe: u64,
        /// The cookie of the network namespace in which inbound traffic to cgroups is decided; 0: nowhere.
        host: u64,
        /// Lower half: how many programs were found to splice from connections of the mesh, counted by the kernel's
        /// programs. Upper half, not 0: the programs of acceleration are attached, and connections may be chosen; its
        /// second bit: some readers must not be, since they ask `FIONREAD`, which this kernel miscounts; its third: it
        /// does.
        acceleration: u64,
        /// Counts commits of every kind; never goes back.
        commits: u64,
        /// Version of what is kept for live connections: `MESH_FLOW_ABI` of who made the maps.
        flow_abi: u64,
    }

    /// First line of the manifest table of a slot.
    struct ManifestHeader as "mesh_manifest" {
        /// `MESH_MANIFEST_MAGIC`.
        magic: u64,
        /// Version of the tables.
        policy_abi: u32,
        /// How many tables a slot has.
        tables: u32,
        /// BLAKE3 over the digests of all tables but the manifest.
        digest: [u8; 32],
        /// The generation that this slot holds. Outside the digest.
        generation: u64,
        /// Who applied it: 0 command line, 1 agent. Outside the digest.
        owner: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// What the manifest says of one table.
    struct ManifestTable as "mesh_manifest_table" {
        /// Its length in bytes; the rest of its last line is zero.
        bytes: u64,
        /// Reserve; zero.
        reserve: [u64; 2],
        /// BLAKE3 of those bytes.
        digest: [u8; 32],
        /// Reserve; zero.
        reserve2: u64,
    }

    /// A profile: where its trees begin.
    struct Profile as "mesh_profile" {
        /// Root lines of the trees on IPv4 addresses (narrow lines; key: the address, host order) and on the
        /// high 64 bits of IPv6 addresses: `[direction][0 v4, 1 v6]`.
        tree: [[u32; 2]; 2],
        /// The same for a member's own addresses.
        own: [[u32; 2]; 2],
        /// Root line of the tree on exempt user ids; its spans are source ids, 0 for "not exempt".
        exempt_uid: u32,
        /// The same for group ids.
        exempt_gid: u32,
        /// `MESH_PROFILE_*`.
        flags: u32,
        /// Root port line of the connections to its own sidecar that are accelerated; 0: none.
        accelerate_local: u32,
        /// Root line of the tree on peer profiles; its spans are port lines, 0 for "never".
        accelerate_peers: u32,
        /// Reserve; zero.
        reserve: u32,
        /// Reserve; zero.
        reserve2: [u32; 2],
    }

    /// One line of a search tree over 64-bit keys. Child i serves the keys from `key[i - 1]` up to,
    /// but not including, `key[i]`; unused keys are all ones.
    struct TreeLine as "mesh_tree_line" {
        /// Where children 1 … 7 begin.
        key: [u64; TREE_KEYS],
        /// Child 0; the others follow it. Lines, or spans if it is a leaf.
        first: u32,
        /// How many keys are used.
        count: u16,
        /// 1: the children are spans.
        leaf: u16,
    }

    /// One line of a search tree over 32-bit keys, in the same manner. Each line has a second one behind it,
    /// which the CPU fetches with it: in a leaf the values of its 15 children, else zero.
    struct NarrowLine as "mesh_narrow_line" {
        /// Where children 1 … 14 begin.
        key: [u32; NARROW_KEYS],
        /// Child 0; the others follow it, every other line. 0 in a leaf.
        first: u32,
        /// How many keys are used.
        count: u16,
        /// 1: its children are the values in the line behind it.
        leaf: u16,
    }

    /// Counters of four items. The line of an item is named by the upper half of its key, or is one of
    /// the next.
    struct HitLine as "mesh_hit_line" {
        /// Keys; 0: free. Never freed again.
        item: [u64; HITS_A_LINE],
        /// Decisions.
        count: [u64; HITS_A_LINE],
    }

    /// One line of a search tree over ports, in the same manner.
    struct PortLine as "mesh_port_line" {
        /// Where children 1 … 28 begin.
        key: [u16; PORT_KEYS],
        /// Child 0; the others follow it. Lines, or decisions if it is a leaf.
        first: u32,
        /// How many keys are used.
        count: u16,
        /// 1: the children are decisions.
        leaf: u16,
    }

    /// What is decided for a stretch of ports, or for all ports of a node.
    struct Decision as "mesh_decision" {
        /// In a node, the key of the item's counter. In the table of decisions, which nodes share, the hash of the
        /// source, of which the key is made with the item's prefix.
        key: u64,
        /// Which item decided, without its address: index into the table of sources. With `MESH_VERDICT_BY_PORT`
        /// the root port line.
        source: u32,
        /// The sidecar's port; 0 unless redirected.
        port: u16,
        /// `MESH_VERDICT_*`.
        verdict: u8,
        /// How many parents above the deciding node the item's own prefix is.
        up: u8,
    }

    /// A prefix of a profile's tree, with what is decided there: one line, since each line that a decision touches
    /// first is a wait for memory.
    struct Node as "mesh_node" {
        /// Network address, network order, IPv4 as v4-mapped.
        address: [u32; 4],
        /// Prefix length, IPv4 counted as v4-mapped (96 … 128).
        len: u8,
        /// `MESH_FAMILY_*`.
        family: u8,
        /// Reserve; zero.
        reserve: u16,
        /// The next wider prefix of the same tree: a node, or `MESH_NO_PARENT`.
        parent: u32,
        /// TCP, UDP.
        decision: [Decision; 2],
        /// How often each decided; written by the programs, and no part of the policy: read as zero, and added to the
        /// counters of the items when another table takes this one's place.
        tally: [u32; 2],
    }

    /// What the programs know of a source.
    struct Source as "mesh_source" {
        /// Stable over generations; with the prefix it keys the counters.
        hash: u64,
        /// 0 no rule, 1 built-in, 2 exempt, 3 rule, 4 accelerate.
        kind: u8,
        /// Reserve; zero.
        reserve: [u8; 3],
        /// Reserve; zero.
        reserve2: u32,
    }

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
        /// Not 0: a policy exempts its processes.
        exempt: u32,
    }

    /// A cgroup path that a profile of one slot exempts.
    struct ExemptKey as "mesh_exempt_key" {
        /// The path's id.
        path: u64,
        /// The profile.
        profile: u32,
        /// The slot, 0 or 1.
        slot: u32,
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

    /// Who shares the room in a map.
    struct RoomKey as "mesh_room_key" {
        /// For sockets that listen, the cookie of the network namespace; for connections, the member's number.
        of: u64,
        /// For sockets that listen in a pod, 0 for root and users that the policy exempts, 1 for all others; on the
        /// host, the user. For connections the user with `MESH_ROOM_BY_USER`, else 0.
        who: u32,
        /// `MESH_ROOM_OF_*`.
        kind: u32,
    }

    /// How much of it is taken.
    struct Room as "mesh_room" {
        /// Entries. Signed: what was noted before the room began to count is given back, too.
        taken: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// A connection that an exempt identity opens.
    struct ExemptFlow as "mesh_exempt_flow" {
        /// The connecting socket's cookie.
        cookie: u64,
        /// The member that opens it.
        member: u32,
        /// The user whose room it takes beside the member's, or all ones.
        user: u32,
    }

    /// One of those who listen there: sockets may share a place, and each owner has an entry.
    struct PortOwner as "mesh_port_owner" {
        /// The id of the socket's cgroup, then those above it, as many as there are; then zero.
        cgroup: [u64; CGROUP_DEPTH as usize],
        /// How many sockets of that cgroup there are.
        sockets: u32,
        /// The user whose room the entry takes: of a user namespace, who made the outermost one.
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
        /// [`RoomKey::who`] of a listening socket that is counted.
        who: u32,
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

    /// What the program of a pod leaves for the one that decides and to which it goes on, one a CPU. Both are called
    /// with the same context, so whoever interrupts between the two takes nothing that is not its own.
    struct Entries as "mesh_entries" {
        /// Addresses of contexts; 0: free.
        context: [u64; ENTRIES],
        /// The cookies of the network namespaces that they are in.
        pod: [u64; ENTRIES],
    }

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
        /// [`name_hash`] of the member's name, where `flags` says so.
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

    /// Whom a datagram socket asked, by token: kept with the socket.
    struct Asked as "mesh_asked" {
        /// IPv4 address, network order.
        address: [u32; TOKENS],
        /// Port, host order.
        port: [u16; TOKENS],
        /// The sidecar's port that was asked instead, host order; 0: the token is free.
        sidecar_port: [u16; TOKENS],
        /// The token that is given next, modulo their number.
        next: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// Who sent datagrams to a socket that is not connected, in socket storage: answers to them are no new flows.
    struct Peers as "mesh_peers" {
        /// Chosen by chance, so that nobody can tell which peers share an entry.
        secret: [u64; 2],
        /// A hash of address and port (40 bits), and when its last datagram came (24 bits); 0: free.
        peer: [[u64; 2 * PEERS_A_GROUP]; PEER_GROUPS / 2],
    }

    /// Whom a socket that is not connected sent datagrams, in socket storage: what comes from them is no question.
    struct Spoken as "mesh_spoken" {
        /// As [`Peers::peer`], with secrets of zero, and when the last datagram was sent.
        server: [u64; SPOKEN],
        /// The place that is given next, modulo their number.
        next: u32,
        /// When and under which generation (its lower 8 bits) nobody needed a note of what the socket receives; 0:
        /// never.
        needless: u32,
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

    /// What is kept with a socket whose connection is chosen for acceleration.
    struct End as "mesh_end" {
        /// The pair that it is an end of: the connecting socket's cookie. 0 until it is established.
        pair: u64,
        /// The key of the counters of the `accelerate` item that chose it.
        item: u64,
        /// The generation that chose it.
        generation: u64,
        /// Cookie of the network namespace of the socket that connects.
        netns: u64,
        /// The cgroup by which its process is a member; 0: by its network namespace.
        cgroup: u64,
        /// 0 it connected, 1 it accepted.
        role: u32,
        /// The port that was dialled, host order.
        port: u16,
        /// `MESH_FORM_*`.
        form: u8,
        /// Reserve; zero.
        reserve: u8,
        /// For `MESH_FORM_PEERS`: the profile of the member that connects, in that generation.
        profile: u32,
        /// Reserve; zero.
        reserve2: u32,
    }

    /// One end of a pair, and what it sent.
    struct Half as "mesh_half" {
        /// The address of the kernel's `struct tcp_sock`; 0: this end is not there.
        sock: u64,
        /// Its socket's cookie, also its key among the accelerated sockets.
        cookie: u64,
        /// Bytes that it sent past the stack.
        fast_bytes: u64,
        /// Bytes that it sent through the stack.
        slow_bytes: u64,
        /// Bytes that it read by plain calls.
        plain_bytes: u64,
        /// `MESH_READS_*`: how much it waits for.
        waits: u8,
        /// 1: it was seen to send urgent data.
        urgent: u8,
        /// `MESH_SPLICES_*`: whether it reads by `splice`.
        splices: u8,
        /// 1: it was told too little by `FIONREAD`, and is about to leave.
        counts: u8,
        /// What `control.splicers` was when its program was last looked for among those that splice.
        looked: u32,
        /// Bytes of the fast path that it had read when it last read any.
        taken: u32,
        /// Messages of the fast path that it sent, up to one that is known to be read.
        read_messages: u32,
        /// The message of the fast path that is looked at next, whether it is read.
        next_message: u32,
        /// Bytes that it had sent over the fast path, with that message.
        next_bytes: u32,
        /// Its empty reads since it last got something, up to `MESH_VAIN_MANY`.
        vain: u32,
        /// Reserve; zero.
        reserve: u32,
        /// Messages that it sent, by the way that they took: index `MESH_WAY_*`.
        messages: [u64; WAYS],
    }

    /// A connection between two sockets of this node that is chosen for acceleration.
    struct Pair as "mesh_pair" {
        /// The key of the counters of the `accelerate` item that chose it.
        item: u64,
        /// The generation that was last asked whether it is chosen.
        generation: u64,
        /// Cookie of the network namespace of the socket that connected.
        netns: u64,
        /// The cgroup by which the connecting process is a member; 0: by its network namespace.
        cgroup: u64,
        /// Cookie of the network namespace of the socket that accepts.
        peer_netns: u64,
        /// The connecting socket's address, network order, IPv4 as v4-mapped.
        client: [u32; 4],
        /// The accepting socket's address, network order, IPv4 as v4-mapped.
        server: [u32; 4],
        /// The connecting socket's port, host order.
        client_port: u16,
        /// The accepting socket's port, host order.
        server_port: u16,
        /// The port that was dialled, host order.
        port: u16,
        /// `MESH_FORM_*`.
        form: u8,
        /// 1: the policy that lives now does not choose it.
        off: u8,
        /// The first sequence number that the connecting socket sends data with.
        sequence: u32,
        /// The first sequence number that the accepting socket sends data with.
        acknowledged: u32,
        /// The connecting and the accepting end.
        half: [Half; 2],
    }

    /// A chosen connection that waits for its accepting end. Both ends of one connection know its sequence
    /// numbers, and no two connections share them: that tells ends of other network namespaces apart.
    struct Opening as "mesh_opening" {
        /// The connecting socket's address, network order, IPv4 as v4-mapped.
        client: [u32; 4],
        /// The accepting socket's address, network order, IPv4 as v4-mapped.
        server: [u32; 4],
        /// The connecting socket's port, host order.
        client_port: u16,
        /// The accepting socket's port, host order.
        server_port: u16,
        /// The first sequence number that the connecting socket sends data with.
        sequence: u32,
        /// The first sequence number that the accepting socket sends data with.
        acknowledged: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// A program, by its file.
    struct Program as "mesh_program" {
        /// The number of its inode.
        inode: u64,
        /// The device, as the kernel numbers it.
        device: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// A program that splices from connections of the mesh.
    struct Splicer as "mesh_splicer" {
        /// The name of the task that did so first, as in `/proc/PID/comm`, ended by zeros.
        name: [u8; 16],
        /// How often it was noticed.
        times: u64,
    }

    /// A reader that may stall for bytes that are there, and why.
    struct Waiting as "mesh_waiting" {
        /// When that was seen, in nanoseconds since boot.
        since: u64,
        /// Cookie of its network namespace.
        netns: u64,
        /// The process.
        process: u32,
        /// `MESH_WAITS_*`: why.
        why: u32,
        /// The name of its task, as in `/proc/PID/comm`, ended by zeros.
        name: [u8; 16],
    }

    /// What of an accelerated socket is unread.
    struct Unread as "mesh_unread" {
        /// The socket's cookie.
        cookie: u64,
        /// Bytes that came through the stack.
        slow_bytes: u32,
        /// Bytes that came past it.
        fast_bytes: u32,
    }

    /// Who asks `FIONREAD`, where that tells too little: readers of connections that were accepted on a port, or a
    /// program as reader of those that it opens.
    struct Asker as "mesh_asker" {
        /// Cookie of the network namespace; of a program, the number of its inode.
        place: u64,
        /// The port, host order; of a program, the device, as the kernel numbers it.
        number: u32,
        /// 0 a port, 1 a program.
        is_program: u32,
    }

    /// What the closed pairs of an `accelerate` item sent.
    struct Carried as "mesh_carried" {
        /// How many pairs.
        pairs: u64,
        /// Bytes past the stack.
        fast_bytes: u64,
        /// Bytes through the stack.
        slow_bytes: u64,
        /// Messages, by the way that they took: index `MESH_WAY_*`.
        messages: [u64; WAYS],
    }
}

impl Control {
    /// The generation that a node holds, whether it decides or is paused; 0 for none.
    #[must_use]
    pub const fn current_generation(&self) -> u64 {
        if self.generation == 0 { self.paused } else { self.generation }
    }
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

/// The sizes of [`Flow`], [`FlowKey`] and [`Asked`] are part of the flow ABI and never change.
const _: () = assert!(size_of::<Flow>() == 96 && size_of::<FlowKey>() == 48 && size_of::<Asked>() == 136);
const _: () = assert!(size_of::<Peers>() == 16 + 8 * PEERS);
const _: () = assert!(size_of::<Profile>() == LINE && size_of::<TreeLine>() == LINE);
const _: () = assert!(size_of::<NarrowLine>() == LINE && size_of::<HitLine>() == LINE);
const _: () = assert!(size_of::<PortLine>() == LINE && size_of::<ManifestHeader>() == LINE);
const _: () = assert!(size_of::<ManifestTable>() == LINE && size_of::<Control>() == LINE);
const _: () = assert!(size_of::<Node>() * NODES_A_LINE == LINE);
const _: () = assert!(size_of::<Decision>() * DECISIONS_A_LINE == LINE);
const _: () = assert!(size_of::<Source>() * SOURCES_A_LINE == LINE);

/// An enumeration whose variants are indices into a map, each with the name that people see.
macro_rules! indices {
    ($(#[doc = $about:literal])* enum $enum:ident { $($(#[doc = $doc:literal])* $name:ident = $word:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $enum { $($(#[doc = $doc])* $name,)* }

        impl $enum {
            /// All of them, in index order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in `status`, and in C in capitals, with the prefix of its kind before it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it stands for.
            #[must_use]
            pub const fn doc(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($doc),*],)* }
            }
        }
    };
}

indices! {
/// Named early returns and events of the programs, each an index into the map `counters`; in C `MESH_COUNT_…`.
enum Counter {
    /// No policy is live: generation 0.
    Idle = "idle",
    /// The process is not in the mesh.
    NotMember = "not_member",
    /// The process is a member, but not under the live policy.
    NoProfile = "no_profile",
    /// The identity is exempt.
    Exempt = "exempt",
    /// Sent to the sidecar.
    Redirected = "redirected",
    /// Went straight.
    Excluded = "excluded",
    /// Refused.
    Denied = "denied",
    /// A table of the live generation did not answer: a bug, and the flow went straight.
    TableMissing = "table_missing",
    /// Neither TCP nor UDP: not looked at.
    OtherProtocol = "other_protocol",
    /// Socket storage could not be had, so the flow was refused rather than sent astray.
    StorageFull = "storage_full",
    /// The hand-over map was full, or the room of its member or user in it: the sidecar of that connection cannot be
    /// told where it was going.
    HandoverFull = "handover_full",
    /// A connection was begun that goes straight: there is nothing to hand over.
    ConnectDirect = "connect_direct",
    /// The original destination of a connection was handed over, for its sidecar to take.
    HandedOver = "handed_over",
    /// A connection of an exempt identity within its pod was noted, so that it is not redirected inbound.
    ExemptNoted = "exempt_noted",
    /// The same could not be noted, since the map was full, or the room of its member or user in it: a rule for the
    /// pod's own addresses redirects it.
    ExemptFull = "exempt_full",
    /// An inbound connection was to go to a sidecar, and none listened.
    MissingSidecar = "missing_sidecar",
    /// A connection that was sent to a sidecar ended, and the sidecar had never taken it.
    NotTaken = "not_taken",
    /// What a sidecar did not take could not be added up by its port.
    NotTakenLost = "not_taken_lost",
    /// With inbound by tc: a packet that opens nothing: no TCP segment or datagram, a later fragment, or
    /// one that comes again on the interface of its VLAN.
    NotInbound = "not_inbound",
    /// With inbound by tc: a packet of a connection, established or half-open.
    OwnSocket = "own_socket",
    /// With inbound by tc: a packet whose tag of a priority was taken off; it comes again without.
    Untagged = "untagged",
    /// With inbound by tc: a past connection that was ended since its client opens another one.
    TimeWaitReset = "time_wait_reset",
    /// With inbound by tc: a packet that is not for the pod's own addresses.
    Forwarded = "forwarded",
    /// A socket listens in a pod or on the host, and is known.
    Listens = "listens",
    /// A socket listens where no member lives.
    ListensOutside = "listens_outside",
    /// A socket listens that is not known: more do on its port, or of its user or pod, than are kept track of. It is
    /// drift, and looked for again by `apply --repair`, the agent and an attach.
    ListenersFull = "listeners_full",
    /// A socket of the host listens no more.
    ListenerClosed = "listener_closed",
    /// While listening sockets were looked for: one that was known.
    ListenerKnown = "listener_known",
    /// While listening sockets were looked for: one that could not be noted, since this kernel holds its spin lock.
    ListenerLocked = "listener_locked",
    /// While listening sockets were looked for: one that does not listen.
    NoListener = "no_listener",
    /// A sidecar accepted a connection that was handed over to it.
    Accepted = "accepted",
    /// A connection was accepted that nobody redirected.
    AcceptedStraight = "accepted_straight",
    /// A connection was accepted that was noted as an exempt one's.
    AcceptedExempt = "accepted_exempt",
    /// A socket that the mesh redirected or noted was closed.
    Closed = "closed",
    /// Such a socket changed its state otherwise.
    OtherState = "other_state",
    /// The kernel told of something that the mesh has no use for.
    IgnoredEvent = "ignored_event",
    /// The kernel told of a socket and did not show it.
    NoSocket = "no_socket",
    /// A sidecar asked for an original destination and got it.
    Answered = "answered",
    /// A sidecar asked for an original destination, and nobody had redirected the connection.
    NotRedirected = "not_redirected",
    /// A sidecar asked for an original destination, and it is of the other family.
    OtherFamily = "other_family",
    /// A sidecar asked for an original destination, and its buffer was too short.
    ShortBuffer = "short_buffer",
    /// Another socket option was asked for.
    OtherOption = "other_option",
    /// An application asked whom it reached, and was told what it dialled.
    PeerNamed = "peer_named",
    /// A process asked for a name that the mesh does not change.
    NameKept = "name_kept",
    /// A datagram came that seems to come from the server that was asked.
    DatagramNamed = "datagram_named",
    /// A datagram came from loopback, of which nobody was asked.
    DatagramUnasked = "datagram_unasked",
    /// A datagram came from elsewhere.
    DatagramOther = "datagram_other",
    /// A datagram came to a socket that is not connected, and its sender may be answered.
    PeerNoted = "peer_noted",
    /// A datagram was sent to a peer that has sent one to the same socket: it passed whatever the rules say.
    PeerAnswered = "peer_answered",
    /// A sidecar answered one of several servers' clients, from the address that it was asked at.
    TokenAnswered = "token_answered",
    /// A decision was not sent to a reader that wanted it, since its buffer was full.
    EventLost = "event_lost",
    /// The program of a pod could not go on to the one that decides inbound traffic: it is not there, or too many
    /// packets interrupted each other. It went straight.
    EntryLost = "entry_lost",
    /// The counter of an item could not be kept, since the map was full.
    HitLost = "hit_lost",
    /// A datagram socket that was sent to the sidecar connects elsewhere and still has a loopback source: refused
    /// with `EINVAL`, since nothing would come back.
    SourceKept = "source_kept",
    /// A datagram by a socket that was to be released from its device, for the sidecar, or bound to it again, for
    /// elsewhere: refused once with `ENOBUFS`, so that the next one arrives.
    DeviceReleased = "device_released",
    /// A connection or datagram for the sidecar that would leave by an interface, by whatever option: refused with
    /// `EPERM`, since it cannot be kept from that; or one for elsewhere by a socket that cannot be bound again.
    DeviceHeld = "device_held",
    /// A packet was sent that carries no route, or by nobody whom a policy decides.
    Sent = "sent",
    /// A connection or packet of a member that carries a route (a routing header of IPv6, a source route of IPv4), and
    /// would go elsewhere first: refused with `EPERM`.
    RouteRefused = "route_refused",
    /// A datagram with control data by a connected socket, which goes where that is connected to.
    DatagramConnected = "datagram_connected",
    /// A cgroup was made at a path that a policy names, and its processes are what the policy says.
    CgroupJoined = "cgroup_joined",
    /// A cgroup was made at a path that no policy names.
    CgroupOther = "cgroup_other",
    /// A cgroup was made at a path that a policy names, and could not join, since a map was full.
    CgroupLost = "cgroup_lost",
    /// A cgroup was removed, with what was known of it.
    CgroupGone = "cgroup_gone",
    /// A chosen connection goes through the stack, since the maps of acceleration were full.
    AccelerationFull = "acceleration_full",
    /// A SYN reached a pod whose sidecar takes it and whose workload may be a peer.
    ArrivalNoted = "arrival_noted",
    /// A SYN reached another place while something is accelerated.
    ArrivalOther = "arrival_other",
    /// A chosen connection was established at the end that connects.
    PairBegun = "pair_begun",
    /// The end that accepts was found.
    PairMet = "pair_met",
    /// It is on another node, or no sidecar that the policy chooses.
    NotMet = "not_met",
    /// An end of a chosen connection was closed.
    PairClosed = "pair_closed",
    /// While something is accelerated: a socket that is not.
    NotChosen = "not_chosen",
    /// A message on a chosen connection went past the stack.
    SentShort = "sent_short",
    /// A message on a chosen connection went through the stack; the pair's `messages` say why.
    SentLong = "sent_long",
    /// A chosen socket was read by a plain call.
    PlainRead = "plain_read",
    /// While something is accelerated: a read that got nothing.
    NothingRead = "nothing_read",
    /// A chosen connection never entered: its socket is of MPTCP, or sends without a copy (`SO_ZEROCOPY`).
    NotEligible = "not_eligible",
    /// While unread bytes were looked for: an accelerated socket that has some.
    Unread = "unread",
    /// While unread bytes were looked for: an accelerated socket that has none.
    AllRead = "all_read",
    /// A process spliced from a connection, and nothing kept it from doing so.
    Spliced = "spliced",
    /// While something is accelerated: a reader whose program was looked for before.
    ReaderKnown = "reader_known",
    /// A reader's program was looked for among those that splice.
    ReaderLookedUp = "reader_looked_up",
    /// While something is accelerated: a file was used that is no chosen socket, or not read by splice.
    FileOther = "file_other",
    /// Urgent data was sent on an accelerated connection. It goes through the stack, and so does all that follows.
    UrgentSent = "urgent_sent",
    /// A socket was closed while bytes of the fast path were unread: its peer saw an end, not a reset.
    ClosedUnread = "closed_unread",
    /// A process was kept from `splice`, which would not have seen unread bytes of the fast path (`EINVAL`).
    SpliceRefused = "splice_refused",
    /// A process spliced while bytes of the fast path were unread. It waits for what `splice` does not see.
    SpliceStranded = "splice_stranded",
    /// A blocking read on an accelerated connection was woken with nothing to read (`EAGAIN`): another thread writes.
    WokenEarly = "woken_early",
    /// While something is accelerated, and the kernel miscounts: a system call other than `FIONREAD` of a socket.
    CallOther = "call_other",
    /// `FIONREAD` of a socket that is not accelerated.
    CountOther = "count_other",
    /// `FIONREAD` of an accelerated socket told what is there.
    CountedRight = "counted_right",
    /// The kernel's answer to `FIONREAD` of an accelerated socket was repaired.
    CountRepaired = "count_repaired",
    /// `FIONREAD` of an accelerated socket told less than there is, and stayed so: its reader may stall.
    CountShort = "count_short",
    /// A connection, or its accepting end, did not enter, since its reader asks `FIONREAD`, which this kernel
    /// miscounts.
    CountsAvoided = "counts_avoided",
    /// An accelerated connection whose reader was told too little by `FIONREAD` is about to leave.
    CountsLeaving = "counts_leaving",
    /// Such a connection was woken, and left where nothing of the fast path is unread.
    CountsReleased = "counts_released",
    /// A member that has no routable address of a family was to reach one of it through the sidecar: refused with
    /// `ENETUNREACH`, as without a mesh.
    Unroutable = "unroutable",
    /// A socket could not be bound to its member's own address, which is not there any more, or not yet: the sidecar
    /// sees a loopback address in its place.
    SourceMissing = "source_missing",
    /// The first packet of a redirected connection was let through to its sidecar, whatever the policy says of its
    /// source.
    Taken = "taken",
    /// A datagram of a socket that a policy denied was refused, for the application to see.
    DatagramRefused = "datagram_refused",
    /// A process asked for its own address, and was told its member's.
    SourceNamed = "source_named",
    /// An inbound connection went to a listening socket on the sidecar's port that neither an exempt identity nor root
    /// made, as there was no other: who is not the sidecar may have taken its port.
    OthersListener = "others_listener",
    /// The program that notes listening sockets did not note one (`listeners_full` counts why).
    ListenerMissed = "listener_missed",
    /// With inbound by tc: a segment that opens no connection and belongs to none of this pod: it passes through, or
    /// is answered by a reset.
    OpensNothing = "opens_nothing",
    /// With inbound by tc: the answer to a SYN cookie of the sidecar's, for its listening socket.
    CookieAnswered = "cookie_answered",
    /// With inbound by tc: the answer to a SYN cookie that somebody else would have taken. Dropped.
    CookieRefused = "cookie_refused",
    /// With inbound by tc: a packet whose ports or flags are in a later fragment, or behind more extension headers
    /// than are looked at, and a SYN in fragments. Dropped.
    NotUnderstood = "not_understood",
    /// A packet that a socket received and that was decided before, or by nobody: of a connection, or inbound. Counted
    /// only while a policy decides datagrams that members receive.
    Received = "received",
}
}

indices! {
/// Which way the bytes of an accelerated pair took, and why: each an index into `messages`; in C `MESH_WAY_…`.
enum Way {
    /// Past the stack.
    Short = "short",
    /// Through the stack: the mesh is paused, or the live policy does not choose the pair.
    Off = "off",
    /// Through the stack: the other end is on another node, is no member, or has not accepted yet.
    NoPeer = "no_peer",
    /// Through the stack: the reader has not shown yet that it reads by plain calls.
    NewReader = "new_reader",
    /// Through the stack: the reader, or its program elsewhere, reads by other means than plain calls: `splice`.
    Splices = "reader_splices",
    /// Through the stack for good: the reader uses `MSG_WAITALL`.
    WaitsForAll = "reader_waits_for_all",
    /// Through the stack: the reader set `SO_RCVLOWAT`.
    LowWater = "reader_low_water",
    /// Through the stack: the reader asks again and again, without sleeping, and holds its socket's lock most of the
    /// time.
    Polls = "reader_polls",
    /// Through the stack for good: urgent data was sent.
    Urgent = "urgent",
    /// Through the stack: the sender set `SO_ZEROCOPY`.
    ZeroCopy = "zero_copy",
    /// Through the stack: TLS of the kernel or MPTCP is on one of the sockets.
    UpperProtocol = "upper_protocol",
    /// Through the stack: earlier bytes are still on their way through it.
    InFlight = "in_flight",
    /// Through the stack: earlier bytes of it are unread.
    Unread = "unread",
    /// Through the stack: the reader's buffer is full.
    Full = "full",
    /// Through the stack: one of the ends is being closed.
    Closing = "closing",
    /// Refused, and all that follows (`EACCES`): the reader splices, and would get these bytes before unread ones of
    /// the fast path.
    Stranded = "stranded",
}

}

const _: () = assert!(Way::ALL.len() <= WAYS && Counter::ALL.len() <= COUNTERS);
