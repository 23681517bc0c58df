/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Quotas in maps that all share, so that nobody fills them for the others.
 *
 * An entry is counted before it is made, and given back by whoever takes it out: the count is never less than what is
 * there.
 */
#pragma once

/* The count of a quota that is about to be removed: whoever finds it looks for another one. */
#define QUOTA_ENDS (1U << 31)

static __always_inline struct mesh_quota *quota_of(struct mesh_quota_key *key)
{
	struct mesh_quota none = {}, *quota = bpf_map_lookup_elem(&quotas, key);

	if (quota)
		return quota;
	/* Ignored: the look-up that follows tells. */
	bpf_map_update_elem(&quotas, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&quotas, key);
}

/* How many were taken before, or -1: the quota is used up. */
static __noinline int quota_take(struct mesh_quota_key *key, __u32 most)
{
	if (!key)
		return -1;
	for (__u32 times = 0; times < 3; times++) {
		struct mesh_quota *quota = quota_of(key);
		__s32 before;

		if (!quota)
			return -1;
		before = __sync_fetch_and_add(&quota->taken, 1);
		if (before < (__s32)most && before >= -(__s32)MESH_QUOTA_UNBOUNDED)
			return before < 0 ? 0 : before;
		__sync_fetch_and_add(&quota->taken, -1);
		if (before >= 0)
			return -1;
	}
	return -1;
}

/* Gives one back. `ends`: nobody keeps a quota that is empty. */
static __noinline int quota_release(struct mesh_quota_key *key, __u32 ends)
{
	struct mesh_quota *quota = key ? bpf_map_lookup_elem(&quotas, key) : NULL;
	__u32 left;

	if (!quota)
		return 0;
	left = __sync_fetch_and_add(&quota->taken, -1) - 1;
	if (ends && (__s32)left <= 0 && __sync_val_compare_and_swap(&quota->taken, left, QUOTA_ENDS) == left)
		bpf_map_delete_elem(&quotas, key);
	return 0;
}

/* Counts a connection that a member opens, in one of the two maps of those. What the first ones left over is for all
 * of the member's users alike. 0: no quota is left; 1: it takes the member's; 2: it takes its user's, too.
 */
static __noinline int connection_begins(__u32 member, __u32 user, __u32 kind)
{
	struct mesh_quota_key key = { .of = member, .kind = kind };
	struct mesh_quota_key users = { .of = member, .who = user, .kind = kind | MESH_QUOTA_BY_USER };
	int before = quota_take(&key, MESH_QUOTA_CONNECTIONS);

	if (before < 0)
		return 0;
	if (before < (__s32)MESH_QUOTA_CONNECTIONS_ANY)
		return 1;
	if (quota_take(&users, MESH_QUOTA_CONNECTIONS_USER) >= 0)
		return 2;
	quota_release(&key, false);
	return 0;
}

/* Its entry was taken out. `user` is whose quota it took beside the member's, or all ones. */
static __noinline int connection_ends(__u32 member, __u32 user, __u32 kind)
{
	struct mesh_quota_key key = { .of = member, .kind = kind };

	quota_release(&key, false);
	if (user != NONE) {
		key.who = user;
		key.kind = kind | MESH_QUOTA_BY_USER;
		quota_release(&key, true);
	}
	return 0;
}

/* Takes out where a connection was going, as it was found. Whoever does gives its quota back. */
static __always_inline void handover_forget(struct mesh_flow_key *key, struct mesh_flow *flow)
{
	__u32 member = flow->member, user = flow->flags & MESH_FLOW_BY_USER ? flow->uid : NONE;

	if (!bpf_map_delete_elem(&handover, key))
		connection_ends(member, user, MESH_QUOTA_OF_HANDOVER);
}

/* Notes where a connection is going; false: no quota is left for it. What has the same ends was left by a socket that is
 * gone and did not tell.
 */
static __always_inline bool handover_note(struct mesh_flow_key *key, struct mesh_flow *flow)
{
	int quota = connection_begins(flow->member, flow->uid, MESH_QUOTA_OF_HANDOVER), error;
	struct mesh_flow *left;

	if (!quota)
		return false;
	flow->flags = (flow->flags & ~MESH_FLOW_BY_USER) | (quota > 1 ? MESH_FLOW_BY_USER : 0);
	error = bpf_map_update_elem(&handover, key, flow, BPF_NOEXIST);
	left = error == -EEXIST ? bpf_map_lookup_elem(&handover, key) : NULL;
	if (left) {
		handover_forget(key, left);
		error = bpf_map_update_elem(&handover, key, flow, BPF_NOEXIST);
	}
	if (error)
		connection_ends(flow->member, quota > 1 ? flow->uid : NONE, MESH_QUOTA_OF_HANDOVER);
	return !error;
}

/* The same of a connection of an exempt identity. */
static __always_inline void exempt_forget(struct mesh_flow_key *key, struct mesh_exempt_flow *noted)
{
	__u32 member = noted->member, user = noted->user;

	if (!bpf_map_delete_elem(&exempt_flows, key))
		connection_ends(member, user, MESH_QUOTA_OF_EXEMPT);
}

static __always_inline bool exempt_note(struct mesh_flow_key *key, struct mesh_flow *flow, __u64 cookie)
{
	int quota = connection_begins(flow->member, flow->uid, MESH_QUOTA_OF_EXEMPT), error;
	struct mesh_exempt_flow note = { .cookie = cookie, .member = flow->member }, *left;

	if (!quota)
		return false;
	note.user = quota > 1 ? flow->uid : NONE;
	error = bpf_map_update_elem(&exempt_flows, key, &note, BPF_NOEXIST);
	left = error == -EEXIST ? bpf_map_lookup_elem(&exempt_flows, key) : NULL;
	if (left) {
		exempt_forget(key, left);
		error = bpf_map_update_elem(&exempt_flows, key, &note, BPF_NOEXIST);
	}
	if (error)
		connection_ends(note.member, note.user, MESH_QUOTA_OF_EXEMPT);
	return !error;
}
