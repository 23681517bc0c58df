/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Sockets whose packets must leave by one interface, and what would keep them from loopback otherwise.
 *
 * A socket that is bound to a device is released from it when it is sent to the sidecar, and bound again before it
 * goes elsewhere. What a program can neither see in its context nor change is read from the kernel's own structures:
 * the interface of a single datagram (IP_PKTINFO, a scope), that of all of a socket's (IP_UNICAST_IF), source routes.
 */
#pragma once

/* The kernel's own structure behind a context, as a number that the verifier lets a program read from. */
static __always_inline struct bpf_sock_addr_kern *behind(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr *volatile kept = ctx;
	struct bpf_sock_addr_kern *address = NULL;

	bpf_probe_read_kernel(&address, sizeof(address), (void *)&kept);
	return address;
}

/* Where the number of the interface stands in an address of IPv6 (`sockaddr_in6`). */
enum { SCOPE_AT = 24 };

/* A datagram socket that is connected. */
static __always_inline bool is_connected(struct bpf_sock *sk)
{
	return sk->dst_port;
}

/* The interface that a datagram is to leave by, where the socket is bound to no device; 0: none is named, or loopback.
 * What is sent to many has a choice of its own.
 */
static __noinline __u32 leaves_by(struct bpf_sock_addr *ctx, bool v6, bool mapped, bool sends, bool many)
{
	struct bpf_sock_addr_kern *context;
	struct inet_sock *sk = NULL;
	struct ipv6_pinfo *np = NULL;
	void *source = NULL;
	__u32 index = 0;

	if (!ctx)
		return 0;
	context = behind(ctx);
	READ(sk, context->sk);
	if (v6)
		READ(np, sk->pinet6);
	if (sends) {
		READ(source, context->t_ctx);
		if (v6) {
			struct flowi6 *flow = source - AT(struct flowi6, saddr);

			READ(index, flow->__fl_common.flowic_oif);
		} else {
			struct ipcm_cookie *cookie = source - AT(struct ipcm_cookie, addr);

			READ(index, cookie->oif);
		}
	} else if (v6 && !mapped) {
		READ(index, np->sticky_pktinfo.ipi6_ifindex);
	}
	if (!index && v6 && !mapped && many)
		READ(index, np->mcast_oif);
	else if (!index && v6 && !mapped)
		READ(index, np->ucast_oif);
	else if (!index && many)
		READ(index, sk->mc_index);
	else if (!index)
		READ(index, sk->uc_index);
	return index == LOOPBACK_INDEX ? 0 : index;
}

/* Whether a socket's packets carry a route, and go elsewhere first: an egress program would drop them, which TCP takes
 * for a loss.
 */
static __noinline int has_route(struct bpf_sock_addr *ctx, bool v6)
{
	struct ipv6_txoptions *options = NULL;
	struct ip_options_rcu *narrow = NULL;
	struct bpf_sock_addr_kern *context;
	struct ipv6_pinfo *np = NULL;
	struct inet_sock *sk = NULL;
	unsigned char at = 0;
	void *route = NULL;

	if (!ctx)
		return 0;
	context = behind(ctx);
	READ(sk, context->sk);
	READ(narrow, sk->inet_opt);
	if (narrow)
		READ(at, narrow->opt.srr);
	if (v6)
		READ(np, sk->pinet6);
	if (np)
		READ(options, np->opt);
	if (options)
		READ(route, options->srcrt);
	return at || route;
}

/* Lets a socket that is sent to the sidecar reach loopback, and remembers its device. Returns 0, or why it cannot be:
 * EPERM, for good, or ENOBUFS, for this datagram only.
 */
static __always_inline int release(struct bpf_sock_addr *ctx, bool v6, enum call call, struct question *q)
{
	__u32 device = ctx->sk->bound_dev_if;
	struct mesh_flow *flow;
	int none = 0;

	if (device && device != LOOPBACK_INDEX) {
		/* It would go on by the device where it is connected to. */
		if (call == SENDMSG && is_connected(ctx->sk))
			return EPERM;
		flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		/* The kernel refuses it where the process may not bind it again (CAP_NET_RAW). */
		if (!flow || bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none)))
			return EPERM;
		flow->device = device;
		/* The kernel has taken note of it before: this datagram would still leave by the device. */
		if (call == SENDMSG)
			return ENOBUFS;
	}
	return q->protocol && leaves_by(ctx, v6, is_mapped(q->address), call == SENDMSG, false) ? EPERM : 0;
}

/* Binds a socket that goes elsewhere to its device again. Returns as `release`. */
static __always_inline int hold(struct bpf_sock_addr *ctx, enum call call, struct question *q, struct mesh_flow *flow)
{
	int device = flow ? flow->device : 0;

	/* What a v4-mapped socket sends where it is connected to, the kernel shows as if it had been named. */
	if (!device || (call == SENDMSG && is_loopback(q->address)))
		return 0;
	if (!ctx->sk->bound_dev_if) {
		/* It is connected to the sidecar, which it would reach no more. */
		if (call == SENDMSG && is_connected(ctx->sk))
			return EPERM;
		if (bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device)))
			return EPERM;
		flow->device = 0;
		return call == SENDMSG ? ENOBUFS : 0;
	}
	/* The process has bound it itself. */
	flow->device = 0;
	return 0;
}

/* Whether a datagram that names no destination, of a connected socket, would miss the sidecar. */
static __always_inline bool misses(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);

	return flow && flow->protocol && flow->sidecar_port &&
	       leaves_by(ctx, v6, flow->family == MESH_FAMILY_V4, true, false);
}

static __always_inline bool is_multicast(const __u32 address[4])
{
	if (is_mapped(address))
		return (address[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
	return (address[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* The interface that stands behind a link-local address (`%net1`); 0: none does. */
static __noinline __u32 scope_of(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *context;
	void *address = NULL;
	__u32 index = 0;

	if (!ctx)
		return 0;
	context = behind(ctx);
	READ(address, context->uaddr);
	bpf_probe_read_kernel(&index, sizeof(index), address + SCOPE_AT);
	return index;
}

/* The interface that a socket names for what it sends there, whatever the routes say; 0: it names none. A socket that
 * was sent to the sidecar before is bound to its device no more.
 */
static __always_inline __u32 named_device(struct bpf_sock_addr *ctx, bool v6, enum call call, struct question *q)
{
	__u32 device = ctx->sk->bound_dev_if;
	struct mesh_flow *flow;

	if (device)
		return device;
	flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);
	if (flow && flow->device)
		return flow->device;
	if (q->protocol)
		device = leaves_by(ctx, v6, is_mapped(q->address), call == SENDMSG, is_multicast(q->address));
	if (!device && call == CONNECT && v6 && is_link_local(q->address) && !is_mapped(q->address))
		device = scope_of(ctx);
	return device;
}

/* The source that exempts what goes there by an interface of the member, or 0: by the one that the socket names, else by
 * the one that the routes lead there.
 */
static __always_inline __u32 exempt_by_interface(struct bpf_sock_addr *ctx, bool v6, enum call call,
						 struct mesh_member *member, struct question *q)
{
	__u32 device;

	/* A process of a cgroup may live in any network namespace, and only those of one are known. */
	if (q->cgroup && member->netns != q->netns)
		return 0;
	device = named_device(ctx, v6, call, q);
	return device ? exempt_interface(q->member, q->slot, device) : exempt_route(q);
}

/* Fails a call because of a socket's device. */
static __always_inline struct verdict held(int error)
{
	/* Ignored: it fails for no error number, and the call fails with EPERM without it. */
	bpf_set_retval(-error);
	return ended(error == ENOBUFS ? MESH_COUNT_DEVICE_RELEASED : MESH_COUNT_DEVICE_HELD, REFUSE);
}
