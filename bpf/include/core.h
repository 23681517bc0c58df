/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The kernel's own structures, as far as programs look into them. Only the names count: the loader finds the
 * offsets in the type information of the kernel that it runs on.
 */
#pragma once

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
};

struct bpf_iter__tcp {
	void *meta;
	struct sock_common *sk_common;
};

#pragma clang attribute pop
