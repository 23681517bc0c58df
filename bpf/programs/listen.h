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

/* Notes whose socket listens there. A socket that nobody owns is noted too: it may listen on one address
 * where a member listens on all.
 */
static __always_inline void port_taken(void *sock, struct mesh_port_key *key)
{
	struct mesh_port_owner owner = { .sockets = 1 }, *known;

	cgroups_of(sock, owner.cgroup);
	known = bpf_map_lookup_elem(&host_ports, key);
	if (known && known->cgroup[0] == owner.cgroup[0])
		__sync_fetch_and_add(&known->sockets, 1);
	else if (bpf_map_update_elem(&host_ports, key, &owner, BPF_ANY))
		count(MESH_COUNT_LISTENERS_FULL);
}

static __always_inline void port_left(void *sock, struct mesh_port_key *key)
{
	struct mesh_port_owner owner = {}, *known;

	cgroups_of(sock, owner.cgroup);
	known = bpf_map_lookup_elem(&host_ports, key);
	if (known && known->cgroup[0] == owner.cgroup[0] && __sync_fetch_and_add(&known->sockets, -1) == 1)
		bpf_map_delete_elem(&host_ports, key);
}

/* Whether this socket was redirected to where it was accepted, and did not come there by itself. */
static __always_inline bool is_redirected(struct bpf_sock *sk)
{
	struct mesh_listening *listener = bpf_sk_storage_get(&listening, sk, NULL, 0);

	return listener && listener->port != sk->src_port;
}
