/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Readers of the fast path, looked at by user space. What is unread: a classifier, attached nowhere. What is to leave:
 * iter/tcp.
 */

/* A question in the form of a packet, behind the Ethernet header: a struct mesh_unread that names a socket of the map.
 * It goes back with how many bytes came which way and are unread. An iterator over the map would tell the same by one
 * call; kernels that are locked down refuse those, and one over a namespace's sockets does not find the namespaces that
 * no process and no mount stands for.
 */
static __always_inline struct verdict looked_at(struct __sk_buff *skb)
{
	struct mesh_unread found = {};
	struct bpf_sock *sk;
	__u64 sock, psock;

	if (bpf_skb_load_bytes(skb, ETH_LEN, &found, sizeof(found)))
		return ended(MESH_COUNT_NO_SOCKET, 0);
	sk = bpf_map_lookup_elem(&accelerated, &found.cookie);
	/* It was closed meanwhile. */
	if (!sk)
		return ended(MESH_COUNT_ALL_READ, 0);
	sock = (__u64)bpf_skc_to_tcp_sock(sk);
	if (sock) {
		psock = (__u64)PEEK(struct sock, sock, sk_user_data) & ~7ULL;
		found.slow_bytes = unread_slow_bytes(sock);
		found.fast_bytes = holds_fast_bytes(sock) ? unread_fast_bytes(psock) : 0;
	}
	bpf_sk_release(sk);
	if (!found.slow_bytes && !found.fast_bytes)
		return ended(MESH_COUNT_ALL_READ, 0);
	/* Ignored: where it was just read, it can be written. */
	bpf_skb_store_bytes(skb, ETH_LEN, &found, sizeof(found), 0);
	return ended(MESH_COUNT_UNREAD, 0);
}

SEC("classifier")
int mesh_unread(struct __sk_buff *skb)
{
	return looked_at(skb).value;
}

/* A socket of the namespace: where its reader was told too little, nothing more is sent to it over the fast path; the
 * next time it leaves, and its reader is woken to look again. SO_RCVLOWAT, set to what it is, wakes.
 */
static __always_inline struct verdict leaves(struct sock_common *sk)
{
	struct mesh_stalled_reader *note;
	struct mesh_pair_end *end;
	struct mesh_socket_accel *accel;
	int owned = 0, low;
	__u64 cookie;

	if (!sk || sk->skc_state == TCP_LISTEN || sk->skc_state == TCP_TIME_WAIT)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	cookie = sk->skc_cookie.counter;
	note = bpf_map_lookup_elem(&stalled_readers, &cookie);
	READ(owned, ((struct sock *)sk)->sk_lock.owned);
	if (!note || note->why != MESH_STALLED_BY_FIONREAD || !owned)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, 0);
	end = accel ? pair_end_of(accel) : NULL;
	if (!end)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	if (!end->miscounted) {
		*(volatile __u8 *)&end->miscounted = 1;
		return ended(MESH_COUNT_COUNTS_LEAVING, 0);
	}
	if (!holds_fast_bytes((__u64)sk)) {
		bpf_map_delete_elem(&accelerated, &cookie);
		bpf_map_delete_elem(&stalled_readers, &cookie);
	}
	low = PEEK(struct sock, (__u64)sk, sk_rcvlowat);
	/* Ignored: whoever runs this looks again a second later. */
	bpf_setsockopt(sk, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	return ended(MESH_COUNT_COUNTS_RELEASED, 0);
}

SEC("iter/tcp")
int mesh_release(struct bpf_iter__tcp *ctx)
{
	return leaves(ctx->sk_common).value;
}
