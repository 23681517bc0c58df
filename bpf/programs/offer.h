/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* What is offered to a pod: a packet that belongs to no connection. Shared by sk_lookup and tc, which know
 * neither namespace nor process. So each pod has a small program of its own (`runtime/src/kernel/entry.rs`) that
 * leaves the cookie of the pod's network namespace, or of the host's, and goes on to the one that includes this.
 */
#pragma once

/* The network namespace that this is offered in, as the program before left it. */
__noinline __u64 entered(offer_context *ctx)
{
	__u32 zero = 0;
	struct mesh_entries *left = bpf_map_lookup_elem(&entries, &zero);

	if (!left)
		return 0;
	for (__u32 i = 0; i < MESH_ENTRIES; i++)
		if (*(volatile __u64 *)&left->context[i] == (__u64)ctx) {
			__u64 pod = *(volatile __u64 *)&left->pod[i];

			*(volatile __u64 *)&left->context[i] = 0;
			return pod;
		}
	return 0;
}

/* Addresses in network order, IPv4 as v4-mapped; ports in host order. */
struct offer {
	__u32 source[4];
	__u32 destination[4];
	__u32 source_port;
	__u32 port;
	__u32 protocol; /* 0 TCP, 1 UDP */
	__u32 device; /* that it came in by */
};

/* The member whose socket listens on the host where this is sent to: on that address, else on all of its family,
 * else on all.
 */
static __always_inline struct mesh_member *owner_of(struct offer *o)
{
	struct mesh_port_key place = { .port = o->port };
	struct mesh_port_owner *owner;
	struct mesh_member *member;

	if (o->protocol)
		return NULL;
	for (int i = 0; i < 4; i++)
		place.address[i] = o->destination[i];
	owner = bpf_map_lookup_elem(&host_ports, &place);
	if (!owner && is_mapped(place.address)) {
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

/* What becomes of it. */
enum fate { FATE_PASS, FATE_REDIRECT, FATE_REFUSE, FATE_TAKE };

/* Whether the sidecar opened it, in this namespace. */
static __always_inline bool is_exempt(struct offer *o, __u64 netns)
{
	struct mesh_flow_key key = { .netns = netns };

	for (int i = 0; i < 4; i++) {
		key.local[i] = o->source[i];
		key.remote[i] = o->destination[i];
	}
	key.local_port = o->source_port;
	key.remote_port = o->port;
	return bpf_map_lookup_elem(&exempt_flows, &key);
}

/* Whether it is a connection of this namespace that was redirected: its sidecar is to take it, whatever was decided
 * since then, and whichever loopback address that listens on.
 */
static __always_inline bool is_handed_over(struct offer *o, __u64 netns)
{
	struct mesh_flow_key key = { .netns = netns };

	if (o->protocol || !is_loopback(o->destination))
		return false;
	for (int i = 0; i < 4; i++) {
		key.local[i] = o->source[i];
		key.remote[i] = o->destination[i];
	}
	key.local_port = o->source_port;
	key.remote_port = o->port;
	return bpf_map_lookup_elem(&handover, &key);
}

/* Whether it goes to one of the addresses that redirected connections are spread over. */
static __always_inline bool is_spread(const __u32 address[4])
{
	return is_mapped(address) && bpf_ntohl(address[3]) - MESH_SPREAD_FIRST < MESH_SPREAD_COUNT;
}

/* Whether it is a datagram of a socket that a policy denied: nobody may listen there. */
static __always_inline bool is_refused(struct offer *o)
{
	if (!o->protocol || o->port != MESH_REFUSING_PORT)
		return false;
	for (int i = 0; i < 4; i++) {
		if (o->source[i] != o->destination[i])
			return false;
	}
	return true;
}

/* Where somebody watches, tells a decision that no process asked for. */
static __always_inline void tell_offer(struct offer *o, struct mesh_control *words, struct question *q,
				       struct answer *a)
{
	struct asker by = { .uid = NONE, .port = o->source_port };

	if (*(volatile __u64 *)&words->observe) {
		for (int i = 0; i < 4; i++)
			by.local[i] = o->destination[i];
		report(q, a, &by);
	}
}

/* Whether the namespace sends it to itself: from one of its addresses to the same, which is what the kernel takes as
 * source for that, or from any of them to loopback. A sidecar that knows where a connection was going reaches its
 * service so, and not itself. Loopback is reached from elsewhere, too, where `route_localnet` is set: by another device.
 */
static __always_inline bool is_to_itself(struct offer *o)
{
	if (is_loopback(o->source))
		return false;
	if (is_loopback(o->destination))
		return o->device == LOOPBACK_INDEX;
	for (int i = 0; i < 4; i++) {
		if (o->source[i] != o->destination[i])
			return false;
	}
	return true;
}

/* Whether it comes from one of the addresses that the member is known to have. A function of its own: the caller's stack
 * has no room for the key.
 */
__noinline int is_from_member(struct question *q)
{
	struct mesh_own_key own = {};

	if (!q)
		return 0;
	own.netns = q->netns;
	for (int i = 0; i < 4; i++)
		own.address[i] = q->address[i];
	return !!bpf_map_lookup_elem(&own_addresses, &own);
}

/* What becomes of an offer, and what the program that answers is to count. */
struct fated {
	__u32 counter;
	__u32 port; /* the sidecar's, where it goes there */
	__u32 member; /* who is sent there */
	bool drop; /* what becomes of it where no sidecar listens */
};

static __always_inline enum fate fated(struct fated *out, enum fate fate, __u32 counter)
{
	out->counter = counter;
	return fate;
}

static __always_inline enum fate fate_of(struct offer *o, __u64 netns, struct fated *out)
{
	struct mesh_control *words = control_words();
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct question q = {};
	struct answer a = {};

	if (!words)
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	if (is_handed_over(o, netns)) {
		out->port = o->port;
		return fated(out, FATE_TAKE, MESH_COUNT_TAKEN);
	}
	if (is_refused(o))
		return fated(out, FATE_REFUSE, MESH_COUNT_DATAGRAM_REFUSED);
	q.generation = *(volatile __u64 *)&words->generation;
	if (!q.generation)
		return fated(out, FATE_PASS, MESH_COUNT_IDLE);
	q.slot = q.generation & 1;
	q.netns = netns;
	member = bpf_map_lookup_elem(&endpoints, &q.netns);
	if (!member && words->host == q.netns)
		member = owner_of(o);
	if (!member)
		return fated(out, FATE_PASS, MESH_COUNT_NOT_MEMBER);
	if (!has_profile(member, &q))
		return fated(out, FATE_PASS, MESH_COUNT_NO_PROFILE);
	q.direction = 1;
	q.protocol = o->protocol;
	q.port = o->port;
	for (int i = 0; i < 4; i++)
		q.address[i] = o->source[i];
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile)
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	q.own = (may_be_own(member, q.address) && is_from_member(&q)) || is_to_itself(o);
	if ((q.own || is_loopback(q.address)) && is_exempt(o, q.netns))
		return fated(out, FATE_PASS, MESH_COUNT_EXEMPT);
	if (!decide(&q, profile, &a, true))
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	tell_offer(o, words, &q, &a);
	if (a.verdict == MESH_VERDICT_DENIED)
		return fated(out, FATE_REFUSE, MESH_COUNT_DENIED);
	/* Datagrams cannot be answered from the right port: the compiler refuses such rules. */
	if (a.verdict != MESH_VERDICT_REDIRECTED || q.protocol)
		return fated(out, FATE_PASS, MESH_COUNT_EXCLUDED);
	out->port = a.port;
	out->member = q.member;
	out->drop = profile->flags & MESH_PROFILE_MISSING_SIDECAR_REFUSE;
	return fated(out, FATE_REDIRECT, MESH_COUNT_REDIRECTED);
}

/* No sidecar takes it. */
static __always_inline void missed(__u64 netns, struct fated *fated, bool v4)
{
	struct mesh_sidecar_key sidecar = {
		.netns = netns,
		.member = fated->member,
		.port = fated->port,
		.family = v4 ? MESH_FAMILY_V4 : MESH_FAMILY_V6,
		.direction = 1,
	};

	add_not_taken(&sidecar);
}

/* The sidecar's listening socket takes it, one of those that are known. 0: there is none that can.
 *
 * A global function: the verifier of 6.1 does not come to an end where it follows these references behind
 * every path that leads here.
 */
__noinline int assign(offer_context *ctx, __u64 netns, __u32 port, __u32 family)
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
