/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Where a member's connection or datagram goes: shared by connect(2) and sendmsg(2).
 *
 * A hook returns PASS to let the call go on (perhaps elsewhere) and REFUSE to fail it with EPERM.
 */
#pragma once

enum { PASS = 1, REFUSE = 0 };

/* 0 TCP, 1 UDP, or -1: not ours. */
static __always_inline int protocol_of(struct bpf_sock_addr *ctx)
{
	if (ctx->type == SOCK_STREAM && (ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP))
		return 0;
	if (ctx->type == SOCK_DGRAM && ctx->protocol == IPPROTO_UDP)
		return 1;
	return -1;
}

/* Stores that the compiler must not merge: a context takes only whole fields. */
static __always_inline void set_address(struct bpf_sock_addr *ctx, bool v6, const __u32 address[4])
{
	if (!v6) {
		*(volatile __u32 *)&ctx->user_ip4 = address[3];
	} else {
		*(volatile __u32 *)&ctx->user_ip6[0] = address[0];
		*(volatile __u32 *)&ctx->user_ip6[1] = address[1];
		*(volatile __u32 *)&ctx->user_ip6[2] = address[2];
		*(volatile __u32 *)&ctx->user_ip6[3] = address[3];
	}
}

static __always_inline void get_address(struct bpf_sock_addr *ctx, bool v6, __u32 address[4])
{
	if (!v6) {
		address[0] = 0;
		address[1] = 0;
		address[2] = MAPPED;
		address[3] = ctx->user_ip4;
	} else {
		address[0] = ctx->user_ip6[0];
		address[1] = ctx->user_ip6[1];
		address[2] = ctx->user_ip6[2];
		address[3] = ctx->user_ip6[3];
	}
}

/* Which call is looked at: what is dialled lasts for a connection, and for one datagram. */
enum call { CONNECT, SENDMSG };

static __always_inline bool is_link_local(const __u32 address[4])
{
	if (is_mapped(address))
		return (address[3] & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
	return (address[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool is_none(const __u32 address[4])
{
	return !(address[0] | address[1] | address[2] | address[3]);
}

/* Whether it is known which addresses the member has: a process of a cgroup may live in any network namespace. */
static __always_inline bool has_known_source(struct mesh_member *member, struct question *q)
{
	return member->netns && member->netns == q->netns;
}

/* The address that the member's connections to others come from; zero where there is none, or none is known. */
static __always_inline void source_of(struct mesh_member *member, struct question *q, __u32 source[4])
{
	bool is_known = has_known_source(member, q);

	for (int i = 0; i < 4; i++)
		source[i] = 0;
	if (is_known && is_mapped(q->address)) {
		source[2] = member->source4 ? MAPPED : 0;
		source[3] = member->source4;
	} else if (is_known) {
		for (int i = 0; i < 4; i++)
			source[i] = member->source6[i];
	}
}

/* Whether the kernel would find no way there: the member has no address of that family which others can answer to.
 * What a mesh catches would reach the sidecar all the same, and applications that try one family after the other
 * would take the wrong one.
 */
static __always_inline bool is_unroutable(struct mesh_member *member, struct question *q, const __u32 source[4])
{
	return has_known_source(member, q) && is_none(source) && !is_loopback(q->address) && !is_link_local(q->address);
}

static __always_inline struct verdict unroutable(void)
{
	/* Ignored: it fails for no error number, and the call fails with EPERM without it. */
	bpf_set_retval(-ENETUNREACH);
	return ended(MESH_COUNT_UNROUTABLE, REFUSE);
}

/* Where in 127.128.0.0/9 a connection goes: another address for each destination, so that one port of the client
 * serves as many as without a mesh.
 */
static __always_inline __u32 spread(struct question *q)
{
	__u32 mixed = (bpf_ntohl(q->address[3]) ^ q->port << 16 ^ q->port) * MESH_OWN_MULTIPLIER;

	mixed = (mixed ^ mixed >> 15) * MESH_OWN_MULTIPLIER;
	return bpf_htonl(MESH_SPREAD_FIRST + (__u32)((__u64)mixed * MESH_SPREAD_COUNT >> 32));
}

/* Loopback of the family that is dialled: a v4-mapped socket stays v4-mapped. */
static __always_inline void set_loopback(struct bpf_sock_addr *ctx, bool v6, bool v4, __u32 loopback4, __u16 port)
{
	__u32 mapped[4] = { 0, 0, MAPPED, loopback4 };
	__u32 native[4] = { 0, 0, 0, bpf_htonl(1) };

	if (v4)
		set_address(ctx, v6, mapped);
	else
		set_address(ctx, v6, native);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(port);
}

#include "device.h"
#include "peers.h"

/* The token of the server that is asked, or -1. One who has none gets the one that was given longest ago. */
static __always_inline __s32 token_of(struct bpf_sock_addr *ctx, struct question *q, struct answer *a)
{
	struct mesh_udp_servers *servers = bpf_sk_storage_get(&udp_servers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	__u32 token;

	if (!servers)
		return -1;
	for (token = 0; token < MESH_TOKENS; token++)
		if (servers->sidecar_port[token] == a->port && servers->port[token] == q->port &&
		    servers->address[token] == q->address[3])
			return token;
	token = servers->next++ % MESH_TOKENS;
	servers->address[token] = q->address[3];
	servers->port[token] = q->port;
	servers->sidecar_port[token] = a->port;
	return token;
}

/* A socket that has no address of its own may ask several servers. Each is told to the sidecar as another
 * client, so that the answers can be told apart. IPv6 has no such range of loopback addresses.
 */
static __always_inline void set_token(struct bpf_sock_addr *ctx, struct question *q, struct answer *a)
{
	struct bpf_sock *sk = ctx->sk;
	bool has_address = sk->src_ip4 || ctx->msg_src_ip4;
	__s32 token = has_address ? -1 : token_of(ctx, q, a);

	if (token >= 0)
		*(volatile __u32 *)&ctx->msg_src_ip4 = bpf_htonl(MESH_TOKEN_FIRST + token);
}

/* Is this the answer of a sidecar to a token that our client holds? Then it must come from there, too. */
static __always_inline bool answers_token(struct bpf_sock_addr *ctx)
{
	__u32 token = bpf_ntohl(ctx->user_ip4) - MESH_TOKEN_FIRST, port = ctx->sk->src_port;
	struct bpf_sock_tuple4 tuple = {};
	struct mesh_udp_servers *servers;
	struct bpf_sock *client;
	bool known;

	if (token >= MESH_TOKENS)
		return false;
	tuple.saddr = LOOPBACK4;
	tuple.daddr = ctx->user_ip4;
	tuple.sport = bpf_htons(port);
	tuple.dport = ctx->user_port;
	client = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	if (!client)
		return false;
	servers = bpf_sk_storage_get(&udp_servers, client, NULL, 0);
	known = servers && servers->sidecar_port[token] == port;
	bpf_sk_release(client);
	if (known)
		*(volatile __u32 *)&ctx->msg_src_ip4 = ctx->user_ip4;
	return known;
}

/* The address that the socket has, IPv4 as v4-mapped; zero for none. */
static __always_inline void address_of(struct bpf_sock *sk, __u32 address[4])
{
	if (sk->family == AF_INET) {
		address[0] = 0;
		address[1] = 0;
		address[2] = sk->src_ip4 ? MAPPED : 0;
		address[3] = sk->src_ip4;
	} else {
		address[0] = sk->src_ip6[0];
		address[1] = sk->src_ip6[1];
		address[2] = sk->src_ip6[2];
		address[3] = sk->src_ip6[3];
	}
}

/* Binds the socket to an address, or to none, and leaves it to the kernel to choose the port when it connects. */
static __always_inline long bind_to(struct bpf_sock_addr *ctx, const __u32 address[4])
{
	if (ctx->sk->family == AF_INET) {
		struct name4 name = { .family = AF_INET, .address = address[3] };

		return bpf_bind(ctx, &name, sizeof(name));
	} else {
		struct name6 name = { .family = AF_INET6 };

		for (int i = 0; i < 4; i++)
			name.address[i] = address[i];
		return bpf_bind(ctx, &name, sizeof(name));
	}
}

/* Whether the application left it to the kernel where the connection comes from. An address that the mesh gave the
 * socket for an earlier connection stays with it; a port does not, so one that has a port was bound by its application.
 */
static __always_inline bool is_free(struct bpf_sock_addr *ctx, struct mesh_flow *flow)
{
	__u32 address[4], other = 0;

	if (ctx->sk->src_port)
		return false;
	address_of(ctx->sk, address);
	if (is_none(address))
		return true;
	if (!flow || !(flow->flags & MESH_FLOW_BOUND))
		return false;
	for (int i = 0; i < 4; i++)
		other |= flow->own[i] ^ address[i];
	return !other || is_none(flow->own);
}

/* What the mesh bound for an earlier connection must not decide where this one comes from. The kernel does not forget
 * that the socket was bound, and keeps the address that it chooses now, so the flow stays and says so.
 */
static __always_inline void unbind(struct bpf_sock_addr *ctx, struct mesh_flow *flow)
{
	__u32 none[4] = {};

	if (flow->flags & MESH_FLOW_BOUND && is_free(ctx, flow)) {
		/* Ignored: the kernel binds a closed socket without a port to no address. */
		bind_to(ctx, none);
		for (int i = 0; i < 4; i++)
			flow->own[i] = 0;
	}
}

/* Keeps with the socket what was decided, by which item, and for whom. NULL: there is no memory for it. */
static __always_inline struct mesh_flow *keep(struct bpf_sock_addr *ctx, bool v6, struct question *q, struct answer *a)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	bool v4 = is_mapped(q->address);
	__u64 ids = bpf_get_current_uid_gid();

	if (!flow)
		return NULL;
	for (int i = 0; i < 4; i++)
		flow->original[i] = q->address[i];
	flow->original_port = q->port;
	flow->sidecar_port = a->verdict == MESH_VERDICT_REDIRECTED ? a->port : 0;
	flow->family = v4 ? MESH_FAMILY_V4 : MESH_FAMILY_V6;
	flow->flags = (a->transparent ? MESH_FLOW_TRANSPARENT : 0) | (v6 && v4 ? MESH_FLOW_MAPPED : 0) |
		      (a->kernels ? MESH_FLOW_OF_KERNEL : 0) |
		      (flow->flags & MESH_FLOW_BOUND);
	flow->protocol = q->protocol;
	flow->direction = q->direction;
	flow->generation = q->generation;
	flow->member = q->member;
	flow->source = a->source;
	flow->item = a->item;
	flow->cookie = bpf_get_socket_cookie(ctx);
	flow->uid = ids;
	flow->gid = ids >> 32;
	flow->cgroup = bpf_get_current_cgroup_id();
	flow->within = q->cgroup;
	for (int i = 0; !(flow->flags & MESH_FLOW_BOUND) && i < 4; i++)
		flow->own[i] = 0;
	return flow;
}

/* Binds the socket to where its connection would come from without a mesh, and notes that. One to loopback comes from
 * there by itself.
 */
static __always_inline void bind_source(struct bpf_sock_addr *ctx, struct question *q, struct mesh_flow *flow,
					const __u32 source[4])
{
	bool is_within = is_loopback(q->address), frees = is_free(ctx, flow);

	if (is_within || is_none(source)) {
		unbind(ctx, flow);
	} else if (frees && bind_to(ctx, source)) {
		count(MESH_COUNT_SOURCE_MISSING);
	} else {
		if (frees)
			flow->flags |= MESH_FLOW_BOUND;
		for (int i = 0; i < 4; i++)
			flow->own[i] = source[i];
	}
}

/* Of the sockets that listen on one port, so many are looked at: who is not found among them is sent to the address that
 * everybody listens on.
 */
#define SIDECARS_SEEN 8

/* Whether what is spread reaches a sidecar on this port: one on all addresses, or one that sk_lookup knows. The sidecar of
 * a kernel that does not show who listened before is not known, nor is one outside of the instance's cgroup.
 */
static __noinline int is_reached(__u64 netns, __u32 port)
{
	struct mesh_listener_key key = { .netns = netns, .port = port };

	for (__u32 at = 0; at < 2 * SIDECARS_SEEN; at++) {
		struct bpf_sock *sk;
		__u32 address;

		key.family = at & 1 ? AF_INET6 : AF_INET;
		key.slot = at >> 1;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (!sk)
			continue;
		address = sk->src_ip4;
		bpf_sk_release(sk);
		if (!address || address == LOOPBACK4)
			return 1;
	}
	return 0;
}

/* The loopback address of IPv4 that a connection is sent to. */
static __always_inline __u32 loopback_for(struct mesh_member *member, struct question *q, struct answer *a)
{
	bool spreads = has_known_source(member, q) && member->flags & MESH_MEMBER_SPREADS;

	return spreads && is_mapped(q->address) && is_reached(q->netns, a->port) ? spread(q) : LOOPBACK4;
}

/* A datagram socket is sent to the sidecar from loopback, since a sidecar on all addresses answers from the one that it
 * is asked by. It is told its member's own all the same.
 */
static __always_inline void note_source(struct question *q, struct mesh_flow *flow, const __u32 source[4])
{
	bool is_within = is_loopback(q->address);

	for (int i = 0; i < 4; i++)
		flow->own[i] = is_within ? 0 : source[i];
}

/* Keeps the original destination with the socket and sends it to the sidecar. */
static __always_inline struct verdict redirect(struct bpf_sock_addr *ctx, bool v6, enum call call,
					       struct mesh_member *member, struct question *q, struct answer *a)
{
	bool v4 = is_mapped(q->address), connects = call == CONNECT && !q->protocol;
	struct mesh_flow *flow;
	__u32 source[4];
	int error;

	if (call == SENDMSG && has_route(ctx, v6))
		return ended(MESH_COUNT_ROUTE_REFUSED, REFUSE);
	source_of(member, q, source);
	if (is_unroutable(member, q, source))
		return unroutable();
	error = release(ctx, v6, call, q);
	if (error)
		return held(error);
	flow = keep(ctx, v6, q, a);
	if (!flow)
		return ended(MESH_COUNT_STORAGE_FULL, REFUSE);
	if (call == SENDMSG && !v6)
		set_token(ctx, q, a);
	if (connects)
		bind_source(ctx, q, flow, source);
	else
		note_source(q, flow, source);
	set_loopback(ctx, v6, v4, connects ? loopback_for(member, q, a) : LOOPBACK4, a->port);
	return ended(MESH_COUNT_REDIRECTED, PASS);
}

/* A datagram socket that is connected again, without being dissolved first, keeps the source that it got
 * when it was sent to the sidecar.
 */
static __always_inline bool source_is_loopback(struct bpf_sock_addr *ctx)
{
	__u32 source[4];

	address_of(ctx->sk, source);
	return is_loopback(source);
}

/* connect(AF_UNSPEC) and again: what was dialled first must not be answered later. */
static __always_inline void forget(struct bpf_sock_addr *ctx, struct mesh_flow *flow)
{
	if (flow && flow->flags & MESH_FLOW_BOUND) {
		unbind(ctx, flow);
		flow->sidecar_port = 0;
		flow->flags = MESH_FLOW_BOUND;
		flow->member = 0;
	} else if (flow) {
		bpf_sk_storage_delete(&client_flows, ctx->sk);
	}
}

/* Not redirected. */
static __always_inline struct verdict leave(struct bpf_sock_addr *ctx, enum call call, struct question *q, __u32 counter)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);
	int error;

	if (call == CONNECT && flow && flow->protocol && !is_loopback(q->address) && source_is_loopback(ctx)) {
		/* Ignored: as in `held`. */
		bpf_set_retval(-EINVAL);
		return ended(MESH_COUNT_SOURCE_KEPT, REFUSE);
	}
	error = hold(ctx, call, q, flow);
	if (error)
		return held(error);
	/* The answer to an earlier datagram may still come. */
	if (call == SENDMSG)
		return ended(counter, PASS);
	forget(ctx, flow);
	accelerate_not(ctx, counter);
	return ended(counter, PASS);
}

/* A sidecar's connection to its own pod is noted, so that a rule for the pod's own addresses does not send it
 * back to the sidecar: sock_ops takes it from here.
 */
static __always_inline struct verdict exempt(struct bpf_sock_addr *ctx, enum call call, struct question *q)
{
	struct verdict result = leave(ctx, call, q, MESH_COUNT_EXEMPT);
	struct mesh_flow *flow;

	if (result.value != PASS || call != CONNECT || q->protocol || (!q->own && !is_loopback(q->address)))
		return result;
	flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (flow) {
		flow->flags = MESH_FLOW_EXEMPT | (flow->flags & MESH_FLOW_BOUND);
		flow->uid = bpf_get_current_uid_gid();
		flow->generation = q->generation;
		flow->member = q->member;
	} else {
		count(MESH_COUNT_STORAGE_FULL);
	}
	return result;
}

/* Fails with EPERM. */
static __always_inline struct verdict refuse(struct bpf_sock_addr *ctx, enum call call, struct question *q)
{
	if (call == CONNECT) {
		struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);

		if (!hold(ctx, call, q, flow))
			forget(ctx, flow);
		accelerate_not(ctx, MESH_COUNT_DENIED);
	}
	return ended(MESH_COUNT_DENIED, REFUSE);
}

/* Connects a datagram socket to where nobody listens, so that what it sends is refused. It is not refused here: to find
 * out which address they would come from, and in which order to try a server's, resolvers connect to each of them and
 * send nothing.
 *
 * The port is on the member's own address, and so is the socket from then on.
 */
static __always_inline struct verdict refuse_datagrams(struct bpf_sock_addr *ctx, bool v6, struct mesh_member *member,
						       struct question *q, struct answer *a)
{
	bool v4 = is_mapped(q->address);
	struct mesh_flow *flow;
	__u32 source[4];
	int error;

	source_of(member, q, source);
	if (is_unroutable(member, q, source))
		return unroutable();
	error = release(ctx, v6, CONNECT, q);
	if (error)
		return held(error);
	flow = keep(ctx, v6, q, a);
	if (!flow)
		return ended(MESH_COUNT_STORAGE_FULL, REFUSE);
	flow->flags |= MESH_FLOW_DENIED;
	for (int i = 0; i < 4; i++)
		flow->own[i] = source[i];
	set_loopback(ctx, v6, v4, LOOPBACK4, MESH_REFUSING_PORT);
	if (!is_none(source) && !is_loopback(q->address))
		set_address(ctx, v6, source);
	return ended(MESH_COUNT_DENIED, PASS);
}

/* Whether a thread of the kernel calls, and no process: it connects the further ways of an MPTCP connection. */
static __always_inline bool is_of_kernel(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return !task->mm;
}

/* Whom the first way of an MPTCP connection was decided for, whichever cgroup its socket was made in. Of the id of a
 * cgroup the upper half is that of all that were made about that time; the member's number tells whether it is the one.
 */
static __noinline struct mesh_member *member_of_first(struct bpf_sock *sk, struct question *q)
{
	struct mesh_member *member;
	struct mptcp_sock *whole;
	struct mesh_flow *flow;
	struct sock *first;
	__u64 id;

	if (!HAS(struct mptcp_sock, first))
		return NULL;
	whole = bpf_skc_to_mptcp_sock(sk);
	first = whole ? whole->first : NULL;
	flow = first ? bpf_sk_storage_get(&client_flows, first, NULL, 0) : NULL;
	if (!flow || !flow->within)
		return NULL;
	id = flow->cgroup >> 32 << 32 | flow->within;
	member = bpf_map_lookup_elem(&cgroups, &id);
	if (!member || member->id != flow->member)
		return NULL;
	q->cgroup = id;
	return member;
}

/* Whom the kernel itself connects a socket for: a further way of an MPTCP connection has the cgroup that the first one
 * was made in.
 */
static __noinline struct mesh_member *member_of_socket(struct bpf_sock *sk, struct question *q)
{
	__u64 ids[MESH_CGROUP_DEPTH] = {};
	void *sock = bpf_skc_to_tcp_sock(sk);

	if (!sock)
		return NULL;
	cgroups_of(sock, ids);
#pragma unroll
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		struct mesh_member *member = ids[level] ? bpf_map_lookup_elem(&cgroups, &ids[level]) : NULL;

		if (member) {
			q->cgroup = ids[level];
			return member;
		}
	}
	return NULL;
}

/* Why nothing is decided. */
static __always_inline __u32 undecided(struct question *q, struct mesh_member *member)
{
	if (!q->generation)
		return MESH_COUNT_IDLE;
	if (!member)
		return MESH_COUNT_NOT_MEMBER;
	return q->profile == MESH_NO_PROFILE ? MESH_COUNT_NO_PROFILE : MESH_COUNT_TABLE_MISSING;
}

static __always_inline struct verdict outbound(struct bpf_sock_addr *ctx, bool v6, enum call call)
{
	struct mesh_control *words = control_words();
	int protocol = protocol_of(ctx);
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct verdict result;
	struct question q = {};
	struct answer a = {};
	bool is_kernels; /* root's, and for whose process is not known */
	bool is_sidecars;

	if (!words)
		return ended(MESH_COUNT_TABLE_MISSING, PASS);
	if (protocol < 0)
		return ended(MESH_COUNT_OTHER_PROTOCOL, PASS);
	q.protocol = protocol;
	q.port = bpf_ntohs(ctx->user_port);
	/* The kernel refuses port 0 where it is named: the socket is connected, and the datagram has control data. */
	if (call == SENDMSG && !q.port)
		return misses(ctx, v6) ? held(EPERM) : ended(MESH_COUNT_DATAGRAM_CONNECTED, PASS);
	if (call == SENDMSG && !v6 && answers_token(ctx))
		return ended(MESH_COUNT_TOKEN_ANSWERED, PASS);
	get_address(ctx, v6, q.address);
	q.generation = *(volatile __u64 *)&words->generation;
	q.slot = q.generation & 1;
	member = q.generation ? member_find(ctx, &q) : NULL;
	is_kernels = call == CONNECT && !protocol && is_of_kernel();
	if (is_kernels && !member && q.generation)
		member = member_of_first(ctx->sk, &q) ?: member_of_socket(ctx->sk, &q);
	profile = member && has_profile(member, &q) ? line_of(q.slot, MESH_TABLE_PROFILES, q.profile) : NULL;
	if (!member || !profile)
		return leave(ctx, call, &q, undecided(&q, member));
	if (call == SENDMSG && profile->flags & MESH_PROFILE_ANSWERS && answers_peer(ctx, &q))
		return leave(ctx, call, &q, MESH_COUNT_PEER_ANSWERED);
	if (may_be_own(member, q.address) &&
	    bpf_map_lookup_elem(&own_addresses, &(struct mesh_own_key){ .netns = q.netns,
			.address = { q.address[0], q.address[1], q.address[2], q.address[3] } }))
		q.own = 1;
	a.source = is_kernels ? 0 : exempt_find(&q, profile);
	is_sidecars = a.source;
	if (!a.source && profile->flags & MESH_PROFILE_EXEMPT_INTERFACES)
		a.source = exempt_by_interface(ctx, v6, call, member, &q);
	if (a.source) {
		if (is_sidecars)
			accelerate_exempt(ctx, call == CONNECT, &q, profile);
		else if (call == CONNECT)
			accelerate_not(ctx, MESH_COUNT_EXCLUDED);
		left_alone(&q, &a, true);
		tell(words, &q, &a, ctx->sk);
		return exempt(ctx, call, &q);
	}
	if (call == CONNECT && has_route(ctx, v6))
		return ended(MESH_COUNT_ROUTE_REFUSED, REFUSE);
	a.kernels = is_kernels;
	if (profile->class_cells && (!is_kernels || profile->flags & MESH_PROFILE_TO_NODE))
		profile = class_profile(&q, profile, !is_kernels);
	if (!profile || !decide(&q, profile, &a, true))
		return leave(ctx, call, &q, MESH_COUNT_TABLE_MISSING);
	tell(words, &q, &a, ctx->sk);
	if (a.verdict == MESH_VERDICT_DENIED && call == CONNECT && q.protocol)
		return refuse_datagrams(ctx, v6, member, &q, &a);
	if (a.verdict == MESH_VERDICT_DENIED)
		return refuse(ctx, call, &q);
	if (call == SENDMSG && profile->flags & MESH_PROFILE_ANSWERS)
		speak(ctx, &q);
	if (a.verdict == MESH_VERDICT_REDIRECTED) {
		accelerate_redirected(ctx, call == CONNECT, &q, profile);
		return redirect(ctx, v6, call, member, &q, &a);
	}
	result = leave(ctx, call, &q, MESH_COUNT_EXCLUDED);
	/* So that a later policy that decides otherwise is able to close it. */
	if (result.value == PASS && call == CONNECT && !q.protocol && !keep(ctx, v6, &q, &a))
		count(MESH_COUNT_STORAGE_FULL);
	return result;
}
