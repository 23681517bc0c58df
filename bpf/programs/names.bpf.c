/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/getpeername and getsockname: an application is told whom it dialled, not the sidecar; a sidecar
 * that asks only for its own address is told the original destination, where the redirect says so.
 *
 * accept(2) runs the getpeername hook too. An accepted socket has no client role, so the sidecar sees
 * its real client; only where the client's application has bound a port, and no address, its member's address
 * takes the place of loopback.
 */

static __always_inline void answer_name(struct bpf_sock_addr *ctx, bool v6, struct mesh_flow *flow)
{
	set_address(ctx, v6, flow->original);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(flow->original_port);
}

/* Tells the address that a member's connection would have without a mesh, where it comes from loopback. */
static __always_inline struct verdict answer_source(struct bpf_sock_addr *ctx, bool v6, struct mesh_flow *flow)
{
	__u32 address[4], source[4];

	for (int i = 0; i < 4; i++)
		source[i] = flow->own[i];
	get_address(ctx, v6, address);
	if (is_none(source) || !is_loopback(address) || (!v6 && !is_mapped(source)))
		return ended(MESH_COUNT_NAME_KEPT, PASS);
	set_address(ctx, v6, source);
	return ended(MESH_COUNT_SOURCE_NAMED, PASS);
}

static __always_inline struct verdict peername(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);

	if (flow && (flow->sidecar_port || flow->flags & MESH_FLOW_DENIED)) {
		answer_name(ctx, v6, flow);
		return ended(MESH_COUNT_PEER_NAMED, PASS);
	}
	flow = bpf_sk_storage_get(&accepted_flows, ctx->sk, NULL, 0);
	if (!flow)
		return ended(MESH_COUNT_NAME_KEPT, PASS);
	return answer_source(ctx, v6, flow);
}

/* The address that sidecars were asked at before connections were spread over many. */
static __always_inline struct verdict answer_loopback(struct bpf_sock_addr *ctx, bool v6)
{
	__u32 address[4];

	get_address(ctx, v6, address);
	if (!is_mapped(address) || bpf_ntohl(address[3]) - MESH_SPREAD_FIRST >= MESH_SPREAD_COUNT)
		return ended(MESH_COUNT_NAME_KEPT, PASS);
	address[3] = LOOPBACK4;
	set_address(ctx, v6, address);
	return ended(MESH_COUNT_ANSWERED, PASS);
}

static __always_inline struct verdict sockname(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&accepted_flows, ctx->sk, NULL, 0);

	if (!flow) {
		flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);
		if (!flow || !(flow->sidecar_port || flow->flags & MESH_FLOW_DENIED))
			return ended(MESH_COUNT_NAME_KEPT, PASS);
		return answer_source(ctx, v6, flow);
	}
	if (!(flow->flags & MESH_FLOW_TRANSPARENT))
		return answer_loopback(ctx, v6);
	/* An AF_INET socket cannot name an IPv6 address. */
	if (!v6 && flow->family != MESH_FAMILY_V4)
		return ended(MESH_COUNT_OTHER_FAMILY, PASS);
	answer_name(ctx, v6, flow);
	return ended(MESH_COUNT_ANSWERED, PASS);
}

SEC("cgroup/getpeername4")
int mesh_peername4(struct bpf_sock_addr *ctx)
{
	return peername(ctx, false).value;
}

SEC("cgroup/getpeername6")
int mesh_peername6(struct bpf_sock_addr *ctx)
{
	return peername(ctx, true).value;
}

SEC("cgroup/getsockname4")
int mesh_sockname4(struct bpf_sock_addr *ctx)
{
	return sockname(ctx, false).value;
}

SEC("cgroup/getsockname6")
int mesh_sockname6(struct bpf_sock_addr *ctx)
{
	return sockname(ctx, true).value;
}
