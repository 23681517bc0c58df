/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* cgroup/skb egress: a member's packets go where its destination says, and not by a route that the packet carries.
 *
 * A routing header (IPv6) or a source route (IPv4) names the place that the packet goes to first; the hooks of connect
 * and sendmsg see the other one. Any user may set them, with a socket at any time, or with a single datagram, so only
 * the packet itself tells. All packets of the node come here: what has no such header costs a look at one byte.
 */

/* Sizes of the headers without options, and where they have their source, with the destination behind it. */
enum { HEADER4_LEN = 20, HEADER4_SOURCE = 12, HEADER6_LEN = 40, HEADER6_SOURCE = 8 };

/* Where IPv6 names what follows. */
enum { HEADER6_NEXT = 6 };

/* Whether an IPv6 packet has a routing header. The kernel puts at most two others before it. */
static __noinline int has_routing_header(struct __sk_buff *skb, __u32 next)
{
	__u32 at = HEADER6_LEN;
	__u8 header[2];

	for (int i = 0; skb && i < 3; i++) {
		if (next == NEXT_ROUTING)
			return 1;
		if ((next != NEXT_HOP_BY_HOP && next != NEXT_DESTINATION) || bpf_skb_load_bytes(skb, at, header, 2))
			return 0;
		next = header[0];
		at += (header[1] + 1) * 8;
	}
	return 0;
}

/* Whether an IPv4 packet has a source route among its options. */
static __noinline int has_source_route(struct __sk_buff *skb, __u32 end)
{
	__u32 at = HEADER4_LEN;
	__u8 option[2] = {};

	for (int i = 0; skb && i < OPTIONS_MAX && at < end; i++) {
		if (bpf_skb_load_bytes(skb, at, option, 2) || option[0] == OPTION_END)
			return 0;
		if (option[0] == OPTION_LOOSE_ROUTE || option[0] == OPTION_STRICT_ROUTE)
			return 1;
		if (option[0] != OPTION_NOTHING && option[1] < 2)
			return 0;
		at += option[0] == OPTION_NOTHING ? 1 : option[1];
	}
	return 0;
}

static __always_inline bool carries_route(struct __sk_buff *skb)
{
	__u8 byte = 0;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return !bpf_skb_load_bytes(skb, HEADER6_NEXT, &byte, 1) &&
		       byte != IPPROTO_TCP && byte != IPPROTO_UDP && has_routing_header(skb, byte);
	return skb->protocol == bpf_htons(ETH_P_IP) && !bpf_skb_load_bytes(skb, 0, &byte, 1) && (byte & 15) > 5 &&
	       has_source_route(skb, (byte & 15) * 4);
}

/* Whether a member sends it, by a socket that policies decide. */
static __noinline int is_members(struct __sk_buff *skb)
{
	struct __sk_buff *volatile kept = skb;
	struct mesh_control *words = control_words();
	struct mesh_profile *profile;
	struct mesh_member *member;
	struct question q = {};
	struct sk_buff *packet = NULL;
	struct sock *sk = NULL;
	struct net *net = NULL;
	__u16 protocol = 0;

	if (!skb || !words)
		return 0;
	q.generation = *(volatile __u64 *)&words->generation;
	q.slot = q.generation & 1;
	bpf_probe_read_kernel(&packet, sizeof(packet), (void *)&kept);
	READ(sk, packet->sk);
	READ(protocol, sk->sk_protocol);
	if (!q.generation || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_MPTCP))
		return 0;
	READ(net, sk->__sk_common.skc_net.net);
	READ(q.netns, net->net_cookie);
	member = bpf_map_lookup_elem(&endpoints, &q.netns);
	for (__u32 level = 0; !member && level < MESH_CGROUP_DEPTH; level++) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, level);

		if (!id)
			break;
		member = bpf_map_lookup_elem(&cgroups, &id);
		q.cgroup = id;
	}
	if (!member || !has_profile(member, &q))
		return 0;
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	/* A process of a cgroup may live in any network namespace. */
	return !profile || !(profile->flags & MESH_PROFILE_EXEMPT_INTERFACES) || (q.cgroup && member->netns != q.netns) ||
	       !exempt_interface(q.member, q.slot, skb->ifindex);
}

static __always_inline struct verdict sent(struct __sk_buff *skb)
{
	if (!carries_route(skb))
		return ended(MESH_COUNT_SENT, PASS);
	return is_members(skb) ? ended(MESH_COUNT_ROUTE_REFUSED, REFUSE) : ended(MESH_COUNT_SENT, PASS);
}

SEC("cgroup_skb/egress")
int mesh_egress(struct __sk_buff *skb)
{
	return sent(skb).value;
}
