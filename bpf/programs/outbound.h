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
		return;
	}
	*(volatile __u32 *)&ctx->user_ip6[0] = address[0];
	*(volatile __u32 *)&ctx->user_ip6[1] = address[1];
	*(volatile __u32 *)&ctx->user_ip6[2] = address[2];
	*(volatile __u32 *)&ctx->user_ip6[3] = address[3];
}

static __always_inline void get_address(struct bpf_sock_addr *ctx, bool v6, __u32 address[4])
{
	if (!v6) {
		address[0] = 0;
		address[1] = 0;
		address[2] = MAPPED;
		address[3] = ctx->user_ip4;
		return;
	}
	address[0] = ctx->user_ip6[0];
	address[1] = ctx->user_ip6[1];
	address[2] = ctx->user_ip6[2];
	address[3] = ctx->user_ip6[3];
}

/* Loopback of the family that is dialled: a v4-mapped socket stays v4-mapped. */
static __always_inline void set_loopback(struct bpf_sock_addr *ctx, bool v6, bool v4, __u16 port)
{
	__u32 mapped[4] = { 0, 0, MAPPED, LOOPBACK4 };
	__u32 native[4] = { 0, 0, 0, bpf_htonl(1) };

	if (v4)
		set_address(ctx, v6, mapped);
	else
		set_address(ctx, v6, native);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(port);
}

/* Which call is looked at: what is dialled lasts for a connection, and for one datagram. */
enum call { CONNECT, SENDMSG };

/* Keeps the original destination with the socket and sends it to the sidecar. */
static __always_inline int redirect(struct bpf_sock_addr *ctx, bool v6, enum call call, struct question *q,
				    struct answer *a)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	bool v4 = is_mapped(q->address);

	if (!flow) {
		count(MESH_COUNT_STORAGE_FULL);
		return REFUSE;
	}
	for (int i = 0; i < 4; i++)
		flow->original[i] = q->address[i];
	flow->original_port = q->port;
	flow->sidecar_port = a->port;
	flow->family = v4 ? MESH_FAMILY_V4 : MESH_FAMILY_V6;
	flow->flags = (a->transparent ? MESH_FLOW_TRANSPARENT : 0) | (v6 && v4 ? MESH_FLOW_MAPPED : 0);
	flow->protocol = q->protocol;
	flow->direction = q->direction;
	flow->generation = q->generation;
	flow->member = q->member;
	flow->source = a->source;
	flow->item = a->item;
	flow->cookie = bpf_get_socket_cookie(ctx);
	/* A socket bound to a device would never reach loopback. */
	if (call == CONNECT && ctx->sk->bound_dev_if) {
		int none = 0;

		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none));
	}
	set_loopback(ctx, v6, v4, a->port);
	count(MESH_COUNT_REDIRECTED);
	return PASS;
}

/* Not redirected. */
static __always_inline int leave(struct bpf_sock_addr *ctx, enum call call, __u32 counter, int result)
{
	/* connect(AF_UNSPEC) and again: what was dialled first must not be answered later. The answer to an
	 * earlier datagram may still come.
	 */
	if (call == CONNECT)
		bpf_sk_storage_delete(&client_flows, ctx->sk);
	count(counter);
	return result;
}

static __always_inline int outbound(struct bpf_sock_addr *ctx, bool v6, enum call call)
{
	struct mesh_control *words = control_words();
	int protocol = protocol_of(ctx);
	struct mesh_profile *profile;
	struct question q = {};
	struct answer a = {};

	if (!words || protocol < 0)
		return PASS;
	q.generation = *(volatile __u64 *)&words->generation;
	if (!q.generation) {
		count(MESH_COUNT_IDLE);
		return PASS;
	}
	q.slot = q.generation & 1;
	if (!member_find(ctx, &q))
		return PASS;
	q.protocol = protocol;
	q.port = bpf_ntohs(ctx->user_port);
	get_address(ctx, v6, q.address);
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile)
		return leave(ctx, call, MESH_COUNT_TABLE_MISSING, PASS);
	a.source = exempt_find(&q, profile);
	if (a.source) {
		a.node = NONE;
		a.item = source_hash(q.slot, a.source);
		tell(words, &q, &a, ctx->sk);
		return leave(ctx, call, MESH_COUNT_EXEMPT, PASS);
	}
	if (bpf_map_lookup_elem(&own_addresses, &(struct mesh_own_key){ .netns = q.netns,
			.address = { q.address[0], q.address[1], q.address[2], q.address[3] } }))
		q.own = 1;
	if (!decide(&q, profile, &a))
		return leave(ctx, call, MESH_COUNT_TABLE_MISSING, PASS);
	tell(words, &q, &a, ctx->sk);
	if (a.verdict == MESH_VERDICT_DENIED)
		return leave(ctx, call, MESH_COUNT_DENIED, REFUSE);
	if (a.verdict == MESH_VERDICT_REDIRECTED)
		return redirect(ctx, v6, call, &q, &a);
	return leave(ctx, call, MESH_COUNT_EXCLUDED, PASS);
}
