/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/getpeername and getsockname: an application is told whom it dialled, not the sidecar; a sidecar
 * that asks only for its own address is told the original destination, where the redirect says so.
 *
 * accept(2) runs the getpeername hook too. An accepted socket has no client role, so the sidecar sees
 * its real client.
 */

static __always_inline void answer_name(struct bpf_sock_addr *ctx, bool v6, struct mesh_flow *flow)
{
	set_address(ctx, v6, flow->original);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(flow->original_port);
}

static __always_inline struct verdict peername(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);

	if (!flow || !flow->sidecar_port)
		return ended(MESH_COUNT_NAME_KEPT, PASS);
	answer_name(ctx, v6, flow);
	return ended(MESH_COUNT_PEER_NAMED, PASS);
}

static __always_inline struct verdict sockname(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&accepted_flows, ctx->sk, NULL, 0);

	if (!flow || !(flow->flags & MESH_FLOW_TRANSPARENT))
		return ended(MESH_COUNT_NAME_KEPT, PASS);
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
