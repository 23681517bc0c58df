; As nvim-treesitter reads it.
[
  (mesh_body)
  (workload_body)
  (for_body)
  (test_body)
  (set_list)
  (address_list)
  (port_list)
  (id_list)
  (name_list)
  (string_list)
  (value_list)
] @indent.begin

["}" "]"] @indent.branch @indent.end

(comment) @indent.ignore
