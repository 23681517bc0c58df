/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/sendmsg4, sendmsg6, recvmsg4 and recvmsg6: datagrams of sockets that are not connected.
 *
 * The answer seems to come from the address that was asked: where it comes from the sidecar, the
 * destination that the socket last asked takes its place.
 */

static __always_inline int received(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_flow *flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);
	__u32 from[4];

	if (!flow || flow->protocol != 1 || bpf_htons(flow->sidecar_port) != (__u16)ctx->user_port)
		return PASS;
	get_address(ctx, v6, from);
	if (is_mapped(from) ? from[3] != LOOPBACK4 : from[0] || from[1] || from[2] || from[3] != bpf_htonl(1))
		return PASS;
	set_address(ctx, v6, flow->original);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(flow->original_port);
	return PASS;
}

SEC("cgroup/sendmsg4")
int mesh_sendmsg4(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, false, SENDMSG);
}

SEC("cgroup/sendmsg6")
int mesh_sendmsg6(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, true, SENDMSG);
}

SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	return received(ctx, false);
}

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	return received(ctx, true);
}
