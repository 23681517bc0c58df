/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The kernel's own structures, as far as programs look into them. Only the names count: the loader finds the
 * offsets in the type information of the kernel that it runs on.
 */
#pragma once

/* Whether the running kernel's structure has a field, and where. */
#define HAS(type, field) __builtin_preserve_field_info(((type *)0)->field, 2)
#define AT(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)

/* Reads a field. What cannot be read is zero. */
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

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

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct user_namespace {
	struct user_namespace *parent;
	int level;
	kuid_t owner;
};

struct cred {
	kgid_t gid;
	struct user_namespace *user_ns;
};

struct sock_common {
	__u32 skc_tw_rcv_nxt;
	__u32 skc_rcv_saddr;
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
};

struct bpf_iter__tcp {
	void *meta;
	struct sock_common *sk_common;
};

struct list_head {
	struct list_head *next;
};

struct sk_msg_sg {
	__u32 size;
};

struct sk_msg {
	struct sk_msg_sg sg;
	struct list_head list;
};

struct sk_psock {
	struct list_head ingress_msg;
	struct list_head link;
};

/* Newer kernels know how much is in ingress_msg. */
struct sk_psock___counts {
	__u32 msg_tot_len;
};

struct bpf_map {
	__u32 id;
};

struct sk_psock_link {
	struct list_head list;
	struct bpf_map *map;
};

typedef struct {
	int owned;
} socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	struct sock_cgroup_data sk_cgrp_data;
	kuid_t sk_uid;
	struct socket *sk_socket;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	int sk_rcvbuf;
	int sk_rcvlowat;
	long sk_rcvtimeo;
	unsigned char sk_shutdown;
	void *sk_user_data;
	__u16 sk_protocol;
};

struct mptcp_sock {
	struct sock *first;
};

struct sk_buff {
	struct sock *sk;
	unsigned long _skb_refdst;
	__u16 network_header;
	__u16 transport_header;
};

struct rtable {
	__u32 rt_flags;
};

struct inet_connection_sock {
	void *icsk_ulp_ops;
};

struct ip_options {
	unsigned char srr;
};

struct ip_options_rcu {
	struct ip_options opt;
};

struct ipv6_txoptions {
	void *srcrt;
};

struct in6_pktinfo {
	int ipi6_ifindex;
};

struct ipv6_pinfo {
	struct ipv6_txoptions *opt;
	int ucast_oif;
	int mcast_oif;
	struct in6_pktinfo sticky_pktinfo;
};

struct inet_sock {
	struct ipv6_pinfo *pinet6;
	struct ip_options_rcu *inet_opt;
	int uc_index;
	int mc_index;
};

/* What a hook of addresses is called with. While a datagram is sent, `t_ctx` is where its source goes: the field `addr`
 * of the first one below, or `saddr` of the second.
 */
struct bpf_sock_addr_kern {
	struct sock *sk;
	void *uaddr;
	void *t_ctx;
};

struct ipcm_cookie {
	__u32 addr;
	int oif;
};

struct flowi_common {
	int flowic_oif;
};

struct flowi6 {
	struct flowi_common __fl_common;
	struct in6_addr saddr;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 urg_seq;
	__u16 urg_data;
	__u32 snd_una;
	__u32 write_seq;
};

struct inet_timewait_sock {
	struct sock_common __tw_common;
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
};

struct super_block {
	unsigned int s_dev;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__u16 i_mode;
};

struct file {
	const struct cred *f_cred;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct {
	struct file *exe_file;
};

struct task_struct {
	struct mm_struct *mm;
	struct files_struct *files;
};

/* What a task begins with. It tells a system call of a 32-bit program. */
struct thread_info___x86 {
	__u32 status;
};
struct thread_info___arm64 {
	unsigned long flags;
};

struct socket {
	struct sock *sk;
	struct file *file;
};

/* The registers of a process that is in a system call: its number has another name on each machine. */
struct pt_regs;
struct pt_regs___x86 {
	unsigned long r10;
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
struct pt_regs___arm64 {
	unsigned long regs[31];
	unsigned long orig_x0;
	int syscallno;
};

enum sock_flags { SOCK_DONE = 1, SOCK_URGINLINE = 2, SOCK_ZEROCOPY = 21 };

#pragma clang attribute pop
