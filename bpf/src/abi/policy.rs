//! The tables of a policy: written once for a generation, then only read. Any change of a layout here changes
//! [`POLICY_ABI`].

constants! {
    /// Version of the tables of a generation: of those in which some profile asks whether the node is at the other end.
    POLICY_ABI: u32 = 5;
    /// The same of tables in which none asks that, and some has classes of processes or exempts interfaces: what an
    /// earlier version of meshc wrote, and can read.
    POLICY_ABI_CLASSED: u32 = 4;
    /// The same of tables in which none does either.
    POLICY_ABI_UNCLASSED: u32 = 3;
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
    /// Levels of a tree of [`TreeLine`] that a program walks: 8¹⁰ spans.
    TREE_DEPTH: u32 = 10;
    /// Levels of a tree of [`NarrowLine`] that a program walks: 15⁸ stretches.
    NARROW_DEPTH: u32 = 8;
    /// Levels of a tree of [`PortLine`] that a program walks: 29⁴ stretches, more than there are ports.
    PORT_DEPTH: u32 = 4;
    /// Steps from a node to the root of its prefix tree at the most: a /128 below every shorter prefix and `any`.
    UP_MAX: u32 = 130;
    /// In a span: the value is the root of a tree on the low 64 bits of an IPv6 address.
    SPAN_SUBTREE: u32 = 1 << 31;
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
    /// [`Profile::flags`]: the class of a process depends on its cgroup; look it up.
    PROFILE_CLASS_CGROUPS: u32 = 256;
    /// [`Profile::flags`]: the profile exempts interfaces; look them up.
    PROFILE_EXEMPT_INTERFACES: u32 = 512;
    /// [`Profile::flags`]: the class of an outbound flow depends on whether it goes to the node; look it up. The cells of
    /// those that do are the odd ones.
    PROFILE_TO_NODE: u32 = 1024;
    /// [`Profile::flags`]: what comes from the node is decided by another line; look it up.
    PROFILE_FROM_NODE: u32 = 2048;
    /// Where the tree on the numbers of cells has the line for what comes from the node.
    CELL_FROM_NODE: u32 = u32::MAX;
    /// [`Node::family`] of the prefix `any`.
    FAMILY_ANY: u8 = 0;
    /// [`Node::family`] and [`Flow::family`](super::Flow::family) of IPv4.
    FAMILY_V4: u8 = 4;
    /// [`Node::family`] and [`Flow::family`](super::Flow::family) of IPv6.
    FAMILY_V6: u8 = 6;
}

layouts! {
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

    /// A profile: where its trees begin. Behind those of all profiles is a line for each of their classes: its
    /// profile's, but for the roots of the outbound trees, or of the inbound ones for what comes from the node.
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
        /// Root line of the tree (narrow lines) on user ids that tell classes apart; its values are what the part of the
        /// id adds to the number of the cell. 0: they tell none apart.
        class_uid: u32,
        /// The same for group ids.
        class_gid: u32,
        /// Root line of the tree (narrow lines) on the numbers of cells; its values are lines of this table: the
        /// profile's own, or that of a class. 0: there are no classes.
        class_cells: u32,
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
}

/// How many tables a slot has; see [`Table`](crate::table::Table).
pub const TABLE_COUNT: u32 = crate::table::TABLES as u32;

/// Bytes in a line, the element of every policy table: one cache line.
pub const LINE: usize = 64;

const _: () = assert!(size_of::<ManifestHeader>() == LINE && size_of::<ManifestTable>() == LINE);
const _: () = assert!(size_of::<Profile>() == LINE && size_of::<TreeLine>() == LINE);
const _: () = assert!(size_of::<NarrowLine>() == LINE && size_of::<PortLine>() == LINE);
const _: () = assert!(size_of::<Node>() * NODES_A_LINE == LINE);
const _: () = assert!(size_of::<Decision>() * DECISIONS_A_LINE == LINE);
const _: () = assert!(size_of::<Source>() * SOURCES_A_LINE == LINE);
