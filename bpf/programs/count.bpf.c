/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* sys_exit: what ioctl(FIONREAD) told of an accelerated socket.
 *
 * Bytes of the fast path and bytes of the stack wait in two queues, and kernels count one of them only: older ones
 * the stack's, newer ones the other. Programs that read as much as they are told, and then wait to be woken (nginx,
 * under edge-triggered epoll), wait for bytes that are there. Where a trial shows that this kernel is of that kind,
 * one of two programs looks at every system call that ends:
 *  - mesh_recount puts the right number in the place of the wrong one, before the process goes on.
 *  - Where the kernel is locked down, nothing may be written into a process. There mesh_miscount takes note. The next
 *    connections to that port, or of that program, do not enter the map of accelerated sockets, by which the kernel counts right; the one
 *    at hand is taken out, and its reader woken, by mesh_release, an iterator that user space runs.
 */

/* Of the kernel's sk_user_data: it is a sockmap's. */
#define USER_DATA_PSOCK 4
/* Maps that a socket may be in, as far as they are looked at. */
#define MAPS_OF_A_SOCKET 4
/* Messages of the fast path that are counted one by one, where the kernel does not know their sum. */
#define MESSAGES_COUNTED 2048


/* A question for FIONREAD: of which descriptor, and where the answer is. */
struct inquiry {
	__u64 descriptor;
	__u64 request;
	__u64 answer;
};

/* ioctl is 16 on x86-64, 29 on arm64, and 54 for the 32-bit programs of both. */
static __always_inline bool is_ioctl(struct pt_regs *registers, struct inquiry *q)
{
	struct task_struct *task;
	__u64 number;
	bool narrow;

	if (HAS(struct pt_regs___x86, orig_ax)) {
		struct pt_regs___x86 *x86 = (struct pt_regs___x86 *)registers;

		number = x86->orig_ax;
		if (number != 16 && number != 54)
			return false;
		task = bpf_get_current_task_btf();
		narrow = ((struct thread_info___x86 *)task)->status & 2;
		if (narrow != (number == 54))
			return false;
		q->descriptor = (__u32)(narrow ? x86->bx : x86->di);
		q->request = (__u32)(narrow ? x86->cx : x86->si);
		q->answer = narrow ? (__u32)x86->dx : x86->dx;
		return true;
	}
	if (HAS(struct pt_regs___arm64, syscallno)) {
		struct pt_regs___arm64 *arm64 = (struct pt_regs___arm64 *)registers;

		number = (__u32)arm64->syscallno;
		if (number != 29 && number != 54)
			return false;
		task = bpf_get_current_task_btf();
		narrow = ((struct thread_info___arm64 *)task)->flags >> 22 & 1;
		if (narrow != (number == 54))
			return false;
		q->descriptor = (__u32)arm64->orig_x0;
		q->request = (__u32)arm64->regs[1];
		q->answer = narrow ? (__u32)arm64->regs[2] : arm64->regs[2];
		return true;
	}
	return false;
}

/* The socket of a descriptor of the current process; 0: it is none. */
static __always_inline __u64 socket_of(__u32 descriptor)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct files_struct *files = task->files;
	struct fdtable *table = files ? files->fdt : NULL;
	__u64 file = 0, place, inode;

	if (!table || descriptor >= table->max_fds)
		return 0;
	place = (__u64)table->fd + descriptor * 8ULL;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)place);
	inode = file ? (__u64)PEEK(struct file, file, f_inode) : 0;
	if (!inode || (PEEK(struct inode, inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	place = (__u64)PEEK(struct file, file, private_data);
	return place ? (__u64)PEEK(struct socket, place, sk) : 0;
}

/* The sockmap's part of a socket, if it is in the map of accelerated ones; else 0. */
static __always_inline __u64 psock_of(__u64 sk)
{
	__u64 data = (__u64)PEEK(struct sock, sk, sk_user_data), psock = data & ~7ULL, link, map;
	__u32 id = ((struct bpf_map *)&accelerated)->id;

	if (!(data & USER_DATA_PSOCK) || !psock)
		return 0;
	link = (__u64)PEEK(struct sk_psock, psock, link.next);
	for (int i = 0; i < MAPS_OF_A_SOCKET; i++) {
		if (!link || link == psock + AT(struct sk_psock, link))
			return 0;
		map = (__u64)PEEK(struct sk_psock_link, link - AT(struct sk_psock_link, list), map);
		if (map && PEEK(struct bpf_map, map, id) == id)
			return psock;
		link = (__u64)PEEK(struct list_head, link, next);
	}
	return 0;
}

/* Unread bytes that came over the fast path. */
static __always_inline __u32 unread_fast_bytes(__u64 psock)
{
	__u64 head = psock + AT(struct sk_psock, ingress_msg), at;
	__u32 sum = 0;

	if (HAS(struct sk_psock___counts, msg_tot_len))
		return PEEK(struct sk_psock___counts, psock, msg_tot_len);
	at = (__u64)PEEK(struct sk_psock, psock, ingress_msg.next);
	for (int i = 0; i < MESSAGES_COUNTED && at && at != head; i++) {
		sum += PEEK(struct sk_msg, at - AT(struct sk_msg, list), sg.size);
		at = (__u64)PEEK(struct list_head, at, next);
	}
	return sum;
}

static __always_inline bool has_flag(__u64 flags, int flag)
{
	return flags >> flag & 1;
}

#define FLAG(name) __builtin_preserve_enum_value(*(enum sock_flags *)name, 1)

/* Unread bytes that came through the stack, as the kernel's tcp_inq counts them. How far it was read is looked at first:
 * whoever reads meanwhile makes it more, and never less than nothing.
 */
static __always_inline __u32 unread_slow_bytes(__u64 sk)
{
	__u32 copied = PEEK(struct tcp_sock, sk, copied_seq), received = PEEK(struct tcp_sock, sk, rcv_nxt);
	__u32 urgent = PEEK(struct tcp_sock, sk, urg_seq), count = received - copied;
	__u64 flags = PEEK(struct sock, sk, __sk_common.skc_flags);
	unsigned char state = PEEK(struct sock, sk, __sk_common.skc_state);

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return 0;
	if (!has_flag(flags, FLAG(SOCK_URGINLINE)) && PEEK(struct tcp_sock, sk, urg_data) &&
	    (__s32)(urgent - copied) >= 0 && (__s32)(urgent - received) < 0)
		return urgent - copied;
	/* The end of the stream has a number, too. */
	return count && has_flag(flags, FLAG(SOCK_DONE)) ? count - 1 : count;
}

/* Takes note of who asked: the port that the connection was accepted on, or the program that opened it, whose port is
 * another one each time.
 */
static __always_inline void fionread_reader_found(__u64 sk, __u64 cookie, __u64 netns)
{
	struct mesh_splice_reader first = { .times = 1 }, *known;
	bool opened = bpf_map_lookup_elem(&pairs, &cookie);
	struct mesh_executable program = {};
	struct mesh_fionread_reader key = {};

	if (opened && program_of(bpf_get_current_task_btf(), &program)) {
		key.place = program.inode;
		key.number = program.device;
	} else {
		key.place = netns;
		key.number = PEEK(struct sock, sk, __sk_common.skc_num);
	}
	key.is_program = opened;
	known = bpf_map_lookup_elem(&fionread_reader, &key);
	bpf_get_current_comm(first.name, sizeof(first.name));
	if (known)
		known->times += 1;
	else
		/* Ignored: this map forgets the oldest, and where another CPU was first, it has it. */
		bpf_map_update_elem(&fionread_reader, &key, &first, BPF_NOEXIST);
}

/* Takes note of a reader that was told too little. */
static __always_inline void told_too_little(__u64 sk)
{
	__u64 cookie = (__u64)PEEK(struct sock, sk, __sk_common.skc_cookie.counter);
	__u64 netns = (__u64)PEEK(struct sock, sk, __sk_common.skc_net.net);
	struct mesh_stalled_reader note = { .why = MESH_STALLED_BY_FIONREAD };

	note.since = bpf_ktime_get_boot_ns();
	note.netns = netns ? PEEK(struct net, netns, net_cookie) : 0;
	note.process = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(note.name, sizeof(note.name));
	/* Ignored: as above. */
	bpf_map_update_elem(&stalled_readers, &cookie, &note, BPF_NOEXIST);
	fionread_reader_found(sk, cookie, note.netns);
}

static __always_inline struct verdict call_returns(struct pt_regs *registers, long result, bool repairs)
{
	struct inquiry q = {};
	__u32 told = 0, by_stack, past_it, right;
	__u64 sk, psock;

	if (!is_ioctl(registers, &q) || q.request != FIONREAD || result)
		return ended(MESH_COUNT_CALL_OTHER, 0);
	sk = socket_of(q.descriptor);
	psock = sk ? psock_of(sk) : 0;
	if (!psock)
		return ended(MESH_COUNT_COUNT_OTHER, 0);
	by_stack = unread_slow_bytes(sk);
	past_it = unread_fast_bytes(psock);
	right = by_stack + past_it;
	if (bpf_probe_read_user(&told, sizeof(told), (void *)q.answer) || told == right)
		return ended(MESH_COUNT_COUNTED_RIGHT, 0);
	if (repairs && !bpf_probe_write_user((void *)q.answer, &right, sizeof(right)))
		return ended(MESH_COUNT_COUNT_REPAIRED, 0);
	/* It was read meanwhile, or what came meanwhile came the way that this kernel counts. */
	if (told > right || !(HAS(struct sk_psock___counts, msg_tot_len) ? by_stack : past_it))
		return ended(MESH_COUNT_COUNTED_RIGHT, 0);
	told_too_little(sk);
	return ended(MESH_COUNT_COUNT_SHORT, 0);
}

SEC("tp_btf/sys_exit")
int mesh_recount(__u64 *ctx)
{
	return call_returns((struct pt_regs *)ctx[0], ctx[1], true).value;
}

SEC("tp_btf/sys_exit")
int mesh_miscount(__u64 *ctx)
{
	return call_returns((struct pt_regs *)ctx[0], ctx[1], false).value;
}
