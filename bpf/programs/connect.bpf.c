/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/connect4 and connect6: where a member's connection goes. */

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, false, CONNECT).value;
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	return outbound(ctx, true, CONNECT).value;
}
