[
  (mesh)
  (workload)
  (for)
  (test)
  (set_list)
  (address_list)
  (port_list)
  (id_list)
  (name_list)
  (string_list)
  (value_list)
] @fold
