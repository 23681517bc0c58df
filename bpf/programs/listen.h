/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The listening sockets of pods, for sk_lookup to choose from.
 *
 * Every socket that listens in a registered pod is known, whatever the policy says: a later policy finds it.
 * Each has an entry of its own, also where several share a port; the kernel removes it when the socket is
 * closed, and an entry that two shared would go with the first of them.
 */
#pragma once

static __always_inline bool listener_key(__u64 netns, __u32 port, __u32 family, struct mesh_listener_key *key)
{
	if (!bpf_map_lookup_elem(&endpoints, &netns))
		return false;
	key->netns = netns;
	key->port = port;
	key->family = family;
	return true;
}

/* Whether this socket was redirected to where it was accepted, and did not come there by itself. */
static __always_inline bool is_redirected(struct bpf_sock *sk)
{
	struct mesh_listening *listener = bpf_sk_storage_get(&listening, sk, NULL, 0);

	return listener && listener->port != sk->src_port;
}
