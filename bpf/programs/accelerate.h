/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Acceleration, chosen at connect(2): what is said of a connection is kept with its socket, and only a socket
 * that has it enters the map of accelerated ones when it is established.
 *
 * `local` is both legs between an application and its own sidecar: the connection that was redirected to the
 * sidecar, and what the sidecar (an exempt identity) opens to its own loopback or the member's own address.
 * The other forms are what a sidecar opens to another pod of this node whose sidecar takes it.
 */
#pragma once

/* Whether anything is accelerated, or was: where nothing is, nothing is looked up for it. */
static __always_inline bool accelerates(void)
{
	struct mesh_control *words = control_words();

	return words && *(volatile __u64 *)&words->acceleration >> 32;
}

/* Whether some readers are not accelerated, since they ask FIONREAD, which this kernel miscounts. */
static __always_inline bool some_ask(void)
{
	struct mesh_control *words = control_words();

	return words && *(volatile __u64 *)&words->acceleration >> 33 & 1;
}

/* The program of the current process. */
static __always_inline bool program_of(struct task_struct *task, struct mesh_executable *key)
{
	struct mm_struct *mm = task->mm;
	struct super_block *device;
	struct inode *inode;
	struct file *file;

	file = mm ? mm->exe_file : NULL;
	inode = file ? file->f_inode : NULL;
	device = inode ? inode->i_sb : NULL;
	if (!device)
		return false;
	key->inode = inode->i_ino;
	key->device = device->s_dev;
	return true;
}

/* Whether the current process's program is one of those. */
static __always_inline bool asks_itself(void)
{
	struct mesh_fionread_reader key = { .is_program = 1 };
	struct mesh_executable program = {};

	if (!some_ask() || !program_of(bpf_get_current_task_btf(), &program))
		return false;
	key.place = program.inode;
	key.number = program.device;
	return bpf_map_lookup_elem(&fionread_reader, &key);
}

/* The key of the counters of the item that accelerates `port`, or 0: none does. */
static __always_inline __u64 accelerate_item(__u32 slot, __u32 root, __u32 port)
{
	struct mesh_decision *decision;
	__s64 at;

	if (!root)
		return 0;
	at = port_find(slot, root, port);
	if (at < 0)
		return 0;
	decision = line_of(slot, MESH_TABLE_DECISIONS, (__u32)at / MESH_DECISIONS_A_LINE);
	if (!decision)
		return 0;
	decision += at % MESH_DECISIONS_A_LINE;
	return decision->verdict == MESH_VERDICT_ACCELERATED ? decision->key : 0;
}

/* The item that accelerates `port` between the sidecars of a profile and of the pod in a namespace, or 0. */
static __always_inline __u64 accelerate_between(__u32 slot, struct mesh_profile *profile, __u64 netns, __u32 port)
{
	struct mesh_member *other = bpf_map_lookup_elem(&endpoints, &netns);
	__s64 root;

	if (!other || !profile->accelerate_peers || other->profile[slot & 1] == MESH_NO_PROFILE)
		return 0;
	root = tree_find(slot, profile->accelerate_peers, other->profile[slot & 1]);
	return root > 0 ? accelerate_item(slot, root, port) : 0;
}

static __always_inline void accelerate_choose(struct bpf_sock_addr *ctx, struct question *q, __u64 item, __u8 form)
{
	bool asks = asks_itself();
	struct mesh_socket_accel *accel;

	accel = asks ? NULL : bpf_sk_storage_get(&socket_accel, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (asks) {
		bpf_sk_storage_delete(&socket_accel, ctx->sk);
		count(MESH_COUNT_COUNTS_AVOIDED);
	} else if (accel) {
		accel->pair = 0;
		accel->item = item;
		accel->generation = q->generation;
		accel->netns = q->netns;
		accel->cgroup = q->cgroup;
		accel->role = 0;
		accel->port = q->port;
		accel->form = form;
		accel->profile = q->profile;
	} else {
		count(MESH_COUNT_ACCELERATION_FULL);
	}
}

/* What was chosen for an earlier connection of the same socket must not be taken for this one's. */
static __always_inline void accelerate_not(struct bpf_sock_addr *ctx, __u32 counter)
{
	if (counter != MESH_COUNT_EXEMPT && accelerates())
		bpf_sk_storage_delete(&socket_accel, ctx->sk);
}

/* A connection that goes to the sidecar. */
static __always_inline void accelerate_redirected(struct bpf_sock_addr *ctx, bool connects, struct question *q,
						  struct mesh_profile *profile)
{
	bool looks = connects && !q->protocol && accelerates();
	__u64 item = looks ? accelerate_item(q->slot, profile->accelerate_local, q->port) : 0;

	if (item)
		accelerate_choose(ctx, q, item, MESH_FORM_LOCAL);
	else if (looks)
		bpf_sk_storage_delete(&socket_accel, ctx->sk);
}

/* A connection that a sidecar opens. */
static __always_inline void accelerate_exempt(struct bpf_sock_addr *ctx, bool connects, struct question *q,
					      struct mesh_profile *profile)
{
	bool looks = connects && !q->protocol && accelerates(), within = q->own || is_loopback(q->address);
	struct answer a = {};
	__u64 item = 0;

	if (looks && within)
		item = accelerate_item(q->slot, profile->accelerate_local, q->port);
	if (item)
		accelerate_choose(ctx, q, item, MESH_FORM_LOCAL);
	else if (looks && !within && profile->accelerate_peers && decide(q, profile, &a, false) &&
		 a.verdict == MESH_VERDICT_REDIRECTED)
		/* On behalf of a connection that was redirected. Whether its other end is chosen is known when it
		 * is established.
		 */
		accelerate_choose(ctx, q, 0, MESH_FORM_PEERS);
	else if (looks)
		bpf_sk_storage_delete(&socket_accel, ctx->sk);
}
