/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/sendmsg4, sendmsg6, recvmsg4 and recvmsg6: datagrams of sockets that are not connected.
 *
 * Who sent a datagram to a member's server is noted, so that it may be answered (`peers.h`). Where a member asked: the
 * answer seems to come from the address that was asked: where it comes to a token, the server that the
 * token stands for takes its place; where it comes from the sidecar otherwise, the one that was asked last.
 */

static __always_inline struct verdict named(struct bpf_sock_addr *ctx, bool v6, const __u32 address[4], __u16 port)
{
	set_address(ctx, v6, address);
	*(volatile __u32 *)&ctx->user_port = bpf_htons(port);
	return ended(MESH_COUNT_DATAGRAM_NAMED, PASS);
}

static __always_inline struct verdict received(struct bpf_sock_addr *ctx, bool v6)
{
	__u16 port = bpf_ntohs((__u16)ctx->user_port);
	struct mesh_flow *flow;
	__u32 from[4], token;

	/* Most datagrams come from elsewhere: they cost no look-up of a flow. */
	get_address(ctx, v6, from);
	if (!is_loopback(from))
		return heard(ctx, from, port);
	token = bpf_ntohl(from[3]) - MESH_TOKEN_FIRST;
	if (is_mapped(from) && token < MESH_TOKENS) {
		struct mesh_udp_servers *servers = bpf_sk_storage_get(&udp_servers, ctx->sk, NULL, 0);

		if (servers && servers->sidecar_port[token] == port) {
			__u32 server[4] = { 0, 0, MAPPED, servers->address[token] };

			return named(ctx, v6, server, servers->port[token]);
		}
		return ended(MESH_COUNT_DATAGRAM_UNASKED, PASS);
	}
	if (is_mapped(from) && from[3] != LOOPBACK4)
		return ended(MESH_COUNT_DATAGRAM_OTHER, PASS);
	flow = bpf_sk_storage_get(&client_flows, ctx->sk, NULL, 0);
	if (!flow || flow->protocol != 1 || flow->sidecar_port != port)
		return ended(MESH_COUNT_DATAGRAM_UNASKED, PASS);
	return named(ctx, v6, flow->original, flow->original_port);
}

SEC("cgroup/sendmsg4")
int mesh_sendmsg4(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, false, SENDMSG).value;
}

SEC("cgroup/sendmsg6")
int mesh_sendmsg6(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, true, SENDMSG).value;
}

SEC("cgroup/recvmsg4")
int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	return received(ctx, false).value;
}

SEC("cgroup/recvmsg6")
int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	return received(ctx, true).value;
}
