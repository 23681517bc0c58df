/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Puts as many entries into a hash map as it has room for, with keys that nothing else has, or takes them out. Every word of
 * an array is set to what no other element has, or to zero.
 */

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

struct {
	int (*type)[1];
	int (*key_size)[KEY];
	int (*value_size)[VALUE];
	int (*max_entries)[ENTRIES];
} filled SEC(".maps");

static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static long (*loop)(u32 times, void *body, void *context, u64 flags) = (void *)181;

/* Larger than the stack, perhaps. */
static u64 value[(VALUE + 7) / 8];

static long one(u32 index, void *context)
{
	u64 key[(KEY + 7) / 8] = { KEY == 4 ? index : ~(u64)index };

	(void)context;
	for (u32 word = 0; KEY == 4 && !TAKES && word < VALUE / 8; word++)
		value[word] = ~(u64)index;
	if (TAKES && KEY != 4)
		map_delete(&filled, key);
	else
		map_update(&filled, key, value, 0);
	return 0;
}

SEC("socket")
int fill(void *packet)
{
	(void)packet;
	return loop(ENTRIES, one, 0, 0) == ENTRIES;
}

char fill_license[] SEC("license") = "GPL";
