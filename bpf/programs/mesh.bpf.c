/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* All programs but those of single pods as one object, so that they share maps and are loaded in one go. One
 * hook a file.
 */

#define MESH_MAPS
#include "kernel.h"
#include "core.h"
#include "mesh_abi.h"

#include "policy.h"
#ifdef MESH_ACCELERATION
#include "accelerate.h"
#else
#include "no_acceleration.h"
#endif
#include "quota.h"
#include "listen.h"
#include "outbound.h"

#include "connect.bpf.c"
#include "udp.bpf.c"
#include "names.bpf.c"
#include "route.bpf.c"
#include "receive.bpf.c"
#include "sockops.bpf.c"
#include "getsockopt.bpf.c"
#include "cgroups.bpf.c"
#include "listeners.bpf.c"
#ifdef MESH_ACCELERATION
#include "accelerate.bpf.c"
#include "count.bpf.c"
#include "readers.bpf.c"
#endif

/* Some helpers are for GPL-compatible programs only. */
char mesh_license[] SEC("license") = "Dual MIT/GPL";
