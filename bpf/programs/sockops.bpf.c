/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sock_ops: hands the original destination from the connecting socket to the accepted one, and keeps track of
 * the sockets that listen in pods.
 *
 * The hand-over map is keyed by the connection's ends. An entry is made before the SYN leaves (a Fast Open
 * sidecar may accept with the first packet), taken by the accepting side, and deleted when the connecting
 * socket closes, so that nothing has to be swept.
 */

/* The ends as the connecting socket sees them. */
static __always_inline void flow_key(struct bpf_sock_ops *ctx, bool connecting, struct mesh_flow_key *key)
{
	__u32 *near = connecting ? key->local : key->remote;
	__u32 *far = connecting ? key->remote : key->local;
	__u16 local = ctx->local_port, remote = bpf_ntohl(ctx->remote_port);

	key->netns = bpf_get_netns_cookie(ctx);
	if (ctx->family == AF_INET) {
		near[2] = MAPPED;
		near[3] = ctx->local_ip4;
		far[2] = MAPPED;
		far[3] = ctx->remote_ip4;
		barrier(); /* or the loads of both branches become one, through a pointer into the context */
	} else {
		near[0] = ctx->local_ip6[0];
		near[1] = ctx->local_ip6[1];
		near[2] = ctx->local_ip6[2];
		near[3] = ctx->local_ip6[3];
		far[0] = ctx->remote_ip6[0];
		far[1] = ctx->remote_ip6[1];
		far[2] = ctx->remote_ip6[2];
		far[3] = ctx->remote_ip6[3];
	}
	key->local_port = connecting ? local : remote;
	key->remote_port = connecting ? remote : local;
}

/* Asks the kernel to tell when the socket is closed. */
static __always_inline void watch(struct bpf_sock_ops *ctx)
{
	/* Ignored: it tells which flags the kernel does not know, and all know this one. */
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The kernel copies that wish from a listening socket to what it accepts. */
static __always_inline void unwatch(struct bpf_sock_ops *ctx)
{
	__u32 flags = ctx->bpf_sock_ops_cb_flags;

	if (flags & BPF_SOCK_OPS_STATE_CB_FLAG)
		/* Ignored: as in `watch`. */
		bpf_sock_ops_cb_flags_set(ctx, flags & ~BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline struct verdict connecting(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_flow_key key = {};
	struct mesh_flow *flow;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	flow = bpf_sk_storage_get(&client_flows, sk, NULL, 0);
	/* What went straight is only kept so that it can be closed. */
	if (!flow || !(flow->sidecar_port || flow->flags & MESH_FLOW_EXEMPT))
		return ended(MESH_COUNT_CONNECT_DIRECT, 1);
	flow_key(ctx, true, &key);
	if (flow->flags & MESH_FLOW_EXEMPT) {
		if (!exempt_note(&key, flow, bpf_get_socket_cookie(ctx)))
			return ended(MESH_COUNT_EXEMPT_FULL, 1);
		watch(ctx);
		return ended(MESH_COUNT_EXEMPT_NOTED, 1);
	}
	if (!handover_note(&key, flow))
		return ended(MESH_COUNT_HANDOVER_FULL, 1);
	watch(ctx);
	return ended(MESH_COUNT_HANDED_OVER, 1);
}

/* So that a later policy that decides otherwise is able to close it. What the kernel copied from the listening socket
 * says who took it; what was decided is not asked for again.
 */
static __always_inline void note_decided(struct bpf_sock *sk)
{
	struct mesh_listening *by = bpf_sk_storage_get(&listening, sk, NULL, 0);

	if (by) {
		struct mesh_control *words = control_words();

		by->decided = words && *(volatile __u64 *)&words->generation;
	}
}

/* A connection is established at the end that accepts it: a sender of packets of it finds its socket
 * from now on, so that what was noted of it has served.
 */
static __always_inline struct verdict accepted(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_flow_key key = {};
	struct mesh_exempt_flow *noted;
	struct mesh_flow *flow;
	bool kept;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	flow_key(ctx, false, &key);
	flow = bpf_map_lookup_elem(&handover, &key);
	if (!flow) {
		noted = bpf_map_lookup_elem(&exempt_flows, &key);
		if (!noted) {
			note_decided(sk);
			return ended(MESH_COUNT_ACCEPTED_STRAIGHT, 1);
		}
		exempt_forget(&key, noted);
		return ended(MESH_COUNT_ACCEPTED_EXEMPT, 1);
	}
	kept = bpf_sk_storage_get(&accepted_flows, sk, flow, BPF_SK_STORAGE_GET_F_CREATE);
	handover_forget(&key, flow);
	return kept ? ended(MESH_COUNT_ACCEPTED, 1) : ended(MESH_COUNT_STORAGE_FULL, 1);
}

/* Where a socket listens. */
static __always_inline void port_key(struct bpf_sock_ops *ctx, struct mesh_port_key *place)
{
	place->port = ctx->local_port;
	if (ctx->family == AF_INET) {
		place->address[2] = MAPPED;
		place->address[3] = ctx->local_ip4;
		barrier();
	} else {
		place->address[0] = ctx->local_ip6[0];
		place->address[1] = ctx->local_ip6[1];
		place->address[2] = ctx->local_ip6[2];
		place->address[3] = ctx->local_ip6[3];
	}
}

/* A socket listens no more: its quota is given back, and the kernel takes it out of `listeners`. */
static __always_inline struct verdict unlistens(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_listening *port = bpf_sk_storage_get(&listening, sk, NULL, 0);
	__u64 netns = bpf_get_netns_cookie(ctx);
	void *sock = bpf_skc_to_tcp_sock(sk);
	struct mesh_port_key place = {};

	if (!port || !sock)
		return ended(MESH_COUNT_LISTENER_CLOSED, 1);
	port_key(ctx, &place);
	if (port->flags & MESH_LISTENING_PLACED)
		port_left(sock, &place, netns);
	if (port->flags & MESH_LISTENING_COUNTED)
		unsettle(port, netns);
	/* It may listen once more. */
	port->flags = 0;
	return ended(MESH_COUNT_LISTENER_CLOSED, 1);
}

/* A socket is closed. What nobody took of what it noted is still there. The entry of its ends may be another socket's:
 * where two are bound to one port, the kernel refuses the second one's connection to the place where the first one's is
 * on its way, and closes it with its ends in place.
 */
static __always_inline struct verdict closed(struct bpf_sock_ops *ctx)
{
	struct mesh_flow_key key = {};
	struct bpf_sock *sk = ctx->sk;
	struct mesh_exempt_flow *noted;
	struct mesh_flow *handed;
	__u64 cookie;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	if (ctx->args[0] == TCP_LISTEN)
		return unlistens(ctx, sk);
	flow_key(ctx, true, &key);
	cookie = bpf_get_socket_cookie(ctx);
	/* Looking costs no lock, and mostly it was taken. Where the look finds it, nobody takes it but with it. */
	noted = bpf_map_lookup_elem(&exempt_flows, &key);
	if (noted && noted->cookie == cookie)
		exempt_forget(&key, noted);
	handed = bpf_map_lookup_elem(&handover, &key);
	if (handed && handed->cookie == cookie) {
		struct mesh_sidecar_key sidecar = {
			.netns = key.netns,
			.member = handed->member,
			.port = handed->sidecar_port,
			.family = handed->family,
			.direction = handed->direction,
		};

		handover_forget(&key, handed);
		add_not_taken(&sidecar);
		return ended(MESH_COUNT_NOT_TAKEN, 1);
	}
	return ended(MESH_COUNT_CLOSED, 1);
}

static __always_inline struct verdict listens(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_listener_key key = {};
	struct mesh_port_key place = {};
	struct mesh_listening *port;
	__u64 netns;
	int one = 1;
	void *sock;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	netns = bpf_get_netns_cookie(ctx);
	if (place_of(netns) == ELSEWHERE)
		return ended(MESH_COUNT_LISTENS_OUTSIDE, 1);
	listener_key(netns, ctx->local_port, ctx->family, &key);
	port = bpf_sk_storage_get(&listening, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	sock = bpf_skc_to_tcp_sock(sk);
	if (!port || !sock)
		return ended(MESH_COUNT_STORAGE_FULL, 1);
	port->port = key.port;
	port->flags = 0;
	port_key(ctx, &place);
	watch(ctx);
	/* What a sidecar accepts has the application's port, and would keep an application that is started
	 * again from listening on it. Ignored: the kernel refuses it to no socket that listens.
	 */
	bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!settle(port, sock, &place, netns))
		return ended(MESH_COUNT_LISTENER_MISSED, 1);
	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		key.slot = slot;
		if (bpf_sock_hash_update(ctx, &listeners, &key, BPF_NOEXIST))
			continue;
		port->flags |= MESH_LISTENING_COUNTED;
		return ended(MESH_COUNT_LISTENS, 1);
	}
	unsettle(port, netns);
	miss(port, netns);
	return ended(MESH_COUNT_LISTENER_MISSED, 1);
}

#ifdef MESH_ACCELERATION
#include "pairs.h"
#endif

/* The kernel tells of everything that happens to a socket, about eleven times a connection. What is of no use is seen
 * to be so before anything is looked up.
 */
static __always_inline struct verdict event(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		return connecting(ctx);
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		/* A SYN that comes in has no whole socket yet; one that goes out has. */
		if (!ctx->is_fullsock && accelerates())
			return accelerate_arriving(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (accelerates())
			return accelerate_connected(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		unwatch(ctx);
		if (accelerates())
			accelerate_accepted(ctx);
		return accepted(ctx);
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != TCP_CLOSE)
			return ended(MESH_COUNT_OTHER_STATE, 1);
		accelerate_closed(ctx);
		return closed(ctx);
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		return listens(ctx);
	}
	return ended(MESH_COUNT_IGNORED_EVENT, 1);
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ctx)
{
	return event(ctx).value;
}
