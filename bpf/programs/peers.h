/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Servers on datagram sockets that are not connected: who has asked is answered, whatever the rules say of new flows.
 *
 * What is remembered lives with the socket: nobody else's socket is short of room for it, and a flood of senders only
 * takes the places of the oldest ones. Whom the socket itself spoke to first is its server, and no peer: the answer to
 * what was sent under one policy must not open a way past the next.
 */
#pragma once

static __always_inline __u64 mixed_of(__u64 secret0, __u64 secret1, const __u32 address[4], __u32 port)
{
	__u64 mix = (secret0 ^ ((__u64)address[0] << 32 | address[1])) * MESH_HASH_K1;

	mix ^= mix >> 32;
	mix = (mix ^ ((__u64)address[2] << 32 | address[3])) * MESH_HASH_K2;
	mix ^= mix >> 29;
	mix = (mix ^ secret1 ^ port) * MESH_HASH_K1;
	mix ^= mix >> 32;
	mix *= MESH_HASH_K2;
	return mix ^ mix >> 29;
}

/* Where the group of a peer begins. */
static __always_inline __u64 *group_of(struct mesh_udp_peers *known, __u64 mix)
{
	__u64 group = (mix & 0xffffff) * MESH_PEER_GROUPS >> 24;

	/* Or clang knows the bound and leaves the comparison out, and the verifier does not know it. */
	asm volatile("" : "+r"(group));
	return group < MESH_PEER_GROUPS ? &known->peer[group * MESH_PEERS_A_GROUP] : NULL;
}

/* An entry is the upper 40 bits of the hash and the time. */
static __always_inline bool is_entry_of(__u64 entry, __u64 mix)
{
	return entry && !((entry ^ mix) >> 24);
}

static __always_inline __u32 clock(void)
{
	return bpf_ktime_get_coarse_ns() >> 30 & 0xffffff;
}

static __always_inline __u32 age_of(__u64 entry, __u32 now)
{
	return (now - (__u32)entry) & 0xffffff;
}

/* Whether a socket has had a datagram from there, not too long ago. */
static __noinline int is_peer(struct mesh_udp_peers *known, struct question *q)
{
	__u64 mix, *group;

	if (!known || !q)
		return 0;
	mix = mixed_of(known->secret[0], known->secret[1], q->address, q->port);
	group = group_of(known, mix);
	for (__u32 i = 0; group && i < MESH_PEERS_A_GROUP; i++)
		if (is_entry_of(group[i], mix))
			return age_of(group[i], clock()) <= MESH_PEER_AGE;
	return 0;
}

/* Whether the socket itself spoke to them first. */
static __always_inline bool has_spoken(struct bpf_sock *sk, struct question *q)
{
	struct mesh_udp_contacts *servers = bpf_sk_storage_get(&udp_contacts, sk, NULL, 0);
	__u64 mix = mixed_of(0, 0, q->address, q->port);
	__u32 now = clock();

	if (!servers)
		return false;
	for (__u32 i = 0; i < MESH_UDP_CONTACTS; i++)
		if (is_entry_of(servers->server[i], mix))
			return age_of(servers->server[i], now) <= MESH_PEER_AGE;
	return false;
}

/* Takes note of a server that a socket asks. */
static __noinline int speak(struct bpf_sock_addr *ctx, struct question *q)
{
	struct mesh_udp_contacts *servers;
	__u64 mix;
	__u32 now;

	if (!ctx || !q || !ctx->sk)
		return 0;
	servers = bpf_sk_storage_get(&udp_contacts, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!servers) {
		count(MESH_COUNT_STORAGE_FULL);
		return 0;
	}
	mix = mixed_of(0, 0, q->address, q->port);
	now = clock();
	for (__u32 i = 0; i < MESH_UDP_CONTACTS; i++)
		if (is_entry_of(servers->server[i], mix)) {
			servers->server[i] = (mix & ~0xffffffULL) | now;
			return 0;
		}
	servers->server[servers->next++ & (MESH_UDP_CONTACTS - 1)] = (mix & ~0xffffffULL) | now;
	return 0;
}

/* Notes a peer as the first of its group, before those that were heard earlier; the last one is forgotten. Two threads
 * that do this at the same moment may forget one more: it is decided by the rules then, as if it had been heard too long
 * ago.
 */
static __noinline int note_peer(struct bpf_sock_addr *ctx, struct mesh_udp_peers *known, struct question *q)
{
	__u32 now, at = 0;
	__u64 mix, *group, there = 0;

	if (!ctx || !known || !q || !ctx->sk)
		return 0;
	mix = mixed_of(known->secret[0], known->secret[1], q->address, q->port);
	group = group_of(known, mix);
	if (!group)
		return 0;
	now = clock();
	for (__u32 i = 0; i < MESH_PEERS_A_GROUP; i++) {
		there = group[i];
		at = i;
		if (!there || is_entry_of(there, mix))
			break;
	}
	if (is_entry_of(there, mix) && age_of(there, now) <= MESH_PEER_AGE) {
		/* Whoever sends much is not moved for each datagram. */
		if (at < MESH_PEERS_A_GROUP / 2 && !age_of(there, now))
			return 1;
	} else if (has_spoken(ctx->sk, q)) {
		return 0;
	}
	for (__u32 i = MESH_PEERS_A_GROUP - 1; i > 0; i--)
		if (i <= at)
			group[i] = group[i - 1];
	group[0] = (mix & ~0xffffffULL) | now;
	return 1;
}

/* Whether what a socket receives must be remembered: it may have to answer where a policy sends it elsewhere. Who the
 * receiver is takes long to find out, so that a socket where nobody needs it is not asked about again for a second.
 */
static __always_inline bool may_have_to_answer(struct bpf_sock_addr *ctx, struct question *q)
{
	struct mesh_control *words = control_words();
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct mesh_udp_contacts *socket;
	__u32 stamp;

	q->generation = words ? *(volatile __u64 *)&words->generation : 0;
	if (!q->generation)
		return false;
	q->slot = q->generation & 1;
	/* All profiles tell whether one of them needs it: else nobody is looked for. */
	profile = line_of(q->slot, MESH_TABLE_PROFILES, 0);
	if (!profile || !(profile->flags & MESH_PROFILE_SOME_ANSWER))
		return false;
	stamp = clock() | (__u32)q->generation << 24;
	socket = bpf_sk_storage_get(&udp_contacts, ctx->sk, NULL, 0);
	if (socket && socket->needless == stamp)
		return false;
	member = member_find(ctx, q);
	profile = member && has_profile(member, q) ? line_of(q->slot, MESH_TABLE_PROFILES, q->profile) : NULL;
	if (profile && profile->flags & MESH_PROFILE_ANSWERS)
		return true;
	if (!socket)
		socket = bpf_sk_storage_get(&udp_contacts, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (socket)
		socket->needless = stamp;
	return false;
}

/* A datagram has come from elsewhere. */
static __always_inline struct verdict heard(struct bpf_sock_addr *ctx, const __u32 from[4], __u16 port)
{
	struct mesh_udp_peers *known;
	struct question q = { .port = port };

	if (is_connected(ctx->sk))
		return ended(MESH_COUNT_DATAGRAM_OTHER, PASS);
	for (int i = 0; i < 4; i++)
		q.address[i] = from[i];
	known = bpf_sk_storage_get(&udp_peers, ctx->sk, NULL, 0);
	if (!known && may_have_to_answer(ctx, &q)) {
		known = bpf_sk_storage_get(&udp_peers, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!known)
			return ended(MESH_COUNT_STORAGE_FULL, PASS);
		known->secret[0] = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
		known->secret[1] = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	}
	return ended(known && note_peer(ctx, known, &q) ? MESH_COUNT_PEER_NOTED : MESH_COUNT_DATAGRAM_OTHER, PASS);
}

/* Whether a datagram answers one that came in. */
static __always_inline bool answers_peer(struct bpf_sock_addr *ctx, struct question *q)
{
	return !is_connected(ctx->sk) && is_peer(bpf_sk_storage_get(&udp_peers, ctx->sk, NULL, 0), q);
}
