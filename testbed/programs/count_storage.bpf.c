/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Counts the values in a socket storage map: such a map has no keys to list, and kernels that are locked down refuse
 * iterators over it. So the kernel's own lists are followed: every value is in one of the map's, also those of sockets
 * that are in no table of connections. A classifier, run once; what it returns is the number.
 */

struct hlist_node {
	struct hlist_node *next;
} __attribute__((preserve_access_index));

struct hlist_head {
	struct hlist_node *first;
} __attribute__((preserve_access_index));

struct bpf_local_storage_map_bucket {
	struct hlist_head list;
} __attribute__((preserve_access_index));

struct bpf_local_storage_map {
	struct bpf_local_storage_map_bucket *buckets;
	unsigned int bucket_log;
} __attribute__((preserve_access_index));

enum {
	SK_STORAGE = 24,
	NO_PREALLOC = 1,
	/* Buckets at the most, about as many as CPUs: a power of two. */
	BUCKETS_LOG = 16,
	/* Values in one bucket at the most. */
	VALUES = 1 << 20,
	/* What is returned where something could not be read. */
	FAILED = -1,
};

/* The one that is counted is put in its place when this is loaded, whatever its values are. */
struct {
	int (*type)[SK_STORAGE];
	int (*map_flags)[NO_PREALLOC];
	int *key;
	int *value;
} storage __attribute__((section(".maps"), used));

static long (*const probe_read_kernel)(void *to, unsigned int size, const void *from) = (void *)113;
static long (*const loop)(unsigned int times, void *step, void *context, unsigned long long flags) = (void *)181;

/* What is counted, and where: the verifier looks at what loops over it once only. */
struct walk {
	struct bpf_local_storage_map_bucket *buckets;
	struct hlist_node *at;
	int found;
	int failed;
};

static long value(unsigned int index, struct walk *walk)
{
	if (!walk->at)
		return 1;
	walk->found += 1;
	if (index == VALUES - 1 || probe_read_kernel(&walk->at, sizeof(walk->at), &walk->at->next)) {
		walk->failed = 1;
		return 1;
	}
	return 0;
}

static long bucket(unsigned int index, struct walk *walk)
{
	unsigned long size = __builtin_preserve_type_info(*walk->buckets, 1);
	struct bpf_local_storage_map_bucket *this = (void *)((char *)walk->buckets + index * size);

	if (probe_read_kernel(&walk->at, sizeof(walk->at), &this->list.first))
		walk->failed = 1;
	else
		loop(VALUES, value, walk, 0);
	return 0;
}

__attribute__((section("classifier"), used)) int count_storage(void *context)
{
	struct bpf_local_storage_map *map = 0;
	/* Nothing may be added to a pointer to a map; to its number it may. */
	void *pointer = &storage;
	struct walk walk = {};
	unsigned int log = 0;

	if (probe_read_kernel(&map, sizeof(map), &pointer) ||
	    probe_read_kernel(&walk.buckets, sizeof(walk.buckets), &map->buckets) ||
	    probe_read_kernel(&log, sizeof(log), &map->bucket_log) || log > BUCKETS_LOG)
		return FAILED;
	loop(1u << log, bucket, &walk, 0);
	return walk.failed ? FAILED : walk.found;
}

char program_license[] __attribute__((section("license"), used)) = "GPL";
