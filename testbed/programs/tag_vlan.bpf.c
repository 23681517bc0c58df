/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Puts VLAN tags before what an interface sends: TAGS is their contents, priority and number, the innermost first. */

struct __sk_buff;

static long (*const vlan_push)(struct __sk_buff *skb, unsigned short protocol, unsigned short tci) = (void *)18;

__attribute__((section("classifier"), used)) int tag_vlan(struct __sk_buff *skb)
{
	const unsigned short tags[] = { TAGS };

#pragma unroll
	for (unsigned int i = 0; i < sizeof(tags) / sizeof(*tags); i++)
		vlan_push(skb, __builtin_bswap16(0x8100), tags[i]);
	return 0;
}

char program_license[] __attribute__((section("license"), used)) = "GPL";
