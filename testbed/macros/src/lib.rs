//! The attribute of tests that need a kernel. It is a crate of its own because procedural macros are.

mod promise;

use proc_macro::TokenStream;

use promise::{KERNEL, LONG, Promise};

/// A test that loads programs into the kernel, or makes namespaces, and so needs root; with `(long)`, one that
/// takes minutes too.
///
/// It is ignored, and counted as ignored, unless that was promised when it was compiled: Rust's harness knows
/// no test that finds out while it runs. Where a promise changes, cargo compiles the tests again, and nothing
/// else.
///
/// A file all of whose tests are such says so once: `use mesh_testbed::kernel_test as test;`.
#[proc_macro_attribute]
pub fn kernel_test(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let needed: &[Promise] = match arguments.to_string().as_str() {
        "" => &[KERNEL],
        "long" => &[KERNEL, LONG],
        _ => return text("::core::compile_error!(\"`kernel_test` takes nothing, or `long`\");"),
    };
    // `option_env` tells cargo what the test was compiled with.
    let asked: String = (needed.iter())
        .map(|Promise { name, .. }| format!("const _: Option<&str> = ::core::option_env!(\"{name}\");"))
        .collect();
    let missing = needed.iter().find(|promise| !promise.is_given());
    let ignored = missing.map_or_else(String::new, |Promise { name, what }| {
        format!("#[ignore = \"needs {what}: {name}=1 when it is compiled\"]")
    });
    let mut test = text(&format!("{asked} #[::core::prelude::v1::test] {ignored}"));
    test.extend(function);
    test
}

fn text(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}
