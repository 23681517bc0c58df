/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/getsockopt: a sidecar asks where a connection was going.
 *
 * SO_ORIGINAL_DST at SOL_IP for IPv4, IP6T_SO_ORIGINAL_DST at SOL_IPV6 for IPv6. The other level keeps the
 * kernel's own answer: proxies that try both rely on it.
 */

struct name4 {
	__u16 family;
	__u16 port;
	__u32 address;
	__u64 zero;
};

struct name6 {
	__u16 family;
	__u16 port;
	__u32 flowinfo;
	__u32 address[4];
	__u32 scope;
};

SEC("cgroup/getsockopt")
int mesh_getsockopt(struct bpf_sockopt *ctx)
{
	struct mesh_flow *flow;

	/* The kernel shows at most a page of a larger option and fails the call if the length stays as it is;
	 * 0 means "as if no program had run".
	 */
	if (ctx->optlen > 4096)
		ctx->optlen = 0;
	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return PASS;
	if (!ctx->sk)
		return PASS;
	flow = bpf_sk_storage_get(&accepted_flows, ctx->sk, NULL, 0);
	if (!flow)
		return PASS;
	if (ctx->level == SOL_IP && flow->family == MESH_FAMILY_V4) {
		struct name4 *name = ctx->optval;

		if ((void *)(name + 1) > ctx->optval_end)
			return PASS;
		name->family = AF_INET;
		name->port = bpf_htons(flow->original_port);
		name->address = flow->original[3];
		name->zero = 0;
		ctx->optlen = sizeof(*name);
	} else if (ctx->level == SOL_IPV6 && flow->family == MESH_FAMILY_V6) {
		struct name6 *name = ctx->optval;

		if ((void *)(name + 1) > ctx->optval_end)
			return PASS;
		name->family = AF_INET6;
		name->port = bpf_htons(flow->original_port);
		name->flowinfo = 0;
		name->address[0] = flow->original[0];
		name->address[1] = flow->original[1];
		name->address[2] = flow->original[2];
		name->address[3] = flow->original[3];
		name->scope = 0;
		ctx->optlen = sizeof(*name);
	} else {
		return PASS;
	}
	ctx->retval = 0;
	count(MESH_COUNT_ANSWERED);
	return PASS;
}
