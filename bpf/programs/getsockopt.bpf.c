/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/getsockopt: a sidecar asks where a connection was going.
 *
 * SO_ORIGINAL_DST at SOL_IP for IPv4, IP6T_SO_ORIGINAL_DST at SOL_IPV6 for IPv6. The other level keeps the
 * kernel's own answer: proxies that try both rely on it.
 */

/* Where a connection was going. */
struct destination {
	__u32 address[4];
	__u32 port;
	__u32 scope; /* the link that a link-local address means */
	bool v4;
};

/* Outbound: what the connecting side handed over. Inbound: the accepted socket's own end, which nobody rewrote.
 * false: nobody redirected it.
 */
static __always_inline bool destination_of(struct bpf_sock *sk, struct destination *to)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&accepted_flows, sk, NULL, 0);

	if (flow) {
		for (int i = 0; i < 4; i++)
			to->address[i] = flow->original[i];
		to->port = flow->original_port;
		to->v4 = flow->family == MESH_FAMILY_V4;
		return true;
	}
	if (!is_redirected(sk))
		return false;
	if (sk->family == AF_INET) {
		to->address[3] = sk->src_ip4;
		to->v4 = true;
		barrier();
	} else {
		to->address[0] = sk->src_ip6[0];
		to->address[1] = sk->src_ip6[1];
		to->address[2] = sk->src_ip6[2];
		to->address[3] = sk->src_ip6[3];
		to->v4 = is_mapped(to->address);
		/* The kernel binds to the link what comes from one of its addresses. */
		if (is_link_local(to->address))
			to->scope = sk->bound_dev_if;
	}
	to->port = sk->src_port;
	return true;
}

static __always_inline struct verdict asks(struct bpf_sockopt *ctx)
{
	struct destination to = {};

	/* The kernel shows at most a page of a larger option and fails the call if the length stays as it is;
	 * 0 means "as if no program had run".
	 */
	if (ctx->optlen > 4096)
		ctx->optlen = 0;
	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return ended(MESH_COUNT_OTHER_OPTION, PASS);
	if (!ctx->sk || !destination_of(ctx->sk, &to))
		return ended(MESH_COUNT_NOT_REDIRECTED, PASS);
	if (ctx->level == SOL_IP && to.v4) {
		struct name4 *name = ctx->optval;

		if ((void *)(name + 1) > ctx->optval_end)
			return ended(MESH_COUNT_SHORT_BUFFER, PASS);
		name->family = AF_INET;
		name->port = bpf_htons(to.port);
		name->address = to.address[3];
		name->zero = 0;
		ctx->optlen = sizeof(*name);
	} else if (ctx->level == SOL_IPV6 && !to.v4) {
		struct name6 *name = ctx->optval;

		if ((void *)(name + 1) > ctx->optval_end)
			return ended(MESH_COUNT_SHORT_BUFFER, PASS);
		name->family = AF_INET6;
		name->port = bpf_htons(to.port);
		name->flowinfo = 0;
		name->address[0] = to.address[0];
		name->address[1] = to.address[1];
		name->address[2] = to.address[2];
		name->address[3] = to.address[3];
		name->scope = to.scope;
		ctx->optlen = sizeof(*name);
	} else {
		return ended(MESH_COUNT_OTHER_FAMILY, PASS);
	}
	ctx->retval = 0;
	return ended(MESH_COUNT_ANSWERED, PASS);
}

SEC("cgroup/getsockopt")
int mesh_getsockopt(struct bpf_sockopt *ctx)
{
	return asks(ctx).value;
}
