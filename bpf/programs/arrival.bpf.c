/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* tc ingress of a member's interfaces: who gets a connection to it, where sk_lookup cannot say.
 *
 * It runs for every packet, and looks first whether the kernel has a socket of the packet's own: an established
 * connection, or one half-open. All others are decided as by sk_lookup and given to the sidecar's listening
 * socket. Nothing is rewritten, stored or restored: the answers leave from the right port because the accepted
 * socket has it. Only a refusal is made here, since this hook can drop packets, and does not answer them by itself.
 */

#define MESH_MAPS
#include "kernel.h"
#include "core.h"
#include "mesh_abi.h"

#include "policy.h"

typedef struct __sk_buff inbound_context;
#define ASSIGN_ANEW 0
/* What a namespace sends to an address of its own comes by loopback. */
#define IS_FROM_OUTSIDE(in) ((in)->device != LOOPBACK_INDEX)
#include "inbound.h"

/* Where the headers are. */
struct place {
	__u32 network;
	__u32 transport;
	__u32 next; /* protocol of the transport header */
	__u32 flags; /* of TCP */
	__u32 sequence; /* of TCP, network order */
	bool v4;
	bool cut; /* a first fragment: what it is given to is forgotten when the others are put to it */
};

/* What a packet is, before it is known whose. */
enum kind {
	INBOUND, /* perhaps: a segment or a datagram with its ports */
	ANOTHER, /* of another protocol, or a later fragment: the kernel puts that to the first one, or drops it */
	IN_PIECES, /* the first fragment of a segment, with its ports and without its flags */
	NOT_UNDERSTOOD,
};

struct header4 {
	__u8 length;
	__u8 tos;
	__u16 total;
	__u16 id;
	__u16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 sum;
	__u32 source;
	__u32 destination;
};

struct header6 {
	__u32 flow;
	__u16 length;
	__u8 next;
	__u8 hops;
	__u32 source[4];
	__u32 destination[4];
};

struct header_tcp {
	__u16 source;
	__u16 destination;
	__u32 sequence;
	__u32 acknowledged;
	__u8 length;
	__u8 flags;
	__u16 window;
	__u16 sum;
	__u16 urgent;
};

#include "unreachable.h"

static __always_inline struct verdict pass(__u32 counter)
{
	return ended(counter, TCX_NEXT);
}

static __always_inline enum kind read4(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct header4 ip;

	if (bpf_skb_load_bytes(skb, at->network, &ip, sizeof(ip)) || ip.length >> 4 != 4)
		return NOT_UNDERSTOOD;
	at->cut = ip.fragment & bpf_htons(0x2000);
	at->transport = at->network + (ip.length & 15) * 4;
	at->next = ip.protocol;
	in->source[2] = MAPPED;
	in->source[3] = ip.source;
	in->destination[2] = MAPPED;
	in->destination[3] = ip.destination;
	return ip.fragment & bpf_htons(0x1fff) ? ANOTHER : INBOUND;
}

/* As many extension headers as a packet that means well has. */
#define EXTENSIONS 8

static __always_inline bool is_extension(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION || next == NEXT_FRAGMENT;
}

static __always_inline enum kind read6(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct header6 ip;
	__u8 next;

	if (bpf_skb_load_bytes(skb, at->network, &ip, sizeof(ip)))
		return NOT_UNDERSTOOD;
	for (int i = 0; i < 4; i++) {
		in->source[i] = ip.source[i];
		in->destination[i] = ip.destination[i];
	}
	at->transport = at->network + sizeof(ip);
	next = ip.next;
	for (int i = 0; i < EXTENSIONS; i++) {
		__u8 extension[4];

		if (!is_extension(next))
			break;
		if (bpf_skb_load_bytes(skb, at->transport, extension, sizeof(extension)))
			return NOT_UNDERSTOOD;
		if (next == NEXT_FRAGMENT) {
			if (extension[2] || extension[3] & 0xf8)
				return ANOTHER;
			at->cut = extension[3] & 1;
			at->transport += 8;
		} else {
			at->transport += (extension[1] + 1) * 8;
		}
		next = extension[0];
	}
	at->next = next;
	return is_extension(next) ? NOT_UNDERSTOOD : INBOUND;
}

#define VLAN_NUMBER 0xfff

/* Whether a tag that names a priority and no VLAN, which the kernel takes off after this hook, hides another. */
static __always_inline bool hides_a_tag(struct __sk_buff *skb)
{
	return skb->vlan_present && !(skb->vlan_tci & VLAN_NUMBER) &&
	       (skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD));
}

/* Reads inbound traffic. */
static __always_inline enum kind read_inbound(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct header_tcp tcp = {};
	enum kind kind;

	/* Packets of a VLAN come again on its interface. What this namespace sends to many comes to itself without a
	 * header of the link.
	 */
	if ((skb->vlan_present && skb->vlan_tci & VLAN_NUMBER) || skb->pkt_type == PACKET_LOOPBACK)
		return ANOTHER;
	at->network = ETH_LEN;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		at->v4 = true;
		kind = read4(skb, at, in);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		kind = read6(skb, at, in);
	} else {
		return ANOTHER;
	}
	if (kind != INBOUND)
		return kind;
	if (at->next != IPPROTO_TCP && at->next != IPPROTO_UDP)
		return ANOTHER;
	if (bpf_skb_load_bytes(skb, at->transport, &tcp, 8))
		return NOT_UNDERSTOOD;
	in->protocol = at->next == IPPROTO_UDP;
	in->device = skb->ifindex;
	in->source_port = bpf_ntohs(tcp.source);
	in->port = bpf_ntohs(tcp.destination);
	if (in->protocol)
		return INBOUND;
	if (bpf_skb_load_bytes(skb, at->transport, &tcp, sizeof(tcp)))
		return IN_PIECES;
	at->flags = tcp.flags;
	at->sequence = tcp.sequence;
	return INBOUND;
}

/* The ends, as socket look-ups take them. */
static __always_inline void tuple_of(struct place *at, struct inbound *in, const __u32 destination[4], __u32 port,
				      struct bpf_sock_tuple6 *tuple)
{
	struct bpf_sock_tuple4 *short_tuple = (void *)tuple;

	if (at->v4) {
		short_tuple->saddr = in->source[3];
		short_tuple->daddr = destination[3];
		short_tuple->sport = bpf_htons(in->source_port);
		short_tuple->dport = bpf_htons(port);
	} else {
		for (int i = 0; i < 4; i++) {
			tuple->saddr[i] = in->source[i];
			tuple->daddr[i] = destination[i];
		}
		tuple->sport = bpf_htons(in->source_port);
		tuple->dport = bpf_htons(port);
	}
}

/* Whether a connected datagram socket waits for it: that counts as established. */
static __always_inline bool has_udp(struct __sk_buff *skb, struct place *at, struct bpf_sock_tuple6 *tuple)
{
	__u32 size = at->v4 ? sizeof(struct bpf_sock_tuple4) : sizeof(*tuple), state;
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return false;
	state = sk->state;
	bpf_sk_release(sk);
	return state == TCP_ESTABLISHED;
}

/* What a packet belongs to. */
enum owner { NOBODY, A_CONNECTION, A_PAST_ONE };

/* Whether a segment opens a connection. */
static __always_inline bool opens(struct place *at)
{
	return (at->flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST)) == TCP_FLAG_SYN;
}

/* Whether the kernel has a connection that it belongs to. A client may use its port again while the old
 * connection waits for late packets: that is an inbound packet. `next` is what that one waits for.
 */
static __always_inline enum owner owner_tcp(struct __sk_buff *skb, struct place *at, struct bpf_sock_tuple6 *tuple,
					    __u32 *next)
{
	__u32 size = at->v4 ? sizeof(struct bpf_sock_tuple4) : sizeof(*tuple), state;
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, tuple, size, BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return NOBODY;
	state = sk->state;
	barrier(); /* or this load and that of a datagram's socket become one, which are of two kinds */
	if (state == TCP_TIME_WAIT && opens(at)) {
		struct tcp_timewait_sock *past = bpf_skc_to_tcp_timewait_sock(sk);

		if (past)
			*next = past->tw_sk.__tw_common.skc_tw_rcv_nxt;
		bpf_sk_release(sk);
		return past ? A_PAST_ONE : A_CONNECTION;
	}
	bpf_sk_release(sk);
	return state == TCP_LISTEN ? NOBODY : A_CONNECTION;
}

static __always_inline enum owner kept_by(struct __sk_buff *skb, struct place *at, struct inbound *in, __u32 *next)
{
	struct bpf_sock_tuple6 tuple = {};

	tuple_of(at, in, in->destination, in->port, &tuple);
	if (in->protocol)
		return has_udp(skb, at, &tuple) ? A_CONNECTION : NOBODY;
	return owner_tcp(skb, at, &tuple, next);
}

/* Changes sequence and flags of a segment. */
static __always_inline void change(struct __sk_buff *skb, struct place *at, struct header_tcp *tcp, __u32 sequence,
				   __u8 flags)
{
	__u16 old = tcp->length | tcp->flags << 8, new = tcp->length | flags << 8;
	__u32 sum = at->transport + 16;

	/* Ignored: what was just read can be written; else the checksum is wrong, and the segment is dropped. */
	bpf_l4_csum_replace(skb, sum, tcp->sequence, sequence, CSUM_4);
	bpf_skb_store_bytes(skb, at->transport + 4, &sequence, 4, 0);
	bpf_l4_csum_replace(skb, sum, old, new, CSUM_2);
	bpf_skb_store_bytes(skb, at->transport + 12, &new, 2, 0);
	tcp->sequence = sequence;
	tcp->flags = flags;
}

/* The kernel would answer a new connection in place of a past one by itself, and look for its listening socket
 * where this program is not asked. So the past one is reset first: the packet goes in once as a reset, and then
 * again as it was. Both come here again.
 */
static __always_inline struct verdict end_past(struct __sk_buff *skb, struct place *at, __u32 next)
{
	struct header_tcp tcp;
	__u32 sequence;
	__u8 flags;

	if (bpf_skb_load_bytes(skb, at->transport, &tcp, sizeof(tcp)))
		return ended(MESH_COUNT_NOT_INBOUND, TC_ACT_SHOT);
	sequence = tcp.sequence;
	flags = tcp.flags;
	change(skb, at, &tcp, bpf_htonl(next), TCP_FLAG_RST);
	/* Ignored: the past connection stays then, and the client sends its SYN once more. */
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	change(skb, at, &tcp, sequence, flags);
	return ended(MESH_COUNT_TIME_WAIT_RESET, bpf_redirect(skb->ifindex, BPF_F_INGRESS));
}

/* Whether it is for this namespace, and not to be forwarded: a packet with a socket is not. A global function for the
 * sake of the stack.
 */
__noinline int is_for_us(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct bpf_fib_lookup query = { .ifindex = skb->ifindex };
	long answer;

	if (!at || !in)
		return 0;
	query.family = at->v4 ? AF_INET : AF_INET6;
	if (is_loopback(in->destination))
		return true;
	if (at->v4) {
		query.src[0] = in->source[3];
		query.dst[0] = in->destination[3];
	} else {
		for (int i = 0; i < 4; i++) {
			query.src[i] = in->source[i];
			query.dst[i] = in->destination[i];
		}
	}
	answer = bpf_fib_lookup(skb, &query, sizeof(query), 0);
	return answer == BPF_FIB_LKUP_RET_NOT_FWDED || answer == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* The headers that say whether a segment answers a cookie: of a connection that its listening socket keeps nothing of.
 * */
struct answering {
	__u8 ip[40]; /* of IPv4, with what follows */
	struct header_tcp tcp;
};

static __always_inline bool read_answering(struct __sk_buff *skb, struct place *at, struct answering *headers)
{
	return !bpf_skb_load_bytes(skb, at->network, headers->ip, sizeof(headers->ip)) &&
	       !bpf_skb_load_bytes(skb, at->transport, &headers->tcp, sizeof(headers->tcp));
}

/* Whether this listening socket sent the cookie. */
static __always_inline bool is_answered(struct bpf_sock *sk, struct answering *headers)
{
	return !bpf_tcp_check_syncookie(sk, headers->ip, sizeof(headers->ip), &headers->tcp, sizeof(headers->tcp));
}

/* Where a listening socket is looked for. */
enum { AT_LOOPBACK, AT_DESTINATION, WHERE_SENT };

static __always_inline struct bpf_sock *listener_at(struct __sk_buff *skb, struct place *at, struct inbound *in, int where,
						   __u32 port)
{
	__u32 loopback[4] = { 0, 0, at->v4 ? MAPPED : 0, at->v4 ? LOOPBACK4 : bpf_htonl(1) };
	struct bpf_sock_tuple6 tuple = {};

	tuple_of(at, in, where == AT_LOOPBACK ? loopback : in->destination, port, &tuple);
	return bpf_sk_lookup_tcp(skb, &tuple, at->v4 ? sizeof(struct bpf_sock_tuple4) : sizeof(tuple),
				 BPF_F_CURRENT_NETNS, 0);
}

/* The listening socket that the kernel itself would choose at an address takes it, where it fits better than the one
 * that does. Global functions, as `assign`, and for the sake of the stack.
 */
__noinline int assign_at(struct __sk_buff *skb, struct place *at, struct inbound *in, struct fated *to, int where)
{
	struct bpf_sock *sk;
	__u32 score;

	if (!at || !in || !to)
		return 0;
	sk = listener_at(skb, at, in, where, to->port);
	if (!sk)
		return 0;
	if (sk->state == TCP_LISTEN) {
		score = fits(sk, in, to);
		if (score > to->fits && !bpf_sk_assign(skb, sk, 0))
			to->fits = score;
	}
	bpf_sk_release(sk);
	return 0;
}

/* Whether the listening socket there sent the cookie; then it takes the answer, but for WHERE_SENT. */
static __always_inline bool answers_at(struct __sk_buff *skb, struct place *at, struct inbound *in, int where, __u32 port,
				       struct answering *headers)
{
	struct bpf_sock *sk = listener_at(skb, at, in, where, port);
	bool answers;

	if (!sk)
		return false;
	answers = sk->state == TCP_LISTEN && is_answered(sk, headers) &&
		  (where == WHERE_SENT || !bpf_sk_assign(skb, sk, 0));
	bpf_sk_release(sk);
	return answers;
}

/* Gives the answer to a cookie to the sidecar's listening socket that sent it. */
__noinline int assign_answer(struct __sk_buff *skb, struct place *at, struct inbound *in, __u32 port, __u64 netns)
{
	struct mesh_listener_key key = { .netns = netns, .port = port };
	struct answering headers = {};

	if (!at || !in || !read_answering(skb, at, &headers))
		return 0;
	if (answers_at(skb, at, in, AT_LOOPBACK, port, &headers) || answers_at(skb, at, in, AT_DESTINATION, port, &headers))
		return 1;
	key.family = at->v4 ? AF_INET : AF_INET6;
	for (__u32 slot = 0; slot < MESH_LISTENER_SLOTS; slot++) {
		struct bpf_sock *sk;
		bool given;

		key.slot = slot;
		sk = bpf_map_lookup_elem(&listeners, &key);
		if (!sk)
			continue;
		given = is_answered(sk, &headers) && !bpf_sk_assign(skb, sk, 0);
		bpf_sk_release(sk);
		if (given)
			return 1;
	}
	return 0;
}

/* Whether who listens where it was sent to would take it as the answer to a cookie. */
__noinline int is_answer_there(struct __sk_buff *skb, struct place *at, struct inbound *in)
{
	struct answering headers = {};

	if (!at || !in || !read_answering(skb, at, &headers))
		return 0;
	return answers_at(skb, at, in, WHERE_SENT, in->port, &headers);
}

/* Sends the packet back to where it came from. */
static __always_inline bool turn_around(struct __sk_buff *skb)
{
	__u8 macs[12], back[12];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return false;
	for (int i = 0; i < 6; i++) {
		back[i] = macs[i + 6];
		back[i + 6] = macs[i];
	}
	return !bpf_skb_store_bytes(skb, 0, back, sizeof(back), 0);
}

/* Refuses as the kernel does where nobody listens: a segment itself goes back as a reset. What is swapped
 * changes no checksum, and what changes is told to it. What was sent to many is not answered.
 */
static __always_inline struct verdict refuse(struct __sk_buff *skb, struct place *at, struct inbound *in, __u32 counter)
{
	__u32 acknowledged = bpf_htonl(bpf_ntohl(at->sequence) + 1);
	__u16 source = bpf_htons(in->port), destination = bpf_htons(in->source_port);
	struct header_tcp tcp;

	if (in->protocol) {
		if (skb->pkt_type != PACKET_HOST || !turn_around(skb))
			return ended(counter, TC_ACT_SHOT);
		return ended(counter, at->v4 ? unreachable4(skb, at, in) : unreachable6(skb, at, in));
	}
	if (bpf_skb_load_bytes(skb, at->transport, &tcp, sizeof(tcp)) || !turn_around(skb))
		return ended(counter, TC_ACT_SHOT);
	/* Ignored: as in `change`. */
	if (at->v4) {
		bpf_skb_store_bytes(skb, at->network + 12, &in->destination[3], 4, 0);
		bpf_skb_store_bytes(skb, at->network + 16, &in->source[3], 4, 0);
	} else {
		bpf_skb_store_bytes(skb, at->network + 8, in->destination, 16, 0);
		bpf_skb_store_bytes(skb, at->network + 24, in->source, 16, 0);
	}
	bpf_skb_store_bytes(skb, at->transport, &source, 2, 0);
	bpf_skb_store_bytes(skb, at->transport + 2, &destination, 2, 0);
	bpf_l4_csum_replace(skb, at->transport + 16, tcp.acknowledged, acknowledged, CSUM_4);
	bpf_skb_store_bytes(skb, at->transport + 8, &acknowledged, 4, 0);
	change(skb, at, &tcp, 0, TCP_FLAG_RST | TCP_FLAG_ACK);
	return ended(counter, bpf_redirect(skb->ifindex, 0));
}

/* A segment without SYN that belongs to no connection of this namespace: the answer to a cookie, which opens one, or
 * something that only passes through, such as what comes back to a container whose addresses are translated here. The
 * packet was decided and counted when the SYN came.
 */
static __always_inline struct verdict answered(struct __sk_buff *skb, struct place *at, struct inbound *in, __u64 netns,
					       enum fate fate, __u32 port)
{
	if (fate == FATE_PASS || fate == FATE_TAKE)
		return pass(MESH_COUNT_OPENS_NOTHING);
	if (fate == FATE_REDIRECT && !at->cut && assign_answer(skb, at, in, port, netns))
		return pass(MESH_COUNT_COOKIE_ANSWERED);
	/* No more than the SYN may it reach somebody else. */
	if (is_answer_there(skb, at, in))
		return ended(MESH_COUNT_COOKIE_REFUSED, TC_ACT_SHOT);
	return pass(MESH_COUNT_OPENS_NOTHING);
}

/* Whether the live policy says anything of what comes in here by an interface. */
static __always_inline bool is_decided(__u64 netns, __u32 device)
{
	struct mesh_control *words = control_words();
	struct mesh_member *member = bpf_map_lookup_elem(&endpoints, &netns);
	struct mesh_profile *profile;
	struct question q = {};

	if (!words || !member)
		return false;
	q.generation = *(volatile __u64 *)&words->generation;
	q.slot = q.generation & 1;
	if (!q.generation || !has_profile(member, &q))
		return false;
	profile = line_of(q.slot, MESH_TABLE_PROFILES, q.profile);
	return !profile || !(profile->flags & MESH_PROFILE_EXEMPT_INTERFACES) ||
	       !exempt_interface(q.member, q.slot, device);
}

/* Nobody knows what it opens: what is put together of it would be decided nowhere. */
static __always_inline struct verdict lose(struct __sk_buff *skb, struct place *at, struct inbound *in, __u64 netns)
{
	if (!is_decided(netns, skb->ifindex) || !is_for_us(skb, at, in))
		return pass(MESH_COUNT_NOT_INBOUND);
	return ended(MESH_COUNT_NOT_UNDERSTOOD, TC_ACT_SHOT);
}

static __always_inline struct verdict arrived(struct __sk_buff *skb)
{
	__u64 netns = entered(skb);
	struct fated fated = {};
	enum fate fate;
	struct place at = {};
	struct inbound in = {};
	__u32 next = 0;
	enum kind kind;

	if (hides_a_tag(skb)) {
		/* It comes here again without it. */
		if (bpf_skb_vlan_pop(skb))
			return ended(MESH_COUNT_NOT_INBOUND, TC_ACT_SHOT);
		return ended(MESH_COUNT_UNTAGGED, bpf_redirect(skb->ifindex, BPF_F_INGRESS));
	}
	kind = read_inbound(skb, &at, &in);
	if (kind == ANOTHER)
		return pass(MESH_COUNT_NOT_INBOUND);
	if (kind == NOT_UNDERSTOOD)
		return lose(skb, &at, &in, netns);
	switch (kept_by(skb, &at, &in, &next)) {
	case A_CONNECTION:
		return pass(MESH_COUNT_OWN_SOCKET);
	case A_PAST_ONE:
		return end_past(skb, &at, next);
	default:
		break;
	}
	if (kind == IN_PIECES)
		return lose(skb, &at, &in, netns);
	if (!is_for_us(skb, &at, &in))
		return pass(MESH_COUNT_FORWARDED);
	if (!in.protocol && !opens(&at)) {
		if ((at.flags & (TCP_FLAG_SYN | TCP_FLAG_ACK | TCP_FLAG_RST)) != TCP_FLAG_ACK)
			return pass(MESH_COUNT_OPENS_NOTHING);
		fated.again = 1;
	}
	fate = fate_of(&in, netns, &fated);
	if (fated.again)
		return answered(skb, &at, &in, netns, fate, fated.port);
	if (fate == FATE_PASS || fate == FATE_TAKE)
		return pass(fated.counter);
	/* Nobody cuts a SYN, and the socket that is given to it would be forgotten. */
	if (at.cut && !in.protocol)
		return ended(MESH_COUNT_NOT_UNDERSTOOD, TC_ACT_SHOT);
	if (fate == FATE_REFUSE)
		return refuse(skb, &at, &in, fated.counter);
	assign_at(skb, &at, &in, &fated, AT_LOOPBACK);
	if (!fits_best(&fated))
		assign_at(skb, &at, &in, &fated, AT_DESTINATION);
	if (!fits_best(&fated))
		assign(skb, &in, &fated, netns, at.v4 ? AF_INET : AF_INET6);
	if (fated.fits)
		return pass(taken(&fated));
	missed(&fated, netns, at.v4);
	if (fated.drop)
		return refuse(skb, &at, &in, MESH_COUNT_MISSING_SIDECAR);
	return pass(MESH_COUNT_MISSING_SIDECAR);
}

SEC("classifier")
int mesh_arrival(struct __sk_buff *skb)
{
	return arrived(skb).value;
}

char mesh_license[] SEC("license") = "Dual MIT/GPL";
