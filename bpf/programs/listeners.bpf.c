/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* iter/tcp: the sockets that listened before their pod was registered. Run inside the namespace.
 *
 * Before Linux 6.1.42, 6.4.7 and 6.5 the kernel held the spin lock of a socket while it showed it, and to put the
 * socket into a map takes the same lock: the CPU would wait for ever. Newer kernels own the socket instead, as
 * processes do, and that can be seen.
 */

static __always_inline struct verdict found(struct sock_common *sk)
{
	int told = BPF_SOCK_OPS_STATE_CB_FLAG;
	struct mesh_listening *port;
	struct mesh_listener_key key = {};
	struct mesh_port_key place = {};
	__u64 netns;
	int one = 1, owned = 0;

	if (!sk || sk->skc_state != TCP_LISTEN)
		return ended(MESH_COUNT_NO_LISTENER, 0);
	READ(owned, ((struct sock *)sk)->sk_lock.owned);
	if (!owned)
		return ended(MESH_COUNT_LISTENER_LOCKED, 0);
	netns = sk->skc_net.net->net_cookie;
	if (place_of(netns) == ELSEWHERE)
		return ended(MESH_COUNT_LISTENS_OUTSIDE, 0);
	listener_key(netns, sk->skc_num, sk->skc_family, &key);
	/* What is kept with it says that it is known, or was missed. */
	port = bpf_sk_storage_get(&listening, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!port)
		return ended(MESH_COUNT_STORAGE_FULL, 0);
	if (port->port && !(port->flags & MESH_LISTENING_MISSED))
		return ended(MESH_COUNT_LISTENER_KNOWN, 0);
	port->port = key.port;
	place.port = key.port;
	if (key.family == AF_INET) {
		place.address[2] = MAPPED;
		place.address[3] = sk->skc_rcv_saddr;
	} else {
		READ(place.address, sk->skc_v6_rcv_saddr);
	}
	/* Ignored: the kernel refuses it to no socket that listens. */
	bpf_setsockopt(sk, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!settle(port, sk, &place, netns))
		return ended(MESH_COUNT_LISTENER_MISSED, 0);
	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		key.slot = slot;
		if (bpf_map_update_elem(&listeners, &key, sk, BPF_NOEXIST))
			continue;
		/* Newer kernels let this program ask to be told when it is closed. Elsewhere its quota is given back at once. */
		if (!bpf_setsockopt(sk, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &told, sizeof(told)))
			port->flags |= MESH_LISTENING_COUNTED;
		else
			unsettle(port, netns);
		return ended(MESH_COUNT_LISTENS, 0);
	}
	unsettle(port, netns);
	miss(port, netns);
	return ended(MESH_COUNT_LISTENER_MISSED, 0);
}

SEC("iter/tcp")
int mesh_listeners(struct bpf_iter__tcp *ctx)
{
	return found(ctx->sk_common).value;
}
