//! Compiles the BPF programs when the feature `programs` asks for them: `clang -target bpf`, nothing
//! but clang needed (the few kernel headers are in `include/`).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is asked by the environment, and runs clang"
)]

use std::path::Path;
use std::process::{Command, exit};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PROGRAMS").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed=programs");
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    for object in ["mesh", "inbound", "arrival", "entry", "probes"] {
        build(&clang, object);
    }
}

fn build(clang: &str, object: &str) {
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let status = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-nostdinc", "-ffreestanding", "-fno-stack-protector", "-Iinclude", "-Iprograms"])
        .args(std::env::var_os("CARGO_FEATURE_ACCELERATION").map(|_| "-DMESH_ACCELERATION"))
        .args(["-fdebug-prefix-map=.=meshc", "-c", &format!("programs/{object}.bpf.c"), "-o"])
        .arg(Path::new(&out).join(format!("{object}.bpf.o")))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("`{clang}` could not compile bpf/programs ({status})")),
        Err(error) => fail(&format!(
            "the BPF programs need clang 14 or newer, and `{clang}` cannot be run: {error}; install it \
             (Debian: `apt-get install clang`), or name it in the environment variable CLANG"
        )),
    }
}

fn fail(message: &str) -> ! {
    println!("cargo:warning={message}");
    eprintln!("error: {message}");
    exit(1)
}
