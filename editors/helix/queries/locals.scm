; Names are seen in the whole program, so that there is one scope a file.
(source_file) @local.scope

(set name: (name) @local.definition.constant)
(mesh name: (name) @local.definition.type)
(workload name: (name) @local.definition.type)
(group name: (name) @local.definition.type)

(reference) @local.reference
