/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The listening sockets of pods, for sk_lookup to choose from.
 *
 * Every socket that listens in a registered pod is known, whatever the policy says: a later policy finds it.
 * Each has an entry of its own, also where several share a port; the kernel removes it when the socket is
 * closed, and an entry that two shared would go with the first of them.
 */
#pragma once

/* Whether namespaces of pods and of the host are what this one is. */
enum place { ELSEWHERE, POD, HOST };

static __always_inline enum place place_of(__u64 netns)
{
	struct mesh_control *words = control_words();

	if (bpf_map_lookup_elem(&endpoints, &netns))
		return POD;
	return words && words->host && words->host == netns ? HOST : ELSEWHERE;
}

static __always_inline void listener_key(__u64 netns, __u32 port, __u32 family, struct mesh_listener_key *key)
{
	key->netns = netns;
	key->port = port;
	key->family = family;
}

/* The cgroups that a socket was made in, from its own upwards. */
static __noinline int cgroups_of(void *sock, __u64 ids[MESH_CGROUP_DEPTH])
{
	struct cgroup *cgroup = NULL;
	struct sock *sk = sock;

	if (!ids)
		return 0;
	READ(cgroup, sk->sk_cgrp_data.cgroup);
#pragma unroll
	for (__u32 level = 0; level < MESH_CGROUP_DEPTH; level++) {
		struct kernfs_node *kn = NULL;
		void *parent = NULL;

		if (!cgroup)
			break;
		READ(kn, cgroup->kn);
		READ(ids[level], kn->id);
		READ(parent, cgroup->self.parent);
		cgroup = parent;
	}
	return 0;
}

/* The user of a socket. */
static __always_inline __u32 user_of(void *sock)
{
	struct sock *sk = sock;
	__u32 uid = NONE;

	READ(uid, sk->sk_uid.val);
	return uid;
}

/* How deep user namespaces are nested at most. */
#define USER_NAMESPACES 33

/* The user whose quota a socket counts against on the host. Users of a user namespace are as many as whoever made it
 * likes, so they have one quota: of who made the outermost one.
 */
static __noinline __u32 payer_of(void *sock)
{
	struct user_namespace *within = NULL;
	const struct cred *cred = NULL;
	struct socket *socket = NULL;
	struct file *file = NULL;
	struct sock *sk = sock;

	READ(socket, sk->sk_socket);
	READ(file, socket->file);
	READ(cred, file->f_cred);
	READ(within, cred->user_ns);
	for (__u32 times = 0; times < USER_NAMESPACES; times++) {
		__u32 owner = NONE;
		int level = 0;

		READ(level, within->level);
		if (level < 1)
			break;
		if (level == 1) {
			READ(owner, within->owner.val);
			return owner;
		}
		READ(within, within->parent);
	}
	return user_of(sock);
}

/* Whose quota it counts against. Root and the users that the live policy exempts in a pod have one that others there
 * cannot fill.
 */
static __noinline __u32 who_of(void *sock, __u64 netns, __u32 host)
{
	struct mesh_control *words = control_words();
	__u32 uid = host ? payer_of(sock) : user_of(sock), slot, line;
	struct mesh_profile *profile;
	struct mesh_member *member;
	__u64 generation;

	if (host || !uid)
		return uid;
	member = bpf_map_lookup_elem(&endpoints, &netns);
	if (!words || !member)
		return 1;
	generation = *(volatile __u64 *)&words->generation;
	slot = generation & 1;
	line = member->profile[slot];
	if (!generation || line == MESH_NO_PROFILE)
		return 1;
	profile = line_of(slot, MESH_TABLE_PROFILES, line);
	return profile && profile->exempt_uid && tree_find(slot, profile->exempt_uid, uid) > 0 ? 0 : 1;
}

/* Notes that a socket is not known, so that it is looked for again. */
static __always_inline void miss(struct mesh_listening *port, __u64 netns)
{
	__u64 one = 1, *known = bpf_map_lookup_elem(&missed_sockets, &netns);

	port->flags |= MESH_LISTENING_MISSED;
	if (known)
		__sync_fetch_and_add(known, 1);
	else
		/* Ignored: the counter tells, too. */
		bpf_map_update_elem(&missed_sockets, &netns, &one, BPF_ANY);
	count(MESH_COUNT_LISTENERS_FULL);
}

/* Notes whose socket listens there. A socket that nobody owns is noted too: it may listen on one address
 * where a member listens on all. false: no quota is left for it.
 */
static __noinline bool port_taken(void *sock, struct mesh_port_key *key, __u64 netns)
{
	struct mesh_port_owner owner = { .sockets = 1 }, *known;
	struct mesh_quota_key whose = { .of = netns, .kind = MESH_QUOTA_OF_PLACES };

	if (!key)
		return false;
	cgroups_of(sock, owner.cgroup);
	owner.uid = payer_of(sock);
	for (__u32 slot = 0; slot < MESH_PORT_SLOTS; slot++) {
		key->slot = slot;
		known = bpf_map_lookup_elem(&host_ports, key);
		if (known && known->cgroup[0] == owner.cgroup[0]) {
			__sync_fetch_and_add(&known->sockets, 1);
			return true;
		}
	}
	whose.who = owner.uid;
	if (quota_take(&whose, owner.uid ? MESH_QUOTA_PLACES : MESH_QUOTA_UNBOUNDED) < 0)
		return false;
	for (__u32 slot = 0; slot < MESH_PORT_SLOTS; slot++) {
		key->slot = slot;
		if (!bpf_map_update_elem(&host_ports, key, &owner, BPF_NOEXIST))
			return true;
	}
	quota_release(&whose, true);
	return false;
}

static __noinline bool port_left(void *sock, struct mesh_port_key *key, __u64 netns)
{
	struct mesh_quota_key whose = { .of = netns, .kind = MESH_QUOTA_OF_PLACES };
	struct mesh_port_owner owner = {}, *known;

	if (!key)
		return false;
	cgroups_of(sock, owner.cgroup);
	for (__u32 slot = 0; slot < MESH_PORT_SLOTS; slot++) {
		key->slot = slot;
		known = bpf_map_lookup_elem(&host_ports, key);
		if (!known || known->cgroup[0] != owner.cgroup[0])
			continue;
		whose.who = known->uid;
		if (__sync_fetch_and_add(&known->sockets, -1) == 1) {
			bpf_map_delete_elem(&host_ports, key);
			quota_release(&whose, true);
		}
		return true;
	}
	return false;
}

/* Takes whatever a socket that listens takes beside its slot: its place on the host, and quota. Whose quota is kept
 * with it. false: there is none, and it is looked for again.
 */
static __noinline bool settle(struct mesh_listening *port, void *sock, struct mesh_port_key *at, __u64 netns)
{
	struct mesh_quota_key whose = { .of = netns, .kind = MESH_QUOTA_OF_LISTENERS };
	bool is_on_host = place_of(netns) == HOST;

	if (!port || !at)
		return false;
	port->flags &= ~MESH_LISTENING_MISSED;
	if (is_on_host && !(port->flags & MESH_LISTENING_PLACED)) {
		if (!port_taken(sock, at, netns)) {
			miss(port, netns);
			return false;
		}
		port->flags |= MESH_LISTENING_PLACED;
	}
	whose.who = who_of(sock, netns, is_on_host);
	if (quota_take(&whose, MESH_QUOTA_LISTENERS) < 0) {
		miss(port, netns);
		return false;
	}
	port->who = whose.who;
	return true;
}

/* Gives back the quota that a listening socket used. */
static __always_inline void unsettle(struct mesh_listening *port, __u64 netns)
{
	struct mesh_quota_key whose = { .of = netns, .who = port->who, .kind = MESH_QUOTA_OF_LISTENERS };

	quota_release(&whose, true);
}

/* Whether this socket was redirected to where it was accepted, and did not come there by itself. */
static __always_inline bool is_redirected(struct bpf_sock *sk)
{
	struct mesh_listening *listener = bpf_sk_storage_get(&listening, sk, NULL, 0);

	return listener && listener->port != sk->src_port;
}
