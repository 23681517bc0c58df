//! Other builds of the programs, made for a test.

use std::path::Path;
use std::process::Command;

use mesh_runtime::Kernel;
use mesh_testbed::Ground;

/// What a program counts that was stopped and then found in its slot what it expected.
pub const READ_WHOLE: u64 = 0x7465_7374_0000_0001;
/// What it counts where it found another generation, or none.
pub const READ_ANOTHER: u64 = 0x7465_7374_0000_0002;
/// What a program of a later build counts for each decision.
pub const LATER_BUILD: u64 = 0x7465_7374_0000_0003;

/// This kernel, with the programs that `tests/programs/NAME.bpf.c` makes of ours.
pub fn kernel(ground: &Ground, name: &str) -> Kernel {
    Kernel::with_programs(object(ground, name))
}

/// The object file of these programs.
pub fn object(ground: &Ground, name: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let object = ground.dir().join(name).with_extension("o");
    let bpf = here.join("../bpf");
    let define = |name: &str, value: u64| format!("-D{name}={value:#x}ULL");
    let built = Command::new(std::env::var("CLANG").unwrap_or_else(|_| "clang".into()))
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Werror", "-nostdinc", "-ffreestanding"])
        .args([
            define("READ_WHOLE", READ_WHOLE),
            define("READ_ANOTHER", READ_ANOTHER),
            define("LATER_BUILD", LATER_BUILD),
        ])
        .arg(format!("-I{}", bpf.join("include").display()))
        .arg(format!("-I{}", bpf.join("programs").display()))
        .arg("-c")
        .arg(here.join("tests/programs").join(name).with_extension("bpf.c"))
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(&object).unwrap()
}
