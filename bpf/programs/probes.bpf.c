/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Programs that try what a kernel can do. None meets a connection of the mesh.
 *
 * `runtime/src/system/linux/bare.rs` loads the first two as programs of several hooks.
 */

#include "kernel.h"
#include "mesh_abi.h"

SEC("cgroup/connect4")
int probe_nothing(__attribute__((unused)) void *ctx)
{
	return 1;
}

SEC("cgroup/connect4")
int probe_netns_cookie(void *ctx)
{
	/* Ignored: whether the kernel has the helper for this hook is the question. */
	bpf_get_netns_cookie(ctx);
	return 1;
}

#ifdef MESH_ACCELERATION
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 2);
	__type(key, __u64);
	__type(value, __u32);
} probed_sockets SEC(".maps");

/* Sends a message to the reader over the fast path. */
SEC("sk_msg")
int probe_redirect(struct sk_msg_md *msg)
{
	__u64 reader = MESH_PROBE_READER;

	/* Ignored: who runs the probe looks where the message went. */
	bpf_msg_redirect_hash(msg, &probed_sockets, &reader, BPF_F_INGRESS);
	return SK_PASS;
}
#endif

char mesh_license[] SEC("license") = "Dual MIT/GPL";
