/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* How a program ends: with a counter. */
#pragma once

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

/* What a program answers. Only `ended` makes one, so that every way out of a program has a counter: a program is
 * one call of a function that returns this, and `tests/returns.rs` sees to it.
 */
struct verdict {
	int value;
};

static __always_inline struct verdict ended(__u32 counter, int value)
{
	count(counter);
	return (struct verdict){ value };
}
