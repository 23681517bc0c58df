/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The decision: who is this, and what does the live policy say of where it goes?
 *
 * `src/sim.rs` takes the same steps in Rust; tests hold the two together. A program reads the generation
 * once and passes its slot to everything below, so that no flow ever sees two policies.
 */
#pragma once

#include "verdict.h"

#define LOOPBACK4 bpf_htonl(0x7f000001)
#define MAPPED bpf_htonl(0x0000ffff)
#define NONE 0xffffffffU

/* Reads a field of one of the kernel's own structures. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

/* What is known of the flow before the decision. */
struct question {
	__u64 generation;
	__u64 netns;
	__u64 cgroup; /* by which the process is a member; 0: by its network namespace */
	__u32 slot;
	__u32 member;
	__u32 profile;
	__u32 own;
	__u32 address[4]; /* v6-mapped, network order */
	__u32 port;
	__u32 protocol; /* 0 TCP, 1 UDP */
	__u32 direction; /* 0 outbound, 1 inbound */
	__u32 workload;
	__u32 name; /* hash of the member's name */
	__u32 pad;
};

/* What was decided. */
struct answer {
	__u64 item; /* key of the counter of the deciding item */
	__u32 source;
	__u32 node;
	__u32 port; /* the sidecar's */
	__u32 verdict; /* MESH_VERDICT_* without the flag */
	__u32 transparent;
	__u32 kernels; /* not 0: asked by a thread of the kernel */
};

/* One more connection that a sidecar did not take. Whose it is and what the policy says make the key, so that nobody
 * can fill the map by what he sends; what is not used makes room.
 */
static __always_inline void add_not_taken(struct mesh_sidecar_key *key)
{
	__u64 one = 1, *times = bpf_map_lookup_elem(&not_taken, key);

	if (times)
		__sync_fetch_and_add(times, 1);
	else if (bpf_map_update_elem(&not_taken, key, &one, BPF_ANY))
		count(MESH_COUNT_NOT_TAKEN_LOST);
}

static __always_inline struct mesh_control *control_words(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline void *line_of(__u32 slot, __u32 table, __u32 line)
{
	__u32 index = slot * MESH_TABLES + table;
	void *inner = bpf_map_lookup_elem(&tables, &index);

	return inner ? bpf_map_lookup_elem(inner, &line) : NULL;
}

static __always_inline bool is_mapped(const __u32 address[4])
{
	return !address[0] && !address[1] && address[2] == MAPPED;
}

static __always_inline bool is_loopback(const __u32 address[4])
{
	if (is_mapped(address))
		return (address[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !address[0] && !address[1] && !address[2] && address[3] == bpf_htonl(1);
}

/* 1 if a < b, without a branch: the verifier would follow every combination of them. */
static __always_inline __u32 below(__u64 a, __u64 b)
{
	return ((~a & b) | (~(a ^ b) & (a - b))) >> 63;
}

/* The value of the stretch that holds `key`, or -1. */
__noinline __s64 tree_find(__u32 slot, __u32 root, __u64 key)
{
	__u32 index = slot * MESH_TABLES + MESH_TABLE_TREES, line = root, at;
	void *lines = bpf_map_lookup_elem(&tables, &index);
	struct mesh_tree_line *node;
	__u32 *span;

	if (!lines)
		return -1;
	for (__u32 depth = 0; depth < MESH_TREE_DEPTH; depth++) {
		node = bpf_map_lookup_elem(lines, &line);
		if (!node)
			return -1;
		__u32 child = MESH_TREE_KEYS;

#pragma unroll
		for (__u32 i = 0; i < MESH_TREE_KEYS; i++)
			child -= below(key, node->key[i]);
		if (child > node->count) /* unused keys are all ones, and so may the searched one be */
			child = node->count;
		line = node->first + child;
		if (node->leaf) {
			at = line / MESH_SPANS_A_LINE;
			span = line_of(slot, MESH_TABLE_SPANS, at);
			return span ? span[line % MESH_SPANS_A_LINE] : -1;
		}
	}
	return -1;
}

/* The value of the stretch that holds an IPv4 address, host order, or -1. */
__noinline __s64 narrow_find(__u32 slot, __u32 root, __u32 key)
{
	__u32 index = slot * MESH_TABLES + MESH_TABLE_TREES, line = root;
	void *lines = bpf_map_lookup_elem(&tables, &index);
	struct mesh_narrow_line *node;
	__u32 *values;

	if (!lines)
		return -1;
	for (__u32 depth = 0; depth < MESH_NARROW_DEPTH; depth++) {
		node = bpf_map_lookup_elem(lines, &line);
		if (!node)
			return -1;
		__u32 child = MESH_NARROW_KEYS;

#pragma unroll
		for (__u32 i = 0; i < MESH_NARROW_KEYS; i++) {
			__u64 difference = (__u64)key - node->key[i];

			/* Or clang sees through it and makes a branch, whose combinations the verifier follows. */
			asm volatile("" : "+r"(difference));
			child -= difference >> 63;
		}
		if (child > node->count)
			child = node->count;
		if (node->leaf) {
			line += 1;
			values = bpf_map_lookup_elem(lines, &line);
			/* Or clang knows the bound and leaves the mask out, and the verifier of 6.1 does not know it. */
			asm volatile("" : "+r"(child));
			return values ? values[child & (MESH_SPANS_A_LINE - 1)] : -1;
		}
		line = node->first + 2 * child;
	}
	return -1;
}

/* The index of the decision for `port`, or -1. */
__noinline __s64 port_find(__u32 slot, __u32 root, __u32 port)
{
	__u32 index = slot * MESH_TABLES + MESH_TABLE_PORTS, line = root;
	void *lines = bpf_map_lookup_elem(&tables, &index);
	struct mesh_port_line *node;

	if (!lines)
		return -1;
	for (__u32 depth = 0; depth < MESH_PORT_DEPTH; depth++) {
		node = bpf_map_lookup_elem(lines, &line);
		if (!node)
			return -1;
		__u32 child = MESH_PORT_KEYS;

#pragma unroll
		for (__u32 i = 0; i < MESH_PORT_KEYS; i++)
			child -= (port - node->key[i]) >> 31;
		if (child > node->count)
			child = node->count;
		line = node->first + child;
		if (node->leaf)
			return line;
	}
	return -1;
}

/* The node that serves an address: for IPv6 a tree on each half. Or -1. */
__noinline __s64 node_find(__u32 slot, __u32 root, __u64 high, __u64 low)
{
	__s64 node = tree_find(slot, root, high);

	if (node >= 0 && (node & MESH_SPAN_SUBTREE))
		node = tree_find(slot, node & ~MESH_SPAN_SUBTREE, low);
	return node;
}

/* The counter key of the item of `hash` whose prefix is `up` steps above `node`. As `src/item.rs`. */
__noinline __u64 item_key(__u32 slot, __u32 node, __u32 up, __u64 hash)
{
	struct mesh_node *record = NULL;
	__u64 high, low, mix;

	for (__u32 i = 0; i <= MESH_UP_MAX; i++) {
		record = line_of(slot, MESH_TABLE_NODES, node);
		if (!record)
			return hash;
		if (i >= up)
			break;
		node = record->parent;
	}
	if (!record)
		return hash;
	high = (__u64)bpf_ntohl(record->address[0]) << 32 | bpf_ntohl(record->address[1]);
	low = (__u64)bpf_ntohl(record->address[2]) << 32 | bpf_ntohl(record->address[3]);
	mix = (high ^ (record->len | (__u64)record->family << 8)) * MESH_HASH_K1;
	mix ^= mix >> 32;
	mix = (mix ^ low) * MESH_HASH_K2;
	mix ^= mix >> 29;
	return hash ^ mix * MESH_HASH_K1;
}

static __always_inline __u64 source_hash(__u32 slot, __u32 source)
{
	struct mesh_source *record = line_of(slot, MESH_TABLE_SOURCES, source / MESH_SOURCES_A_LINE);

	return record ? record[source % MESH_SOURCES_A_LINE].hash : 0;
}

/* Whether the counter at this place is the item's; a free place becomes its own. */
static __always_inline bool is_counter_of(struct mesh_hit_line *line, __u32 place, __u64 item)
{
	__u64 there = line->item[place];

	if (!there)
		there = __sync_val_compare_and_swap(&line->item[place], 0, item);
	return there == item || !there;
}

/* More decisions of an item. */
__noinline int hits_add(__u64 item, __u64 times)
{
	__u32 index = item >> 32;

	for (__u32 probe = 0; probe < MESH_HIT_PROBES; probe++, index++) {
		__u32 at = index & (MESH_HIT_LINES - 1);
		struct mesh_hit_line *line = bpf_map_lookup_elem(&hits, &at);

		if (!line)
			return 0;
#pragma unroll
		for (__u32 place = 0; place < MESH_HITS_A_LINE; place++)
			if (is_counter_of(line, place, item)) {
				__sync_fetch_and_add(&line->count[place], times);
				return 0;
			}
	}
	count(MESH_COUNT_HIT_LOST);
	return 0;
}

/* One more decision of an item that is no node's alone. */
static __always_inline void hit(__u64 item)
{
	hits_add(item, 1);
}

/* One more decision of a node for all ports: counted in its own line, which was touched already. */
static __always_inline void node_hit(__u32 *tally, __u64 item)
{
	if (__sync_fetch_and_add(tally, 1) >> 31)
		hits_add(item, __sync_lock_test_and_set(tally, 0));
}

/* One more decision for a member, for which user space made an entry. A global function: callers' stacks have no room
 * for the key.
 */
__noinline int count_for(__u32 member, __u32 slot, __u32 verdict)
{
	struct mesh_member_counts_key key = { .member = member, .slot = slot };
	struct mesh_member_counts *counts = bpf_map_lookup_elem(&member_counts, &key);

	if (!counts) {
		count(MESH_COUNT_UNCOUNTED);
		return 0;
	}
	counts->decided[verdict & 3] += 1;
	if (verdict == MESH_VERDICT_DENIED)
		counts->denied_at = bpf_ktime_get_boot_ns();
	return 0;
}

/* Fills in what a member falls under. false: nothing of the live policy. */
static __always_inline bool has_profile(struct mesh_member *member, struct question *q)
{
	q->member = member->id;
	q->name = member->name;
	q->workload = member->workload[q->slot & 1];
	q->profile = member->profile[q->slot & 1];
	return q->profile != MESH_NO_PROFILE;
}

/* Who asks: the endpoint of this network namespace, else the deepest cgroup that is a member. NULL: not in the
 * mesh. Most members live in the very cgroup that is named, so that one comes first.
 */
static __always_inline struct mesh_member *member_find(void *ctx, struct question *q)
{
	__u64 own = bpf_get_current_cgroup_id();
	struct mesh_member *member;

	q->netns = bpf_get_netns_cookie(ctx);
	member = bpf_map_lookup_elem(&endpoints, &q->netns);
	if (member)
		return member;
	member = bpf_map_lookup_elem(&cgroups, &own);
	if (member) {
		q->cgroup = own;
		return member;
	}
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		struct mesh_member *deeper;

		if (!id || id == own)
			break;
		deeper = bpf_map_lookup_elem(&cgroups, &id);
		if (deeper) {
			member = deeper;
			q->cgroup = id;
		}
	}
	return member;
}

/* What a map of named cgroups has for this process: the deepest that is named for a profile counts. 0: none is. */
static __always_inline __u32 deepest_named(__u32 slot, __u32 profile)
{
	struct mesh_exempt_key key = { .profile = profile, .slot = slot };
	__u32 found = 0;

	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		__u32 *path, *deeper;

		if (!id)
			break;
		path = bpf_map_lookup_elem(&exempt_ids, &id);
		if (!path)
			continue;
		key.path = *path;
		deeper = bpf_map_lookup_elem(&exempt_cgroups, &key);
		if (deeper)
			found = *deeper;
	}
	return found;
}

/* The source that exempts this process, or 0. */
static __always_inline __u32 exempt_find(struct question *q, struct mesh_profile *profile)
{
	__u64 ids = bpf_get_current_uid_gid();
	__s64 source = 0;

	if (profile->exempt_uid)
		source = tree_find(q->slot, profile->exempt_uid, (__u32)ids);
	if (source > 0)
		return source;
	if (profile->exempt_gid)
		source = tree_find(q->slot, profile->exempt_gid, ids >> 32);
	if (source > 0)
		return source;
	return profile->flags & MESH_PROFILE_EXEMPT_CGROUPS ? deepest_named(q->slot, q->profile) : 0;
}

/* The source that exempts an interface of the member, or 0. A global function, as the next: callers' stacks have no room
 * for the keys.
 */
__noinline __u32 exempt_interface(__u32 member, __u32 slot, __u32 index)
{
	struct mesh_interface_key key = { .member = member, .slot = slot, .index = index };
	__u32 *source = bpf_map_lookup_elem(&exempt_ifaces, &key);

	return source ? *source : 0;
}

/* The source that exempts what the member's routes lead there, or 0. */
__noinline __u32 exempt_route(struct question *q)
{
	struct mesh_route_key key = { .bits = MESH_ROUTE_BITS + 128 };
	__u32 *source;

	if (!q)
		return 0;
	key.member = q->member;
	key.slot = q->slot;
	for (int i = 0; i < 4; i++)
		key.address[i] = q->address[i];
	source = bpf_map_lookup_elem(&exempt_routes, &key);
	return source ? *source : 0;
}

/* What the cgroup of this process adds to the number of its cell. */
__noinline __u32 class_of_cgroup(__u32 slot, __u32 profile)
{
	return deepest_named(slot, profile);
}

/* Where the trees of a profile's classes begin; 0 for those that tell none apart. */
struct class_roots {
	__u32 uids;
	__u32 gids;
	__u32 cgroups;
	__u32 cells;
	__u32 to_node; /* 2 and 3: elsewhere, and to the node; 0: that tells none apart */
};

/* The line of the class of this process, or -1. A global function: the verifier looks at it once, and callers' stacks
 * have no room for the key.
 */
__noinline __s64 class_find(__u32 slot, struct class_roots *roots)
{
	__u64 ids = bpf_get_current_uid_gid();
	__s64 at, cell = 0;

	if (!roots)
		return -1;
	if (roots->uids) {
		at = narrow_find(slot, roots->uids, (__u32)ids);
		if (at < 0)
			return -1;
		cell += at;
	}
	if (roots->gids) {
		at = narrow_find(slot, roots->gids, ids >> 32);
		if (at < 0)
			return -1;
		cell += at;
	}
	if (roots->cgroups)
		cell += class_of_cgroup(slot, roots->cgroups) << (roots->to_node >> 1);
	return narrow_find(slot, roots->cells, cell + (roots->to_node & 1));
}

/* Whether an address is one of the node's own. A global function, as those of classes: callers' stacks have no room for
 * the key.
 */
__noinline int is_nodes(struct question *q)
{
	struct mesh_node_address key = {};

	if (!q)
		return 0;
	for (int i = 0; i < 4; i++)
		key.address[i] = q->address[i];
	return !!bpf_map_lookup_elem(&node_addresses, &key);
}

/* The line of a profile, or of one of its classes. NULL: a table did not answer. */
static __always_inline struct mesh_profile *profile_at(struct question *q, struct mesh_profile *profile, __s64 line)
{
	if (line == q->profile)
		return profile;
	return line < 0 ? NULL : line_of(q->slot, MESH_TABLE_PROFILES, line);
}

/* What an outbound flow is decided by, where rules of a profile name identities or the node: its class, or the profile
 * itself. Of whose process nothing is known is in no part.
 */
static __always_inline struct mesh_profile *class_profile(struct question *q, struct mesh_profile *profile,
							  bool is_known)
{
	__u32 cgroups = profile->flags & MESH_PROFILE_CLASS_CGROUPS ? q->profile | MESH_KEY_CLASS : 0;
	__u32 to_node = profile->flags & MESH_PROFILE_TO_NODE ? 2 | !!is_nodes(q) : 0;
	struct class_roots roots = { .cells = profile->class_cells, .to_node = to_node };

	if (is_known) {
		roots.uids = profile->class_uid;
		roots.gids = profile->class_gid;
		roots.cgroups = cgroups;
	}
	return profile_at(q, profile, class_find(q->slot, &roots));
}

/* What comes in is decided by: what comes from the node has a line of its own where a rule says so. */
static __always_inline struct mesh_profile *inbound_profile(struct question *q, struct mesh_profile *profile)
{
	if (!(profile->flags & MESH_PROFILE_FROM_NODE) || !is_nodes(q))
		return profile;
	return profile_at(q, profile, narrow_find(q->slot, profile->class_cells, MESH_CELL_FROM_NODE));
}

/* Whether an address may be one of the member's own. As `own_bit` in `src/abi/members.rs`. */
static __always_inline bool may_be_own(struct mesh_member *member, const __u32 address[4])
{
	__u32 mixed = (address[0] ^ address[1] ^ address[2] ^ address[3]) * MESH_OWN_MULTIPLIER;

	return member->own >> (mixed >> 26) & 1;
}

/* What the policy says; counted where `counts` says so. false: a table did not answer. */
static __always_inline bool decide(struct question *q, struct mesh_profile *profile, struct answer *a, bool counts)
{
	bool v4 = is_mapped(q->address);
	__u32 inbound = q->direction & 1, root;
	struct mesh_decision *decision;
	struct mesh_node *record;
	__s64 node, at;

	if (q->own)
		root = v4 ? profile->own[inbound][0] : profile->own[inbound][1];
	else
		root = v4 ? profile->tree[inbound][0] : profile->tree[inbound][1];
	if (v4)
		node = narrow_find(q->slot, root, bpf_ntohl(q->address[3]));
	else
		node = node_find(q->slot, root,
				 (__u64)bpf_ntohl(q->address[0]) << 32 | bpf_ntohl(q->address[1]),
				 (__u64)bpf_ntohl(q->address[2]) << 32 | bpf_ntohl(q->address[3]));
	if (node < 0)
		return false;
	a->node = node;
	record = line_of(q->slot, MESH_TABLE_NODES, a->node);
	if (!record)
		return false;
	decision = q->protocol ? &record->decision[1] : &record->decision[0];
	a->item = decision->key;
	if (decision->verdict == MESH_VERDICT_BY_PORT) {
		at = port_find(q->slot, decision->source, q->port);
		if (at < 0)
			return false;
		decision = line_of(q->slot, MESH_TABLE_DECISIONS, (__u32)at / MESH_DECISIONS_A_LINE);
		if (!decision)
			return false;
		decision += at % MESH_DECISIONS_A_LINE;
		a->item = item_key(q->slot, a->node, decision->up, decision->key);
		if (counts)
			hit(a->item);
	} else if (counts) {
		node_hit(q->protocol ? &record->tally[1] : &record->tally[0], a->item);
	}
	a->source = decision->source;
	a->port = decision->port;
	a->verdict = decision->verdict & ~MESH_VERDICT_TRANSPARENT & 0xff;
	a->transparent = decision->verdict & MESH_VERDICT_TRANSPARENT;
	if (counts)
		count_for(q->member, q->slot, a->verdict);
	return true;
}

/* What an exemption decides: it is counted for the item and for the member. */
static __always_inline void left_alone(struct question *q, struct answer *a, bool counts)
{
	a->node = NONE;
	a->item = source_hash(q->slot, a->source);
	if (counts) {
		hit(a->item);
		count_for(q->member, q->slot, MESH_COUNTED_EXEMPT);
	}
}

/* Who asks, as far as the hook can tell, and from which end. */
struct process {
	__u64 time;
	__u64 cgroup;
	__u32 pid;
	__u32 uid;
	__u32 local[4];
	__u32 port;
	__u32 pad;
	__u8 comm[16];
};

/* Whether a reader wants this decision. */
static __always_inline bool wants(struct mesh_watch *watch, struct question *q, struct answer *a, struct process *by)
{
	__u64 subject = *(volatile __u64 *)&watch->subject;
	__u32 verdict = a->node == NONE ? MESH_WATCH_EXEMPT : 1U << (a->verdict & 7), other = 0;

	for (int i = 0; i < 4; i++)
		other |= (q->address[i] ^ watch->address[i]) & watch->mask[i];
	other |= !(watch->verdicts & verdict);
	other |= !(watch->protocols >> (q->protocol & 1) & 1);
	other |= !(watch->directions >> (q->direction & 1) & 1);
	other |= q->port < watch->low;
	other |= q->port > watch->high;
	other |= (watch->flags & MESH_WATCH_UID) && watch->uid != by->uid;
	other |= (watch->flags & MESH_WATCH_NAME) && watch->name != q->name;
	other |= subject && subject >> 32 == (__u32)q->generation && (__u32)subject != q->workload;
	return !other;
}

static __always_inline void fill_event(struct mesh_event *event, struct question *q, struct answer *a, struct process *by)
{
	event->time = by->time;
	event->generation = q->generation;
	event->item = a->item;
	event->netns = q->netns;
	event->cgroup = by->cgroup;
	event->source = a->source;
	event->node = a->node;
	event->member = q->member;
	event->profile = q->profile;
	event->workload = q->workload;
	event->pid = by->pid;
	event->uid = by->uid;
	for (int part = 0; part < 4; part++) {
		event->address[part] = q->address[part];
		event->local[part] = by->local[part];
	}
	event->port = q->port;
	event->from_port = by->port;
	event->sidecar_port = a->port;
	event->verdict = a->verdict;
	event->protocol = q->protocol;
	event->direction = q->direction;
	event->family = is_mapped(q->address) ? MESH_FAMILY_V4 : MESH_FAMILY_V6;
	event->reserve = 0;
	__builtin_memcpy(event->comm, by->comm, sizeof(event->comm));
}

/* Sends a decision to a reader, if it wants it. One whose lease is at an end was killed or stopped: its bit
 * is turned off here, so that nobody pays for it any more.
 *
 * A global function, as `report`: the verifier looks at it once, and not behind every path that leads here, which was
 * three quarters of its work. Its arguments may be anything then, so that it asks for each.
 */
__noinline int report_to(struct question *q, struct answer *a, struct process *by, __u32 reader)
{
	struct mesh_watch *watch = bpf_map_lookup_elem(&watches, &reader);
	struct mesh_control *words = control_words();
	struct mesh_event *event = NULL;
	void *ring;

	if (!watch || !words || !q || !a || !by)
		return 0;
	if (by->time >= *(volatile __u64 *)&watch->lease) {
		__sync_fetch_and_and(&words->observe, ~(1ULL << (reader & 63)));
	} else if (wants(watch, q, a, by)) {
		ring = bpf_map_lookup_elem(&events, &reader);
		if (ring)
			event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
		if (event) {
			fill_event(event, q, a, by);
			bpf_ringbuf_submit(event, 0);
		} else {
			__sync_fetch_and_add(&watch->lost, 1);
			count(MESH_COUNT_EVENT_LOST);
		}
	}
	return 0;
}

/* A hash that equal decisions have. Its upper half and the element of `recent` make an element of `recent_last`; its
 * lower half says which. Who has another upper half need not look at what is kept, which is in no cache.
 */
static __always_inline __u64 recent_hash(struct question *q, struct answer *a, __u32 pid)
{
	__u64 mix = a->item ^ q->generation ^ ((__u64)q->member << 32 | pid) * MESH_HASH_K1;

	mix ^= mix >> 32;
	mix ^= ((__u64)(q->address[0] ^ q->address[2]) << 32 | (q->address[1] ^ q->address[3])) ^ (__u64)q->port << 48;
	mix *= MESH_HASH_K2;
	return mix ^ mix >> 32;
}

/* Whether a decision is kept already, and is only one more of its kind: the same process asked for the same a moment ago,
 * and got the same answer. Who dials one destination again and again does not push out all others, and pays a quarter.
 */
__noinline int is_recent(struct question *q, struct answer *a, __u32 pid)
{
	struct mesh_recent *place;
	struct mesh_event *event;
	__u64 hash, other, turn, *last;
	__u32 at;

	if (!q || !a)
		return 0;
	hash = recent_hash(q, a, pid);
	at = hash & (MESH_RECENT_LAST - 1);
	last = bpf_map_lookup_elem(&recent_last, &at);
	if (!last || *last >> 32 != hash >> 32)
		return 0;
	at = *last;
	place = bpf_map_lookup_elem(&recent, &at);
	if (!place)
		return 0;
	turn = *(volatile __u64 *)&place->turn;
	event = &place->event;
	other = event->item ^ a->item;
	other |= event->generation ^ q->generation;
	other |= event->netns ^ q->netns;
	other |= event->member ^ q->member;
	other |= event->pid ^ pid;
	other |= event->port ^ q->port;
	other |= event->direction ^ q->direction;
	other |= event->protocol ^ q->protocol;
	for (int i = 0; i < 4; i++)
		other |= event->address[i] ^ q->address[i];
	if (other || !turn || turn == MESH_RECENT_WRITING ||
	    bpf_ktime_get_coarse_ns() - place->since >= MESH_RECENT_SPAN)
		return 0;
	__sync_fetch_and_add(&place->times, 1);
	return 1;
}

/* Keeps a decision among the last ones of its kind, in the place of the oldest. A place that another program is writing
 * is left to it: that one is as many decisions behind as there are places.
 *
 * Both exchanges order what is between them, for whoever reads it meanwhile.
 */
__noinline int keep_recent(struct question *q, struct answer *a, struct process *by)
{
	struct mesh_recent *head, *place;
	__u64 before, hash, *last;
	__u32 kind, at, index;

	if (!q || !a || !by)
		return 0;
	kind = a->verdict == MESH_VERDICT_DENIED ? MESH_RECENT_DENIED : q->protocol & 1;
	head = bpf_map_lookup_elem(&recent, &kind);
	if (!head)
		return 0;
	before = __sync_fetch_and_add(&head->turn, 1);
	at = MESH_RECENT_KINDS + kind * MESH_RECENT_PLACES + (before & (MESH_RECENT_PLACES - 1));
	place = bpf_map_lookup_elem(&recent, &at);
	if (!place || __sync_lock_test_and_set(&place->turn, MESH_RECENT_WRITING) == MESH_RECENT_WRITING)
		return 0;
	place->times = 1;
	place->since = bpf_ktime_get_coarse_ns();
	fill_event(&place->event, q, a, by);
	__sync_lock_test_and_set(&place->turn, before + 1);
	hash = recent_hash(q, a, by->pid);
	index = hash & (MESH_RECENT_LAST - 1);
	last = bpf_map_lookup_elem(&recent_last, &index);
	if (last)
		*last = hash >> 32 << 32 | at;
	return 0;
}

/* Who is to be told a decision, as bits of the control words: that it is kept is done here, where an equal one is. */
static __always_inline __u64 listeners_of(struct mesh_control *words, struct question *q, struct answer *a, __u32 pid)
{
	__u64 observe = *(volatile __u64 *)&words->observe;

	if (observe & MESH_OBSERVE_RECENT && is_recent(q, a, pid))
		observe &= ~MESH_OBSERVE_RECENT;
	return observe;
}

/* Tells a decision to those that these bits name, and keeps it where they say so. */
__noinline int report(struct question *q, struct answer *a, struct process *by, __u64 observe)
{
	if (!q || !a || !by)
		return 0;
	by->time = bpf_ktime_get_boot_ns();
	if (observe & MESH_OBSERVE_RECENT)
		keep_recent(q, a, by);
	if (!(observe & ~MESH_OBSERVE_RECENT))
		return 0;
#pragma unroll
	for (__u32 reader = 0; reader < MESH_WATCHES; reader++)
		if (observe >> reader & 1)
			report_to(q, a, by, reader);
	return 0;
}

/* The process that runs this hook, for its socket. */
static __always_inline void this_process(struct bpf_sock *sk, struct process *by)
{
	__u64 ids = bpf_get_current_uid_gid();

	by->cgroup = bpf_get_current_cgroup_id();
	by->pid = bpf_get_current_pid_tgid() >> 32;
	by->uid = ids;
	bpf_get_current_comm(by->comm, sizeof(by->comm));
	if (sk && sk->family == AF_INET) {
		by->local[2] = sk->src_ip4 ? MAPPED : 0;
		by->local[3] = sk->src_ip4;
	} else if (sk) {
		by->local[0] = sk->src_ip6[0];
		by->local[1] = sk->src_ip6[1];
		by->local[2] = sk->src_ip6[2];
		by->local[3] = sk->src_ip6[3];
	}
	if (sk)
		by->port = sk->src_port;
}

/* Where somebody watches, or decisions are kept, tells one of a process. */
static __always_inline void tell(struct mesh_control *words, struct question *q, struct answer *a, struct bpf_sock *sk)
{
	struct process by = {};
	__u64 observe;

	if (*(volatile __u64 *)&words->observe) {
		observe = listeners_of(words, q, a, bpf_get_current_pid_tgid() >> 32);
		if (observe) {
			this_process(sk, &by);
			report(q, a, &by, observe);
		}
	}
}
