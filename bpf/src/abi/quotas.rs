//! How many entries of maps that all share each may have, and has: as long as it has any.

constants! {
    /// Listening sockets that are kept for one [`QuotaKey`], so that nobody fills the map for others.
    QUOTA_LISTENERS: u32 = 2048;
    /// Places on the host that are kept for one user other than root.
    QUOTA_PLACES: u32 = 4096;
    /// More than any map holds.
    QUOTA_UNBOUNDED: u32 = 1 << 30;
    /// Connections that are kept for one member while they are being opened, in `handover` and in `exempt_flows`.
    QUOTA_CONNECTIONS: u32 = 1 << 15;
    /// This many of them, whoever opens them. What is left is for all users of the member.
    QUOTA_CONNECTIONS_ANY: u32 = QUOTA_CONNECTIONS / 2;
    /// This many of what is left for one user.
    QUOTA_CONNECTIONS_USER: u32 = QUOTA_CONNECTIONS / 8;
    /// [`QuotaKey::kind`]: sockets in `listeners`.
    QUOTA_OF_LISTENERS: u32 = 0;
    /// [`QuotaKey::kind`]: entries of `host_ports`.
    QUOTA_OF_PLACES: u32 = 1;
    /// [`QuotaKey::kind`]: entries of `handover`.
    QUOTA_OF_HANDOVER: u32 = 2;
    /// [`QuotaKey::kind`]: entries of `exempt_flows`.
    QUOTA_OF_EXEMPT: u32 = 3;
    /// Beside one of the two: those that were noted beyond [`QUOTA_CONNECTIONS_ANY`], of one user.
    QUOTA_BY_USER: u32 = 8;
}

layouts! {
    /// Whose quota it is, and in which map.
    struct QuotaKey as "mesh_quota_key" {
        /// For sockets that listen, the cookie of the network namespace; for connections, the member's number.
        of: u64,
        /// For sockets that listen in a pod, 0 for root and users that the policy exempts, 1 for all others; on the
        /// host, the user. For connections the user with `MESH_QUOTA_BY_USER`, else 0.
        who: u32,
        /// `MESH_QUOTA_OF_*`.
        kind: u32,
    }

    /// How much of a quota is used.
    struct Quota as "mesh_quota" {
        /// Entries. Signed: what was noted before the quota began to count is given back, too.
        taken: u32,
        /// Reserve; zero.
        reserve: u32,
    }
}
