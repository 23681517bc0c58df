/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sk_msg: sends the bytes of an accelerated pair from socket to socket, past the stack, where that cannot be
 * told from TCP; and programs that watch how its ends read.
 *
 * The fast path is taken only where no byte of the connection is anywhere else: nothing that this end sent is
 * unacknowledged, nothing that the other received is unread. So bytes stay in order, also when the mesh is
 * paused or a policy changes in mid-stream. And only while the reader's buffer has room: what is delivered is
 * charged to it, and what does not fit takes the slow path, where TCP makes the sender wait.
 *
 * What a message takes beside its bytes is not charged to anyone, so unread messages are counted too.
 *
 * What a reader does that the kernel's sockmap cannot serve (splice, MSG_WAITALL, SO_RCVLOWAT) is found by
 * keeping byte counters: a tracepoint adds up what each end reads by plain calls, and a sender compares that with
 * what was taken out of the socket. Where they differ, something else reads, and the slow path is taken. So a
 * reader gets nothing over the fast path before it has read by plain calls.
 *
 * splice reads what came through the stack, and never sees what did not: a reader that turns to it while bytes of
 * the fast path are unread waits for them without end. Three nets, one below the other:
 *  - A program that was seen to splice from a connection of the mesh is remembered by its file, and none of its
 *    sockets gets anything over the fast path any more.
 *  - Where the kernel lets BPF speak at file_permission (the LSM `bpf`), such a splice is refused with EINVAL, by
 *    which programs fall back to plain calls.
 *  - Elsewhere it is counted, and nothing may overtake the unread bytes: what is sent next is refused.
 */

/* Reads a field of a socket that may be gone by now: its memory stays that of a socket, and its cookie tells. */
#define PEEK(type, sk, field)                                                            \
	({                                                                               \
		typeof(((type *)0)->field) value = 0;                                    \
		bpf_probe_read_kernel((void *)&value, sizeof(value),                     \
				      (const void *)&((type *)(sk))->field);             \
		value;                                                                   \
	})

/* Whether the live policy chooses the pair; asked again once a generation. */
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

static __always_inline enum mesh_send_path sender_allows(struct mesh_pair_end *sender, struct tcp_sock *tcp)
{
	struct sock *sk = (struct sock *)tcp;
	unsigned char state = sk->__sk_common.skc_state;

	if (sender->urgent)
		return MESH_SEND_PATH_URGENT;
	if (sends_without_copy(sk))
		return MESH_SEND_PATH_ZERO_COPY;
	if (sk->sk_shutdown & SEND_SHUTDOWN || (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT))
		return MESH_SEND_PATH_CLOSING;
	if (tcp->inet_conn.icsk_ulp_ops)
		return MESH_SEND_PATH_UPPER_PROTOCOL;
	return tcp->write_seq == tcp->snd_una ? MESH_SEND_PATH_FAST : MESH_SEND_PATH_IN_FLIGHT;
}

/* Whether the socket holds bytes that came over the fast path and are unread. */
static __always_inline bool holds_fast_bytes(__u64 sk)
{
	/* The lowest bits are flags of the kernel. */
	__u64 psock = (__u64)PEEK(struct sock, sk, sk_user_data) & ~7ULL;

	return psock && (__u64)PEEK(struct sk_psock, psock, ingress_msg.next) !=
				(__u64)&((struct sk_psock *)psock)->ingress_msg;
}

/* Whether the reader, which has read this many bytes of the fast path, is behind by so many messages that they would
 * fill the memory, however few bytes they are. One message at a time is waited for; when it is read, all up to there
 * are, and the last one so far is waited for next: so up to twice the messages are counted that are unread.
 */
static __always_inline bool lags(struct mesh_pair_end *sender, __u64 sk, __u32 taken)
{
	__u32 messages = sender->messages[MESH_SEND_PATH_FAST];

	if ((__s32)(taken - sender->next_bytes) >= 0) {
		sender->read_messages = sender->next_message;
		sender->next_message = messages;
		sender->next_bytes = sender->fast_bytes;
	}
	return (__u64)(messages - sender->read_messages) * MESH_MESSAGE_SIZE >
	       2 * (__u64)(__u32)PEEK(struct sock, sk, sk_rcvbuf);
}

/* `first` is the sequence number of the first byte that the peer received, `given` what it got over the fast path. */
static __always_inline enum mesh_send_path peer_allows(struct mesh_pair_end *sender, struct mesh_pair_end *peer, __u32 first)
{
	struct mesh_control *words = control_words();
	__u64 sk = peer->sock;
	__u32 copied, plain, taken;
	__u8 splices;

	if ((__u64)PEEK(struct sock, sk, __sk_common.skc_cookie.counter) != peer->cookie ||
	    PEEK(struct sock, sk, sk_shutdown) & RCV_SHUTDOWN)
		return MESH_SEND_PATH_CLOSING;
	splices = *(volatile __u8 *)&peer->splices;
	if (splices)
		return MESH_SEND_PATH_READER_SPLICES;
	if (*(volatile __u8 *)&peer->miscounted)
		return MESH_SEND_PATH_OFF;
	/* Redirecting takes the reader's socket lock and sleeps where it is held, which costs far more than the
	 * stack. */
	if (peer->waits & MESH_READS_POLLING)
		return MESH_SEND_PATH_READER_POLLS;
	if (peer->waits & MESH_READS_ALL)
		return MESH_SEND_PATH_READER_WAITS_FOR_ALL;
	plain = *(volatile __u64 *)&peer->plain_bytes;
	/* Its program is looked for again where another one was found to splice since. */
	if (!plain || !words || peer->looked != (__u32)words->acceleration + 1)
		return MESH_SEND_PATH_NEW_READER;
	copied = PEEK(struct tcp_sock, sk, copied_seq);
	if (PEEK(struct tcp_sock, sk, rcv_nxt) != copied)
		return MESH_SEND_PATH_UNREAD;
	/* What was taken out of the socket: all by plain calls, but for what is still to be read. */
	taken = plain - (copied - first);
	if (taken != (__u32)sender->fast_bytes && !holds_fast_bytes(sk))
		return MESH_SEND_PATH_READER_SPLICES;
	if (PEEK(struct sock, sk, sk_backlog.rmem_alloc.counter) >= PEEK(struct sock, sk, sk_rcvbuf) ||
	    lags(sender, sk, taken))
		return MESH_SEND_PATH_FULL;
	/* A mark is about what came through the stack. Who was woken over the fast path for less, and waits for the
	 * rest by the same mark, would not be woken by the rest.
	 */
	if (PEEK(struct sock, sk, sk_rcvlowat) > 1 && !(peer->waits & MESH_READS_BELOW_MARK) && !holds_fast_bytes(sk))
		return MESH_SEND_PATH_READER_LOW_WATER;
	return PEEK(struct tcp_sock, sk, inet_conn.icsk_ulp_ops) ? MESH_SEND_PATH_UPPER_PROTOCOL : MESH_SEND_PATH_FAST;
}

static __always_inline enum mesh_send_path send_path_of(struct sk_msg_md *msg, struct mesh_pair *pair, struct mesh_pair_end *own,
					    struct mesh_pair_end *peer, __u32 first)
{
	struct tcp_sock *tcp;
	enum mesh_send_path path;

	if (!peer->sock)
		return MESH_SEND_PATH_NO_PEER;
	if (!chosen_now(pair))
		return MESH_SEND_PATH_OFF;
	tcp = bpf_skc_to_tcp_sock(msg->sk);
	if (!tcp)
		return MESH_SEND_PATH_CLOSING;
	path = sender_allows(own, tcp);
	return path == MESH_SEND_PATH_FAST ? peer_allows(own, peer, first) : path;
}

/* The message is counted before the reader is looked at once more, and a reader that turns to splice says so
 * before it looks at the counters: one of them sees the other.
 */
static __always_inline enum mesh_send_path send_fast(struct sk_msg_md *msg, struct mesh_pair_end *own,
						struct mesh_pair_end *peer)
{
	enum mesh_send_path path = MESH_SEND_PATH_FAST;
	__u64 cookie = peer->cookie;

	/* Never so many. An addition whose result is used is a full barrier. */
	if (__sync_fetch_and_add(&own->fast_bytes, msg->size) == ~0ULL)
		return MESH_SEND_PATH_OFF;
	if (*(volatile __u8 *)&peer->splices)
		path = MESH_SEND_PATH_READER_SPLICES;
	else if (bpf_msg_redirect_hash(msg, &accelerated, &cookie, BPF_F_INGRESS) != PASS)
		path = MESH_SEND_PATH_CLOSING; /* not there any more: the slow path tells the sender as TCP does */
	if (path != MESH_SEND_PATH_FAST)
		__sync_fetch_and_sub(&own->fast_bytes, msg->size);
	return path;
}

/* Whether the current process is in sendto(2), sendmsg(2) or sendmmsg(2) with MSG_OOB. A message does not say so
 * itself, nor does the tracepoint after it. Who sends urgent data by io_uring, or is a program of 32 bits, is not
 * seen.
 */
static __always_inline bool sends_urgent(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *registers = task ? bpf_task_pt_regs(task) : NULL;

	if (!registers)
		return false;
	if (__builtin_preserve_field_info(((struct pt_regs___x86 *)0)->orig_ax, 2)) {
		struct pt_regs___x86 *x86 = (struct pt_regs___x86 *)registers;

		switch (x86->orig_ax) {
		case 44:
		case 307:
			return x86->r10 & MSG_OOB;
		case 46:
			return x86->dx & MSG_OOB;
		}
		return false;
	}
	if (__builtin_preserve_field_info(((struct pt_regs___arm64 *)0)->syscallno, 2)) {
		struct pt_regs___arm64 *arm = (struct pt_regs___arm64 *)registers;

		switch (arm->syscallno) {
		case 206:
		case 269:
			return arm->regs[3] & MSG_OOB;
		case 211:
			return arm->regs[2] & MSG_OOB;
		}
	}
	return false;
}

static __always_inline struct verdict sends(struct sk_msg_md *msg)
{
	struct mesh_pair_end *own, *peer;
	struct mesh_pair *pair;
	struct mesh_socket_accel *accel;
	enum mesh_send_path path;
	__u32 first;

	if (!msg->sk)
		return ended(MESH_COUNT_NO_SOCKET, PASS);
	accel = bpf_sk_storage_get(&socket_accel, msg->sk, NULL, 0);
	if (!accel)
		return ended(MESH_COUNT_NOT_CHOSEN, PASS);
	pair = bpf_map_lookup_elem(&pairs, &accel->pair);
	if (!pair)
		return ended(MESH_COUNT_NOT_CHOSEN, PASS);
	if (accel->role) {
		own = &pair->ends[1];
		peer = &pair->ends[0];
		first = pair->acknowledged;
	} else {
		own = &pair->ends[0];
		peer = &pair->ends[1];
		first = pair->sequence;
	}
	if (sends_urgent()) {
		own->urgent = 1;
		count(MESH_COUNT_URGENT_SENT);
	}
	if (*(volatile __u8 *)&peer->splices == MESH_SPLICES && holds_fast_bytes(peer->sock))
		path = MESH_SEND_PATH_STRANDED;
	else
		path = send_path_of(msg, pair, own, peer, first);
	if (path == MESH_SEND_PATH_FAST)
		path = send_fast(msg, own, peer);
	if (path > MESH_SEND_PATH_FAST && path != MESH_SEND_PATH_STRANDED)
		own->slow_bytes += msg->size;
	if (path < MESH_SEND_PATHS)
		own->messages[path] += 1;
	if (path == MESH_SEND_PATH_STRANDED)
		return ended(MESH_COUNT_SENT_SLOW, SK_DROP);
	return ended(path == MESH_SEND_PATH_FAST ? MESH_COUNT_SENT_FAST : MESH_COUNT_SENT_SLOW, PASS);
}

SEC("sk_msg")
int mesh_msg(struct sk_msg_md *msg)
{
	return sends(msg).value;
}

/* The half of a socket that is an end of a pair. */
static __always_inline struct mesh_pair_end *pair_end_of(struct mesh_socket_accel *accel)
{
	struct mesh_pair *pair = bpf_map_lookup_elem(&pairs, &accel->pair);

	if (!pair)
		return NULL;
	return accel->role ? &pair->ends[1] : &pair->ends[0];
}

/* Whether the current process is in splice(2): 275 on x86-64, 76 on arm64. */
static __always_inline bool is_splicing(struct task_struct *task)
{
	struct pt_regs *registers = bpf_task_pt_regs(task);

	if (__builtin_preserve_field_info(((struct pt_regs___x86 *)0)->orig_ax, 2))
		return ((struct pt_regs___x86 *)registers)->orig_ax == 275;
	if (__builtin_preserve_field_info(((struct pt_regs___arm64 *)0)->syscallno, 2))
		return ((struct pt_regs___arm64 *)registers)->syscallno == 76;
	return false;
}

/* Remembers that the program of the current process splices. */
static __always_inline void splice_reader_found(struct task_struct *task)
{
	struct mesh_control *words = control_words();
	struct mesh_executable key = {};
	struct mesh_splice_reader new = { .times = 1 }, *known;

	if (words && program_of(task, &key)) {
		known = bpf_map_lookup_elem(&splice_readers, &key);
		bpf_get_current_comm(new.name, sizeof(new.name));
		if (known)
			known->times += 1;
		else if (!bpf_map_update_elem(&splice_readers, &key, &new, BPF_NOEXIST))
			__sync_fetch_and_add(&words->acceleration, 1);
	}
}

/* Takes note of a reader that waits for bytes that it will never see. */
static __always_inline void splice_stalls(__u64 cookie, struct sock *sk)
{
	struct mesh_stalled_reader note = { .why = MESH_STALLED_BY_SPLICE };

	note.since = bpf_ktime_get_boot_ns();
	note.netns = sk->__sk_common.skc_net.net->net_cookie;
	note.process = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(note.name, sizeof(note.name));
	/* Ignored: this map forgets the oldest, and is never full. */
	bpf_map_update_elem(&stalled_readers, &cookie, &note, BPF_ANY);
}

/* Whether the socket is in a network namespace that is a pod's. */
static __always_inline bool is_of_pod(struct sock *sk)
{
	__u64 netns = sk->__sk_common.skc_net.net->net_cookie;

	return bpf_map_lookup_elem(&endpoints, &netns);
}

/* A socket's receive queue is read: by plain calls, after something was taken out; by splice, also in vain. What came
 * over the fast path is elsewhere.
 */
static __always_inline struct verdict taken_from(struct sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mesh_control *words;
	struct mesh_executable key = {};
	struct mesh_pair_end *end;
	struct mesh_socket_accel *accel;
	__u32 splice_readers_now;

	if (!sk || !task)
		return ended(MESH_COUNT_NO_SOCKET, 0);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, 0);
	end = accel ? pair_end_of(accel) : NULL;
	if (is_splicing(task)) {
		/* Of this mesh are those that it accelerates, redirected or let pass, at either end, and all of a pod.
		 * */
		if (accel || bpf_sk_storage_get(&client_flows, sk, NULL, 0) ||
		    bpf_sk_storage_get(&accepted_flows, sk, NULL, 0) || is_of_pod(sk))
			splice_reader_found(task);
		if (!end || end->splices >= MESH_SPLICES)
			return ended(MESH_COUNT_SPLICED, 0);
		end->splices = MESH_SPLICES;
		if (!holds_fast_bytes((__u64)sk))
			return ended(MESH_COUNT_SPLICED, 0);
		splice_stalls(end->cookie, sk);
		return ended(MESH_COUNT_SPLICE_STRANDED, 0);
	}
	words = control_words();
	if (!end || end->splices || !words)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	splice_readers_now = words->acceleration;
	if (end->looked == splice_readers_now + 1 || !program_of(task, &key))
		return ended(MESH_COUNT_READER_KNOWN, 0);
	if (bpf_map_lookup_elem(&splice_readers, &key))
		end->splices = MESH_SPLICES_ELSEWHERE;
	end->looked = splice_readers_now + 1;
	return ended(MESH_COUNT_READER_LOOKED_UP, 0);
}

SEC("tp_btf/tcp_rcv_space_adjust")
int mesh_taken(__u64 *ctx)
{
	return taken_from((struct sock *)ctx[0]).value;
}

/* Whether bytes of the fast path are on their way to this end or unread, at the moment from which on none follow. */
static __always_inline bool awaits_fast(struct mesh_pair *pair, struct mesh_socket_accel *accel, struct tcp_sock *tcp)
{
	struct mesh_pair_end *own = accel->role ? &pair->ends[1] : &pair->ends[0];
	struct mesh_pair_end *peer = accel->role ? &pair->ends[0] : &pair->ends[1];
	__u32 first = accel->role ? pair->sequence : pair->acknowledged, plain;

	if (own->splices == MESH_SPLICES_ALONE)
		return false;
	/* The other half of the bargain of send_fast: said, then a full barrier, then looked at. */
	*(volatile __u8 *)&own->splices = MESH_SPLICES_REFUSED;
	plain = __sync_fetch_and_add(&own->plain_bytes, 0);
	plain -= tcp->copied_seq - first;
	if ((__s32)((__u32)*(volatile __u64 *)&peer->fast_bytes - plain) > 0)
		return true;
	own->splices = MESH_SPLICES_ALONE;
	return false;
}

/* Before a process reads or splices from a file, whatever file. */
static __always_inline struct verdict may_read(struct file *file, int mask)
{
	struct task_struct *task;
	struct mesh_pair *pair;
	struct mesh_socket_accel *accel;
	struct socket *socket;
	struct tcp_sock *tcp;
	struct sock *sk;

	if (!(mask & MAY_READ))
		return ended(MESH_COUNT_FILE_OTHER, 0);
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	accel = sk ? bpf_sk_storage_get(&socket_accel, sk, NULL, 0) : NULL;
	if (!accel)
		return ended(MESH_COUNT_FILE_OTHER, 0);
	task = bpf_get_current_task_btf();
	pair = bpf_map_lookup_elem(&pairs, &accel->pair);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!pair || !tcp || !is_splicing(task))
		return ended(MESH_COUNT_FILE_OTHER, 0);
	splice_reader_found(task);
	if (!awaits_fast(pair, accel, tcp))
		return ended(MESH_COUNT_SPLICED, 0);
	return ended(MESH_COUNT_SPLICE_REFUSED, -EINVAL);
}

SEC("lsm/file_permission")
long mesh_may_read(__u64 *ctx)
{
	return may_read((struct file *)ctx[0], (int)ctx[1]).value;
}

/* A reader polls that makes many empty reads before it gets something. */
static __always_inline void read_nothing(struct mesh_pair_end *end)
{
	if (end->empty_reads < MESH_EMPTY_READS_POLL)
		end->empty_reads += 1;
	else
		end->waits |= MESH_READS_POLLING;
}

/* After a socket was read, whatever socket: how much by which call. Peeking counts nothing. */
static __always_inline struct verdict read_by(struct sock *sk, int length, int flags)
{
	struct mesh_socket_accel *accel;
	struct mesh_pair_end *end;
	struct mesh_pair *pair;
	struct tcp_sock *tcp;
	__u32 taken;

	if (!sk || !length || (length > 0 && flags & MSG_PEEK) || (length < 0 && length != -EAGAIN))
		return ended(MESH_COUNT_NOTHING_READ, 0);
	accel = bpf_sk_storage_get(&socket_accel, sk, NULL, 0);
	if (length < 0 && flags & MSG_DONTWAIT) {
		end = accel ? pair_end_of(accel) : NULL;
		if (end)
			read_nothing(end);
		return ended(MESH_COUNT_NOTHING_READ, 0);
	}
	if (length < 0) {
		/* The kernel's wait for a message of a sockmap ends with any wake-up of the socket. */
		if (accel && accel->pair && sk->sk_rcvtimeo == ~0ULL >> 1)
			return ended(MESH_COUNT_WOKEN_EARLY, 0);
		return ended(MESH_COUNT_NOTHING_READ, 0);
	}
	pair = accel ? bpf_map_lookup_elem(&pairs, &accel->pair) : NULL;
	tcp = pair ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (!tcp)
		return ended(MESH_COUNT_NOT_CHOSEN, 0);
	end = accel->role ? &pair->ends[1] : &pair->ends[0];
	taken = __sync_fetch_and_add(&end->plain_bytes, length) + length;
	taken -= tcp->copied_seq - (accel->role ? pair->sequence : pair->acknowledged);
	if (taken != end->taken && length < sk->sk_rcvlowat)
		end->waits |= MESH_READS_BELOW_MARK;
	end->taken = taken;
	if (flags & MSG_WAITALL)
		end->waits |= MESH_READS_ALL;
	if (end->empty_reads < MESH_EMPTY_READS_SLEEP)
		end->waits &= ~MESH_READS_POLLING;
	end->empty_reads = 0;
	return ended(MESH_COUNT_PLAIN_READ, 0);
}

SEC("tp_btf/sock_recv_length")
int mesh_received(__u64 *ctx)
{
	return read_by((struct sock *)ctx[0], (int)ctx[1], (int)ctx[2]).value;
}
