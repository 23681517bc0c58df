/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* What the other programs ask of acceleration, in a build that has none (`accelerate.h`, `pairs.h`): it is all left out
 * where this is compiled.
 */
#pragma once

static __always_inline bool accelerates(void)
{
	return false;
}

static __always_inline void accelerate_not(struct bpf_sock_addr *ctx, __u32 counter)
{
	(void)ctx;
	(void)counter;
}

static __always_inline void accelerate_redirected(struct bpf_sock_addr *ctx, bool connects, struct question *q,
						  struct mesh_profile *profile)
{
	(void)ctx;
	(void)connects;
	(void)q;
	(void)profile;
}

static __always_inline void accelerate_exempt(struct bpf_sock_addr *ctx, bool connects, struct question *q,
					      struct mesh_profile *profile)
{
	(void)ctx;
	(void)connects;
	(void)q;
	(void)profile;
}

/* Events of sockets: none is reached but the last. */
#define accelerate_arriving(ctx) ended(MESH_COUNT_IGNORED_EVENT, 1)
#define accelerate_connected(ctx) ended(MESH_COUNT_IGNORED_EVENT, 1)
#define accelerate_accepted(ctx) ((void)(ctx))
#define accelerate_closed(ctx) ((void)(ctx))
