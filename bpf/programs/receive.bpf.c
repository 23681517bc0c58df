/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/skb ingress: datagrams on their way into a pod's socket that sk_lookup was not asked about, or was told too
 * little of.
 *
 * Broadcasts and multicasts are given to every socket that wants them, without a look-up. And what says that it comes
 * from one of the pod's own addresses is taken there for the pod's own; here the interface tells. Every packet that a
 * socket below the instance's cgroup receives comes here: of an established connection, its state is all that is
 * looked at. Attached only where a policy decides datagrams that members receive.
 */

/* Addresses in network order, IPv4 as v4-mapped. */
struct ends {
	__u32 source[4];
	__u32 destination[4];
};

static __always_inline bool read_ends(struct __sk_buff *skb, struct ends *ends)
{
	__u32 v4[2];

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return !bpf_skb_load_bytes(skb, HEADER6_SOURCE, ends, sizeof(*ends));
	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, HEADER4_SOURCE, v4, sizeof(v4)))
		return false;
	ends->source[2] = ends->destination[2] = MAPPED;
	ends->source[3] = v4[0];
	ends->destination[3] = v4[1];
	return true;
}

/* Whether the kernel gives it to every socket that wants it. What is a broadcast of IPv4, the routes say. */
static __always_inline bool is_for_many(struct sk_buff *packet, const __u32 destination[4])
{
	unsigned long reference = 0;
	struct rtable *route;
	__u32 flags = 0;

	if (!is_mapped(destination))
		return (destination[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
	READ(reference, packet->_skb_refdst);
	route = (void *)(reference & ~DST_NOT_COUNTED);
	READ(flags, route->rt_flags);
	return flags & (RTCF_BROADCAST | RTCF_MULTICAST);
}

/* Whether it seems to come from the member that it is for. */
static __always_inline bool seems_own(struct mesh_member *member, struct ends *ends, __u64 netns)
{
	struct mesh_own_key own = { .netns = netns };
	__u32 differs = 0;

	for (int i = 0; i < 4; i++) {
		differs |= ends->source[i] ^ ends->destination[i];
		own.address[i] = ends->source[i];
	}
	if (!differs)
		return true;
	return may_be_own(member, ends->source) && bpf_map_lookup_elem(&own_addresses, &own);
}

/* Where somebody watches, or decisions are kept, tells one that no process asked for. */
static __noinline int tell_received(struct __sk_buff *skb, struct sk_buff *packet, struct question *q, struct answer *a,
				    struct ends *ends)
{
	struct process by = { .uid = NONE };
	__u16 network = 0, transport = 0, port = 0;

	struct mesh_control *words = control_words();
	__u64 observe;

	if (!skb || !q || !a || !ends || !words)
		return 0;
	observe = listeners_of(words, q, a, 0);
	if (!observe)
		return 0;
	READ(network, packet->network_header);
	READ(transport, packet->transport_header);
	/* Ignored: without it the source port is told as 0. */
	bpf_skb_load_bytes(skb, (__u16)(transport - network), &port, sizeof(port));
	by.port = bpf_ntohs(port);
	for (int i = 0; i < 4; i++)
		by.local[i] = ends->destination[i];
	report(q, a, &by, observe);
	return 0;
}

static __always_inline struct verdict datagram(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct __sk_buff *volatile kept = skb;
	struct mesh_control *words = control_words();
	struct sk_buff *packet = NULL;
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct question q = {};
	struct answer a = {};
	struct ends ends = {};
	struct sock *sock = NULL;
	struct net *net = NULL;
	bool outside;

	if (!words)
		return ended(MESH_COUNT_TABLE_MISSING, PASS);
	q.generation = *(volatile __u64 *)&words->generation;
	if (!q.generation)
		return ended(MESH_COUNT_IDLE, PASS);
	q.slot = q.generation & 1;
	bpf_probe_read_kernel(&packet, sizeof(packet), (void *)&kept);
	READ(sock, packet->sk);
	READ(net, sock->__sk_common.skc_net.net);
	READ(q.netns, net->net_cookie);
	member = bpf_map_lookup_elem(&endpoints, &q.netns);
	if (!member)
		return ended(MESH_COUNT_NOT_MEMBER, PASS);
	if (!has_profile(member, &q))
		return ended(MESH_COUNT_NO_PROFILE, PASS);
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	if (!profile)
		return ended(MESH_COUNT_TABLE_MISSING, PASS);
	if (!(profile->flags & MESH_PROFILE_INBOUND_DATAGRAMS) || !read_ends(skb, &ends))
		return ended(MESH_COUNT_RECEIVED, PASS);
	/* A copy that the kernel made of what this namespace sends to many has its interface. */
	outside = skb->ifindex != LOOPBACK_INDEX && skb->pkt_type != PACKET_LOOPBACK;
	if (is_for_many(packet, ends.destination))
		q.own = !outside && !is_loopback(ends.source);
	else if (!outside || !seems_own(member, &ends, q.netns))
		return ended(MESH_COUNT_RECEIVED, PASS);
	q.direction = 1;
	q.protocol = 1;
	q.port = sk->src_port;
	for (int i = 0; i < 4; i++)
		q.address[i] = ends.source[i];
	if (profile->flags & MESH_PROFILE_EXEMPT_INTERFACES && outside)
		a.source = exempt_interface(q.member, q.slot, skb->ifindex);
	if (a.source) {
		left_alone(&q, &a, true);
		if (*(volatile __u64 *)&words->observe)
			tell_received(skb, packet, &q, &a, &ends);
		return ended(MESH_COUNT_EXEMPT, PASS);
	}
	profile = inbound_profile(&q, profile);
	if (!profile || !decide(&q, profile, &a, true))
		return ended(MESH_COUNT_TABLE_MISSING, PASS);
	if (*(volatile __u64 *)&words->observe)
		tell_received(skb, packet, &q, &a, &ends);
	return a.verdict == MESH_VERDICT_DENIED ? ended(MESH_COUNT_DENIED, REFUSE) : ended(MESH_COUNT_EXCLUDED, PASS);
}

static __always_inline struct verdict arriving(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	/* A datagram socket that is connected has it too. */
	if (!sk || sk->state == TCP_ESTABLISHED)
		return ended(MESH_COUNT_RECEIVED, PASS);
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_UDP || sk->type != SOCK_DGRAM)
		return ended(MESH_COUNT_RECEIVED, PASS);
	return datagram(skb, sk);
}

SEC("cgroup_skb/ingress")
int mesh_ingress(struct __sk_buff *skb)
{
	return arriving(skb).value;
}
