/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The programs of a later build: they do the same, and count each decision of theirs under a key that no item
 * has, so that a test sees which build decides.
 */

#define MESH_MAPS
#include "kernel.h"
#include "mesh_abi.h"

#include "policy.h"

static __always_inline void count_later(void)
{
	hit(LATER_BUILD);
}

#define member_find(ctx, q) (count_later(), member_find(ctx, q))
#include "mesh.bpf.c"
