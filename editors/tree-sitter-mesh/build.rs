//! Compiles the generated parser and the scanner.

fn main() {
    let mut build = cc::Build::new();
    // What tree-sitter generates has parameters that it does not use.
    build.std("c11").include("src").flag_if_supported("-Wno-unused-parameter");
    for file in ["src/parser.c", "src/scanner.c"] {
        build.file(file);
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-changed=src/words.h");
    build.compile("tree-sitter-mesh");
}
