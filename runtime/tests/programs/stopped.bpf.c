/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The programs, with readers that are stopped between the word and their look-ups, for as long as it takes a
 * writer to let one policy go live and to fill the next. What each then finds in its slot is counted under one
 * of two keys that no item has.
 */

#define MESH_MAPS
#include "kernel.h"
#include "mesh_abi.h"

#include "policy.h"

static __u64 (*now_ns)(void) = (void *)5; /* bpf_ktime_get_ns */

enum { STOP_NS = 60000000 };

/* Global functions are verified once, however often they are called. */
__noinline int spin(__u64 until)
{
	for (__u32 i = 0; i < 1000; i++)
		if (now_ns() >= until)
			return 1;
	return 0;
}

__noinline int stop(__u64 until)
{
	for (__u32 i = 0; i < 4000; i++)
		if (spin(until))
			return 1;
	return 0;
}

static __always_inline void look(struct question *q)
{
	struct mesh_manifest *manifest;

	stop(now_ns() + STOP_NS);
	manifest = line_of(q->slot, MESH_TABLE_MANIFEST, 0);
	hit(manifest && manifest->generation == q->generation ? READ_WHOLE : READ_ANOTHER);
}

/* Called just after the word was read, before anything is looked up by it. */
#define member_find(ctx, q) (look(q), member_find(ctx, q))
#include "mesh.bpf.c"
