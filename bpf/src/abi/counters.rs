//! What programs count: as long as the maps of an instance are there.

constants! {
    /// Items in a [`HitLine`].
    HITS_A_LINE: usize = 4;
    /// Lines of the map `hits`, a power of two.
    HIT_LINES: u32 = 1 << 18;
    /// Lines that are searched for an item's counter, from the one that its key names.
    HIT_PROBES: u32 = 8;
    /// [`MemberCounts::decided`]: decisions of exempt processes, beside those by `MESH_VERDICT_*`.
    COUNTED_EXEMPT: u32 = 3;
}

layouts! {
    /// Counters of four items. The line of an item is named by the upper half of its key, or is one of
    /// the next.
    struct HitLine as "mesh_hit_line" {
        /// Keys; 0: free. Never freed again.
        item: [u64; HITS_A_LINE],
        /// Decisions.
        count: [u64; HITS_A_LINE],
    }

    /// Whose decisions are counted, and under which policy.
    struct MemberCountsKey as "mesh_member_counts_key" {
        /// The member's number.
        member: u32,
        /// The slot of the policy that decided, 0 or 1.
        slot: u32,
    }

    /// What was decided for a member, on one processor.
    struct MemberCounts as "mesh_member_counts" {
        /// [`workload_hash`] of the workload that the member falls under in this slot; the programs do not read it.
        workload: u64,
        /// Decisions by `MESH_VERDICT_*`, without the flag, and `MESH_COUNTED_EXEMPT`.
        decided: [u64; 4],
        /// When one was last denied, in nanoseconds since boot, sleep included; 0: never.
        denied_at: u64,
        /// Reserve; zero.
        reserve: [u64; 2],
    }
}

/// What tells a workload from others, over generations, by its name.
#[must_use]
pub fn workload_hash(name: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(name.as_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Room for counters; more than there are [`Counter`]s, so that another one changes no map.
pub const COUNTERS: usize = 128;

indices! {
    /// Named early returns and events of the programs, each an index into the map `counters`; in C `MESH_COUNT_…`.
    enum Counter {
        /// No policy is live: generation 0.
        Idle = "idle",
        /// The process is not in the mesh.
        NotMember = "not_member",
        /// The process is a member, but not under the live policy.
        NoProfile = "no_profile",
        /// The identity is exempt, or the interface.
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
        /// The hand-over map was full, or the quota of its member or user in it: the sidecar of that connection cannot be
        /// told where it was going.
        HandoverFull = "handover_full",
        /// A connection was begun that goes straight: there is nothing to hand over.
        ConnectDirect = "connect_direct",
        /// The original destination of a connection was handed over, for its sidecar to take.
        HandedOver = "handed_over",
        /// A connection of an exempt identity within its pod was noted, so that it is not redirected inbound.
        ExemptNoted = "exempt_noted",
        /// The same could not be noted, since the map was full, or the quota of its member or user in it: a rule for the
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
        SentFast = "sent_fast",
        /// A message on a chosen connection went through the stack; the pair's `messages` say why.
        SentSlow = "sent_slow",
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
        /// A decision was not added to those of its member, which has no entry in `member_counts`.
        Uncounted = "uncounted",
    }
}

const _: () = assert!(Counter::ALL.len() <= COUNTERS && size_of::<HitLine>() == super::policy::LINE);
const _: () = assert!(size_of::<MemberCounts>() == super::policy::LINE);
