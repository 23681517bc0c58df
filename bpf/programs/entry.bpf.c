/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The program that each pod's network namespace has of its own, and the host's: it leaves the namespace's cookie, and
 * goes on to the program that decides for all. It is loaded whenever a pod comes, so it is small, and has no type
 * information in the kernel.
 *
 * `runtime/src/system/linux/pod_program.rs` loads it.
 */

/* Each map more would be read again for every pod. */
#define MESH_MAP_TAIL_CALL_SLOTS
#define MESH_MAP_COUNTERS
#define MESH_MAP_INBOUND_PROGRAM
#define MESH_MAP_ARRIVAL_PROGRAM
#include "kernel.h"
#include "mesh_abi.h"

#include "verdict.h"

/* The cookie of the network namespace that the program is for: whoever loads it writes that into this instruction. */
static __always_inline __u64 own_netns(void)
{
	__u64 cookie;

	asm volatile("%0 = %1 ll" : "=r"(cookie) : "i"(MESH_ENTRY_NETNS));
	return cookie;
}

/* Takes a free slot for this packet; MESH_TAIL_CALL_SLOTS where there is none. */
static __always_inline __u32 claim(struct mesh_tail_call_slots *slots, void *ctx)
{
#pragma unroll
	for (__u32 slot = 0; slot < MESH_TAIL_CALL_SLOTS; slot++) {
		__u64 taken = __sync_val_compare_and_swap(&slots->context[slot], 0, (__u64)ctx);

		/* Or clang makes a flag of it first, and then a branch. */
		asm volatile("" : "+r"(taken));
		if (!taken)
			return slot;
	}
	return MESH_TAIL_CALL_SLOTS;
}

/* Comes back only where there is no free slot, or no program to go on to. */
static __always_inline struct verdict go_on(void *ctx, void *programs, int pass)
{
	__u32 zero = 0, slot;
	struct mesh_tail_call_slots *slots = bpf_map_lookup_elem(&tail_call_slots, &zero);

	if (slots) {
		slot = claim(slots, ctx);
		if (slot < MESH_TAIL_CALL_SLOTS) {
			slots->pod[slot] = own_netns();
			/* Ignored: it does not return where it succeeds. */
			bpf_tail_call(ctx, programs, 0);
			slots->context[slot] = 0;
		}
	}
	return ended(MESH_COUNT_ENTRY_LOST, pass);
}

SEC("sk_lookup")
int mesh_inbound(struct bpf_sk_lookup *ctx)
{
	return go_on(ctx, &inbound_program, SK_PASS).value;
}

SEC("classifier")
int mesh_arrival(struct __sk_buff *ctx)
{
	return go_on(ctx, &arrival_program, TCX_NEXT).value;
}

char mesh_license[] SEC("license") = "Dual MIT/GPL";
