/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sock_ops, for acceleration: finds the two ends of a chosen connection when they are established, and puts
 * them into the map of accelerated sockets.
 *
 * The connecting end comes first (its SYN-ACK), and leaves an opening that the accepting end finds. Its key
 * are the ends and the first sequence numbers of both directions, which both sides know and no other
 * connection has: so an end of another network namespace is never taken for this one's.
 *
 * Sockets stay in the map until they close: bytes that were delivered past the stack and are unread would be
 * lost with the entry. What is to be switched off is not asked for the fast path any more, and that is all.
 */
#pragma once

static __noinline int pending_key(struct bpf_sock_ops *ctx, bool connecting, struct mesh_pending_pair *key)
{
	struct mesh_flow_key both = {};

	if (!key)
		return 0;
	flow_key(ctx, connecting, &both);
	for (int i = 0; i < 4; i++) {
		key->client[i] = both.local[i];
		key->server[i] = both.remote[i];
	}
	key->client_port = both.local_port;
	key->server_port = both.remote_port;
	return 0;
}

/* Larger than the stack. */
static const struct mesh_pair blank_pair;
static const struct mesh_pair_totals no_totals;

/* The pair of a socket that is about to be established. */
static __always_inline struct mesh_pair *pair_begin(struct mesh_socket_accel *accel,
						     struct mesh_pending_pair *key, __u64 cookie)
{
	struct mesh_pair *pair;

	if (bpf_map_update_elem(&pairs, &cookie, &blank_pair, BPF_NOEXIST))
		return NULL;
	pair = bpf_map_lookup_elem(&pairs, &cookie);
	if (!pair)
		return NULL;
	for (int i = 0; i < 4; i++) {
		pair->client[i] = key->client[i];
		pair->server[i] = key->server[i];
	}
	pair->client_port = key->client_port;
	pair->server_port = key->server_port;
	pair->sequence = key->sequence;
	pair->acknowledged = key->acknowledged;
	pair->item = accel->item;
	pair->generation = accel->generation;
	pair->netns = accel->netns;
	pair->cgroup = accel->cgroup;
	pair->port = accel->port;
	pair->form = accel->form;
	return pair;
}

/* A SYN reaches a pod, before it is answered: where the pod's sidecar takes it and the pod's workload may be a peer,
 * the connecting end will find that here.
 */
static __always_inline struct verdict accelerate_arriving(struct bpf_sock_ops *ctx)
{
	struct mesh_control *words = control_words();
	struct mesh_pending_pair key = {};
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct question q = {};
	struct answer a = {};

	if (!words)
		return ended(MESH_COUNT_TABLE_MISSING, 1);
	q.generation = *(volatile __u64 *)&words->generation;
	q.slot = q.generation & 1;
	q.netns = bpf_get_netns_cookie(ctx);
	member = q.generation ? bpf_map_lookup_elem(&endpoints, &q.netns) : NULL;
	if (!member)
		return ended(MESH_COUNT_ARRIVAL_OTHER, 1);
	q.profile = member->profile[q.slot & 1];
	profile = q.profile == MESH_NO_PROFILE ? NULL : line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile || !profile->accelerate_peers)
		return ended(MESH_COUNT_ARRIVAL_OTHER, 1);
	pending_key(ctx, false, &key);
	for (int i = 0; i < 4; i++)
		q.address[i] = key.client[i];
	q.port = key.server_port;
	q.direction = 1;
	profile = inbound_profile(&q, profile);
	if (!profile || !decide(&q, profile, &a, false) || a.verdict != MESH_VERDICT_REDIRECTED)
		return ended(MESH_COUNT_ARRIVAL_OTHER, 1);
	if (bpf_map_update_elem(&arrivals, &key, &q.netns, BPF_ANY))
		return ended(MESH_COUNT_ACCELERATION_FULL, 1);
	return ended(MESH_COUNT_ARRIVAL_NOTED, 1);
}

/* Whether the other end is a sidecar on this node that the policy chooses; then says by which item. */
static __always_inline bool accelerate_meets(struct mesh_socket_accel *accel, struct mesh_pending_pair *key, __u64 *peer)
{
	struct mesh_control *words = control_words();
	__u64 *netns = bpf_map_lookup_elem(&arrivals, key);
	struct mesh_profile *profile;
	__u32 slot;

	if (!netns || !words || *(volatile __u64 *)&words->generation != accel->generation)
		return false;
	*peer = *netns;
	bpf_map_delete_elem(&arrivals, key);
	slot = accel->generation & 1;
	profile = line_of(slot, MESH_TABLE_PROFILES, accel->profile);
	accel->item = profile ? accelerate_between(slot, profile, *peer, accel->port) : 0;
	return accel->item;
}

/* Whether SO_ZEROCOPY is set. */
static __always_inline bool sends_without_copy(struct sock *sk)
{
	return sk->__sk_common.skc_flags >> __builtin_preserve_enum_value(*(enum sock_flags *)SOCK_ZEROCOPY, 1) & 1;
}

/* Whether the kernel's sockmap would not keep what the socket promises: a subflow of MPTCP, which it refuses; and one
 * that sends without a copy, which would be told of more calls than there were.
 */
static __always_inline bool is_unfit(struct tcp_sock *tcp)
{
	return tcp->inet_conn.icsk_ulp_ops || sends_without_copy((struct sock *)tcp);
}

static __always_inline struct verdict accelerate_connected(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_pending_pair key = {};
	struct mesh_pair *pair;
	struct mesh_socket_accel *accel;
	struct tcp_sock *tcp;
	__u64 cookie, peer = 0;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, 0);
	if (!accel)
		return ended(MESH_COUNT_NOT_CHOSEN, 1);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	if (is_unfit(tcp)) {
		bpf_sk_storage_delete(&socket_accel, sk);
		return ended(MESH_COUNT_NOT_ELIGIBLE, 1);
	}
	pending_key(ctx, true, &key);
	if (accel->form == MESH_FORM_PEERS && !accelerate_meets(accel, &key, &peer)) {
		bpf_sk_storage_delete(&socket_accel, sk);
		return ended(MESH_COUNT_NOT_MET, 1);
	}
	key.sequence = ctx->snd_nxt;
	key.acknowledged = ctx->rcv_nxt;
	cookie = bpf_get_socket_cookie(ctx);
	pair = pair_begin(accel, &key, cookie);
	if (!pair)
		return ended(MESH_COUNT_ACCELERATION_FULL, 1);
	pair->peer_netns = peer;
	pair->ends[0].sock = (__u64)tcp;
	pair->ends[0].cookie = cookie;
	if (bpf_sock_hash_update(ctx, &accelerated, &cookie, BPF_NOEXIST) ||
	    bpf_map_update_elem(&pending_pairs, &key, &cookie, BPF_ANY)) {
		bpf_map_delete_elem(&pairs, &cookie);
		return ended(MESH_COUNT_ACCELERATION_FULL, 1);
	}
	accel->pair = cookie;
	watch(ctx);
	return ended(MESH_COUNT_PAIR_BEGUN, 1);
}

/* Whether the accepting end may be one of this pair. */
static __always_inline bool accelerate_admits(struct bpf_sock_ops *ctx, struct mesh_pair *pair)
{
	__u64 netns = bpf_get_netns_cookie(ctx);

	return netns == (pair->form == MESH_FORM_LOCAL ? pair->netns : pair->peer_netns);
}

/* Whether readers on this port ask FIONREAD, on a kernel that counts wrong in the map of accelerated sockets. */
static __always_inline bool counts(struct bpf_sock_ops *ctx)
{
	struct mesh_fionread_reader key = { .place = bpf_get_netns_cookie(ctx), .number = ctx->local_port };

	return some_ask() && bpf_map_lookup_elem(&fionread_reader, &key);
}

static __always_inline struct verdict accelerate_accepted(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_pending_pair key = {};
	struct mesh_pair *pair;
	struct mesh_socket_accel *accel;
	struct tcp_sock *tcp;
	__u64 cookie, *found;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	pending_key(ctx, false, &key);
	/* Whoever connects from another node does not look for it. */
	bpf_map_delete_elem(&arrivals, &key);
	key.sequence = ctx->rcv_nxt;
	key.acknowledged = ctx->snd_nxt;
	found = bpf_map_lookup_elem(&pending_pairs, &key);
	if (!found)
		return ended(MESH_COUNT_NOT_CHOSEN, 1);
	cookie = *found;
	pair = bpf_map_lookup_elem(&pairs, &cookie);
	bpf_map_delete_elem(&pending_pairs, &key);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!pair || !tcp || !accelerate_admits(ctx, pair))
		return ended(MESH_COUNT_NOT_MET, 1);
	if (is_unfit(tcp))
		return ended(MESH_COUNT_NOT_ELIGIBLE, 1);
	if (counts(ctx))
		return ended(MESH_COUNT_COUNTS_AVOIDED, 1);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!accel)
		return ended(MESH_COUNT_ACCELERATION_FULL, 1);
	accel->pair = cookie;
	accel->role = 1;
	watch(ctx);
	cookie = bpf_get_socket_cookie(ctx);
	pair->ends[1].cookie = cookie;
	if (bpf_sock_hash_update(ctx, &accelerated, &cookie, BPF_NOEXIST))
		return ended(MESH_COUNT_ACCELERATION_FULL, 1);
	/* Last: a sender takes it for the sign that this end is there. */
	*(volatile __u64 *)&pair->ends[1].sock = (__u64)tcp;
	return ended(MESH_COUNT_PAIR_MET, 1);
}

static __always_inline void add(__u64 *to, __u64 bytes)
{
	__sync_fetch_and_add(to, bytes);
}

/* Adds what a pair sent to what its item's earlier pairs did. */
static __always_inline void add_to_totals(struct mesh_pair *pair)
{
	struct mesh_pair_totals *sum = bpf_map_lookup_elem(&pair_totals, &pair->item);

	if (!sum) {
		/* Ignored: the look-up that follows tells. */
		bpf_map_update_elem(&pair_totals, &pair->item, &no_totals, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&pair_totals, &pair->item);
	}
	if (sum) {
		add(&sum->pairs, 1);
		add(&sum->fast_bytes, pair->ends[0].fast_bytes + pair->ends[1].fast_bytes);
		add(&sum->slow_bytes, pair->ends[0].slow_bytes + pair->ends[1].slow_bytes);
		for (__u32 i = 0; i < MESH_SEND_PATHS; i++)
			add(&sum->messages[i], pair->ends[0].messages[i] + pair->ends[1].messages[i]);
	} else {
		count(MESH_COUNT_HIT_LOST);
	}
}

/* Bytes of the fast path that were never read are gone now. TCP would have reset the connection. */
static __always_inline void fold_totals(struct bpf_sock *sk, struct mesh_pair *pair, __u32 role)
{
	struct mesh_pair_end *own = role ? &pair->ends[1] : &pair->ends[0];
	struct mesh_pair_end *peer = role ? &pair->ends[0] : &pair->ends[1];
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	__u32 first = role ? pair->sequence : pair->acknowledged, taken;

	if (tcp && peer->fast_bytes) {
		taken = (__u32)own->plain_bytes - (tcp->copied_seq - first);
		if ((__s32)((__u32)peer->fast_bytes - taken) > 0)
			count(MESH_COUNT_CLOSED_UNREAD);
	}
}

static __always_inline struct verdict accelerate_closed(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_pending_pair key = {};
	struct mesh_pair *pair;
	struct mesh_socket_accel *accel;
	__u64 cookie, own;

	if (!sk)
		return ended(MESH_COUNT_NO_SOCKET, 1);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, 0);
	if (!accel || !accel->pair)
		return ended(MESH_COUNT_NOT_CHOSEN, 1);
	cookie = accel->pair;
	pair = bpf_map_lookup_elem(&pairs, &cookie);
	if (!pair)
		return ended(MESH_COUNT_NOT_CHOSEN, 1);
	fold_totals(sk, pair, accel->role);
	own = bpf_get_socket_cookie(ctx);
	bpf_map_delete_elem(&stalled_readers, &own);
	if (accel->role)
		return ended(MESH_COUNT_PAIR_CLOSED, 1);
	pending_key(ctx, true, &key);
	key.sequence = pair->sequence;
	key.acknowledged = pair->acknowledged;
	bpf_map_delete_elem(&pending_pairs, &key);
	add_to_totals(pair);
	bpf_map_delete_elem(&pairs, &cookie);
	return ended(MESH_COUNT_PAIR_CLOSED, 1);
}
