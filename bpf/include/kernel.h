/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The part of the kernel's BPF interface that the programs use: contexts as linux/bpf.h lays them out,
 * helpers by number. Kept here so that clang is the only package a build needs.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define barrier() asm volatile("" ::: "memory")
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]

/* Every machine that meshc supports is little-endian. */
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_be64_to_cpu(x) __builtin_bswap64(x)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_SK_STORAGE_GET_F_CREATE = 1,
	BPF_F_INGRESS = 1,
	BPF_SOCK_OPS_STATE_CB_FLAG = 4,
	BPF_F_CURRENT_NETNS = -1,
	EPERM = 1,
	EAGAIN = 11,
	EEXIST = 17,
	ENODEV = 19,
	EINVAL = 22,
	ENETUNREACH = 101,
	ENOBUFS = 105,
};

/* What a program on incoming packets answers. */
enum { SK_DROP = 0, SK_PASS = 1 };

/* What a program on packets of an interface answers: go on with the next one, drop. */
enum { TCX_NEXT = -1, TC_ACT_SHOT = 2 };

/* From linux/if_ether.h and linux/in6.h. */
enum {
	ETH_P_IP = 0x0800,
	ETH_P_8021Q = 0x8100,
	ETH_P_IPV6 = 0x86dd,
	ETH_P_8021AD = 0x88a8,
	ETH_LEN = 14,
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_DESTINATION = 60,
};

/* Options of an IPv4 header. */
enum { OPTION_END = 0, OPTION_NOTHING = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137, OPTIONS_MAX = 40 };

/* Values of bpf_sock.state; flags of a TCP header. */
enum {
	TCP_TIME_WAIT = 6,
	TCP_FLAG_FIN = 1,
	TCP_FLAG_SYN = 2,
	TCP_FLAG_RST = 4,
	TCP_FLAG_ACK = 16,
};

/* Of bpf_fib_lookup: the packet is not to be forwarded, or the interface forwards nothing. */
enum { BPF_FIB_LKUP_RET_NOT_FWDED = 4, BPF_FIB_LKUP_RET_FWD_DISABLED = 5 };

/* The first interface of every network namespace. */
enum { LOOPBACK_INDEX = 1 };

/* Of bpf_l4_csum_replace: the size of what changes. */
enum { CSUM_2 = 2, CSUM_4 = 4 };

/* Of bpf_skb_store_bytes and bpf_skb_adjust_room. */
enum { BPF_F_RECOMPUTE_CSUM = 1, BPF_ADJ_ROOM_MAC = 1 };

/* pkt_type: for this host, and not for many or for another; a copy of what this host sends to many. */
enum { PACKET_HOST = 0, PACKET_LOOPBACK = 5 };

/* From linux/in_route.h, and the bit that is no part of a packet's reference to its route. */
enum { RTCF_BROADCAST = 0x10000000, RTCF_MULTICAST = 0x20000000, DST_NOT_COUNTED = 1 };

/* Values of bpf_sock_ops.op. */
enum {
	BPF_SOCK_OPS_TIMEOUT_INIT = 1,
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_STATE_CB = 10,
	BPF_SOCK_OPS_TCP_LISTEN_CB = 11,
};

/* From sys/socket.h, netinet/in.h, linux/tcp.h and linux/netfilter_ipv4.h. */
enum {
	AF_INET = 2,
	AF_INET6 = 10,
	SOCK_STREAM = 1,
	SOCK_DGRAM = 2,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_MPTCP = 262,
	SOL_IP = 0,
	SOL_TCP = 6,
	TCP_BPF_SOCK_OPS_CB_FLAGS = 1008,
	SOL_SOCKET = 1,
	SOL_IPV6 = 41,
	SO_REUSEADDR = 2,
	SO_RCVLOWAT = 18,
	SO_BINDTOIFINDEX = 62,
	SO_ORIGINAL_DST = 80, /* IP6T_SO_ORIGINAL_DST is the same number */
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
	TCP_CLOSE_WAIT = 8,
	RCV_SHUTDOWN = 1,
	SEND_SHUTDOWN = 2,
	MAY_READ = 4,
	S_IFMT = 0170000,
	S_IFSOCK = 0140000,
	FIONREAD = 0x541b,
	MSG_OOB = 1,
	MSG_PEEK = 2,
	MSG_DONTWAIT = 0x40,
	MSG_WAITALL = 0x100,
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__u16 dst_port;
	__u16 pad;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
	__s32 rx_queue_mapping;
};

/* Socket addresses, as system calls take them. Addresses and ports in network order. */
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

/* Addresses and ports in network order. */
struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

/* Addresses in network order; remote_port in network order in its upper half, local_port in host order. */
struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	struct bpf_sock *sk;
	void *skb_data;
	void *skb_data_end;
	__u32 skb_len;
	__u32 skb_tcp_flags;
};

/* An IPv4 tuple, as a packet on its way to the socket has it; network order. */
struct bpf_sock_tuple4 {
	__u32 saddr;
	__u32 daddr;
	__u16 sport;
	__u16 dport;
};

struct bpf_sockopt {
	struct bpf_sock *sk;
	void *optval;
	void *optval_end;
	__s32 level;
	__s32 optname;
	__s32 optlen;
	__s32 retval;
};

/* Addresses in network order; remote_port in network order, local_port in host order. */
struct bpf_sk_lookup {
	struct bpf_sock *sk __attribute__((aligned(8)));
	__u32 family;
	__u32 protocol;
	__u32 remote_ip4;
	__u32 remote_ip6[4];
	__u16 remote_port;
	__u16 pad;
	__u32 local_ip4;
	__u32 local_ip6[4];
	__u32 local_port;
	__u32 ingress_ifindex;
};

/* As far as it is looked at. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol; /* network order */
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 unused[31];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

_Static_assert(__builtin_offsetof(struct __sk_buff, ifindex) == 40, "__sk_buff.ifindex");
_Static_assert(__builtin_offsetof(struct __sk_buff, sk) == 168, "__sk_buff.sk");

/* As the kernel's socket look-up takes it, network order. */
struct bpf_sock_tuple6 {
	__u32 saddr[4];
	__u32 daddr[4];
	__u16 sport;
	__u16 dport;
};

struct bpf_fib_lookup {
	__u8 family;
	__u8 l4_protocol;
	__u16 sport;
	__u16 dport;
	__u16 tot_len;
	__u32 ifindex;
	__u32 tos;
	__u32 src[4];
	__u32 dst[4];
	__u8 answer[16];
};

_Static_assert(sizeof(struct bpf_fib_lookup) == 64, "bpf_fib_lookup");

_Static_assert(__builtin_offsetof(struct bpf_sk_lookup, ingress_ifindex) == 64, "bpf_sk_lookup.ingress_ifindex");
struct sk_msg_md {
	void *data __attribute__((aligned(8)));
	void *data_end __attribute__((aligned(8)));
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 size;
	struct bpf_sock *sk __attribute__((aligned(8)));
};

_Static_assert(__builtin_offsetof(struct sk_msg_md, sk) == 72, "sk_msg_md.sk");
_Static_assert(sizeof(struct bpf_sock_addr) == 72, "bpf_sock_addr");
_Static_assert(__builtin_offsetof(struct bpf_sock_addr, sk) == 64, "bpf_sock_addr.sk");
_Static_assert(__builtin_offsetof(struct bpf_sock_ops, sk) == 184, "bpf_sock_ops.sk");
_Static_assert(__builtin_offsetof(struct bpf_sockopt, retval) == 36, "bpf_sockopt.retval");

struct task_struct;
struct socket;
struct file;
struct pt_regs;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 at, const void *from, __u32 len, __u64 flags) = (void *)9;
static long (*bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 at, __u64 from, __u64 to, __u64 flags) = (void *)11;
static long (*bpf_tail_call)(void *ctx, void *programs, __u32 index) = (void *)12;
static __u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static long (*bpf_get_current_comm)(void *buf, __u32 size) = (void *)16;
static long (*bpf_clone_redirect)(struct __sk_buff *skb, __u32 ifindex, __u64 flags) = (void *)13;
static __s64 (*bpf_csum_diff)(const __u32 *from, __u32 from_size, const __u32 *to, __u32 to_size, __u32 seed) = (void *)28;
static long (*bpf_skb_change_tail)(struct __sk_buff *skb, __u32 len, __u64 flags) = (void *)38;
static long (*bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 by, __u32 mode, __u64 flags) = (void *)50;
static long (*bpf_skb_vlan_pop)(struct __sk_buff *skb) = (void *)19;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*bpf_skb_load_bytes)(const struct __sk_buff *skb, __u32 at, void *to, __u32 len) = (void *)26;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*bpf_setsockopt)(void *ctx, int level, int name, void *value, int len) = (void *)49;
static long (*bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *ctx, int flags) = (void *)59;
static long (*bpf_bind)(struct bpf_sock_addr *ctx, const void *address, int len) = (void *)64;
static long (*bpf_sock_hash_update)(struct bpf_sock_ops *ctx, void *map, void *key, __u64 flags) = (void *)70;
static long (*bpf_fib_lookup)(void *ctx, struct bpf_fib_lookup *query, int size, __u32 flags) = (void *)69;
static long (*bpf_msg_redirect_hash)(struct sk_msg_md *ctx, void *map, void *key, __u64 flags) = (void *)71;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static __u64 (*bpf_skb_ancestor_cgroup_id)(struct __sk_buff *skb, int level) = (void *)83;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static struct bpf_sock *(*bpf_sk_lookup_tcp)(void *ctx, void *tuple, __u32 size, __u64 netns, __u64 flags) = (void *)84;
static struct bpf_sock *(*bpf_sk_lookup_udp)(void *ctx, void *tuple, __u32 size, __u64 netns, __u64 flags) = (void *)85;
static long (*bpf_sk_release)(void *sk) = (void *)86;
static struct bpf_sock *(*bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static long (*bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static long (*bpf_tcp_check_syncookie)(void *sk, void *ip, __u32 ip_len, void *tcp, __u32 tcp_len) = (void *)100;
static struct bpf_sock *(*bpf_skc_lookup_tcp)(void *ctx, void *tuple, __u32 size, __u64 netns, __u64 flags) = (void *)99;
static long (*bpf_sk_storage_delete)(void *map, void *sk) = (void *)108;
static long (*bpf_probe_write_user)(void *to, const void *from, __u32 length) = (void *)36;
static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static __u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static __u64 (*bpf_get_current_ancestor_cgroup_id)(int level) = (void *)123;
static long (*bpf_sk_assign)(void *ctx, void *sk, __u64 flags) = (void *)124;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;
static void *(*bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void *(*bpf_skc_to_tcp_sock)(void *sk) = (void *)137;
static void *(*bpf_skc_to_mptcp_sock)(void *sk) = (void *)196;
static void *(*bpf_skc_to_tcp_timewait_sock)(void *sk) = (void *)138;
static __u64 (*bpf_ktime_get_coarse_ns)(void) = (void *)160;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static struct socket *(*bpf_sock_from_file)(struct file *file) = (void *)162;
static struct pt_regs *(*bpf_task_pt_regs)(struct task_struct *task) = (void *)175;
static long (*bpf_set_retval)(int retval) = (void *)187;
