//! Prints `include/mesh_abi.h`.

fn main() {
    print!("{}", mesh_bpf::header::header());
}
