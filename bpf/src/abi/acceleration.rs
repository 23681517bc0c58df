//! Connections over the fast path: as long as both sockets are there, and what is counted of them.

constants! {
    /// In the map `probed_sockets` of `probes.bpf.c`: the socket that gets what is sent.
    PROBE_READER: u64 = 1;
    /// [`SocketAccel::form`] and [`Pair::form`]: an application and its own sidecar.
    FORM_LOCAL: u8 = 0;
    /// [`SocketAccel::form`] and [`Pair::form`]: the sidecars of two workloads.
    FORM_PEERS: u8 = 1;
    /// [`PairEnd::splices`]: not that anybody knows.
    SPLICES_NOT: u8 = 0;
    /// [`PairEnd::splices`]: its program does, on other sockets.
    SPLICES_ELSEWHERE: u8 = 1;
    /// [`PairEnd::splices`]: it did, and nothing keeps it from doing so while bytes of the fast path are unread.
    SPLICES: u8 = 2;
    /// [`PairEnd::splices`]: it did, and is refused while bytes of the fast path are unread.
    SPLICES_REFUSED: u8 = 3;
    /// [`PairEnd::splices`]: it does, and every byte of the fast path is read.
    SPLICES_ALONE: u8 = 4;
    /// [`PairEnd::waits`]: it was seen to read with `MSG_WAITALL`.
    READS_ALL: u8 = 1;
    /// [`PairEnd::waits`]: it has read bytes of the fast path that were fewer than its low-water mark (`SO_RCVLOWAT`).
    READS_BELOW_MARK: u8 = 2;
    /// [`PairEnd::waits`]: it polls: it asks again and again, without sleeping.
    READS_POLLING: u8 = 4;
    /// After this many empty reads, one after the other, a reader polls.
    EMPTY_READS_POLL: u32 = 16;
    /// A reader that gets data after fewer empty reads is not polling: one that reads until `EAGAIN`, and then sleeps,
    /// has exactly one.
    EMPTY_READS_SLEEP: u32 = 4;
    /// What the kernel needs for a message of the fast path beside its bytes.
    MESSAGE_SIZE: u32 = 1024;
    /// [`StalledReader::why`]: it spliced while bytes of the fast path were unread.
    STALLED_BY_SPLICE: u32 = 1;
    /// [`StalledReader::why`]: `FIONREAD` told it less than there was.
    STALLED_BY_FIONREAD: u32 = 2;
    /// Paths that are counted apart; more than there are [`SendPath`]s.
    SEND_PATHS: usize = 18;
}

layouts! {
    /// What is kept with a socket whose connection is chosen for acceleration.
    struct SocketAccel as "mesh_socket_accel" {
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
    struct PairEnd as "mesh_pair_end" {
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
        miscounted: u8,
        /// What `the lower half of `control.acceleration`` was when its program was last looked for among those that splice.
        looked: u32,
        /// Bytes of the fast path that it had read when it last read any.
        taken: u32,
        /// Messages of the fast path that it sent, up to one that is known to be read.
        read_messages: u32,
        /// The message of the fast path that is looked at next, whether it is read.
        next_message: u32,
        /// Bytes that it had sent over the fast path, with that message.
        next_bytes: u32,
        /// Its empty reads since it last got something, up to `MESH_EMPTY_READS_POLL`.
        empty_reads: u32,
        /// Reserve; zero.
        reserve: u32,
        /// Messages that it sent, by the path that they took: index `MESH_SEND_PATH_*`.
        messages: [u64; SEND_PATHS],
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
        ends: [PairEnd; 2],
    }

    /// A chosen connection that waits for its accepting end. Both ends of one connection know its sequence
    /// numbers, and no two connections share them: that tells ends of other network namespaces apart.
    struct PendingPair as "mesh_pending_pair" {
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
    struct Executable as "mesh_executable" {
        /// The number of its inode.
        inode: u64,
        /// The device, as the kernel numbers it.
        device: u32,
        /// Reserve; zero.
        reserve: u32,
    }

    /// A program that splices from connections of the mesh.
    struct SpliceReader as "mesh_splice_reader" {
        /// The name of the task that did so first, as in `/proc/PID/comm`, ended by zeros.
        name: [u8; 16],
        /// How often it was noticed.
        times: u64,
    }

    /// A reader that may stall for bytes that are there, and why.
    struct StalledReader as "mesh_stalled_reader" {
        /// When that was seen, in nanoseconds since boot.
        since: u64,
        /// Cookie of its network namespace.
        netns: u64,
        /// The process.
        process: u32,
        /// `MESH_STALLED_*`: why.
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
    struct FionreadReader as "mesh_fionread_reader" {
        /// Cookie of the network namespace; of a program, the number of its inode.
        place: u64,
        /// The port, host order; of a program, the device, as the kernel numbers it.
        number: u32,
        /// 0 a port, 1 a program.
        is_program: u32,
    }

    /// What the closed pairs of an `accelerate` item sent.
    struct PairTotals as "mesh_pair_totals" {
        /// How many pairs.
        pairs: u64,
        /// Bytes past the stack.
        fast_bytes: u64,
        /// Bytes through the stack.
        slow_bytes: u64,
        /// Messages, by the path that they took: index `MESH_SEND_PATH_*`.
        messages: [u64; SEND_PATHS],
    }
}

indices! {
    /// Which path the bytes of an accelerated pair took, and why: each an index into `messages`; in C `MESH_SEND_PATH_…`.
    enum SendPath {
        /// Past the stack.
        Fast = "fast",
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

const _: () = assert!(SendPath::ALL.len() <= SEND_PATHS);
