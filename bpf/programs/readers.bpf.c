/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* iter/sockmap, iter/tcp: readers of the short way, looked at by user space. What is unread, and what is to leave. */

/* Tells of each socket of the map that has unread bytes how many came which way. */
static __always_inline struct verdict looked_at(struct sock *sk, struct seq_file *seq)
{
	struct mesh_unread found = {};
	__u64 psock;

	if (!sk)
		return ended(MESH_COUNT_ALL_READ, 0);
	psock = (__u64)PEEK(struct sock, sk, sk_user_data) & ~7ULL;
	found.cookie = (__u64)PEEK(struct sock, sk, __sk_common.skc_cookie.counter);
	found.long_bytes = waits_long((__u64)sk);
	found.short_bytes = holds_short((__u64)sk) ? waits_short(psock) : 0;
	if (!found.long_bytes && !found.short_bytes)
		return ended(MESH_COUNT_ALL_READ, 0);
	bpf_seq_write(seq, &found, sizeof(found));
	return ended(MESH_COUNT_UNREAD, 0);
}

SEC("iter/sockmap")
int mesh_unread(struct bpf_iter__sockmap *ctx)
{
	return looked_at(ctx->sk, ctx->meta->seq).value;
}

/* A socket of the namespace: where its reader was told too little, nothing more is sent to it by the short way; the
 * next time it leaves, and its reader is woken to look again. SO_RCVLOWAT, set to what it is, wakes.
 */
static __always_inline struct verdict leaves(struct sock_common *sk)
{
	struct mesh_waiting *note;
	struct mesh_half *half;
	struct mesh_end *end;
	int owned = 0, low;
	__u64 cookie;

	if (!sk || sk->skc_state == TCP_LISTEN || sk->skc_state == TCP_TIME_WAIT)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	cookie = sk->skc_cookie.counter;
	note = bpf_map_lookup_elem(&waiting, &cookie);
	READ(owned, ((struct sock *)sk)->sk_lock.owned);
	if (!note || note->why != MESH_WAITS_COUNTS || !owned)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	end = bpf_sk_storage_get(&ends, sk, NULL, 0);
	half = end ? half_of(end) : NULL;
	if (!half)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	if (!half->counts) {
		*(volatile __u8 *)&half->counts = 1;
		return ended(MESH_COUNT_COUNTS_LEAVING, 0);
	}
	if (!holds_short((__u64)sk)) {
		bpf_map_delete_elem(&accelerated, &cookie);
		bpf_map_delete_elem(&waiting, &cookie);
	}
	low = PEEK(struct sock, (__u64)sk, sk_rcvlowat);
	bpf_setsockopt(sk, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	return ended(MESH_COUNT_COUNTS_RELEASED, 0);
}

SEC("iter/tcp")
int mesh_release(struct bpf_iter__tcp *ctx)
{
	return leaves(ctx->sk_common).value;
}
