//! What is kept with a datagram socket, as long as it is there. As of connections, sizes never change.

constants! {
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
    UDP_CONTACTS: usize = 32;
}

layouts! {
    /// Whom a datagram socket asked, by token: kept with the socket.
    struct UdpServers as "mesh_udp_servers" {
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
    struct UdpPeers as "mesh_udp_peers" {
        /// Chosen by chance, so that nobody can tell which peers share an entry.
        secret: [u64; 2],
        /// A hash of address and port (40 bits), and when its last datagram came (24 bits); 0: free.
        peer: [u64; PEERS],
    }

    /// Whom a socket that is not connected sent datagrams, in socket storage: what comes from them is no question.
    struct UdpContacts as "mesh_udp_contacts" {
        /// As [`UdpPeers::peer`], with secrets of zero, and when the last datagram was sent.
        server: [u64; UDP_CONTACTS],
        /// The place that is given next, modulo their number.
        next: u32,
        /// When and under which generation (its lower 8 bits) nobody needed a note of what the socket receives; 0:
        /// never.
        needless: u32,
    }
}

const _: () = assert!(size_of::<UdpServers>() == 136 && size_of::<UdpPeers>() == 16 + 8 * PEERS);
