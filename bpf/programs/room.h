/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* How much of a map that all share each of them takes, so that nobody fills it for the others.
 *
 * A room is counted before an entry is made, and given back by whoever takes the entry out: the count is never less than
 * what is there.
 */
#pragma once

/* The count of a room that is about to be removed: whoever finds it looks for another one. */
#define ROOM_ENDS (1U << 31)

static __always_inline struct mesh_room *room_of(struct mesh_room_key *key)
{
	struct mesh_room none = {}, *room = bpf_map_lookup_elem(&rooms, key);

	if (room)
		return room;
	/* Ignored: the look-up that follows tells. */
	bpf_map_update_elem(&rooms, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&rooms, key);
}

/* How many were taken before, or -1: there is no more room. */
static __noinline int room_take(struct mesh_room_key *key, __u32 most)
{
	if (!key)
		return -1;
	for (__u32 times = 0; times < 3; times++) {
		struct mesh_room *room = room_of(key);
		__s32 before;

		if (!room)
			return -1;
		before = __sync_fetch_and_add(&room->taken, 1);
		if (before < (__s32)most && before >= -(__s32)MESH_ROOM_UNBOUNDED)
			return before < 0 ? 0 : before;
		__sync_fetch_and_add(&room->taken, -1);
		if (before >= 0)
			return -1;
	}
	return -1;
}

/* Gives one back. `ends`: nobody keeps a room that is empty. */
static __noinline int room_leave(struct mesh_room_key *key, __u32 ends)
{
	struct mesh_room *room = key ? bpf_map_lookup_elem(&rooms, key) : NULL;
	__u32 left;

	if (!room)
		return 0;
	left = __sync_fetch_and_add(&room->taken, -1) - 1;
	if (ends && (__s32)left <= 0 && __sync_val_compare_and_swap(&room->taken, left, ROOM_ENDS) == left)
		bpf_map_delete_elem(&rooms, key);
	return 0;
}

/* Room for a connection that a member opens, in one of the two maps of those. What the first ones left over is for all
 * of the member's users alike. 0: there is none; 1: it takes the member's; 2: it takes its user's, too.
 */
static __noinline int connection_begins(__u32 member, __u32 user, __u32 kind)
{
	struct mesh_room_key key = { .of = member, .kind = kind };
	struct mesh_room_key users = { .of = member, .who = user, .kind = kind | MESH_ROOM_BY_USER };
	int before = room_take(&key, MESH_ROOM_CONNECTIONS);

	if (before < 0)
		return 0;
	if (before < (__s32)MESH_ROOM_CONNECTIONS_ANY)
		return 1;
	if (room_take(&users, MESH_ROOM_CONNECTIONS_USER) >= 0)
		return 2;
	room_leave(&key, false);
	return 0;
}

/* Its entry was taken out. `user` is whose room it took beside the member's, or all ones. */
static __noinline int connection_ends(__u32 member, __u32 user, __u32 kind)
{
	struct mesh_room_key key = { .of = member, .kind = kind };

	room_leave(&key, false);
	if (user != NONE) {
		key.who = user;
		key.kind = kind | MESH_ROOM_BY_USER;
		room_leave(&key, true);
	}
	return 0;
}

/* Takes out where a connection was going, as it was found. Whoever does gives its room back. */
static __always_inline void handover_forget(struct mesh_flow_key *key, struct mesh_flow *flow)
{
	__u32 member = flow->member, user = flow->flags & MESH_FLOW_BY_USER ? flow->uid : NONE;

	if (!bpf_map_delete_elem(&handover, key))
		connection_ends(member, user, MESH_ROOM_OF_HANDOVER);
}

/* Notes where a connection is going; false: there is no room for it. What has the same ends was left by a socket that is
 * gone and did not tell.
 */
static __always_inline bool handover_note(struct mesh_flow_key *key, struct mesh_flow *flow)
{
	int room = connection_begins(flow->member, flow->uid, MESH_ROOM_OF_HANDOVER), error;
	struct mesh_flow *left;

	if (!room)
		return false;
	flow->flags = (flow->flags & ~MESH_FLOW_BY_USER) | (room > 1 ? MESH_FLOW_BY_USER : 0);
	error = bpf_map_update_elem(&handover, key, flow, BPF_NOEXIST);
	left = error == -EEXIST ? bpf_map_lookup_elem(&handover, key) : NULL;
	if (left) {
		handover_forget(key, left);
		error = bpf_map_update_elem(&handover, key, flow, BPF_NOEXIST);
	}
	if (error)
		connection_ends(flow->member, room > 1 ? flow->uid : NONE, MESH_ROOM_OF_HANDOVER);
	return !error;
}

/* The same of a connection of an exempt identity. */
static __always_inline void exempt_forget(struct mesh_flow_key *key, struct mesh_exempt_flow *noted)
{
	__u32 member = noted->member, user = noted->user;

	if (!bpf_map_delete_elem(&exempt_flows, key))
		connection_ends(member, user, MESH_ROOM_OF_EXEMPT);
}

static __always_inline bool exempt_note(struct mesh_flow_key *key, struct mesh_flow *flow, __u64 cookie)
{
	int room = connection_begins(flow->member, flow->uid, MESH_ROOM_OF_EXEMPT), error;
	struct mesh_exempt_flow note = { .cookie = cookie, .member = flow->member }, *left;

	if (!room)
		return false;
	note.user = room > 1 ? flow->uid : NONE;
	error = bpf_map_update_elem(&exempt_flows, key, &note, BPF_NOEXIST);
	left = error == -EEXIST ? bpf_map_lookup_elem(&exempt_flows, key) : NULL;
	if (left) {
		exempt_forget(key, left);
		error = bpf_map_update_elem(&exempt_flows, key, &note, BPF_NOEXIST);
	}
	if (error)
		connection_ends(note.member, note.user, MESH_ROOM_OF_EXEMPT);
	return !error;
}
