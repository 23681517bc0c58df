/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sk_lookup in a member's network namespace: who gets a connection that is offered to it.
 *
 * The program runs where a packet belongs to no connection. It names the socket that takes it; nothing is
 * rewritten, so that the sidecar sees the real source, and its accepted socket has the application's address
 * and port. An established connection never comes here.
 *
 * This hook knows neither namespace nor process, so each pod has a program of its own, with the pod in it.
 */

#define MESH_MAPS
#include "kernel.h"
#include "mesh_abi.h"

#include "policy.h"

/* The cookie of the pod's network namespace, or of the host's; set when the program is loaded. */
volatile const __u64 mesh_pod = 0;

/* The sidecar's listening socket takes it. 0: there is none that can.
 *
 * A global function: the verifier of 6.1 does not come to an end where it follows these references behind
 * every path that leads here.
 */
__noinline int assign(struct bpf_sk_lookup *ctx, __u64 netns, __u32 port, __u32 family)
{
	struct mesh_listener_key key = { .netns = netns, .port = port, .family = family };

	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		void *sk;
		long failed;

		key.slot = slot;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (!sk)
			continue;
		/* Fails for a socket of the other family, or of IPv6 only. */
		failed = bpf_sk_assign(ctx, sk, 0);
		bpf_sk_release(sk);
		if (!failed)
			return 1;
	}
	return 0;
}

/* Who sends. */
static __always_inline void source_of(struct bpf_sk_lookup *ctx, __u32 address[4])
{
	if (ctx->family == AF_INET) {
		address[2] = MAPPED;
		address[3] = ctx->remote_ip4;
		barrier(); /* or the loads of both branches become one, through a pointer into the context */
		return;
	}
	address[0] = ctx->remote_ip6[0];
	address[1] = ctx->remote_ip6[1];
	address[2] = ctx->remote_ip6[2];
	address[3] = ctx->remote_ip6[3];
}

/* Which of the pod's addresses it is sent to. */
static __always_inline void destination_of(struct bpf_sk_lookup *ctx, __u32 address[4])
{
	if (ctx->family == AF_INET) {
		address[2] = MAPPED;
		address[3] = ctx->local_ip4;
		barrier();
		return;
	}
	address[0] = ctx->local_ip6[0];
	address[1] = ctx->local_ip6[1];
	address[2] = ctx->local_ip6[2];
	address[3] = ctx->local_ip6[3];
}

/* Whether the sidecar opened it, in this namespace. */
static __always_inline bool is_exempt(struct bpf_sk_lookup *ctx, struct question *q)
{
	struct mesh_flow_key key = { .netns = q->netns };

	for (int i = 0; i < 4; i++)
		key.local[i] = q->address[i];
	destination_of(ctx, key.remote);
	key.local_port = bpf_ntohs(ctx->remote_port);
	key.remote_port = q->port;
	return bpf_map_lookup_elem(&exempt_flows, &key);
}

/* Counts a decision that no process asked for and, where somebody watches, tells it. */
static __always_inline void tell_offer(struct bpf_sk_lookup *ctx, struct mesh_control *words, struct question *q,
				       struct answer *a)
{
	struct asker by = { .uid = NONE, .port = bpf_ntohs(ctx->remote_port) };

	hit(a->item);
	if (!*(volatile __u64 *)&words->observe)
		return;
	destination_of(ctx, by.local);
	report(words, q, a, &by);
}

/* The member whose socket listens on the host where this is sent to: on that address, else on all of its family,
 * else on all.
 */
static __always_inline struct mesh_member *owner_of(struct bpf_sk_lookup *ctx)
{
	struct mesh_port_key place = { .port = ctx->local_port };
	struct mesh_port_owner *owner;
	struct mesh_member *member;

	if (ctx->protocol != IPPROTO_TCP)
		return NULL;
	destination_of(ctx, place.address);
	owner = bpf_map_lookup_elem(&host_ports, &place);
	if (!owner && ctx->family == AF_INET) {
		place.address[3] = 0;
		owner = bpf_map_lookup_elem(&host_ports, &place);
	}
	if (!owner) {
		for (int i = 0; i < 4; i++)
			place.address[i] = 0;
		owner = bpf_map_lookup_elem(&host_ports, &place);
	}
	if (!owner)
		return NULL;
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		__u64 id = owner->cgroup[level];

		if (!id)
			break;
		member = bpf_map_lookup_elem(&cgroups, &id);
		if (member)
			return member;
	}
	return NULL;
}

static __always_inline int done(__u32 counter, int verdict)
{
	count(counter);
	return verdict;
}

static __always_inline int redirected(struct bpf_sk_lookup *ctx, struct question *q, struct answer *a,
				      struct mesh_profile *profile)
{
	__u32 family = ctx->family;

	/* Datagrams cannot be answered from the right port: the compiler refuses such rules. */
	if (q->protocol)
		return SK_PASS;
	if (assign(ctx, q->netns, a->port, family))
		return done(MESH_COUNT_REDIRECTED, SK_PASS);
	if (family == AF_INET && assign(ctx, q->netns, a->port, AF_INET6))
		return done(MESH_COUNT_REDIRECTED, SK_PASS);
	return done(MESH_COUNT_MISSING_SIDECAR, profile->flags & MESH_PROFILE_MISSING_SIDECAR_REFUSE ? SK_DROP : SK_PASS);
}

SEC("sk_lookup")
int mesh_inbound(struct bpf_sk_lookup *ctx)
{
	struct mesh_control *words = control_words();
	struct mesh_own_key own = {};
	struct mesh_member *member;
	struct mesh_profile *profile;
	struct question q = {};
	struct answer a = {};

	if (!words)
		return SK_PASS;
	q.generation = *(volatile __u64 *)&words->generation;
	if (!q.generation)
		return done(MESH_COUNT_IDLE, SK_PASS);
	q.slot = q.generation & 1;
	q.netns = mesh_pod;
	member = bpf_map_lookup_elem(&endpoints, &q.netns);
	if (!member && words->host == q.netns)
		member = owner_of(ctx);
	if (!profile_of(member, &q))
		return SK_PASS;
	q.direction = 1;
	q.protocol = ctx->protocol == IPPROTO_UDP;
	q.port = ctx->local_port;
	source_of(ctx, q.address);
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile)
		return done(MESH_COUNT_TABLE_MISSING, SK_PASS);
	own.netns = q.netns;
	for (int i = 0; i < 4; i++)
		own.address[i] = q.address[i];
	q.own = !!bpf_map_lookup_elem(&own_addresses, &own);
	if ((q.own || is_loopback(q.address)) && is_exempt(ctx, &q))
		return done(MESH_COUNT_EXEMPT, SK_PASS);
	if (!decide(&q, profile, &a))
		return done(MESH_COUNT_TABLE_MISSING, SK_PASS);
	tell_offer(ctx, words, &q, &a);
	if (a.verdict == MESH_VERDICT_DENIED)
		return done(MESH_COUNT_DENIED, SK_DROP);
	if (a.verdict == MESH_VERDICT_REDIRECTED)
		return redirected(ctx, &q, &a, profile);
	return done(MESH_COUNT_EXCLUDED, SK_PASS);
}

char mesh_license[] SEC("license") = "Dual MIT/GPL";
