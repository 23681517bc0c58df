/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Generated from bpf/src/abi and bpf/src/map.rs. Do not edit; rewrite it with
 *   cargo run -p mesh-bpf --example header > bpf/include/mesh_abi.h
 */
#pragma once

/* Version of the tables of a generation: of those in which some profile asks whether the node is at the other end. */
#define MESH_POLICY_ABI 5U
/* The same of tables in which none asks that, and some has classes of processes or exempts interfaces: what an
 * earlier version of meshc wrote, and can read.
 */
#define MESH_POLICY_ABI_CLASSED 4U
/* The same of tables in which none does either. */
#define MESH_POLICY_ABI_UNCLASSED 3U
/* First 8 bytes of a manifest: `meshc\0im`, little-endian. */
#define MESH_MANIFEST_MAGIC 0x6d6900636873656dULL
/* Keys in a struct mesh_tree_line; it has one child more. */
#define MESH_TREE_KEYS 7U
/* Keys in a struct mesh_narrow_line; it has one child more. */
#define MESH_NARROW_KEYS 14U
/* Keys in a struct mesh_port_line; it has one child more. */
#define MESH_PORT_KEYS 28U
/* Spans in a line. */
#define MESH_SPANS_A_LINE 16U
/* Nodes in a line. */
#define MESH_NODES_A_LINE 1U
/* Decisions in a line. */
#define MESH_DECISIONS_A_LINE 4U
/* Sources in a line. */
#define MESH_SOURCES_A_LINE 4U
/* Levels of a tree of struct mesh_tree_line that a program walks: 8¹⁰ spans. */
#define MESH_TREE_DEPTH 10U
/* Levels of a tree of struct mesh_narrow_line that a program walks: 15⁸ stretches. */
#define MESH_NARROW_DEPTH 8U
/* Levels of a tree of struct mesh_port_line that a program walks: 29⁴ stretches, more than there are ports. */
#define MESH_PORT_DEPTH 4U
/* Steps from a node to the root of its prefix tree at the most: a /128 below every shorter prefix and `any`. */
#define MESH_UP_MAX 130U
/* In a span: the value is the root of a tree on the low 64 bits of an IPv6 address. */
#define MESH_SPAN_SUBTREE 0x80000000U
/* In a node: the tree has no wider prefix. */
#define MESH_NO_PARENT 0xffffffffU
/* mesh_decision.verdict: goes straight. */
#define MESH_VERDICT_EXCLUDED 0U
/* mesh_decision.verdict: to the sidecar. */
#define MESH_VERDICT_REDIRECTED 1U
/* mesh_decision.verdict: refused. */
#define MESH_VERDICT_DENIED 2U
/* mesh_decision.verdict of an acceleration table: past the TCP/IP stack. */
#define MESH_VERDICT_ACCELERATED 3U
/* Set in mesh_decision.verdict: the sidecar sees the original destination as its own address. */
#define MESH_VERDICT_TRANSPARENT 128U
/* mesh_decision.verdict of a node: it depends on the port. */
#define MESH_VERDICT_BY_PORT 64U
/* mesh_profile.flags: an inbound connection is refused where no sidecar listens. */
#define MESH_PROFILE_MISSING_SIDECAR_REFUSE 1U
/* mesh_profile.flags: a pod that cannot be meshed must not start. */
#define MESH_PROFILE_FAILED_ATTACH_REFUSE 2U
/* mesh_profile.flags: the profile exempts cgroups; look them up. */
#define MESH_PROFILE_EXEMPT_CGROUPS 4U
/* mesh_profile.flags: some inbound TCP flow is not excluded. */
#define MESH_PROFILE_INBOUND 8U
/* mesh_profile.flags: some outbound UDP flow is not excluded, so that answers of servers have to be told from it. */
#define MESH_PROFILE_ANSWERS 16U
/* mesh_profile.flags, of all profiles of a policy: one of them has MESH_PROFILE_ANSWERS. */
#define MESH_PROFILE_SOME_ANSWER 32U
/* mesh_profile.flags: a rule decides what members receive, and not only what is built in. */
#define MESH_PROFILE_INBOUND_RULES 64U
/* mesh_profile.flags: some inbound UDP flow is not excluded. */
#define MESH_PROFILE_INBOUND_DATAGRAMS 128U
/* mesh_profile.flags: the class of a process depends on its cgroup; look it up. */
#define MESH_PROFILE_CLASS_CGROUPS 256U
/* mesh_profile.flags: the profile exempts interfaces; look them up. */
#define MESH_PROFILE_EXEMPT_INTERFACES 512U
/* mesh_profile.flags: the class of an outbound flow depends on whether it goes to the node; look it up. The cells
 * of those that do are the odd ones.
 */
#define MESH_PROFILE_TO_NODE 1024U
/* mesh_profile.flags: what comes from the node is decided by another line; look it up. */
#define MESH_PROFILE_FROM_NODE 2048U
/* Where the tree on the numbers of cells has the line for what comes from the node. */
#define MESH_CELL_FROM_NODE 0xffffffffU
/* mesh_node.family of the prefix `any`. */
#define MESH_FAMILY_ANY 0U
/* mesh_node.family and mesh_flow.family of IPv4. */
#define MESH_FAMILY_V4 4U
/* mesh_node.family and mesh_flow.family of IPv6. */
#define MESH_FAMILY_V6 6U
/* Levels of the cgroup hierarchy that are searched for a member. */
#define MESH_CGROUP_DEPTH 16U
/* So many addresses of the node are told from those of others. */
#define MESH_NODE_ADDRESSES 4096U
/* Bytes in the path of a cgroup that joins by itself when it is made, with the zero at its end. */
#define MESH_CGROUP_PATH 256U
/* In a member's profile: not a member under this slot's policy. */
#define MESH_NO_PROFILE 0xffffffffU
/* mesh_member.flags: what is sent to any address of `127.128.0.0/9` and was handed over reaches its sidecar,
 * whatever address that listens on: `sk_lookup` sees to it.
 */
#define MESH_MEMBER_SPREADS 1U
/* In the profile of an struct mesh_exempt_key: the value is no source, but what the path adds to the number of the
 * cell in which the class of a process stands: once, or twice with MESH_PROFILE_TO_NODE.
 */
#define MESH_KEY_CLASS 0x80000000U
/* Where redirected connections of a member that spreads go, host order: 127.128.0.0/9, of which the last address
 * is for broadcasts.
 */
#define MESH_SPREAD_FIRST 0x7f800000U
/* How many addresses that are. */
#define MESH_SPREAD_COUNT 0x7fffffU
/* Bits before the address in a struct mesh_route_key. */
#define MESH_ROUTE_BITS 64U
/* own_bit multiplies by it (odd). */
#define MESH_OWN_MULTIPLIER 0x9e3779b1U
/* Version of what is kept for a live connection. */
#define MESH_FLOW_ABI 4U
/* The port that a denied datagram socket is connected to, on its own address. Nobody listens there. */
#define MESH_REFUSING_PORT 1U
/* mesh_flow.flags: the sidecar's own address is the original destination. */
#define MESH_FLOW_TRANSPARENT 1U
/* mesh_flow.flags: the socket was v4-mapped, so addresses go back as `::ffff:a.b.c.d`. */
#define MESH_FLOW_MAPPED 2U
/* mesh_flow.flags: the socket's identity is exempt; it is not redirected. */
#define MESH_FLOW_EXEMPT 4U
/* mesh_flow.flags: a datagram socket that a policy denied: it is connected to where nobody listens. */
#define MESH_FLOW_DENIED 8U
/* mesh_flow.flags: the mesh bound the socket to an address, and not the application. */
#define MESH_FLOW_BOUND 16U
/* mesh_flow.flags: its entry in `handover` counts against the quota of its user, too. */
#define MESH_FLOW_BY_USER 32U
/* mesh_flow.flags: a thread of the kernel opened it, and for which process is not known: no rule that names an
 * identity is about it.
 */
#define MESH_FLOW_OF_KERNEL 64U
/* Servers that one socket may ask by datagram at a time and still tell their answers apart. */
#define MESH_TOKENS 16U
/* The first of as many addresses, host order: 127.64.0.1. A datagram of a socket that may ask several servers goes
 * to the sidecar from one of them, and the answer comes back to it.
 */
#define MESH_TOKEN_FIRST 0x7f400001U
/* Groups of the peers that are remembered with a datagram socket; a peer belongs to one of them. */
#define MESH_PEER_GROUPS 62U
/* Peers in a group. All of them, with what the kernel adds, fit into 8 KiB. */
#define MESH_PEERS_A_GROUP 16U
/* How many peers are remembered with a datagram socket. */
#define MESH_PEERS 992U
/* How long an answer may take, in units of 2³⁰ ns: 120 seconds. */
#define MESH_PEER_AGE 112U
/* Servers that a datagram socket asked, which are no peers when they answer; a power of two. */
#define MESH_UDP_CONTACTS 32U
/* Listeners on one port of one family and namespace that are known: those of a group that shares the port, and,
 * while a sidecar restarts, of its successor too.
 */
#define MESH_LISTENER_SLOTS 128U
/* Owners of one place of the host that are known: cgroups whose sockets share an address and a port. */
#define MESH_PORT_SLOTS 4U
/* mesh_listening.flags: it counts against a quota. */
#define MESH_LISTENING_COUNTED 1U
/* mesh_listening.flags: there was no quota left for it, so that it is not known. */
#define MESH_LISTENING_MISSED 2U
/* mesh_listening.flags: its owner is noted in `host_ports`. */
#define MESH_LISTENING_PLACED 4U
/* Listening sockets that are kept for one struct mesh_quota_key, so that nobody fills the map for others. */
#define MESH_QUOTA_LISTENERS 2048U
/* Places on the host that are kept for one user other than root. */
#define MESH_QUOTA_PLACES 4096U
/* More than any map holds. */
#define MESH_QUOTA_UNBOUNDED 0x40000000U
/* Connections that are kept for one member while they are being opened, in `handover` and in `exempt_flows`. */
#define MESH_QUOTA_CONNECTIONS 32768U
/* This many of them, whoever opens them. What is left is for all users of the member. */
#define MESH_QUOTA_CONNECTIONS_ANY 16384U
/* This many of what is left for one user. */
#define MESH_QUOTA_CONNECTIONS_USER 4096U
/* mesh_quota_key.kind: sockets in `listeners`. */
#define MESH_QUOTA_OF_LISTENERS 0U
/* mesh_quota_key.kind: entries of `host_ports`. */
#define MESH_QUOTA_OF_PLACES 1U
/* mesh_quota_key.kind: entries of `handover`. */
#define MESH_QUOTA_OF_HANDOVER 2U
/* mesh_quota_key.kind: entries of `exempt_flows`. */
#define MESH_QUOTA_OF_EXEMPT 3U
/* Beside one of the two: those that were noted beyond MESH_QUOTA_CONNECTIONS_ANY, of one user. */
#define MESH_QUOTA_BY_USER 8U
/* Packets that may be on their way from a pod's program to the one that decides, on one CPU. */
#define MESH_TAIL_CALL_SLOTS 4U
/* Stands in the program of a network namespace where whoever loads it writes the namespace's cookie. */
#define MESH_ENTRY_NETNS 0x7f0000736e74656eULL
/* Readers of decisions at the same time. */
#define MESH_WATCHES 8U
/* mesh_watch.verdicts: an exemption decided. */
#define MESH_WATCH_EXEMPT 128U
/* mesh_watch.flags: only this user's. */
#define MESH_WATCH_UID 1U
/* mesh_watch.flags: only members of this name. */
#define MESH_WATCH_NAME 2U
/* mesh_control.observe: decisions are kept in the map `recent`. */
#define MESH_OBSERVE_RECENT 0x8000000000000000ULL
/* Kinds of decisions in the map `recent`, each with places of its own, so that none pushes out another: TCP
 * connections and datagrams, by their protocol's number, and what was denied.
 */
#define MESH_RECENT_KINDS 3U
/* What was denied. */
#define MESH_RECENT_DENIED 2U
/* Places of each kind; a power of two. */
#define MESH_RECENT_PLACES 4096U
/* mesh_recent.turn: it is being written. */
#define MESH_RECENT_WRITING 0xffffffffffffffffULL
/* Nanoseconds in which equal decisions take one place. */
#define MESH_RECENT_SPAN 0x3b9aca00U
/* Elements of the map `recent_last`; a power of two. */
#define MESH_RECENT_LAST 1024U
/* In the map `probed_sockets` of `probes.bpf.c`: the socket that gets what is sent. */
#define MESH_PROBE_READER 1U
/* mesh_socket_accel.form and mesh_pair.form: an application and its own sidecar. */
#define MESH_FORM_LOCAL 0U
/* mesh_socket_accel.form and mesh_pair.form: the sidecars of two workloads. */
#define MESH_FORM_PEERS 1U
/* mesh_pair_end.splices: not that anybody knows. */
#define MESH_SPLICES_NOT 0U
/* mesh_pair_end.splices: its program does, on other sockets. */
#define MESH_SPLICES_ELSEWHERE 1U
/* mesh_pair_end.splices: it did, and nothing keeps it from doing so while bytes of the fast path are unread. */
#define MESH_SPLICES 2U
/* mesh_pair_end.splices: it did, and is refused while bytes of the fast path are unread. */
#define MESH_SPLICES_REFUSED 3U
/* mesh_pair_end.splices: it does, and every byte of the fast path is read. */
#define MESH_SPLICES_ALONE 4U
/* mesh_pair_end.waits: it was seen to read with `MSG_WAITALL`. */
#define MESH_READS_ALL 1U
/* mesh_pair_end.waits: it has read bytes of the fast path that were fewer than its low-water mark (`SO_RCVLOWAT`). */
#define MESH_READS_BELOW_MARK 2U
/* mesh_pair_end.waits: it polls: it asks again and again, without sleeping. */
#define MESH_READS_POLLING 4U
/* After this many empty reads, one after the other, a reader polls. */
#define MESH_EMPTY_READS_POLL 16U
/* A reader that gets data after fewer empty reads is not polling: one that reads until `EAGAIN`, and then sleeps,
 * has exactly one.
 */
#define MESH_EMPTY_READS_SLEEP 4U
/* What the kernel needs for a message of the fast path beside its bytes. */
#define MESH_MESSAGE_SIZE 1024U
/* mesh_stalled_reader.why: it spliced while bytes of the fast path were unread. */
#define MESH_STALLED_BY_SPLICE 1U
/* mesh_stalled_reader.why: `FIONREAD` told it less than there was. */
#define MESH_STALLED_BY_FIONREAD 2U
/* Paths that are counted apart; more than there are SendPaths. */
#define MESH_SEND_PATHS 18U
/* Items in a struct mesh_hit_line. */
#define MESH_HITS_A_LINE 4U
/* Lines of the map `hits`, a power of two. */
#define MESH_HIT_LINES 0x40000U
/* Lines that are searched for an item's counter, from the one that its key names. */
#define MESH_HIT_PROBES 8U
/* mesh_member_counts.decided: decisions of exempt processes, beside those by `MESH_VERDICT_*`. */
#define MESH_COUNTED_EXEMPT 3U
/* How many tables a slot has. */
#define MESH_TABLES 9U
#define MESH_HASH_K1 0x9e3779b97f4a7c15ULL
#define MESH_HASH_K2 0xd6e8feb86659fd93ULL

#define MESH_TABLE_MANIFEST 0
#define MESH_TABLE_PROFILES 1
#define MESH_TABLE_TREES 2
#define MESH_TABLE_SPANS 3
#define MESH_TABLE_NODES 4
#define MESH_TABLE_PORTS 5
#define MESH_TABLE_DECISIONS 6
#define MESH_TABLE_SOURCES 7
#define MESH_TABLE_NAMES 8

enum mesh_counter {
	/* No policy is live: generation 0. */
	MESH_COUNT_IDLE,
	/* The process is not in the mesh. */
	MESH_COUNT_NOT_MEMBER,
	/* The process is a member, but not under the live policy. */
	MESH_COUNT_NO_PROFILE,
	/* The identity is exempt, or the interface. */
	MESH_COUNT_EXEMPT,
	/* Sent to the sidecar. */
	MESH_COUNT_REDIRECTED,
	/* Went straight. */
	MESH_COUNT_EXCLUDED,
	/* Refused. */
	MESH_COUNT_DENIED,
	/* A table of the live generation did not answer: a bug, and the flow went straight. */
	MESH_COUNT_TABLE_MISSING,
	/* Neither TCP nor UDP: not looked at. */
	MESH_COUNT_OTHER_PROTOCOL,
	/* Socket storage could not be had, so the flow was refused rather than sent astray. */
	MESH_COUNT_STORAGE_FULL,
	/* The hand-over map was full, or the quota of its member or user in it: the sidecar of that connection
	 * cannot be told where it was going.
	 */
	MESH_COUNT_HANDOVER_FULL,
	/* A connection was begun that goes straight: there is nothing to hand over. */
	MESH_COUNT_CONNECT_DIRECT,
	/* The original destination of a connection was handed over, for its sidecar to take. */
	MESH_COUNT_HANDED_OVER,
	/* A connection of an exempt identity within its pod was noted, so that it is not redirected inbound. */
	MESH_COUNT_EXEMPT_NOTED,
	/* The same could not be noted, since the map was full, or the quota of its member or user in it: a rule
	 * for the pod's own addresses redirects it.
	 */
	MESH_COUNT_EXEMPT_FULL,
	/* An inbound connection was to go to a sidecar, and none listened. */
	MESH_COUNT_MISSING_SIDECAR,
	/* A connection that was sent to a sidecar ended, and the sidecar had never taken it. */
	MESH_COUNT_NOT_TAKEN,
	/* What a sidecar did not take could not be added up by its port. */
	MESH_COUNT_NOT_TAKEN_LOST,
	/* With inbound by tc: a packet that opens nothing: no TCP segment or datagram, a later fragment, or one
	 * that comes again on the interface of its VLAN.
	 */
	MESH_COUNT_NOT_INBOUND,
	/* With inbound by tc: a packet of a connection, established or half-open. */
	MESH_COUNT_OWN_SOCKET,
	/* With inbound by tc: a packet whose tag of a priority was taken off; it comes again without. */
	MESH_COUNT_UNTAGGED,
	/* With inbound by tc: a past connection that was ended since its client opens another one. */
	MESH_COUNT_TIME_WAIT_RESET,
	/* With inbound by tc: a packet that is not for the pod's own addresses. */
	MESH_COUNT_FORWARDED,
	/* A socket listens in a pod or on the host, and is known. */
	MESH_COUNT_LISTENS,
	/* A socket listens where no member lives. */
	MESH_COUNT_LISTENS_OUTSIDE,
	/* A socket listens that is not known: more do on its port, or of its user or pod, than are kept track of.
	 * It is drift, and looked for again by `apply --repair`, the agent and an attach.
	 */
	MESH_COUNT_LISTENERS_FULL,
	/* A socket of the host listens no more. */
	MESH_COUNT_LISTENER_CLOSED,
	/* While listening sockets were looked for: one that was known. */
	MESH_COUNT_LISTENER_KNOWN,
	/* While listening sockets were looked for: one that could not be noted, since this kernel holds its spin
	 * lock.
	 */
	MESH_COUNT_LISTENER_LOCKED,
	/* While listening sockets were looked for: one that does not listen. */
	MESH_COUNT_NO_LISTENER,
	/* A sidecar accepted a connection that was handed over to it. */
	MESH_COUNT_ACCEPTED,
	/* A connection was accepted that nobody redirected. */
	MESH_COUNT_ACCEPTED_STRAIGHT,
	/* A connection was accepted that was noted as an exempt one's. */
	MESH_COUNT_ACCEPTED_EXEMPT,
	/* A socket that the mesh redirected or noted was closed. */
	MESH_COUNT_CLOSED,
	/* Such a socket changed its state otherwise. */
	MESH_COUNT_OTHER_STATE,
	/* The kernel told of something that the mesh has no use for. */
	MESH_COUNT_IGNORED_EVENT,
	/* The kernel told of a socket and did not show it. */
	MESH_COUNT_NO_SOCKET,
	/* A sidecar asked for an original destination and got it. */
	MESH_COUNT_ANSWERED,
	/* A sidecar asked for an original destination, and nobody had redirected the connection. */
	MESH_COUNT_NOT_REDIRECTED,
	/* A sidecar asked for an original destination, and it is of the other family. */
	MESH_COUNT_OTHER_FAMILY,
	/* A sidecar asked for an original destination, and its buffer was too short. */
	MESH_COUNT_SHORT_BUFFER,
	/* Another socket option was asked for. */
	MESH_COUNT_OTHER_OPTION,
	/* An application asked whom it reached, and was told what it dialled. */
	MESH_COUNT_PEER_NAMED,
	/* A process asked for a name that the mesh does not change. */
	MESH_COUNT_NAME_KEPT,
	/* A datagram came that seems to come from the server that was asked. */
	MESH_COUNT_DATAGRAM_NAMED,
	/* A datagram came from loopback, of which nobody was asked. */
	MESH_COUNT_DATAGRAM_UNASKED,
	/* A datagram came from elsewhere. */
	MESH_COUNT_DATAGRAM_OTHER,
	/* A datagram came to a socket that is not connected, and its sender may be answered. */
	MESH_COUNT_PEER_NOTED,
	/* A datagram was sent to a peer that has sent one to the same socket: it passed whatever the rules say. */
	MESH_COUNT_PEER_ANSWERED,
	/* A sidecar answered one of several servers' clients, from the address that it was asked at. */
	MESH_COUNT_TOKEN_ANSWERED,
	/* A decision was not sent to a reader that wanted it, since its buffer was full. */
	MESH_COUNT_EVENT_LOST,
	/* The program of a pod could not go on to the one that decides inbound traffic: it is not there, or too
	 * many packets interrupted each other. It went straight.
	 */
	MESH_COUNT_ENTRY_LOST,
	/* The counter of an item could not be kept, since the map was full. */
	MESH_COUNT_HIT_LOST,
	/* A datagram socket that was sent to the sidecar connects elsewhere and still has a loopback source:
	 * refused with `EINVAL`, since nothing would come back.
	 */
	MESH_COUNT_SOURCE_KEPT,
	/* A datagram by a socket that was to be released from its device, for the sidecar, or bound to it again,
	 * for elsewhere: refused once with `ENOBUFS`, so that the next one arrives.
	 */
	MESH_COUNT_DEVICE_RELEASED,
	/* A connection or datagram for the sidecar that would leave by an interface, by whatever option: refused
	 * with `EPERM`, since it cannot be kept from that; or one for elsewhere by a socket that cannot be bound
	 * again.
	 */
	MESH_COUNT_DEVICE_HELD,
	/* A packet was sent that carries no route, or by nobody whom a policy decides. */
	MESH_COUNT_SENT,
	/* A connection or packet of a member that carries a route (a routing header of IPv6, a source route of
	 * IPv4), and would go elsewhere first: refused with `EPERM`.
	 */
	MESH_COUNT_ROUTE_REFUSED,
	/* A datagram with control data by a connected socket, which goes where that is connected to. */
	MESH_COUNT_DATAGRAM_CONNECTED,
	/* A cgroup was made at a path that a policy names, and its processes are what the policy says. */
	MESH_COUNT_CGROUP_JOINED,
	/* A cgroup was made at a path that no policy names. */
	MESH_COUNT_CGROUP_OTHER,
	/* A cgroup was made at a path that a policy names, and could not join, since a map was full. */
	MESH_COUNT_CGROUP_LOST,
	/* A cgroup was removed, with what was known of it. */
	MESH_COUNT_CGROUP_GONE,
	/* A chosen connection goes through the stack, since the maps of acceleration were full. */
	MESH_COUNT_ACCELERATION_FULL,
	/* A SYN reached a pod whose sidecar takes it and whose workload may be a peer. */
	MESH_COUNT_ARRIVAL_NOTED,
	/* A SYN reached another place while something is accelerated. */
	MESH_COUNT_ARRIVAL_OTHER,
	/* A chosen connection was established at the end that connects. */
	MESH_COUNT_PAIR_BEGUN,
	/* The end that accepts was found. */
	MESH_COUNT_PAIR_MET,
	/* It is on another node, or no sidecar that the policy chooses. */
	MESH_COUNT_NOT_MET,
	/* An end of a chosen connection was closed. */
	MESH_COUNT_PAIR_CLOSED,
	/* While something is accelerated: a socket that is not. */
	MESH_COUNT_NOT_CHOSEN,
	/* A message on a chosen connection went past the stack. */
	MESH_COUNT_SENT_FAST,
	/* A message on a chosen connection went through the stack; the pair's `messages` say why. */
	MESH_COUNT_SENT_SLOW,
	/* A chosen socket was read by a plain call. */
	MESH_COUNT_PLAIN_READ,
	/* While something is accelerated: a read that got nothing. */
	MESH_COUNT_NOTHING_READ,
	/* A chosen connection never entered: its socket is of MPTCP, or sends without a copy (`SO_ZEROCOPY`). */
	MESH_COUNT_NOT_ELIGIBLE,
	/* While unread bytes were looked for: an accelerated socket that has some. */
	MESH_COUNT_UNREAD,
	/* While unread bytes were looked for: an accelerated socket that has none. */
	MESH_COUNT_ALL_READ,
	/* A process spliced from a connection, and nothing kept it from doing so. */
	MESH_COUNT_SPLICED,
	/* While something is accelerated: a reader whose program was looked for before. */
	MESH_COUNT_READER_KNOWN,
	/* A reader's program was looked for among those that splice. */
	MESH_COUNT_READER_LOOKED_UP,
	/* While something is accelerated: a file was used that is no chosen socket, or not read by splice. */
	MESH_COUNT_FILE_OTHER,
	/* Urgent data was sent on an accelerated connection. It goes through the stack, and so does all that
	 * follows.
	 */
	MESH_COUNT_URGENT_SENT,
	/* A socket was closed while bytes of the fast path were unread: its peer saw an end, not a reset. */
	MESH_COUNT_CLOSED_UNREAD,
	/* A process was kept from `splice`, which would not have seen unread bytes of the fast path (`EINVAL`). */
	MESH_COUNT_SPLICE_REFUSED,
	/* A process spliced while bytes of the fast path were unread. It waits for what `splice` does not see. */
	MESH_COUNT_SPLICE_STRANDED,
	/* A blocking read on an accelerated connection was woken with nothing to read (`EAGAIN`): another thread
	 * writes.
	 */
	MESH_COUNT_WOKEN_EARLY,
	/* While something is accelerated, and the kernel miscounts: a system call other than `FIONREAD` of a
	 * socket.
	 */
	MESH_COUNT_CALL_OTHER,
	/* `FIONREAD` of a socket that is not accelerated. */
	MESH_COUNT_COUNT_OTHER,
	/* `FIONREAD` of an accelerated socket told what is there. */
	MESH_COUNT_COUNTED_RIGHT,
	/* The kernel's answer to `FIONREAD` of an accelerated socket was repaired. */
	MESH_COUNT_COUNT_REPAIRED,
	/* `FIONREAD` of an accelerated socket told less than there is, and stayed so: its reader may stall. */
	MESH_COUNT_COUNT_SHORT,
	/* A connection, or its accepting end, did not enter, since its reader asks `FIONREAD`, which this kernel
	 * miscounts.
	 */
	MESH_COUNT_COUNTS_AVOIDED,
	/* An accelerated connection whose reader was told too little by `FIONREAD` is about to leave. */
	MESH_COUNT_COUNTS_LEAVING,
	/* Such a connection was woken, and left where nothing of the fast path is unread. */
	MESH_COUNT_COUNTS_RELEASED,
	/* A member that has no routable address of a family was to reach one of it through the sidecar: refused
	 * with `ENETUNREACH`, as without a mesh.
	 */
	MESH_COUNT_UNROUTABLE,
	/* A socket could not be bound to its member's own address, which is not there any more, or not yet: the
	 * sidecar sees a loopback address in its place.
	 */
	MESH_COUNT_SOURCE_MISSING,
	/* The first packet of a redirected connection was let through to its sidecar, whatever the policy says of
	 * its source.
	 */
	MESH_COUNT_TAKEN,
	/* A datagram of a socket that a policy denied was refused, for the application to see. */
	MESH_COUNT_DATAGRAM_REFUSED,
	/* A process asked for its own address, and was told its member's. */
	MESH_COUNT_SOURCE_NAMED,
	/* An inbound connection went to a listening socket on the sidecar's port that neither an exempt identity
	 * nor root made, as there was no other: who is not the sidecar may have taken its port.
	 */
	MESH_COUNT_OTHERS_LISTENER,
	/* The program that notes listening sockets did not note one (`listeners_full` counts why). */
	MESH_COUNT_LISTENER_MISSED,
	/* With inbound by tc: a segment that opens no connection and belongs to none of this pod: it passes
	 * through, or is answered by a reset.
	 */
	MESH_COUNT_OPENS_NOTHING,
	/* With inbound by tc: the answer to a SYN cookie of the sidecar's, for its listening socket. */
	MESH_COUNT_COOKIE_ANSWERED,
	/* With inbound by tc: the answer to a SYN cookie that somebody else would have taken. Dropped. */
	MESH_COUNT_COOKIE_REFUSED,
	/* With inbound by tc: a packet whose ports or flags are in a later fragment, or behind more extension
	 * headers than are looked at, and a SYN in fragments. Dropped.
	 */
	MESH_COUNT_NOT_UNDERSTOOD,
	/* A packet that a socket received and that was decided before, or by nobody: of a connection, or inbound.
	 * Counted only while a policy decides datagrams that members receive.
	 */
	MESH_COUNT_RECEIVED,
	/* A decision was not added to those of its member, which has no entry in `member_counts`. */
	MESH_COUNT_UNCOUNTED,
};

enum mesh_send_path {
	/* Past the stack. */
	MESH_SEND_PATH_FAST,
	/* Through the stack: the mesh is paused, or the live policy does not choose the pair. */
	MESH_SEND_PATH_OFF,
	/* Through the stack: the other end is on another node, is no member, or has not accepted yet. */
	MESH_SEND_PATH_NO_PEER,
	/* Through the stack: the reader has not shown yet that it reads by plain calls. */
	MESH_SEND_PATH_NEW_READER,
	/* Through the stack: the reader, or its program elsewhere, reads by other means than plain calls:
	 * `splice`.
	 */
	MESH_SEND_PATH_READER_SPLICES,
	/* Through the stack for good: the reader uses `MSG_WAITALL`. */
	MESH_SEND_PATH_READER_WAITS_FOR_ALL,
	/* Through the stack: the reader set `SO_RCVLOWAT`. */
	MESH_SEND_PATH_READER_LOW_WATER,
	/* Through the stack: the reader asks again and again, without sleeping, and holds its socket's lock most
	 * of the time.
	 */
	MESH_SEND_PATH_READER_POLLS,
	/* Through the stack for good: urgent data was sent. */
	MESH_SEND_PATH_URGENT,
	/* Through the stack: the sender set `SO_ZEROCOPY`. */
	MESH_SEND_PATH_ZERO_COPY,
	/* Through the stack: TLS of the kernel or MPTCP is on one of the sockets. */
	MESH_SEND_PATH_UPPER_PROTOCOL,
	/* Through the stack: earlier bytes are still on their way through it. */
	MESH_SEND_PATH_IN_FLIGHT,
	/* Through the stack: earlier bytes of it are unread. */
	MESH_SEND_PATH_UNREAD,
	/* Through the stack: the reader's buffer is full. */
	MESH_SEND_PATH_FULL,
	/* Through the stack: one of the ends is being closed. */
	MESH_SEND_PATH_CLOSING,
	/* Refused, and all that follows (`EACCES`): the reader splices, and would get these bytes before unread
	 * ones of the fast path.
	 */
	MESH_SEND_PATH_STRANDED,
};

/* The words that select a policy. One, in a memory-mapped array: user space commits by a compare-and-swap,
 * programs read `generation` exactly once for each decision.
 */
struct mesh_control {
	/* The generation that decides. Its lowest bit is the slot. 0: touch nothing. */
	__u64 generation;
	/* The generation that a writer is building, claimed before the free slot is first written. */
	__u64 claim;
	/* The generation that `resume` brings back; 0 unless paused. */
	__u64 paused;
	/* A bit for each struct mesh_watch that may have a reader; 0: nobody watches. */
	__u64 observe;
	/* The cookie of the network namespace in which inbound traffic to cgroups is decided; 0: nowhere. */
	__u64 host;
	/* Lower half: how many programs were found to splice from connections of the mesh, counted by the kernel's
	 * programs. Upper half, not 0: the programs of acceleration are attached, and connections may be chosen;
	 * its second bit: some readers must not be, since they ask `FIONREAD`, which this kernel miscounts; its
	 * third: it does.
	 */
	__u64 acceleration;
	/* Counts commits of every kind; never goes back. */
	__u64 commits;
	/* Version of what is kept for live connections: `MESH_FLOW_ABI` of who made the maps. */
	__u64 flow_abi;
};
_Static_assert(sizeof(struct mesh_control) == 64, "mesh_control");
_Static_assert(__builtin_offsetof(struct mesh_control, generation) == 0, "generation");
_Static_assert(__builtin_offsetof(struct mesh_control, claim) == 8, "claim");
_Static_assert(__builtin_offsetof(struct mesh_control, paused) == 16, "paused");
_Static_assert(__builtin_offsetof(struct mesh_control, observe) == 24, "observe");
_Static_assert(__builtin_offsetof(struct mesh_control, host) == 32, "host");
_Static_assert(__builtin_offsetof(struct mesh_control, acceleration) == 40, "acceleration");
_Static_assert(__builtin_offsetof(struct mesh_control, commits) == 48, "commits");
_Static_assert(__builtin_offsetof(struct mesh_control, flow_abi) == 56, "flow_abi");

/* First line of the manifest table of a slot. */
struct mesh_manifest {
	/* `MESH_MANIFEST_MAGIC`. */
	__u64 magic;
	/* Version of the tables. */
	__u32 policy_abi;
	/* How many tables a slot has. */
	__u32 tables;
	/* BLAKE3 over the digests of all tables but the manifest. */
	__u8 digest[32];
	/* The generation that this slot holds. Outside the digest. */
	__u64 generation;
	/* Who applied it: 0 command line, 1 agent. Outside the digest. */
	__u32 owner;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_manifest) == 64, "mesh_manifest");
_Static_assert(__builtin_offsetof(struct mesh_manifest, magic) == 0, "magic");
_Static_assert(__builtin_offsetof(struct mesh_manifest, policy_abi) == 8, "policy_abi");
_Static_assert(__builtin_offsetof(struct mesh_manifest, tables) == 12, "tables");
_Static_assert(__builtin_offsetof(struct mesh_manifest, digest) == 16, "digest");
_Static_assert(__builtin_offsetof(struct mesh_manifest, generation) == 48, "generation");
_Static_assert(__builtin_offsetof(struct mesh_manifest, owner) == 56, "owner");
_Static_assert(__builtin_offsetof(struct mesh_manifest, reserve) == 60, "reserve");

/* What the manifest says of one table. */
struct mesh_manifest_table {
	/* Its length in bytes; the rest of its last line is zero. */
	__u64 bytes;
	/* Reserve; zero. */
	__u64 reserve[2];
	/* BLAKE3 of those bytes. */
	__u8 digest[32];
	/* Reserve; zero. */
	__u64 reserve2;
};
_Static_assert(sizeof(struct mesh_manifest_table) == 64, "mesh_manifest_table");
_Static_assert(__builtin_offsetof(struct mesh_manifest_table, bytes) == 0, "bytes");
_Static_assert(__builtin_offsetof(struct mesh_manifest_table, reserve) == 8, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_manifest_table, digest) == 24, "digest");
_Static_assert(__builtin_offsetof(struct mesh_manifest_table, reserve2) == 56, "reserve2");

/* A profile: where its trees begin. Behind those of all profiles is a line for each of their classes: its
 * profile's, but for the roots of the outbound trees, or of the inbound ones for what comes from the node.
 */
struct mesh_profile {
	/* Root lines of the trees on IPv4 addresses (narrow lines; key: the address, host order) and on the high
	 * 64 bits of IPv6 addresses: `[direction][0 v4, 1 v6]`.
	 */
	__u32 tree[2][2];
	/* The same for a member's own addresses. */
	__u32 own[2][2];
	/* Root line of the tree on exempt user ids; its spans are source ids, 0 for "not exempt". */
	__u32 exempt_uid;
	/* The same for group ids. */
	__u32 exempt_gid;
	/* `MESH_PROFILE_*`. */
	__u32 flags;
	/* Root port line of the connections to its own sidecar that are accelerated; 0: none. */
	__u32 accelerate_local;
	/* Root line of the tree on peer profiles; its spans are port lines, 0 for "never". */
	__u32 accelerate_peers;
	/* Root line of the tree (narrow lines) on user ids that tell classes apart; its values are what the part
	 * of the id adds to the number of the cell. 0: they tell none apart.
	 */
	__u32 class_uid;
	/* The same for group ids. */
	__u32 class_gid;
	/* Root line of the tree (narrow lines) on the numbers of cells; its values are lines of this table: the
	 * profile's own, or that of a class. 0: there are no classes.
	 */
	__u32 class_cells;
};
_Static_assert(sizeof(struct mesh_profile) == 64, "mesh_profile");
_Static_assert(__builtin_offsetof(struct mesh_profile, tree) == 0, "tree");
_Static_assert(__builtin_offsetof(struct mesh_profile, own) == 16, "own");
_Static_assert(__builtin_offsetof(struct mesh_profile, exempt_uid) == 32, "exempt_uid");
_Static_assert(__builtin_offsetof(struct mesh_profile, exempt_gid) == 36, "exempt_gid");
_Static_assert(__builtin_offsetof(struct mesh_profile, flags) == 40, "flags");
_Static_assert(__builtin_offsetof(struct mesh_profile, accelerate_local) == 44, "accelerate_local");
_Static_assert(__builtin_offsetof(struct mesh_profile, accelerate_peers) == 48, "accelerate_peers");
_Static_assert(__builtin_offsetof(struct mesh_profile, class_uid) == 52, "class_uid");
_Static_assert(__builtin_offsetof(struct mesh_profile, class_gid) == 56, "class_gid");
_Static_assert(__builtin_offsetof(struct mesh_profile, class_cells) == 60, "class_cells");

/* One line of a search tree over 64-bit keys. Child i serves the keys from `key[i - 1]` up to, but not including,
 * `key[i]`; unused keys are all ones.
 */
struct mesh_tree_line {
	/* Where children 1 … 7 begin. */
	__u64 key[MESH_TREE_KEYS];
	/* Child 0; the others follow it. Lines, or spans if it is a leaf. */
	__u32 first;
	/* How many keys are used. */
	__u16 count;
	/* 1: the children are spans. */
	__u16 leaf;
};
_Static_assert(sizeof(struct mesh_tree_line) == 64, "mesh_tree_line");
_Static_assert(__builtin_offsetof(struct mesh_tree_line, key) == 0, "key");
_Static_assert(__builtin_offsetof(struct mesh_tree_line, first) == 56, "first");
_Static_assert(__builtin_offsetof(struct mesh_tree_line, count) == 60, "count");
_Static_assert(__builtin_offsetof(struct mesh_tree_line, leaf) == 62, "leaf");

/* One line of a search tree over 32-bit keys, in the same manner. Each line has a second one behind it, which the
 * CPU fetches with it: in a leaf the values of its 15 children, else zero.
 */
struct mesh_narrow_line {
	/* Where children 1 … 14 begin. */
	__u32 key[MESH_NARROW_KEYS];
	/* Child 0; the others follow it, every other line. 0 in a leaf. */
	__u32 first;
	/* How many keys are used. */
	__u16 count;
	/* 1: its children are the values in the line behind it. */
	__u16 leaf;
};
_Static_assert(sizeof(struct mesh_narrow_line) == 64, "mesh_narrow_line");
_Static_assert(__builtin_offsetof(struct mesh_narrow_line, key) == 0, "key");
_Static_assert(__builtin_offsetof(struct mesh_narrow_line, first) == 56, "first");
_Static_assert(__builtin_offsetof(struct mesh_narrow_line, count) == 60, "count");
_Static_assert(__builtin_offsetof(struct mesh_narrow_line, leaf) == 62, "leaf");

/* One line of a search tree over ports, in the same manner. */
struct mesh_port_line {
	/* Where children 1 … 28 begin. */
	__u16 key[MESH_PORT_KEYS];
	/* Child 0; the others follow it. Lines, or decisions if it is a leaf. */
	__u32 first;
	/* How many keys are used. */
	__u16 count;
	/* 1: the children are decisions. */
	__u16 leaf;
};
_Static_assert(sizeof(struct mesh_port_line) == 64, "mesh_port_line");
_Static_assert(__builtin_offsetof(struct mesh_port_line, key) == 0, "key");
_Static_assert(__builtin_offsetof(struct mesh_port_line, first) == 56, "first");
_Static_assert(__builtin_offsetof(struct mesh_port_line, count) == 60, "count");
_Static_assert(__builtin_offsetof(struct mesh_port_line, leaf) == 62, "leaf");

/* What is decided for a stretch of ports, or for all ports of a node. */
struct mesh_decision {
	/* In a node, the key of the item's counter. In the table of decisions, which nodes share, the hash of the
	 * source, of which the key is made with the item's prefix.
	 */
	__u64 key;
	/* Which item decided, without its address: index into the table of sources. With `MESH_VERDICT_BY_PORT`
	 * the root port line.
	 */
	__u32 source;
	/* The sidecar's port; 0 unless redirected. */
	__u16 port;
	/* `MESH_VERDICT_*`. */
	__u8 verdict;
	/* How many parents above the deciding node the item's own prefix is. */
	__u8 up;
};
_Static_assert(sizeof(struct mesh_decision) == 16, "mesh_decision");
_Static_assert(__builtin_offsetof(struct mesh_decision, key) == 0, "key");
_Static_assert(__builtin_offsetof(struct mesh_decision, source) == 8, "source");
_Static_assert(__builtin_offsetof(struct mesh_decision, port) == 12, "port");
_Static_assert(__builtin_offsetof(struct mesh_decision, verdict) == 14, "verdict");
_Static_assert(__builtin_offsetof(struct mesh_decision, up) == 15, "up");

/* A prefix of a profile's tree, with what is decided there: one line, since each line that a decision touches
 * first is a wait for memory.
 */
struct mesh_node {
	/* Network address, network order, IPv4 as v4-mapped. */
	__u32 address[4];
	/* Prefix length, IPv4 counted as v4-mapped (96 … 128). */
	__u8 len;
	/* `MESH_FAMILY_*`. */
	__u8 family;
	/* Reserve; zero. */
	__u16 reserve;
	/* The next wider prefix of the same tree: a node, or `MESH_NO_PARENT`. */
	__u32 parent;
	/* TCP, UDP. */
	struct mesh_decision decision[2];
	/* How often each decided; written by the programs, and no part of the policy: read as zero, and added to
	 * the counters of the items when another table takes this one's place.
	 */
	__u32 tally[2];
};
_Static_assert(sizeof(struct mesh_node) == 64, "mesh_node");
_Static_assert(__builtin_offsetof(struct mesh_node, address) == 0, "address");
_Static_assert(__builtin_offsetof(struct mesh_node, len) == 16, "len");
_Static_assert(__builtin_offsetof(struct mesh_node, family) == 17, "family");
_Static_assert(__builtin_offsetof(struct mesh_node, reserve) == 18, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_node, parent) == 20, "parent");
_Static_assert(__builtin_offsetof(struct mesh_node, decision) == 24, "decision");
_Static_assert(__builtin_offsetof(struct mesh_node, tally) == 56, "tally");

/* What the programs know of a source. */
struct mesh_source {
	/* Stable over generations; with the prefix it keys the counters. */
	__u64 hash;
	/* 0 no rule, 1 built-in, 2 exempt, 3 rule, 4 accelerate. */
	__u8 kind;
	/* Reserve; zero. */
	__u8 reserve[3];
	/* Reserve; zero. */
	__u32 reserve2;
};
_Static_assert(sizeof(struct mesh_source) == 16, "mesh_source");
_Static_assert(__builtin_offsetof(struct mesh_source, hash) == 0, "hash");
_Static_assert(__builtin_offsetof(struct mesh_source, kind) == 8, "kind");
_Static_assert(__builtin_offsetof(struct mesh_source, reserve) == 9, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_source, reserve2) == 12, "reserve2");

/* An endpoint of the registry: a pod by the cookie of its network namespace, or a host workload by its cgroup id. */
struct mesh_member {
	/* The profile that it falls under, for each slot, or `MESH_NO_PROFILE`. */
	__u32 profile[2];
	/* Names it in events and listeners; given once, never used again while the map lives. */
	__u32 id;
	/* The workload that it falls under, for each slot: its place among those of the table *names*, or
	 * `MESH_NO_PROFILE`. Profiles are shared by workloads with equal rules; this tells them apart.
	 */
	__u32 workload[2];
	/* name_hash of its name. */
	__u32 name;
	/* own_bit of each of its own addresses: where the bit of an address is not set, it is none of them, and
	 * nothing is looked up.
	 */
	__u64 own;
	/* Cookie of the network namespace that the two sources are addresses of; 0: they are not known, nor is it
	 * known that there are none.
	 */
	__u64 netns;
	/* The address that its connections to others come from, network order; zero: it has none but loopback and
	 * link-local ones.
	 */
	__u32 source6[4];
	/* The same of IPv4. */
	__u32 source4;
	/* `MESH_MEMBER_*`. */
	__u32 flags;
};
_Static_assert(sizeof(struct mesh_member) == 64, "mesh_member");
_Static_assert(__builtin_offsetof(struct mesh_member, profile) == 0, "profile");
_Static_assert(__builtin_offsetof(struct mesh_member, id) == 8, "id");
_Static_assert(__builtin_offsetof(struct mesh_member, workload) == 12, "workload");
_Static_assert(__builtin_offsetof(struct mesh_member, name) == 20, "name");
_Static_assert(__builtin_offsetof(struct mesh_member, own) == 24, "own");
_Static_assert(__builtin_offsetof(struct mesh_member, netns) == 32, "netns");
_Static_assert(__builtin_offsetof(struct mesh_member, source6) == 40, "source6");
_Static_assert(__builtin_offsetof(struct mesh_member, source4) == 56, "source4");
_Static_assert(__builtin_offsetof(struct mesh_member, flags) == 60, "flags");

/* One of a member's own addresses. */
struct mesh_own_key {
	/* Cookie of the network namespace. */
	__u64 netns;
	/* Network order, IPv4 as v4-mapped. */
	__u32 address[4];
};
_Static_assert(sizeof(struct mesh_own_key) == 24, "mesh_own_key");
_Static_assert(__builtin_offsetof(struct mesh_own_key, netns) == 0, "netns");
_Static_assert(__builtin_offsetof(struct mesh_own_key, address) == 8, "address");

/* One of the node's addresses. */
struct mesh_node_address {
	/* Network order, IPv4 as v4-mapped. */
	__u32 address[4];
};
_Static_assert(sizeof(struct mesh_node_address) == 16, "mesh_node_address");
_Static_assert(__builtin_offsetof(struct mesh_node_address, address) == 0, "address");

/* The path of a cgroup that a policy names. */
struct mesh_cgroup_path {
	/* From the root of the hierarchy, with zeros at its end. */
	__u8 path[MESH_CGROUP_PATH];
};
_Static_assert(sizeof(struct mesh_cgroup_path) == 256, "mesh_cgroup_path");
_Static_assert(__builtin_offsetof(struct mesh_cgroup_path, path) == 0, "path");

/* What a cgroup becomes when it is made at a path. */
struct mesh_named_cgroup {
	/* Its entry in `cgroups`. Its id names the path in exemptions, too. */
	struct mesh_member becomes;
	/* Not 0: its processes are members under one slot's policy. */
	__u32 member;
	/* Not 0: a policy exempts its processes, or puts them into a class. */
	__u32 exempt;
};
_Static_assert(sizeof(struct mesh_named_cgroup) == 72, "mesh_named_cgroup");
_Static_assert(__builtin_offsetof(struct mesh_named_cgroup, becomes) == 0, "becomes");
_Static_assert(__builtin_offsetof(struct mesh_named_cgroup, member) == 64, "member");
_Static_assert(__builtin_offsetof(struct mesh_named_cgroup, exempt) == 68, "exempt");

/* An interface of a member's network namespace that its profile of one slot exempts. */
struct mesh_interface_key {
	/* The member's number. */
	__u32 member;
	/* The slot, 0 or 1. */
	__u32 slot;
	/* The interface's number in that namespace. */
	__u32 index;
};
_Static_assert(sizeof(struct mesh_interface_key) == 12, "mesh_interface_key");
_Static_assert(__builtin_offsetof(struct mesh_interface_key, member) == 0, "member");
_Static_assert(__builtin_offsetof(struct mesh_interface_key, slot) == 4, "slot");
_Static_assert(__builtin_offsetof(struct mesh_interface_key, index) == 8, "index");

/* A destination whose route leads out of a member's network namespace by an interface that its profile of one slot
 * exempts, or within such a one a destination whose route does not. The key of a longest-prefix match.
 */
struct mesh_route_key {
	/* How many of the bits that follow count. */
	__u32 bits;
	/* The member's number. */
	__u32 member;
	/* The slot, 0 or 1. */
	__u32 slot;
	/* Network order, IPv4 as v4-mapped. */
	__u32 address[4];
};
_Static_assert(sizeof(struct mesh_route_key) == 28, "mesh_route_key");
_Static_assert(__builtin_offsetof(struct mesh_route_key, bits) == 0, "bits");
_Static_assert(__builtin_offsetof(struct mesh_route_key, member) == 4, "member");
_Static_assert(__builtin_offsetof(struct mesh_route_key, slot) == 8, "slot");
_Static_assert(__builtin_offsetof(struct mesh_route_key, address) == 12, "address");

/* A cgroup path that a profile of one slot exempts, or puts into a class. */
struct mesh_exempt_key {
	/* The path's id. */
	__u64 path;
	/* The profile; with `MESH_KEY_CLASS` for classes. */
	__u32 profile;
	/* The slot, 0 or 1. */
	__u32 slot;
};
_Static_assert(sizeof(struct mesh_exempt_key) == 16, "mesh_exempt_key");
_Static_assert(__builtin_offsetof(struct mesh_exempt_key, path) == 0, "path");
_Static_assert(__builtin_offsetof(struct mesh_exempt_key, profile) == 8, "profile");
_Static_assert(__builtin_offsetof(struct mesh_exempt_key, slot) == 12, "slot");

/* A connection by its ends, as the connecting socket sees them. */
struct mesh_flow_key {
	/* Cookie of the network namespace. */
	__u64 netns;
	/* The connecting socket's address, network order, IPv4 as v4-mapped. */
	__u32 local[4];
	/* The sidecar's address, network order, IPv4 as v4-mapped. */
	__u32 remote[4];
	/* The connecting socket's port, host order. */
	__u16 local_port;
	/* The sidecar's port, host order. */
	__u16 remote_port;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_flow_key) == 48, "mesh_flow_key");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, netns) == 0, "netns");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, local) == 8, "local");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, remote) == 24, "remote");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, local_port) == 40, "local_port");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, remote_port) == 42, "remote_port");
_Static_assert(__builtin_offsetof(struct mesh_flow_key, reserve) == 44, "reserve");

/* What is kept for a live connection, in socket storage of the connecting and of the accepted socket. */
struct mesh_flow {
	/* The address that was dialled, network order, IPv4 as v4-mapped. */
	__u32 original[4];
	/* The port that was dialled, host order. */
	__u16 original_port;
	/* The sidecar's port that it was sent to, host order; 0: not redirected. */
	__u16 sidecar_port;
	/* `MESH_FAMILY_*` of the address that was dialled. */
	__u8 family;
	/* `MESH_FLOW_*`. */
	__u8 flags;
	/* 0 TCP, 1 UDP. */
	__u8 protocol;
	/* 0 outbound, 1 inbound. */
	__u8 direction;
	/* The generation that decided. */
	__u64 generation;
	/* The member that opened it. */
	__u32 member;
	/* The source that decided, in that generation. */
	__u32 source;
	/* The key of the counter of the item that decided. */
	__u64 item;
	/* The connecting socket's cookie. */
	__u64 cookie;
	/* The user that opened it. */
	__u32 uid;
	/* The group that opened it. */
	__u32 gid;
	/* The cgroup that it was opened in. */
	__u64 cgroup;
	/* The interface that the socket was bound to before it was released from it; 0: none. */
	__u32 device;
	/* The lower half of the id of the member's cgroup, at or above `cgroup`; 0 for a pod. */
	__u32 within;
	/* The address that the socket seems to have, or with `MESH_FLOW_BOUND` was bound to, network order, IPv4
	 * as v4-mapped; zero for none.
	 */
	__u32 own[4];
};
_Static_assert(sizeof(struct mesh_flow) == 96, "mesh_flow");
_Static_assert(__builtin_offsetof(struct mesh_flow, original) == 0, "original");
_Static_assert(__builtin_offsetof(struct mesh_flow, original_port) == 16, "original_port");
_Static_assert(__builtin_offsetof(struct mesh_flow, sidecar_port) == 18, "sidecar_port");
_Static_assert(__builtin_offsetof(struct mesh_flow, family) == 20, "family");
_Static_assert(__builtin_offsetof(struct mesh_flow, flags) == 21, "flags");
_Static_assert(__builtin_offsetof(struct mesh_flow, protocol) == 22, "protocol");
_Static_assert(__builtin_offsetof(struct mesh_flow, direction) == 23, "direction");
_Static_assert(__builtin_offsetof(struct mesh_flow, generation) == 24, "generation");
_Static_assert(__builtin_offsetof(struct mesh_flow, member) == 32, "member");
_Static_assert(__builtin_offsetof(struct mesh_flow, source) == 36, "source");
_Static_assert(__builtin_offsetof(struct mesh_flow, item) == 40, "item");
_Static_assert(__builtin_offsetof(struct mesh_flow, cookie) == 48, "cookie");
_Static_assert(__builtin_offsetof(struct mesh_flow, uid) == 56, "uid");
_Static_assert(__builtin_offsetof(struct mesh_flow, gid) == 60, "gid");
_Static_assert(__builtin_offsetof(struct mesh_flow, cgroup) == 64, "cgroup");
_Static_assert(__builtin_offsetof(struct mesh_flow, device) == 72, "device");
_Static_assert(__builtin_offsetof(struct mesh_flow, within) == 76, "within");
_Static_assert(__builtin_offsetof(struct mesh_flow, own) == 80, "own");

/* A connection that an exempt identity opens. */
struct mesh_exempt_flow {
	/* The connecting socket's cookie. */
	__u64 cookie;
	/* The member that opens it. */
	__u32 member;
	/* The user whose quota it counts against beside the member's, or all ones. */
	__u32 user;
};
_Static_assert(sizeof(struct mesh_exempt_flow) == 16, "mesh_exempt_flow");
_Static_assert(__builtin_offsetof(struct mesh_exempt_flow, cookie) == 0, "cookie");
_Static_assert(__builtin_offsetof(struct mesh_exempt_flow, member) == 8, "member");
_Static_assert(__builtin_offsetof(struct mesh_exempt_flow, user) == 12, "user");

/* A port of a sidecar, for those who are sent there. */
struct mesh_sidecar_key {
	/* Cookie of the network namespace. */
	__u64 netns;
	/* The member's number. */
	__u32 member;
	/* The sidecar's port, host order. */
	__u16 port;
	/* `MESH_FAMILY_*` of what is dialled. */
	__u8 family;
	/* 0 outbound, 1 inbound. */
	__u8 direction;
};
_Static_assert(sizeof(struct mesh_sidecar_key) == 16, "mesh_sidecar_key");
_Static_assert(__builtin_offsetof(struct mesh_sidecar_key, netns) == 0, "netns");
_Static_assert(__builtin_offsetof(struct mesh_sidecar_key, member) == 8, "member");
_Static_assert(__builtin_offsetof(struct mesh_sidecar_key, port) == 12, "port");
_Static_assert(__builtin_offsetof(struct mesh_sidecar_key, family) == 14, "family");
_Static_assert(__builtin_offsetof(struct mesh_sidecar_key, direction) == 15, "direction");

/* Whom a datagram socket asked, by token: kept with the socket. */
struct mesh_udp_servers {
	/* IPv4 address, network order. */
	__u32 address[MESH_TOKENS];
	/* Port, host order. */
	__u16 port[MESH_TOKENS];
	/* The sidecar's port that was asked instead, host order; 0: the token is free. */
	__u16 sidecar_port[MESH_TOKENS];
	/* The token that is given next, modulo their number. */
	__u32 next;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_udp_servers) == 136, "mesh_udp_servers");
_Static_assert(__builtin_offsetof(struct mesh_udp_servers, address) == 0, "address");
_Static_assert(__builtin_offsetof(struct mesh_udp_servers, port) == 64, "port");
_Static_assert(__builtin_offsetof(struct mesh_udp_servers, sidecar_port) == 96, "sidecar_port");
_Static_assert(__builtin_offsetof(struct mesh_udp_servers, next) == 128, "next");
_Static_assert(__builtin_offsetof(struct mesh_udp_servers, reserve) == 132, "reserve");

/* Who sent datagrams to a socket that is not connected, in socket storage: answers to them are no new flows. */
struct mesh_udp_peers {
	/* Chosen by chance, so that nobody can tell which peers share an entry. */
	__u64 secret[2];
	/* A hash of address and port (40 bits), and when its last datagram came (24 bits); 0: free. */
	__u64 peer[MESH_PEERS];
};
_Static_assert(sizeof(struct mesh_udp_peers) == 7952, "mesh_udp_peers");
_Static_assert(__builtin_offsetof(struct mesh_udp_peers, secret) == 0, "secret");
_Static_assert(__builtin_offsetof(struct mesh_udp_peers, peer) == 16, "peer");

/* Whom a socket that is not connected sent datagrams, in socket storage: what comes from them is no question. */
struct mesh_udp_contacts {
	/* As mesh_udp_peers.peer, with secrets of zero, and when the last datagram was sent. */
	__u64 server[MESH_UDP_CONTACTS];
	/* The place that is given next, modulo their number. */
	__u32 next;
	/* When and under which generation (its lower 8 bits) nobody needed a note of what the socket receives; 0:
	 * never.
	 */
	__u32 needless;
};
_Static_assert(sizeof(struct mesh_udp_contacts) == 264, "mesh_udp_contacts");
_Static_assert(__builtin_offsetof(struct mesh_udp_contacts, server) == 0, "server");
_Static_assert(__builtin_offsetof(struct mesh_udp_contacts, next) == 256, "next");
_Static_assert(__builtin_offsetof(struct mesh_udp_contacts, needless) == 260, "needless");

/* One of the sockets that listen on a port. */
struct mesh_listener_key {
	/* Cookie of the network namespace. */
	__u64 netns;
	/* The port, host order. */
	__u16 port;
	/* The socket's: `AF_INET` or `AF_INET6`. */
	__u8 family;
	/* Tells it from others on the same port: below `MESH_LISTENER_SLOTS`. */
	__u8 slot;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_listener_key) == 16, "mesh_listener_key");
_Static_assert(__builtin_offsetof(struct mesh_listener_key, netns) == 0, "netns");
_Static_assert(__builtin_offsetof(struct mesh_listener_key, port) == 8, "port");
_Static_assert(__builtin_offsetof(struct mesh_listener_key, family) == 10, "family");
_Static_assert(__builtin_offsetof(struct mesh_listener_key, slot) == 11, "slot");
_Static_assert(__builtin_offsetof(struct mesh_listener_key, reserve) == 12, "reserve");

/* Where somebody listens, in the network namespace of the host. */
struct mesh_port_key {
	/* The address that it listens on, network order, IPv4 as v4-mapped; zero for all. */
	__u32 address[4];
	/* The port, host order. */
	__u16 port;
	/* Tells an owner from others at the same place: below `MESH_PORT_SLOTS`. */
	__u8 slot;
	/* Reserve; zero. */
	__u8 reserve;
	/* Reserve; zero. */
	__u32 reserve2;
};
_Static_assert(sizeof(struct mesh_port_key) == 24, "mesh_port_key");
_Static_assert(__builtin_offsetof(struct mesh_port_key, address) == 0, "address");
_Static_assert(__builtin_offsetof(struct mesh_port_key, port) == 16, "port");
_Static_assert(__builtin_offsetof(struct mesh_port_key, slot) == 18, "slot");
_Static_assert(__builtin_offsetof(struct mesh_port_key, reserve) == 19, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_port_key, reserve2) == 20, "reserve2");

/* One of those who listen there: sockets may share a place, and each owner has an entry. */
struct mesh_port_owner {
	/* The id of the socket's cgroup, then those above it, as many as there are; then zero. */
	__u64 cgroup[MESH_CGROUP_DEPTH];
	/* How many sockets of that cgroup there are. */
	__u32 sockets;
	/* The user whose quota the entry counts against: of a user namespace, who made the outermost one. */
	__u32 uid;
};
_Static_assert(sizeof(struct mesh_port_owner) == 136, "mesh_port_owner");
_Static_assert(__builtin_offsetof(struct mesh_port_owner, cgroup) == 0, "cgroup");
_Static_assert(__builtin_offsetof(struct mesh_port_owner, sockets) == 128, "sockets");
_Static_assert(__builtin_offsetof(struct mesh_port_owner, uid) == 132, "uid");

/* What is kept with a listening socket, and is copied to every socket that it accepts. */
struct mesh_listening {
	/* The port that it listens on, host order. An accepted socket with another port was redirected. */
	__u16 port;
	/* Of an accepted socket, 1: a policy was live, and the connection was neither handed over by the mesh nor
	 * opened by an exempt identity beside it. A later policy may decide it otherwise.
	 */
	__u8 decided;
	/* Of a listening socket, `MESH_LISTENING_*`. */
	__u8 flags;
	/* mesh_quota_key.who of a listening socket that is counted. */
	__u32 who;
};
_Static_assert(sizeof(struct mesh_listening) == 8, "mesh_listening");
_Static_assert(__builtin_offsetof(struct mesh_listening, port) == 0, "port");
_Static_assert(__builtin_offsetof(struct mesh_listening, decided) == 2, "decided");
_Static_assert(__builtin_offsetof(struct mesh_listening, flags) == 3, "flags");
_Static_assert(__builtin_offsetof(struct mesh_listening, who) == 4, "who");

/* Whose quota it is, and in which map. */
struct mesh_quota_key {
	/* For sockets that listen, the cookie of the network namespace; for connections, the member's number. */
	__u64 of;
	/* For sockets that listen in a pod, 0 for root and users that the policy exempts, 1 for all others; on the
	 * host, the user. For connections the user with `MESH_QUOTA_BY_USER`, else 0.
	 */
	__u32 who;
	/* `MESH_QUOTA_OF_*`. */
	__u32 kind;
};
_Static_assert(sizeof(struct mesh_quota_key) == 16, "mesh_quota_key");
_Static_assert(__builtin_offsetof(struct mesh_quota_key, of) == 0, "of");
_Static_assert(__builtin_offsetof(struct mesh_quota_key, who) == 8, "who");
_Static_assert(__builtin_offsetof(struct mesh_quota_key, kind) == 12, "kind");

/* How much of a quota is used. */
struct mesh_quota {
	/* Entries. Signed: what was noted before the quota began to count is given back, too. */
	__u32 taken;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_quota) == 8, "mesh_quota");
_Static_assert(__builtin_offsetof(struct mesh_quota, taken) == 0, "taken");
_Static_assert(__builtin_offsetof(struct mesh_quota, reserve) == 4, "reserve");

/* What the program of a pod leaves for the one that decides and to which it goes on, one a CPU. Both are called
 * with the same context, so whoever interrupts between the two takes nothing that is not its own.
 */
struct mesh_tail_call_slots {
	/* Addresses of contexts; 0: free. */
	__u64 context[MESH_TAIL_CALL_SLOTS];
	/* The cookies of the network namespaces that they are in. */
	__u64 pod[MESH_TAIL_CALL_SLOTS];
};
_Static_assert(sizeof(struct mesh_tail_call_slots) == 64, "mesh_tail_call_slots");
_Static_assert(__builtin_offsetof(struct mesh_tail_call_slots, context) == 0, "context");
_Static_assert(__builtin_offsetof(struct mesh_tail_call_slots, pod) == 32, "pod");

/* A reader of decisions, and which it wants. In a memory-mapped array, so that a reader renews its lease without a
 * system call. What the programs cannot tell, the reader leaves out itself.
 */
struct mesh_watch {
	/* Nanoseconds since boot, sleep included, up to which the reader is there. A reader that was killed renews
	 * nothing, and the first program that finds its lease at an end turns its bit off.
	 */
	__u64 lease;
	/* Decisions that it wanted and that did not fit its ring buffer. */
	__u64 lost;
	/* `low half of a generation << 32 | workload`: other workloads of that generation are left out; 0: none
	 * is. In one word, so that it changes as a whole.
	 */
	__u64 subject;
	/* The peer's address, network order, IPv4 as v4-mapped, under `mask`. */
	__u32 address[4];
	/* Bits of `address` that count. */
	__u32 mask[4];
	/* The process's effective user id, where `flags` says so. */
	__u32 uid;
	/* name_hash of the member's name, where `flags` says so. */
	__u32 name;
	/* Lowest destination port, host order. */
	__u16 low;
	/* Highest destination port, host order. */
	__u16 high;
	/* A bit for each protocol: 0 TCP, 1 UDP. */
	__u8 protocols;
	/* A bit for each direction: 0 outbound, 1 inbound. */
	__u8 directions;
	/* A bit for each `MESH_VERDICT_*`, and `MESH_WATCH_EXEMPT`. */
	__u8 verdicts;
	/* `MESH_WATCH_*`. */
	__u8 flags;
	/* Reserve; zero. */
	__u64 reserve[2];
};
_Static_assert(sizeof(struct mesh_watch) == 88, "mesh_watch");
_Static_assert(__builtin_offsetof(struct mesh_watch, lease) == 0, "lease");
_Static_assert(__builtin_offsetof(struct mesh_watch, lost) == 8, "lost");
_Static_assert(__builtin_offsetof(struct mesh_watch, subject) == 16, "subject");
_Static_assert(__builtin_offsetof(struct mesh_watch, address) == 24, "address");
_Static_assert(__builtin_offsetof(struct mesh_watch, mask) == 40, "mask");
_Static_assert(__builtin_offsetof(struct mesh_watch, uid) == 56, "uid");
_Static_assert(__builtin_offsetof(struct mesh_watch, name) == 60, "name");
_Static_assert(__builtin_offsetof(struct mesh_watch, low) == 64, "low");
_Static_assert(__builtin_offsetof(struct mesh_watch, high) == 66, "high");
_Static_assert(__builtin_offsetof(struct mesh_watch, protocols) == 68, "protocols");
_Static_assert(__builtin_offsetof(struct mesh_watch, directions) == 69, "directions");
_Static_assert(__builtin_offsetof(struct mesh_watch, verdicts) == 70, "verdicts");
_Static_assert(__builtin_offsetof(struct mesh_watch, flags) == 71, "flags");
_Static_assert(__builtin_offsetof(struct mesh_watch, reserve) == 72, "reserve");

/* One decision, as `observe` sees it. */
struct mesh_event {
	/* Nanoseconds since boot, sleep included. */
	__u64 time;
	/* The generation that decided. */
	__u64 generation;
	/* The key of the counter of the item that decided. */
	__u64 item;
	/* Cookie of the network namespace. */
	__u64 netns;
	/* The cgroup of the process; 0 where no process asked. */
	__u64 cgroup;
	/* The source that decided, in that generation. */
	__u32 source;
	/* The node that decided, in that generation; all ones where an exemption did. */
	__u32 node;
	/* The member. */
	__u32 member;
	/* Its profile, in that generation. */
	__u32 profile;
	/* Its workload, in that generation. */
	__u32 workload;
	/* Process id (thread group); 0 where no process asked. */
	__u32 pid;
	/* Effective user id; all ones where no process asked. */
	__u32 uid;
	/* The peer: outbound the destination, inbound the source; network order, IPv4 as v4-mapped. */
	__u32 address[4];
	/* The member's own end, as far as it is known: zero where the kernel has not chosen it yet. */
	__u32 local[4];
	/* The destination port, host order. */
	__u16 port;
	/* The source port, host order; 0 where the kernel has not chosen it yet. */
	__u16 from_port;
	/* The sidecar's port; 0 unless redirected. */
	__u16 sidecar_port;
	/* `MESH_VERDICT_*`. */
	__u8 verdict;
	/* 0 TCP, 1 UDP. */
	__u8 protocol;
	/* 0 outbound, 1 inbound. */
	__u8 direction;
	/* `MESH_FAMILY_*`. */
	__u8 family;
	/* Reserve; zero. */
	__u16 reserve;
	/* The process's name. */
	__u8 comm[16];
};
_Static_assert(sizeof(struct mesh_event) == 128, "mesh_event");
_Static_assert(__builtin_offsetof(struct mesh_event, time) == 0, "time");
_Static_assert(__builtin_offsetof(struct mesh_event, generation) == 8, "generation");
_Static_assert(__builtin_offsetof(struct mesh_event, item) == 16, "item");
_Static_assert(__builtin_offsetof(struct mesh_event, netns) == 24, "netns");
_Static_assert(__builtin_offsetof(struct mesh_event, cgroup) == 32, "cgroup");
_Static_assert(__builtin_offsetof(struct mesh_event, source) == 40, "source");
_Static_assert(__builtin_offsetof(struct mesh_event, node) == 44, "node");
_Static_assert(__builtin_offsetof(struct mesh_event, member) == 48, "member");
_Static_assert(__builtin_offsetof(struct mesh_event, profile) == 52, "profile");
_Static_assert(__builtin_offsetof(struct mesh_event, workload) == 56, "workload");
_Static_assert(__builtin_offsetof(struct mesh_event, pid) == 60, "pid");
_Static_assert(__builtin_offsetof(struct mesh_event, uid) == 64, "uid");
_Static_assert(__builtin_offsetof(struct mesh_event, address) == 68, "address");
_Static_assert(__builtin_offsetof(struct mesh_event, local) == 84, "local");
_Static_assert(__builtin_offsetof(struct mesh_event, port) == 100, "port");
_Static_assert(__builtin_offsetof(struct mesh_event, from_port) == 102, "from_port");
_Static_assert(__builtin_offsetof(struct mesh_event, sidecar_port) == 104, "sidecar_port");
_Static_assert(__builtin_offsetof(struct mesh_event, verdict) == 106, "verdict");
_Static_assert(__builtin_offsetof(struct mesh_event, protocol) == 107, "protocol");
_Static_assert(__builtin_offsetof(struct mesh_event, direction) == 108, "direction");
_Static_assert(__builtin_offsetof(struct mesh_event, family) == 109, "family");
_Static_assert(__builtin_offsetof(struct mesh_event, reserve) == 110, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_event, comm) == 112, "comm");

/* A place for one of the last decisions. */
struct mesh_recent {
	/* Which decision of its kind is here, counted from 1; 0 for none, `MESH_RECENT_WRITING` while it is
	 * written. In a head: how many there were. Who reads the same number before and after a copy has a whole
	 * decision.
	 */
	__u64 turn;
	/* How often the same process asked for the same and got the same answer: once at least; zero in a head. */
	__u64 times;
	/* Nanoseconds of the clock that is fast to read: equal decisions are counted here for `MESH_RECENT_SPAN`
	 * from then on.
	 */
	__u64 since;
	/* The decision, the first of them; zero in a head. */
	struct mesh_event event;
};
_Static_assert(sizeof(struct mesh_recent) == 152, "mesh_recent");
_Static_assert(__builtin_offsetof(struct mesh_recent, turn) == 0, "turn");
_Static_assert(__builtin_offsetof(struct mesh_recent, times) == 8, "times");
_Static_assert(__builtin_offsetof(struct mesh_recent, since) == 16, "since");
_Static_assert(__builtin_offsetof(struct mesh_recent, event) == 24, "event");

/* What is kept with a socket whose connection is chosen for acceleration. */
struct mesh_socket_accel {
	/* The pair that it is an end of: the connecting socket's cookie. 0 until it is established. */
	__u64 pair;
	/* The key of the counters of the `accelerate` item that chose it. */
	__u64 item;
	/* The generation that chose it. */
	__u64 generation;
	/* Cookie of the network namespace of the socket that connects. */
	__u64 netns;
	/* The cgroup by which its process is a member; 0: by its network namespace. */
	__u64 cgroup;
	/* 0 it connected, 1 it accepted. */
	__u32 role;
	/* The port that was dialled, host order. */
	__u16 port;
	/* `MESH_FORM_*`. */
	__u8 form;
	/* Reserve; zero. */
	__u8 reserve;
	/* For `MESH_FORM_PEERS`: the profile of the member that connects, in that generation. */
	__u32 profile;
	/* Reserve; zero. */
	__u32 reserve2;
};
_Static_assert(sizeof(struct mesh_socket_accel) == 56, "mesh_socket_accel");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, pair) == 0, "pair");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, item) == 8, "item");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, generation) == 16, "generation");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, netns) == 24, "netns");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, cgroup) == 32, "cgroup");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, role) == 40, "role");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, port) == 44, "port");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, form) == 46, "form");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, reserve) == 47, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, profile) == 48, "profile");
_Static_assert(__builtin_offsetof(struct mesh_socket_accel, reserve2) == 52, "reserve2");

/* One end of a pair, and what it sent. */
struct mesh_pair_end {
	/* The address of the kernel's `struct tcp_sock`; 0: this end is not there. */
	__u64 sock;
	/* Its socket's cookie, also its key among the accelerated sockets. */
	__u64 cookie;
	/* Bytes that it sent past the stack. */
	__u64 fast_bytes;
	/* Bytes that it sent through the stack. */
	__u64 slow_bytes;
	/* Bytes that it read by plain calls. */
	__u64 plain_bytes;
	/* `MESH_READS_*`: how much it waits for. */
	__u8 waits;
	/* 1: it was seen to send urgent data. */
	__u8 urgent;
	/* `MESH_SPLICES_*`: whether it reads by `splice`. */
	__u8 splices;
	/* 1: it was told too little by `FIONREAD`, and is about to leave. */
	__u8 miscounted;
	/* What `the lower half of `control.acceleration`` was when its program was last looked for among those
	 * that splice.
	 */
	__u32 looked;
	/* Bytes of the fast path that it had read when it last read any. */
	__u32 taken;
	/* Messages of the fast path that it sent, up to one that is known to be read. */
	__u32 read_messages;
	/* The message of the fast path that is looked at next, whether it is read. */
	__u32 next_message;
	/* Bytes that it had sent over the fast path, with that message. */
	__u32 next_bytes;
	/* Its empty reads since it last got something, up to `MESH_EMPTY_READS_POLL`. */
	__u32 empty_reads;
	/* Reserve; zero. */
	__u32 reserve;
	/* Messages that it sent, by the path that they took: index `MESH_SEND_PATH_*`. */
	__u64 messages[MESH_SEND_PATHS];
};
_Static_assert(sizeof(struct mesh_pair_end) == 216, "mesh_pair_end");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, sock) == 0, "sock");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, cookie) == 8, "cookie");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, fast_bytes) == 16, "fast_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, slow_bytes) == 24, "slow_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, plain_bytes) == 32, "plain_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, waits) == 40, "waits");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, urgent) == 41, "urgent");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, splices) == 42, "splices");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, miscounted) == 43, "miscounted");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, looked) == 44, "looked");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, taken) == 48, "taken");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, read_messages) == 52, "read_messages");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, next_message) == 56, "next_message");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, next_bytes) == 60, "next_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, empty_reads) == 64, "empty_reads");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, reserve) == 68, "reserve");
_Static_assert(__builtin_offsetof(struct mesh_pair_end, messages) == 72, "messages");

/* A connection between two sockets of this node that is chosen for acceleration. */
struct mesh_pair {
	/* The key of the counters of the `accelerate` item that chose it. */
	__u64 item;
	/* The generation that was last asked whether it is chosen. */
	__u64 generation;
	/* Cookie of the network namespace of the socket that connected. */
	__u64 netns;
	/* The cgroup by which the connecting process is a member; 0: by its network namespace. */
	__u64 cgroup;
	/* Cookie of the network namespace of the socket that accepts. */
	__u64 peer_netns;
	/* The connecting socket's address, network order, IPv4 as v4-mapped. */
	__u32 client[4];
	/* The accepting socket's address, network order, IPv4 as v4-mapped. */
	__u32 server[4];
	/* The connecting socket's port, host order. */
	__u16 client_port;
	/* The accepting socket's port, host order. */
	__u16 server_port;
	/* The port that was dialled, host order. */
	__u16 port;
	/* `MESH_FORM_*`. */
	__u8 form;
	/* 1: the policy that lives now does not choose it. */
	__u8 off;
	/* The first sequence number that the connecting socket sends data with. */
	__u32 sequence;
	/* The first sequence number that the accepting socket sends data with. */
	__u32 acknowledged;
	/* The connecting and the accepting end. */
	struct mesh_pair_end ends[2];
};
_Static_assert(sizeof(struct mesh_pair) == 520, "mesh_pair");
_Static_assert(__builtin_offsetof(struct mesh_pair, item) == 0, "item");
_Static_assert(__builtin_offsetof(struct mesh_pair, generation) == 8, "generation");
_Static_assert(__builtin_offsetof(struct mesh_pair, netns) == 16, "netns");
_Static_assert(__builtin_offsetof(struct mesh_pair, cgroup) == 24, "cgroup");
_Static_assert(__builtin_offsetof(struct mesh_pair, peer_netns) == 32, "peer_netns");
_Static_assert(__builtin_offsetof(struct mesh_pair, client) == 40, "client");
_Static_assert(__builtin_offsetof(struct mesh_pair, server) == 56, "server");
_Static_assert(__builtin_offsetof(struct mesh_pair, client_port) == 72, "client_port");
_Static_assert(__builtin_offsetof(struct mesh_pair, server_port) == 74, "server_port");
_Static_assert(__builtin_offsetof(struct mesh_pair, port) == 76, "port");
_Static_assert(__builtin_offsetof(struct mesh_pair, form) == 78, "form");
_Static_assert(__builtin_offsetof(struct mesh_pair, off) == 79, "off");
_Static_assert(__builtin_offsetof(struct mesh_pair, sequence) == 80, "sequence");
_Static_assert(__builtin_offsetof(struct mesh_pair, acknowledged) == 84, "acknowledged");
_Static_assert(__builtin_offsetof(struct mesh_pair, ends) == 88, "ends");

/* A chosen connection that waits for its accepting end. Both ends of one connection know its sequence numbers, and
 * no two connections share them: that tells ends of other network namespaces apart.
 */
struct mesh_pending_pair {
	/* The connecting socket's address, network order, IPv4 as v4-mapped. */
	__u32 client[4];
	/* The accepting socket's address, network order, IPv4 as v4-mapped. */
	__u32 server[4];
	/* The connecting socket's port, host order. */
	__u16 client_port;
	/* The accepting socket's port, host order. */
	__u16 server_port;
	/* The first sequence number that the connecting socket sends data with. */
	__u32 sequence;
	/* The first sequence number that the accepting socket sends data with. */
	__u32 acknowledged;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_pending_pair) == 48, "mesh_pending_pair");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, client) == 0, "client");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, server) == 16, "server");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, client_port) == 32, "client_port");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, server_port) == 34, "server_port");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, sequence) == 36, "sequence");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, acknowledged) == 40, "acknowledged");
_Static_assert(__builtin_offsetof(struct mesh_pending_pair, reserve) == 44, "reserve");

/* A program, by its file. */
struct mesh_executable {
	/* The number of its inode. */
	__u64 inode;
	/* The device, as the kernel numbers it. */
	__u32 device;
	/* Reserve; zero. */
	__u32 reserve;
};
_Static_assert(sizeof(struct mesh_executable) == 16, "mesh_executable");
_Static_assert(__builtin_offsetof(struct mesh_executable, inode) == 0, "inode");
_Static_assert(__builtin_offsetof(struct mesh_executable, device) == 8, "device");
_Static_assert(__builtin_offsetof(struct mesh_executable, reserve) == 12, "reserve");

/* A program that splices from connections of the mesh. */
struct mesh_splice_reader {
	/* The name of the task that did so first, as in `/proc/PID/comm`, ended by zeros. */
	__u8 name[16];
	/* How often it was noticed. */
	__u64 times;
};
_Static_assert(sizeof(struct mesh_splice_reader) == 24, "mesh_splice_reader");
_Static_assert(__builtin_offsetof(struct mesh_splice_reader, name) == 0, "name");
_Static_assert(__builtin_offsetof(struct mesh_splice_reader, times) == 16, "times");

/* A reader that may stall for bytes that are there, and why. */
struct mesh_stalled_reader {
	/* When that was seen, in nanoseconds since boot. */
	__u64 since;
	/* Cookie of its network namespace. */
	__u64 netns;
	/* The process. */
	__u32 process;
	/* `MESH_STALLED_*`: why. */
	__u32 why;
	/* The name of its task, as in `/proc/PID/comm`, ended by zeros. */
	__u8 name[16];
};
_Static_assert(sizeof(struct mesh_stalled_reader) == 40, "mesh_stalled_reader");
_Static_assert(__builtin_offsetof(struct mesh_stalled_reader, since) == 0, "since");
_Static_assert(__builtin_offsetof(struct mesh_stalled_reader, netns) == 8, "netns");
_Static_assert(__builtin_offsetof(struct mesh_stalled_reader, process) == 16, "process");
_Static_assert(__builtin_offsetof(struct mesh_stalled_reader, why) == 20, "why");
_Static_assert(__builtin_offsetof(struct mesh_stalled_reader, name) == 24, "name");

/* What of an accelerated socket is unread. */
struct mesh_unread {
	/* The socket's cookie. */
	__u64 cookie;
	/* Bytes that came through the stack. */
	__u32 slow_bytes;
	/* Bytes that came past it. */
	__u32 fast_bytes;
};
_Static_assert(sizeof(struct mesh_unread) == 16, "mesh_unread");
_Static_assert(__builtin_offsetof(struct mesh_unread, cookie) == 0, "cookie");
_Static_assert(__builtin_offsetof(struct mesh_unread, slow_bytes) == 8, "slow_bytes");
_Static_assert(__builtin_offsetof(struct mesh_unread, fast_bytes) == 12, "fast_bytes");

/* Who asks `FIONREAD`, where that tells too little: readers of connections that were accepted on a port, or a
 * program as reader of those that it opens.
 */
struct mesh_fionread_reader {
	/* Cookie of the network namespace; of a program, the number of its inode. */
	__u64 place;
	/* The port, host order; of a program, the device, as the kernel numbers it. */
	__u32 number;
	/* 0 a port, 1 a program. */
	__u32 is_program;
};
_Static_assert(sizeof(struct mesh_fionread_reader) == 16, "mesh_fionread_reader");
_Static_assert(__builtin_offsetof(struct mesh_fionread_reader, place) == 0, "place");
_Static_assert(__builtin_offsetof(struct mesh_fionread_reader, number) == 8, "number");
_Static_assert(__builtin_offsetof(struct mesh_fionread_reader, is_program) == 12, "is_program");

/* What the closed pairs of an `accelerate` item sent. */
struct mesh_pair_totals {
	/* How many pairs. */
	__u64 pairs;
	/* Bytes past the stack. */
	__u64 fast_bytes;
	/* Bytes through the stack. */
	__u64 slow_bytes;
	/* Messages, by the path that they took: index `MESH_SEND_PATH_*`. */
	__u64 messages[MESH_SEND_PATHS];
};
_Static_assert(sizeof(struct mesh_pair_totals) == 168, "mesh_pair_totals");
_Static_assert(__builtin_offsetof(struct mesh_pair_totals, pairs) == 0, "pairs");
_Static_assert(__builtin_offsetof(struct mesh_pair_totals, fast_bytes) == 8, "fast_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_totals, slow_bytes) == 16, "slow_bytes");
_Static_assert(__builtin_offsetof(struct mesh_pair_totals, messages) == 24, "messages");

/* Counters of four items. The line of an item is named by the upper half of its key, or is one of the next. */
struct mesh_hit_line {
	/* Keys; 0: free. Never freed again. */
	__u64 item[MESH_HITS_A_LINE];
	/* Decisions. */
	__u64 count[MESH_HITS_A_LINE];
};
_Static_assert(sizeof(struct mesh_hit_line) == 64, "mesh_hit_line");
_Static_assert(__builtin_offsetof(struct mesh_hit_line, item) == 0, "item");
_Static_assert(__builtin_offsetof(struct mesh_hit_line, count) == 32, "count");

/* Whose decisions are counted, and under which policy. */
struct mesh_member_counts_key {
	/* The member's number. */
	__u32 member;
	/* The slot of the policy that decided, 0 or 1. */
	__u32 slot;
};
_Static_assert(sizeof(struct mesh_member_counts_key) == 8, "mesh_member_counts_key");
_Static_assert(__builtin_offsetof(struct mesh_member_counts_key, member) == 0, "member");
_Static_assert(__builtin_offsetof(struct mesh_member_counts_key, slot) == 4, "slot");

/* What was decided for a member, on one processor. */
struct mesh_member_counts {
	/* workload_hash of the workload that the member falls under in this slot; the programs do not read it. */
	__u64 workload;
	/* Decisions by `MESH_VERDICT_*`, without the flag, and `MESH_COUNTED_EXEMPT`. */
	__u64 decided[4];
	/* When one was last denied, in nanoseconds since boot, sleep included; 0: never. */
	__u64 denied_at;
	/* Reserve; zero. */
	__u64 reserve[2];
};
_Static_assert(sizeof(struct mesh_member_counts) == 64, "mesh_member_counts");
_Static_assert(__builtin_offsetof(struct mesh_member_counts, workload) == 0, "workload");
_Static_assert(__builtin_offsetof(struct mesh_member_counts, decided) == 8, "decided");
_Static_assert(__builtin_offsetof(struct mesh_member_counts, denied_at) == 40, "denied_at");
_Static_assert(__builtin_offsetof(struct mesh_member_counts, reserve) == 48, "reserve");

/* The maps. A program file gets all of them that defines MESH_MAPS before it includes this, else those of which
 * it defines the names, as MESH_MAP_CONTROL.
 */

/* The words that select a policy. */
#if defined(MESH_MAPS) || defined(MESH_MAP_CONTROL)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, 0x400);
	__uint(key_size, 4);
	__uint(value_size, 64);
} control SEC(".maps");
#endif

/* All policy tables of both slots: index = slot × tables + table. */
#if defined(MESH_MAPS) || defined(MESH_MAP_TABLES)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 18);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__uint(map_flags, 0x1400);
		__uint(key_size, 4);
		__uint(value_size, 64);
	});
} tables SEC(".maps");
#endif

/* Writing it waits for a grace period of its readers. */
#if defined(MESH_MAPS) || defined(MESH_MAP_SCRATCH)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__uint(map_flags, 0x1400);
		__uint(key_size, 4);
		__uint(value_size, 64);
	});
} scratch SEC(".maps");
#endif

/* Pods by the cookie of their network namespace. */
#if defined(MESH_MAPS) || defined(MESH_MAP_ENDPOINTS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, struct mesh_member);
} endpoints SEC(".maps");
#endif

/* Host workloads by cgroup id. */
#if defined(MESH_MAPS) || defined(MESH_MAP_CGROUPS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, struct mesh_member);
} cgroups SEC(".maps");
#endif

/* Members' own addresses. */
#if defined(MESH_MAPS) || defined(MESH_MAP_OWN_ADDRESSES)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_own_key);
	__type(value, __u32);
} own_addresses SEC(".maps");
#endif

/* The addresses of the node itself. */
#if defined(MESH_MAPS) || defined(MESH_MAP_NODE_ADDRESSES)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_node_address);
	__type(value, __u32);
} node_addresses SEC(".maps");
#endif

/* What a cgroup becomes when it is made at a path that a policy names. */
#if defined(MESH_MAPS) || defined(MESH_MAP_CGROUP_PATHS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_cgroup_path);
	__type(value, struct mesh_named_cgroup);
} cgroup_paths SEC(".maps");
#endif

/* Cgroups that policies exempt or put into classes, with their paths' ids. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EXEMPT_IDS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, __u32);
} exempt_ids SEC(".maps");
#endif

/* Paths of cgroups that a profile of a slot exempts, with the source, or puts into a class. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EXEMPT_CGROUPS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_exempt_key);
	__type(value, __u32);
} exempt_cgroups SEC(".maps");
#endif

/* Interfaces of members' network namespaces that the policy of a slot exempts, with the source. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EXEMPT_IFACES)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_interface_key);
	__type(value, __u32);
} exempt_ifaces SEC(".maps");
#endif

/* Destinations that a member's routes lead to by those interfaces, with the source; 0: not these. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EXEMPT_ROUTES)
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_route_key);
	__type(value, __u32);
} exempt_routes SEC(".maps");
#endif

/* Original destinations on their way from the connecting to the accepted socket. */
#if defined(MESH_MAPS) || defined(MESH_MAP_HANDOVER)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_flow_key);
	__type(value, struct mesh_flow);
} handover SEC(".maps");
#endif

/* Connections that were sent to a port of a sidecar and that it did not take. */
#if defined(MESH_MAPS) || defined(MESH_MAP_NOT_TAKEN)
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mesh_sidecar_key);
	__type(value, __u64);
} not_taken SEC(".maps");
#endif

/* Connections that exempt identities are opening. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EXEMPT_FLOWS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_flow_key);
	__type(value, struct mesh_exempt_flow);
} exempt_flows SEC(".maps");
#endif

/* What a connecting socket dialled. */
#if defined(MESH_MAPS) || defined(MESH_MAP_CLIENT_FLOWS)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_flow);
} client_flows SEC(".maps");
#endif

/* Where a connection that a sidecar accepted was going. */
#if defined(MESH_MAPS) || defined(MESH_MAP_ACCEPTED_FLOWS)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_flow);
} accepted_flows SEC(".maps");
#endif

/* Whom a datagram socket asked, by token. */
#if defined(MESH_MAPS) || defined(MESH_MAP_UDP_SERVERS)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_udp_servers);
} udp_servers SEC(".maps");
#endif

/* Who sent datagrams to a socket. */
#if defined(MESH_MAPS) || defined(MESH_MAP_UDP_PEERS)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_udp_peers);
} udp_peers SEC(".maps");
#endif

/* Whom a socket sent datagrams. */
#if defined(MESH_MAPS) || defined(MESH_MAP_UDP_CONTACTS)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_udp_contacts);
} udp_contacts SEC(".maps");
#endif

/* Sockets that listen in a pod; one that is closed leaves by itself. */
#if defined(MESH_MAPS) || defined(MESH_MAP_LISTENERS)
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 131072);
	__type(key, struct mesh_listener_key);
	__type(value, __u64);
} listeners SEC(".maps");
#endif

/* Who listens where, in the network namespace of the host. */
#if defined(MESH_MAPS) || defined(MESH_MAP_HOST_PORTS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_port_key);
	__type(value, struct mesh_port_owner);
} host_ports SEC(".maps");
#endif

/* What each has in maps that all share. */
#if defined(MESH_MAPS) || defined(MESH_MAP_QUOTAS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_quota_key);
	__type(value, struct mesh_quota);
} quotas SEC(".maps");
#endif

/* How many listening sockets were not noted, by the cookie of their network namespace. */
#if defined(MESH_MAPS) || defined(MESH_MAP_MISSED_SOCKETS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, __u64);
} missed_sockets SEC(".maps");
#endif

/* What a listening socket listens on, and sockets that it accepted were accepted by. */
#if defined(MESH_MAPS) || defined(MESH_MAP_LISTENING)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x201);
	__type(key, int);
	__type(value, struct mesh_listening);
} listening SEC(".maps");
#endif

/* Decisions by the stable hash of the item. */
#if defined(MESH_MAPS) || defined(MESH_MAP_HITS)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x400);
	__type(key, __u32);
	__type(value, struct mesh_hit_line);
} hits SEC(".maps");
#endif

/* What was decided for each member, under the policy of each slot. */
#if defined(MESH_MAPS) || defined(MESH_MAP_MEMBER_COUNTS)
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_member_counts_key);
	__type(value, struct mesh_member_counts);
} member_counts SEC(".maps");
#endif

/* Named early returns and events of the programs. */
#if defined(MESH_MAPS) || defined(MESH_MAP_COUNTERS)
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");
#endif

/* Which pod an inbound packet is for, on its way from the pod's program to the one that decides. */
#if defined(MESH_MAPS) || defined(MESH_MAP_TAIL_CALL_SLOTS)
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_tail_call_slots);
} tail_call_slots SEC(".maps");
#endif

/* The program that decides inbound traffic, by sk_lookup. */
#if defined(MESH_MAPS) || defined(MESH_MAP_INBOUND_PROGRAM)
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} inbound_program SEC(".maps");
#endif

/* The program that decides inbound traffic, by tc. */
#if defined(MESH_MAPS) || defined(MESH_MAP_ARRIVAL_PROGRAM)
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} arrival_program SEC(".maps");
#endif

/* Who reads decisions as they happen, and which. */
#if defined(MESH_MAPS) || defined(MESH_MAP_WATCHES)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__uint(map_flags, 0x400);
	__type(key, __u32);
	__type(value, struct mesh_watch);
} watches SEC(".maps");
#endif

/* Decisions as they happen: a ring buffer for each watch. */
#if defined(MESH_MAPS) || defined(MESH_MAP_EVENTS)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);
	});
} events SEC(".maps");
#endif

/* The last decisions: a head for each kind, then the places of each. */
#if defined(MESH_MAPS) || defined(MESH_MAP_RECENT)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 12291);
	__uint(map_flags, 0x400);
	__type(key, __u32);
	__type(value, struct mesh_recent);
} recent SEC(".maps");
#endif

/* A hash of the last decision, and the element of `recent` that it is in. */
#if defined(MESH_MAPS) || defined(MESH_MAP_RECENT_LAST)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} recent_last SEC(".maps");
#endif

/* Sockets of chosen connections, by their cookie. */
#if defined(MESH_MAPS) || defined(MESH_MAP_ACCELERATED)
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} accelerated SEC(".maps");
#endif

/* What a chosen socket is an end of. */
#if defined(MESH_MAPS) || defined(MESH_MAP_SOCKET_ACCEL)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 0x1);
	__type(key, int);
	__type(value, struct mesh_socket_accel);
} socket_accel SEC(".maps");
#endif

/* Chosen connections, by the connecting socket's cookie. */
#if defined(MESH_MAPS) || defined(MESH_MAP_PAIRS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, struct mesh_pair);
} pairs SEC(".maps");
#endif

/* Chosen connections that wait for their accepting end; the value is the pair. */
#if defined(MESH_MAPS) || defined(MESH_MAP_PENDING_PAIRS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, 0x1);
	__type(key, struct mesh_pending_pair);
	__type(value, __u64);
} pending_pairs SEC(".maps");
#endif

/* Inbound connections of a pod whose sidecar takes them, without sequence numbers; the value is its namespace. */
#if defined(MESH_MAPS) || defined(MESH_MAP_ARRIVALS)
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct mesh_pending_pair);
	__type(value, __u64);
} arrivals SEC(".maps");
#endif

/* What closed pairs sent, by the stable hash of the item that chose them. */
#if defined(MESH_MAPS) || defined(MESH_MAP_PAIR_TOTALS)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, 0x1);
	__type(key, __u64);
	__type(value, struct mesh_pair_totals);
} pair_totals SEC(".maps");
#endif

/* Programs that splice from connections of the mesh, by their files. */
#if defined(MESH_MAPS) || defined(MESH_MAP_SPLICE_READERS)
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct mesh_executable);
	__type(value, struct mesh_splice_reader);
} splice_readers SEC(".maps");
#endif

/* Accelerated sockets whose readers may stall, by their cookie. */
#if defined(MESH_MAPS) || defined(MESH_MAP_STALLED_READERS)
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct mesh_stalled_reader);
} stalled_readers SEC(".maps");
#endif

/* Ports and programs whose readers ask FIONREAD, where the kernel tells them too little. */
#if defined(MESH_MAPS) || defined(MESH_MAP_FIONREAD_READER)
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct mesh_fionread_reader);
	__type(value, struct mesh_splice_reader);
} fionread_reader SEC(".maps");
#endif
