//! How much room in maps that all share each may take, and takes: as long as it takes any.

constants! {
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
}

layouts! {
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
}
