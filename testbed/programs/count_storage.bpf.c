/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Writes one byte for each socket that has a value in a socket storage map: such a map has no keys to list. */

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	void *map;
	void *sk;
	void *value;
} __attribute__((preserve_access_index));

static long (*const seq_write)(struct seq_file *file, const void *data, unsigned int length) = (void *)127;

__attribute__((section("iter/bpf_sk_storage_map"), used)) int
count_storage(struct bpf_iter__bpf_sk_storage_map *context)
{
	/* The last call is for the end of the list. */
	if (context->sk && context->value)
		seq_write(context->meta->seq, "x", 1);
	return 0;
}

char program_license[] __attribute__((section("license"), used)) = "GPL";
