/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* tp_btf/cgroup_mkdir and cgroup_rmdir: a cgroup that is made at a path that a policy names joins before
 * its first process can live in it. A service that is restarted gets a new cgroup with a new id.
 */

static __always_inline struct verdict cgroup_made(struct cgroup *cgroup, void *name)
{
	struct mesh_cgroup_path path = {};
	struct mesh_named_cgroup *named;
	long joined = 0, exempted = 0;
	__s64 length;
	__u64 id;

	/* 0 is the hierarchy of version 2. */
	if (cgroup->root->hierarchy_id)
		return ended(MESH_COUNT_CGROUP_OTHER, 0);
	/* A path that fills the buffer may go on. */
	length = bpf_probe_read_kernel_str(path.path, sizeof(path.path), name);
	named = length > 0 && length < MESH_CGROUP_PATH ? bpf_map_lookup_elem(&cgroup_paths, &path) : NULL;
	if (!named)
		return ended(MESH_COUNT_CGROUP_OTHER, 0);
	id = cgroup->kn->id;
	if (named->member)
		joined = bpf_map_update_elem(&cgroups, &id, &named->becomes, BPF_ANY);
	if (named->exempt)
		exempted = bpf_map_update_elem(&exempt_ids, &id, &named->becomes.id, BPF_ANY);
	return ended(joined || exempted ? MESH_COUNT_CGROUP_LOST : MESH_COUNT_CGROUP_JOINED, 0);
}

static __always_inline struct verdict cgroup_gone(struct cgroup *cgroup)
{
	__u64 id;

	if (cgroup->root->hierarchy_id)
		return ended(MESH_COUNT_CGROUP_OTHER, 0);
	/* An id is never used again. */
	id = cgroup->kn->id;
	bpf_map_delete_elem(&cgroups, &id);
	bpf_map_delete_elem(&exempt_ids, &id);
	return ended(MESH_COUNT_CGROUP_GONE, 0);
}

SEC("tp_btf/cgroup_mkdir")
int mesh_cgroup_made(__u64 *ctx)
{
	return cgroup_made((void *)ctx[0], (void *)ctx[1]).value;
}

SEC("tp_btf/cgroup_rmdir")
int mesh_cgroup_gone(__u64 *ctx)
{
	return cgroup_gone((void *)ctx[0]).value;
}
