/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sk_msg: sends the bytes of an accelerated pair from socket to socket, past the stack, where that cannot be
 * told from TCP; and programs that watch how its ends read.
 *
 * The short way is taken only where no byte of the connection is anywhere else: nothing that this end sent is
 * unacknowledged, nothing that the other received is unread. So bytes stay in order, also when the mesh is
 * paused or a policy changes in mid-stream. And only while the reader's buffer has room: what is delivered is
 * charged to it, and what does not fit takes the long way, where TCP makes the sender wait.
 *
 * What a reader does that the kernel's sockmap cannot serve (splice, MSG_WAITALL, SO_RCVLOWAT) is found by
 * keeping the books: a tracepoint adds up what each end reads by plain calls, and a sender compares that with
 * what was taken out of the socket. Where they differ, something else reads, and the long way is taken. So a
 * reader gets nothing by the short way before it has read by plain calls.
 */

/* Reads a field of a socket that may be gone by now: its memory stays that of a socket, and its cookie tells. */
#define PEEK(type, sk, field)                                                            \
	({                                                                               \
		typeof(((type *)0)->field) value = 0;                                    \
		bpf_probe_read_kernel(&value, sizeof(value), &((type *)(sk))->field);    \
		value;                                                                   \
	})

/* Whether the live policy chooses the pair; asked anew once a generation. */
static __always_inline bool chosen_now(struct mesh_pair *pair)
{
	struct mesh_control *words = control_words();
	struct mesh_profile *profile;
	struct mesh_member *member;
	__u64 generation;
	__u32 slot, at;

	if (!words)
		return false;
	generation = *(volatile __u64 *)&words->generation;
	if (!generation)
		return false;
	if (generation == pair->generation)
		return !pair->off;
	slot = generation & 1;
	member = pair->cgroup ? bpf_map_lookup_elem(&cgroups, &pair->cgroup) :
				bpf_map_lookup_elem(&endpoints, &pair->netns);
	at = member ? member->profile[slot] : MESH_NO_PROFILE;
	profile = at == MESH_NO_PROFILE ? NULL : line_of(slot, MESH_TABLE_PROFILES, at);
	if (!profile)
		pair->off = 1;
	else if (pair->form == MESH_FORM_LOCAL)
		pair->off = !accelerate_item(slot, profile->accelerate_local, pair->port);
	else
		pair->off = !accelerate_between(slot, profile, pair->peer_netns, pair->port);
	pair->generation = generation;
	return !pair->off;
}

static __always_inline enum mesh_way sender_allows(struct mesh_half *sender, struct tcp_sock *tcp)
{
	struct sock *sk = (struct sock *)tcp;
	unsigned char state = sk->__sk_common.skc_state;

	if (sender->urgent)
		return MESH_WAY_URGENT;
	if (sk->__sk_common.skc_flags >> __builtin_preserve_enum_value(*(enum sock_flags *)SOCK_ZEROCOPY, 1) & 1)
		return MESH_WAY_ZERO_COPY;
	if (sk->sk_shutdown & SEND_SHUTDOWN || (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT))
		return MESH_WAY_CLOSING;
	if (tcp->inet_conn.icsk_ulp_ops)
		return MESH_WAY_UPPER_PROTOCOL;
	return tcp->write_seq == tcp->snd_una ? MESH_WAY_SHORT : MESH_WAY_IN_FLIGHT;
}

/* Whether the socket holds bytes that came by the short way and are unread. */
static __always_inline bool holds_short(__u64 sk)
{
	/* The lowest bits are flags of the kernel. */
	__u64 psock = (__u64)PEEK(struct sock, sk, sk_user_data) & ~7ULL;

	return psock && (__u64)PEEK(struct sk_psock, psock, ingress_msg.next) !=
				(__u64)&((struct sk_psock *)psock)->ingress_msg;
}

/* `first` is the sequence number of the first byte that the peer received, `given` what it got by the short way. */
static __always_inline enum mesh_way peer_allows(struct mesh_half *peer, __u32 first, __u32 given)
{
	__u64 sk = peer->sock;
	__u32 copied, plain;

	if ((__u64)PEEK(struct sock, sk, __sk_common.skc_cookie.counter) != peer->cookie ||
	    PEEK(struct sock, sk, sk_shutdown) & RCV_SHUTDOWN)
		return MESH_WAY_CLOSING;
	if (peer->waits_for_all)
		return MESH_WAY_READER_WAITS_FOR_ALL;
	plain = *(volatile __u64 *)&peer->plain_bytes;
	if (!plain)
		return MESH_WAY_NEW_READER;
	copied = PEEK(struct tcp_sock, sk, copied_seq);
	if (PEEK(struct tcp_sock, sk, rcv_nxt) != copied)
		return MESH_WAY_UNREAD;
	/* What was taken out of the socket: all by plain calls, but for what is still to be read. */
	if (copied - first + given != plain && !holds_short(sk))
		return MESH_WAY_READER_SPLICES;
	if (PEEK(struct sock, sk, sk_backlog.rmem_alloc.counter) >= PEEK(struct sock, sk, sk_rcvbuf))
		return MESH_WAY_FULL;
	if (PEEK(struct sock, sk, sk_rcvlowat) > 1)
		return MESH_WAY_READER_LOW_WATER;
	return PEEK(struct tcp_sock, sk, inet_conn.icsk_ulp_ops) ? MESH_WAY_UPPER_PROTOCOL : MESH_WAY_SHORT;
}

static __always_inline enum mesh_way way_of(struct sk_msg_md *msg, struct mesh_pair *pair, struct mesh_half *own,
					    struct mesh_half *peer, __u32 first)
{
	struct tcp_sock *tcp;
	enum mesh_way way;

	if (!peer->sock)
		return MESH_WAY_NO_PEER;
	if (!chosen_now(pair))
		return MESH_WAY_OFF;
	tcp = bpf_skc_to_tcp_sock(msg->sk);
	if (!tcp)
		return MESH_WAY_CLOSING;
	way = sender_allows(own, tcp);
	return way == MESH_WAY_SHORT ? peer_allows(peer, first, own->short_bytes) : way;
}

SEC("sk_msg")
int mesh_msg(struct sk_msg_md *msg)
{
	struct mesh_half *own, *peer;
	struct mesh_pair *pair;
	struct mesh_end *end;
	enum mesh_way way;
	__u64 cookie;
	__u32 first;

	if (!msg->sk)
		return PASS;
	end = bpf_sk_storage_get(&ends, msg->sk, NULL, 0);
	if (!end)
		return PASS;
	pair = bpf_map_lookup_elem(&pairs, &end->pair);
	if (!pair)
		return PASS;
	if (end->role) {
		own = &pair->half[1];
		peer = &pair->half[0];
		first = pair->acknowledged;
	} else {
		own = &pair->half[0];
		peer = &pair->half[1];
		first = pair->sequence;
	}
	way = way_of(msg, pair, own, peer, first);
	cookie = peer->cookie;
	/* Not there any more: the long way tells the sender as TCP does. */
	if (way == MESH_WAY_SHORT && bpf_msg_redirect_hash(msg, &accelerated, &cookie, BPF_F_INGRESS) != PASS)
		way = MESH_WAY_CLOSING;
	if (way == MESH_WAY_SHORT)
		own->short_bytes += msg->size;
	else
		own->long_bytes += msg->size;
	if (way < MESH_WAYS)
		own->messages[way] += 1;
	return PASS;
}

/* The half of a socket that is an end of a pair. */
static __always_inline struct mesh_half *half_of(struct mesh_end *end)
{
	struct mesh_pair *pair = bpf_map_lookup_elem(&pairs, &end->pair);

	if (!pair)
		return NULL;
	return end->role ? &pair->half[1] : &pair->half[0];
}

/* After a socket was read, whatever socket: how much by which call. Peeking counts nothing. */
SEC("tp_btf/sock_recv_length")
int mesh_received(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	int length = (int)ctx[1], flags = (int)ctx[2];
	struct mesh_end *end;
	struct mesh_half *half;

	if (length <= 0 || !sk)
		return 0;
	end = bpf_sk_storage_get(&ends, sk, NULL, 0);
	half = end ? half_of(end) : NULL;
	if (!half)
		return 0;
	__sync_fetch_and_add(&half->plain_bytes, length);
	if (flags & MSG_WAITALL)
		half->waits_for_all = 1;
	return 0;
}

/* After a socket was written to, whatever socket. */
SEC("tp_btf/sock_send_length")
int mesh_sent(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct mesh_end *end;
	struct mesh_half *half;

	if (!((int)ctx[2] & MSG_OOB) || !sk)
		return 0;
	end = bpf_sk_storage_get(&ends, sk, NULL, 0);
	half = end ? half_of(end) : NULL;
	if (!half)
		return 0;
	half->urgent = 1;
	count(MESH_COUNT_URGENT_SENT);
	return 0;
}

/* Writes one byte for each socket of the map that holds unread bytes of the short way. */
SEC("iter/sockmap")
int mesh_unread(struct bpf_iter__sockmap *ctx)
{
	struct sock *sk = ctx->sk;

	if (sk && holds_short((__u64)sk))
		bpf_seq_write(ctx->meta->seq, "x", 1);
	return 0;
}
