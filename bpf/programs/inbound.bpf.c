/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sk_lookup in a member's network namespace: who gets a connection to it.
 *
 * The program runs where a packet belongs to no connection. It names the socket that takes it; nothing is
 * rewritten, so that the sidecar sees the real source, and its accepted socket has the application's address
 * and port. An established connection never comes here.
 */

#define MESH_MAPS
#include "kernel.h"
#include "core.h"
#include "mesh_abi.h"

#include "policy.h"

typedef struct bpf_sk_lookup inbound_context;
/* BPF_SK_LOOKUP_F_REPLACE */
#define ASSIGN_ANEW 1
/* The interface that is told for what a namespace sends to an address of its own is that which has the address. */
#define IS_FROM_OUTSIDE(in) false
#include "inbound.h"

static __always_inline void read_inbound(struct bpf_sk_lookup *ctx, struct inbound *in)
{
	in->protocol = ctx->protocol == IPPROTO_UDP;
	in->source_port = bpf_ntohs(ctx->remote_port);
	in->port = ctx->local_port;
	in->device = ctx->ingress_ifindex;
	if (ctx->family == AF_INET) {
		in->source[2] = MAPPED;
		in->source[3] = ctx->remote_ip4;
		in->destination[2] = MAPPED;
		in->destination[3] = ctx->local_ip4;
		barrier(); /* or the loads of both branches become one, through a pointer into the context */
	} else {
		in->source[0] = ctx->remote_ip6[0];
		in->source[1] = ctx->remote_ip6[1];
		in->source[2] = ctx->remote_ip6[2];
		in->source[3] = ctx->remote_ip6[3];
		in->destination[0] = ctx->local_ip6[0];
		in->destination[1] = ctx->local_ip6[1];
		in->destination[2] = ctx->local_ip6[2];
		in->destination[3] = ctx->local_ip6[3];
	}
}

/* A redirected connection that was sent to an address of its own reaches a sidecar that listens on 127.0.0.1 alone. One
 * that listens on all addresses is found by the kernel.
 */
__noinline int take(inbound_context *ctx, __u64 netns, __u32 port, __u32 family)
{
	struct mesh_listener_key key = { .netns = netns, .port = port, .family = family };

	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		struct bpf_sock *sk;
		long failed;

		key.slot = slot;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (!sk)
			continue;
		failed = sk->src_ip4 == LOOPBACK4 ? bpf_sk_assign(ctx, sk, 0) : -1;
		bpf_sk_release(sk);
		if (!failed)
			return 1;
	}
	return 0;
}

static __always_inline struct verdict answer_to(struct bpf_sk_lookup *ctx)
{
	__u64 netns = entered(ctx);
	__u32 family = ctx->family;
	struct fated fated = {};
	enum fate fate;
	struct inbound in = {};

	read_inbound(ctx, &in);
	fate = fate_of(&in, netns, &fated);
	if (fate == FATE_REFUSE)
		return ended(fated.counter, SK_DROP);
	if (fate == FATE_TAKE && is_spread(in.destination) && !take(ctx, netns, fated.port, AF_INET))
		take(ctx, netns, fated.port, AF_INET6);
	if (fate == FATE_PASS || fate == FATE_TAKE)
		return ended(fated.counter, SK_PASS);
	assign(ctx, &in, &fated, netns, family);
	if (family == AF_INET && !fits_best(&fated))
		assign(ctx, &in, &fated, netns, AF_INET6);
	if (fated.fits)
		return ended(taken(&fated), SK_PASS);
	missed(&fated, netns, family == AF_INET);
	return ended(MESH_COUNT_MISSING_SIDECAR, fated.drop ? SK_DROP : SK_PASS);
}

SEC("sk_lookup")
int mesh_inbound(struct bpf_sk_lookup *ctx)
{
	return answer_to(ctx).value;
}

char mesh_license[] SEC("license") = "Dual MIT/GPL";
