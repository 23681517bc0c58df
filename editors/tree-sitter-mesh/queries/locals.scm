; Names are seen in the whole program, so that there is one scope a file.
(source_file) @local.scope

(set name: (name) @local.definition)
(mesh name: (name) @local.definition)
(workload name: (name) @local.definition)
(group name: (name) @local.definition)

(reference) @local.reference
