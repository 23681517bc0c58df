/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The answer to a datagram that is refused at an interface: "port unreachable", as the kernel says where nobody
 * listens. The datagram itself goes back, with new headers before what the answer must quote of it. It is no longer
 * than that, and there is one answer at the most for each datagram.
 */
#pragma once

/* What is quoted: the headers before the datagram's, as far as most go, and those 8 bytes. */
#define QUOTED_MAX 68
#define UNREACHABLE_LEN 8
#define ICMP4_PORT_UNREACHABLE 0x0303
#define ICMP6_PORT_UNREACHABLE 0x0104

struct unreachable {
	__u16 kind; /* type and code */
	__u16 sum;
	__u32 unused;
	__u8 quoted[QUOTED_MAX];
};

struct answer4 {
	struct header4 ip;
	struct unreachable icmp;
};

struct answer6 {
	struct header6 ip;
	struct unreachable icmp;
};

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Reads what is quoted, cuts the packet after it, and makes room for `headers` bytes before it. */
static __always_inline bool cut(struct __sk_buff *skb, struct place *at, __u8 *quoted, __u32 length, __u32 headers)
{
	if (length < 28 || length > QUOTED_MAX)
		return false;
	return !bpf_skb_load_bytes(skb, at->network, quoted, length) &&
	       !bpf_skb_change_tail(skb, at->network + length, 0) &&
	       !bpf_skb_adjust_room(skb, headers, BPF_ADJ_ROOM_MAC, 0);
}

static __noinline int unreachable4(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct answer4 a = { .ip = { .length = 0x45, .tos = 0xc0, .ttl = 64, .protocol = IPPROTO_ICMP } };
	__u32 length, headers = sizeof(a.ip) + UNREACHABLE_LEN;

	if (!at || !in)
		return TC_ACT_SHOT;
	length = at->transport + 8 - at->network;
	if (!cut(skb, at, a.icmp.quoted, length, headers))
		return TC_ACT_SHOT;
	a.ip.total = bpf_htons(headers + length);
	a.ip.source = in->destination[3];
	a.ip.destination = in->source[3];
	a.ip.sum = folded(bpf_csum_diff(NULL, 0, (void *)&a.ip, sizeof(a.ip), 0));
	a.icmp.kind = bpf_htons(ICMP4_PORT_UNREACHABLE);
	a.icmp.sum = folded(bpf_csum_diff(NULL, 0, (void *)&a.icmp, sizeof(a.icmp), 0));
	/* Ignored: there is room, as `cut` has made it; else the answer has a wrong checksum, and is dropped. */
	bpf_skb_store_bytes(skb, at->network, &a, headers, BPF_F_RECOMPUTE_CSUM);
	return bpf_redirect(skb->ifindex, 0);
}

static __noinline int unreachable6(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct answer6 a = { .ip = { .flow = bpf_htonl(6 << 28), .next = IPPROTO_ICMPV6, .hops = 64 } };
	__u32 length, sum, headers = sizeof(a.ip) + UNREACHABLE_LEN;

	if (!at || !in)
		return TC_ACT_SHOT;
	length = at->transport + 8 - at->network;
	if (!cut(skb, at, a.icmp.quoted, length, headers))
		return TC_ACT_SHOT;
	a.ip.length = bpf_htons(UNREACHABLE_LEN + length);
	for (int i = 0; i < 4; i++) {
		a.ip.source[i] = in->destination[i];
		a.ip.destination[i] = in->source[i];
	}
	a.icmp.kind = bpf_htons(ICMP6_PORT_UNREACHABLE);
	/* Addresses, length and protocol count too. */
	sum = bpf_csum_diff(NULL, 0, a.ip.source, 32, bpf_htonl(UNREACHABLE_LEN + length));
	sum = bpf_csum_diff(NULL, 0, (void *)&a.icmp, sizeof(a.icmp), sum);
	a.icmp.sum = folded(bpf_csum_diff(NULL, 0, &(__u32){ bpf_htonl(IPPROTO_ICMPV6) }, 4, sum));
	/* Ignored: as above. */
	bpf_skb_store_bytes(skb, at->network, &a, headers, BPF_F_RECOMPUTE_CSUM);
	return bpf_redirect(skb->ifindex, 0);
}
