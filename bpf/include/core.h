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

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

/* A cgroup begins with its own state, so that the parent's state is the parent. */
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct in6_addr {
	__u32 words[4];
};

struct sock_common {
	__u32 skc_rcv_saddr;
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_cgroup_data sk_cgrp_data;
};

struct bpf_iter__tcp {
	void *meta;
	struct sock_common *sk_common;
};

#pragma clang attribute pop
