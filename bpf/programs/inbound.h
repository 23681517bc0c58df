/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Inbound traffic to a pod: a packet that belongs to no connection. Shared by sk_lookup and tc, which know neither
 * namespace nor process. So each pod has a small program of its own (`entry.bpf.c`) that
 * leaves the cookie of the pod's network namespace, or of the host's, and goes on to the one that includes this.
 */
#pragma once

/* The network namespace that this packet came to, as the program before left it. */
__noinline __u64 entered(inbound_context *ctx)
{
	__u32 zero = 0;
	struct mesh_tail_call_slots *left = bpf_map_lookup_elem(&tail_call_slots, &zero);

	if (!left)
		return 0;
	for (__u32 i = 0; i < MESH_TAIL_CALL_SLOTS; i++)
		if (*(volatile __u64 *)&left->context[i] == (__u64)ctx) {
			__u64 pod = *(volatile __u64 *)&left->pod[i];

			*(volatile __u64 *)&left->context[i] = 0;
			return pod;
		}
	return 0;
}

/* Addresses in network order, IPv4 as v4-mapped; ports in host order. */
struct inbound {
	__u32 source[4];
	__u32 destination[4];
	__u32 source_port;
	__u32 port;
	__u32 protocol; /* 0 TCP, 1 UDP */
	__u32 device; /* that it came in by */
};

/* The member that a socket was made by. */
static __always_inline struct mesh_member *member_of(struct mesh_port_owner *owner)
{
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		__u64 id = owner->cgroup[level];
		struct mesh_member *member;

		if (!id)
			break;
		member = bpf_map_lookup_elem(&cgroups, &id);
		if (member)
			return member;
	}
	return NULL;
}

/* Whether somebody listens at a place, and the member. Sockets of several may share it; a member among them decides,
 * since the kernel may give inbound traffic to each.
 */
static __always_inline bool owners_at(struct mesh_port_key *place, struct mesh_member **member)
{
	bool found = false;

	for (__u32 slot = 0; slot < MESH_PORT_SLOTS; slot++) {
		struct mesh_port_owner *owner;

		place->slot = slot;
		owner = bpf_map_lookup_elem(&host_ports, place);
		if (!owner)
			continue;
		found = true;
		*member = member_of(owner);
		if (*member)
			break;
	}
	return found;
}

/* The member whose socket listens on the host where this is sent to: on that address, else on all of its family,
 * else on all.
 */
static __always_inline struct mesh_member *owner_of(struct inbound *in)
{
	struct mesh_port_key place = { .port = in->port };
	struct mesh_member *member = NULL;

	if (in->protocol)
		return NULL;
	for (int i = 0; i < 4; i++)
		place.address[i] = in->destination[i];
	if (owners_at(&place, &member))
		return member;
	if (is_mapped(place.address)) {
		place.address[3] = 0;
		if (owners_at(&place, &member))
			return member;
	}
	for (int i = 0; i < 4; i++)
		place.address[i] = 0;
	owners_at(&place, &member);
	return member;
}

/* What becomes of it. */
enum fate { FATE_PASS, FATE_REDIRECT, FATE_REFUSE, FATE_TAKE };

/* Whether the sidecar opened it, in this namespace, from whichever source: one that keeps its client's address has
 * that. There is a note from its SYN on until it is established, so that nobody else can use what is noted for long. A
 * global function for the sake of the stack.
 */
__noinline int is_exempt(struct inbound *in, __u64 netns)
{
	struct mesh_flow_key key = { .netns = netns };

	if (!in)
		return 0;
	for (int i = 0; i < 4; i++) {
		key.local[i] = in->source[i];
		key.remote[i] = in->destination[i];
	}
	key.local_port = in->source_port;
	key.remote_port = in->port;
	return bpf_map_lookup_elem(&exempt_flows, &key) != NULL;
}

/* Whether it is a connection of this namespace that was redirected: its sidecar is to take it, whatever was decided
 * since then, and whichever loopback address that listens on.
 */
static __always_inline bool is_handed_over(struct inbound *in, __u64 netns)
{
	struct mesh_flow_key key = { .netns = netns };

	if (in->protocol || !is_loopback(in->destination))
		return false;
	for (int i = 0; i < 4; i++) {
		key.local[i] = in->source[i];
		key.remote[i] = in->destination[i];
	}
	key.local_port = in->source_port;
	key.remote_port = in->port;
	return bpf_map_lookup_elem(&handover, &key);
}

/* Whether it goes to one of the addresses that redirected connections are spread over. */
static __always_inline bool is_spread(const __u32 address[4])
{
	return is_mapped(address) && bpf_ntohl(address[3]) - MESH_SPREAD_FIRST < MESH_SPREAD_COUNT;
}

/* Whether it is a datagram of a socket that a policy denied: nobody may listen there. */
static __always_inline bool is_refused(struct inbound *in)
{
	if (!in->protocol || in->port != MESH_REFUSING_PORT)
		return false;
	for (int i = 0; i < 4; i++) {
		if (in->source[i] != in->destination[i])
			return false;
	}
	return true;
}

/* Where somebody watches, or decisions are kept, tells one that no process asked for. */
static __always_inline void tell_inbound(struct inbound *in, struct mesh_control *words, struct question *q,
				       struct answer *a)
{
	struct process by = { .uid = NONE, .port = in->source_port };
	__u64 observe;

	if (*(volatile __u64 *)&words->observe) {
		observe = listeners_of(words, q, a, 0);
		if (observe) {
			for (int i = 0; i < 4; i++)
				by.local[i] = in->destination[i];
			report(q, a, &by, observe);
		}
	}
}

/* Whether the namespace sends it to itself: from one of its addresses to the same, which is what the kernel takes as
 * source for that, or from any of them to loopback. A sidecar that knows where a connection was going reaches its
 * service so, and not itself. Loopback is reached from elsewhere, too, where `route_localnet` is set: by another
 * device.
 */
static __always_inline bool is_to_itself(struct inbound *in)
{
	if (is_loopback(in->source))
		return false;
	if (is_loopback(in->destination))
		return in->device == LOOPBACK_INDEX;
	for (int i = 0; i < 4; i++) {
		if (in->source[i] != in->destination[i])
			return false;
	}
	return true;
}

/* Whether it comes from one of the addresses that the member is known to have. A function of its own: the caller's
 * stack has no room for the key.
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

/* What becomes of an inbound packet, and what the program that answers is to count. */
struct fated {
	__u16 counter;
	__u16 port; /* the sidecar's, where it goes there */
	__u32 profile; /* of the member */
	__u32 member; /* who is sent there */
	__u8 slot; /* of the policy */
	__u8 drop : 1; /* what becomes of it where no sidecar listens */
	__u8 exempts : 1; /* the policy exempts somebody */
	__u8 fits; /* how well the socket fits that takes it; 0: none does */
	__u8 again; /* in: it was decided and told before, or opens nothing */
};

static __always_inline enum fate fated(struct fated *out, enum fate fate, __u32 counter)
{
	out->counter = counter;
	return fate;
}

static __always_inline enum fate fate_of(struct inbound *in, __u64 netns, struct fated *out)
{
	struct mesh_control *words = control_words();
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct question q = {};
	struct answer a = {};

	if (!words)
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	if (!IS_FROM_OUTSIDE(in) && is_handed_over(in, netns)) {
		out->port = in->port;
		return fated(out, FATE_TAKE, MESH_COUNT_TAKEN);
	}
	if (is_refused(in))
		return fated(out, FATE_REFUSE, MESH_COUNT_DATAGRAM_REFUSED);
	q.generation = *(volatile __u64 *)&words->generation;
	if (!q.generation)
		return fated(out, FATE_PASS, MESH_COUNT_IDLE);
	q.slot = q.generation & 1;
	q.netns = netns;
	member = bpf_map_lookup_elem(&endpoints, &q.netns);
	if (!member && words->host == q.netns)
		member = owner_of(in);
	if (!member)
		return fated(out, FATE_PASS, MESH_COUNT_NOT_MEMBER);
	if (!has_profile(member, &q))
		return fated(out, FATE_PASS, MESH_COUNT_NO_PROFILE);
	q.direction = 1;
	q.protocol = in->protocol;
	q.port = in->port;
	for (int i = 0; i < 4; i++)
		q.address[i] = in->source[i];
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile)
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	/* Nobody outside has an address of this namespace, whatever is written in a packet. */
	if (!IS_FROM_OUTSIDE(in))
		q.own = (may_be_own(member, q.address) && is_from_member(&q)) || is_to_itself(in);
	if (!IS_FROM_OUTSIDE(in) && !in->protocol && is_exempt(in, q.netns))
		return fated(out, FATE_PASS, MESH_COUNT_EXEMPT);
	/* What a namespace sends to an address of its own seems to come in by the interface that has it. */
	if (profile->flags & MESH_PROFILE_EXEMPT_INTERFACES && !q.own)
		a.source = exempt_interface(q.member, q.slot, in->device);
	if (a.source) {
		left_alone(&q, &a, !out->again);
		if (!out->again)
			tell_inbound(in, words, &q, &a);
		return fated(out, FATE_PASS, MESH_COUNT_EXEMPT);
	}
	profile = inbound_profile(&q, profile);
	if (!profile || !decide(&q, profile, &a, !out->again))
		return fated(out, FATE_PASS, MESH_COUNT_TABLE_MISSING);
	if (!out->again)
		tell_inbound(in, words, &q, &a);
	if (a.verdict == MESH_VERDICT_DENIED)
		return fated(out, FATE_REFUSE, MESH_COUNT_DENIED);
	/* Datagrams cannot be answered from the right port: the compiler refuses such rules. */
	if (a.verdict != MESH_VERDICT_REDIRECTED || q.protocol)
		return fated(out, FATE_PASS, MESH_COUNT_EXCLUDED);
	out->port = a.port;
	out->member = q.member;
	out->slot = q.slot;
	out->profile = q.profile;
	out->exempts = !!(profile->exempt_uid | profile->exempt_gid | (profile->flags & MESH_PROFILE_EXEMPT_CGROUPS));
	out->drop = !!(profile->flags & MESH_PROFILE_MISSING_SIDECAR_REFUSE);
	return fated(out, FATE_REDIRECT, MESH_COUNT_REDIRECTED);
}

/* No sidecar takes it. A global function for the sake of the stack. */
__noinline int missed(struct fated *fated, __u64 netns, __u32 v4)
{
	struct mesh_sidecar_key sidecar = { .netns = netns, .direction = 1 };

	if (!fated)
		return 0;
	sidecar.member = fated->member;
	sidecar.port = fated->port;
	sidecar.family = v4 ? MESH_FAMILY_V4 : MESH_FAMILY_V6;
	add_not_taken(&sidecar);
	return 0;
}

/* How well a listening socket fits, of all that listen on the sidecar's port: any process of the pod may, where another
 * address is free. One of an identity that the policy exempts is the sidecar's; root's may be, before it becomes that
 * one. Next comes one at an address that a sidecar is expected at.
 */
enum { FITS = 1, AT_EXPECTED = 2, OF_ROOT = 4, OF_EXEMPT = 8 };

static __always_inline bool is_expected(struct sock_common *sk, struct inbound *in)
{
	__u32 at[4] = {}, v4 = 0, differs = 0;
	__u16 family = 0;

	READ(family, sk->skc_family);
	if (family == AF_INET) {
		READ(v4, sk->skc_rcv_saddr);
		return !v4 || v4 == LOOPBACK4 || (is_mapped(in->destination) && v4 == in->destination[3]);
	}
	READ(at, sk->skc_v6_rcv_saddr);
	for (int i = 0; i < 4; i++)
		differs |= at[i] ^ in->destination[i];
	if (!differs)
		return true;
	if (at[0] || at[1])
		return false;
	return at[2] ? at[2] == MAPPED && at[3] == LOOPBACK4 : !at[3] || at[3] == bpf_htonl(1);
}

/* A cgroup that a socket was made in or below, and whose policy is asked about it. */
struct within {
	__u64 cgroup; /* its address */
	__u32 profile;
	__u32 slot;
};

/* Whether the policy exempts this one; goes on to the one above. A global function, as those that follow: the verifier
 * of 6.1 looks at each once, and not on every way that leads to it. They take numbers only, so a socket's address.
 */
__noinline int is_exempt_cgroup(struct within *at)
{
	struct mesh_exempt_key key = {};
	struct cgroup *cgroup;
	__u64 id = 0;
	__u32 *path;

	if (!at)
		return 0;
	cgroup = (void *)at->cgroup;
	READ(id, cgroup->kn);
	READ(id, ((struct kernfs_node *)id)->id);
	READ(at->cgroup, cgroup->self.parent);
	path = bpf_map_lookup_elem(&exempt_ids, &id);
	if (!path)
		return 0;
	key.path = *path;
	key.profile = at->profile;
	key.slot = at->slot;
	return !!bpf_map_lookup_elem(&exempt_cgroups, &key);
}

/* Whether a socket was made in a cgroup that the policy exempts, or below one. */
__noinline int is_in_exempt(__u64 address, __u32 profile, __u32 slot)
{
	struct within at = { .profile = profile, .slot = slot };
	struct sock *sock = (void *)address;

	READ(at.cgroup, sock->sk_cgrp_data.cgroup);
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		if (!at.cgroup)
			break;
		if (is_exempt_cgroup(&at))
			return 1;
	}
	return 0;
}

/* The group of who made a socket. */
__noinline __u32 group_of(__u64 address)
{
	struct sock *sock = (void *)address;
	__u64 at = 0;
	__u32 gid = NONE;

	READ(at, sock->sk_socket);
	READ(at, ((struct socket *)at)->file);
	READ(at, ((struct file *)at)->f_cred);
	if (at)
		READ(gid, ((struct cred *)at)->gid.val);
	return gid;
}

/* How well the socket at an address fits. */
__noinline int score_of(__u64 address, struct inbound *in, struct fated *to)
{
	struct sock *sock = (void *)address;
	struct mesh_profile *profile;
	__u32 fits, uid = NONE;

	if (!in || !to)
		return 0;
	fits = is_expected(&sock->__sk_common, in) ? FITS | AT_EXPECTED : FITS;
	if (!to->exempts)
		return fits;
	profile = line_of(to->slot, MESH_TABLE_PROFILES, to->profile);
	if (!profile)
		return fits;
	READ(uid, sock->sk_uid.val);
	if (profile->exempt_uid && tree_find(to->slot, profile->exempt_uid, uid) > 0)
		return fits | OF_EXEMPT;
	if (profile->exempt_gid && tree_find(to->slot, profile->exempt_gid, group_of(address)) > 0)
		return fits | OF_EXEMPT;
	if ((profile->flags & MESH_PROFILE_EXEMPT_CGROUPS) && is_in_exempt(address, to->profile, to->slot))
		return fits | OF_EXEMPT;
	return uid ? fits : fits | OF_ROOT;
}

static __always_inline __u32 fits(struct bpf_sock *sk, struct inbound *in, struct fated *to)
{
	void *volatile kept = bpf_skc_to_tcp_sock(sk);
	__u64 address = 0;

	/* A look at the stack makes a number of it. */
	READ(address, *(__u64 *)&kept);
	return score_of(address, in, to);
}

/* Whether none can fit better than the one that takes it. */
static __always_inline bool fits_best(struct fated *to)
{
	return to->fits == (to->exempts ? FITS | AT_EXPECTED | OF_EXEMPT : FITS | AT_EXPECTED);
}

/* Who takes it, as it is counted. */
static __always_inline __u32 taken(struct fated *to)
{
	return !to->exempts || to->fits & (OF_EXEMPT | OF_ROOT) ? MESH_COUNT_REDIRECTED : MESH_COUNT_OTHERS_LISTENER;
}

/* The sidecar's listening socket takes it: of those of a family that are known, the one that fits best.
 *
 * A global function: the verifier of 6.1 does not come to an end where it follows these references behind
 * every path that leads here.
 */
__noinline int assign(inbound_context *ctx, struct inbound *in, struct fated *to, __u64 netns, __u32 family)
{
	struct mesh_listener_key key = { .netns = netns, .family = family };

	if (!in || !to)
		return 0;
	key.port = to->port;
	/* Without `continue`: clang would put the step before the head of the loop, and the verifier of 6.1 takes what
	 * falls through into a head for a loop without an end.
	 */
	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		struct bpf_sock *sk;
		__u32 score;

		key.slot = slot;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (sk) {
			score = fits(sk, in, to);
			/* Fails for a socket of the other family, or of IPv6 only. */
			if (score > to->fits && !bpf_sk_assign(ctx, sk, ASSIGN_ANEW))
				to->fits = score;
			bpf_sk_release(sk);
		}
		if (fits_best(to))
			break;
	}
	return 0;
}
